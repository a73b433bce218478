"""Bench: market frames like recorded ones, and the process that sends them over a WebSocket.

The server side is bare: a blocking socket, a handshake, and frames that were encoded before the
clock starts. So the reader is what is measured, and the sender is never slower than it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bench.support.crew import Gate

SYMBOL = "BTCUSDT"
LEVELS = 20  # of each side in a depth frame
FIRST_ID = 1_000_000
WARM_PART = 10  # a tenth of the messages goes before the clock starts
TOLD = 50  # a reader that takes one message at a time tells of so many at once
MESSAGES_STEP = TOLD * WARM_PART
GO = 0  # word of the gate: the reader has taken the warm messages
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MID_TICKS = 6_173_763
_NEAR, _FAR = 1, 800  # ticks from the middle
_REMOVED = 0.3  # share of levels whose quantity is 0
_TEXT = 0x81
_EXTENDED = 126  # a length from here on stands in the bytes behind
_CLOSE = b"\x88\x02\x03\xe8"


class Load(NamedTuple):
    """What is sent: `messages` frames of one stream."""

    stream: str
    messages: int
    units: int  # what a cost is counted by: messages, or levels
    warm: int  # messages before the clock starts
    wire: tuple[bytes, bytes]  # the warm ones, the measured ones


def frame(payload: bytes) -> bytes:
    """Answers a text frame as a server sends it."""
    size = len(payload)
    if size < _EXTENDED:
        return bytes((_TEXT, size)) + payload
    if size < 1 << 16:
        return bytes((_TEXT, _EXTENDED)) + size.to_bytes(2, "big") + payload
    return bytes((_TEXT, _EXTENDED + 1)) + size.to_bytes(8, "big") + payload


def _decimal(number: int, decimals: int) -> str:
    whole, part = divmod(number, 10**decimals)
    return f"{whole}.{part:0{decimals}d}".ljust(len(str(whole)) + 9, "0")


def quote(update_id: int, number: int) -> bytes:
    """Answers a bookTicker frame's payload, prices and quantities moving with `number`."""
    bid = _MID_TICKS + number % 97
    return (
        f'{{"stream":"btcusdt@bookTicker","data":{{"u":{update_id},"s":"{SYMBOL}",'
        f'"b":"{_decimal(bid, 2)}","B":"{_decimal(1 + number % 900_001, 5)}",'
        f'"a":"{_decimal(bid + 1, 2)}","A":"{_decimal(1 + number % 700_001, 5)}"}}}}'
    ).encode()


def depth(update_id: int, ticks: list[int], lots: list[int]) -> bytes:
    """Answers a depthUpdate frame's payload with LEVELS of each side."""
    sides = []
    for side, sign in enumerate((-1, 1)):
        part = range(side * LEVELS, (side + 1) * LEVELS)
        levels = (
            f'["{_decimal(_MID_TICKS + sign * ticks[n], 2)}","{_decimal(lots[n], 5)}"]'
            for n in part
        )
        sides.append(",".join(levels))
    return (
        f'{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":1723161255208,'
        f'"s":"{SYMBOL}","U":{update_id},"u":{update_id},"b":[{sides[0]}],"a":[{sides[1]}]}}}}'
    ).encode()


def quotes(messages: int) -> Load:
    """Answers a load of bookTicker messages."""
    frames = [frame(quote(FIRST_ID + n, n)) for n in range(messages)]
    return _load("bookTicker", frames, messages)


def depths(messages: int) -> Load:
    """Answers a load of depth messages, its cost counted by level.

    As in the recordings that we know: best first on each side, and some of the levels are removed.
    """
    chance = np.random.default_rng(7)
    shape = (messages, 2, LEVELS)
    ticks = np.sort(chance.integers(_NEAR, _FAR, shape)).reshape(messages, -1).tolist()
    is_there = chance.random(shape) >= _REMOVED
    lots = (chance.integers(1, 300_000, shape) * is_there).reshape(messages, -1).tolist()
    frames = [frame(depth(FIRST_ID + n, ticks[n], lots[n])) for n in range(messages)]
    return _load("depth@100ms", frames, messages * 2 * LEVELS)


def _load(stream: str, frames: list[bytes], units: int) -> Load:
    warm = len(frames) // WARM_PART
    wire = b"".join(frames[:warm]), b"".join(frames[warm:])
    return Load(stream, len(frames), units, warm, wire)


def listening() -> socket.socket:
    """Answers a socket on a free loopback port, made before the crew is."""
    return socket.create_server(("127.0.0.1", 0))


def _accept(server: socket.socket) -> socket.socket:
    client, _ = server.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(65_536)
    lines = request.decode().split("\r\n")
    key = next(v for k, _, v in (x.partition(": ") for x in lines) if k.lower() == _KEY_HEADER)
    digest = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + digest + b"\r\n\r\n"
    )
    return client


_KEY_HEADER = "sec-websocket-key"


def _await_end(client: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while client.recv(65_536):
            pass


def sender(server: socket.socket, load: Load) -> Callable[[Gate], None]:
    """Answers a member that sends a load as fast as it is taken, and stays until it is read."""

    def live(gate: Gate) -> None:
        client = _accept(server)
        gate.wait()
        client.sendall(load.wire[0])
        while not gate.words[GO]:
            os.sched_yield()
        client.sendall(load.wire[1] + _CLOSE)
        _await_end(client)

    return live


def metronome(server: socket.socket, messages: int, gap_us: int) -> Callable[[Gate], None]:
    """Answers a member that sends a quote every gap; its update id is when it was sent, ns."""

    def live(gate: Gate) -> None:
        client = _accept(server)
        gate.wait()
        due_ns = time.monotonic_ns()
        for number in range(messages):
            due_ns += gap_us * 1_000
            while time.monotonic_ns() < due_ns:
                pass
            client.sendall(frame(quote(time.monotonic_ns(), number)))
        client.sendall(_CLOSE)
        _await_end(client)

    return live
