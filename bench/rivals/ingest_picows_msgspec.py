"""Bench rival: market data as a fast Python user reads it: picows, msgspec with types, floats.

A quote ends in a deque, a depth difference in two dictionaries. Nothing is checked and nothing
leaves the process, so it does less than what it is held against.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.rivals.ingest_websockets_json import KEPT, apply
from bench.support.crew import Gate
from bench.support.ingest_load import TOLD
from bench.support.ingest_reader import Clock, reader_of


class _Quote(msgspec.Struct):
    u: int
    s: str
    b: str
    B: str
    a: str
    A: str


class _Depth(msgspec.Struct):
    s: str
    U: int
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class _QuoteFrame(msgspec.Struct):
    data: _Quote


class _DepthFrame(msgspec.Struct):
    data: _Depth


class _Listener(WSListener):
    """Decodes each frame where it lies."""

    def __init__(self, clock: Clock, *, is_depth: bool) -> None:
        self._clock, self._is_depth = clock, is_depth
        self._quote = msgspec.json.Decoder(_QuoteFrame).decode
        self._depth = msgspec.json.Decoder(_DepthFrame).decode
        self._quotes: deque[tuple[Any, ...]] = deque(maxlen=KEPT)
        self._bids: dict[float, float] = {}
        self._asks: dict[float, float] = {}
        self._count = 0
        self.ended = asyncio.Event()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Takes one message."""
        if frame.msg_type != WSMsgType.TEXT:
            return
        payload = frame.get_payload_as_memoryview()
        if self._is_depth:
            depth = self._depth(payload).data
            apply(self._bids, depth.b)
            apply(self._asks, depth.a)
        else:
            quote = self._quote(payload).data
            bid, ask = float(quote.b), float(quote.a)
            self._quotes.append((quote.s, quote.u, bid, float(quote.B), ask, float(quote.A)))
        self._count += 1
        if self._count == TOLD:
            self._count = 0
            if self._clock.tell(TOLD):
                self.ended.set()


async def _read(gate: Gate, port: int, stream: str, clock: Clock) -> None:
    listener = _Listener(clock, is_depth=stream.startswith("depth"))
    url = f"ws://127.0.0.1:{port}/stream"
    transport, _ = await ws_connect(lambda: listener, url, read_buffer_init_size=256 * 1024)
    gate.wait()
    await listener.ended.wait()
    transport.disconnect()


reader = reader_of(_read)
