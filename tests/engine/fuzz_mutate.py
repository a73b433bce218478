"""Frames as a venue writes them, made up from a seed, and every way we know to spoil one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from engine.instruments import Instrument
from tests.engine.fuzz_oracle import SPOT_READERS, Reader
from tests.engine.scratch_feed import STREAMS, depth_frame, quote_frame, snapshot_body, trade_frame

Rng = np.random.Generator
Maker = Callable[[Rng, Instrument, int], bytes]
Mutation = Callable[[Rng, bytes], bytes]
SNAPSHOT = "snapshot"


class Market(NamedTuple):
    """What one market's frames look like; another market is another row of this table."""

    name: str
    makers: dict[str, Maker]  # by kind of frame; SNAPSHOT makes a REST body
    readers: dict[str, Reader]  # by the stream's name behind the first @
    streams: tuple[str, ...]  # that the feed is made for


def price_of(rng: Rng, one: Instrument) -> str:
    places = one.price_decimals + int(rng.integers(0, 7))
    return f"{one.price(int(rng.integers(1, 10 ** int(rng.integers(1, 12))))):.{places}f}"


def quantity_of(rng: Rng, one: Instrument) -> str:
    return f"{one.quantity(int(rng.integers(0, 10 ** int(rng.integers(1, 14))))):f}"


def levels_of(rng: Rng, one: Instrument) -> list[tuple[str, str]]:
    return [(price_of(rng, one), quantity_of(rng, one)) for _ in range(int(rng.integers(0, 9)))]


def make_quote(rng: Rng, one: Instrument, number: int) -> bytes:
    names = {"b": price_of(rng, one), "B": quantity_of(rng, one)}
    return quote_frame(number, s=one.symbol, a=price_of(rng, one), A=quantity_of(rng, one), **names)


def make_trade(rng: Rng, one: Instrument, number: int) -> bytes:
    small = f"{one.quantity(int(rng.integers(1, 100_000))):f}"
    maker = bool(rng.integers(0, 2))
    return trade_frame(number, price_of(rng, one), small, maker=maker, symbol=one.symbol)


def make_aggregate(rng: Rng, one: Instrument, number: int) -> bytes:
    data = {
        "e": "aggTrade", "E": 1_723_161_255_343, "s": one.symbol, "a": number,
        "p": price_of(rng, one), "q": f"{one.quantity(int(rng.integers(1, 100_000))):f}",
        "f": number, "l": number + int(rng.integers(0, 50)), "T": 1_723_161_255_342,
        "m": bool(rng.integers(0, 2)), "M": True,
    }  # fmt: skip
    whole = {"stream": f"{one.symbol.lower()}@aggTrade", "data": data}
    return json.dumps(whole, separators=(",", ":")).encode()


def make_depth(rng: Rng, one: Instrument, number: int) -> bytes:
    last = number + int(rng.integers(0, 50))
    return depth_frame(number, last, levels_of(rng, one), levels_of(rng, one), one.symbol)


def make_snapshot(rng: Rng, one: Instrument, number: int) -> bytes:
    return snapshot_body(number, levels_of(rng, one), levels_of(rng, one))


SPOT = Market(
    "spot",
    {
        "bookTicker": make_quote, "trade": make_trade, "aggTrade": make_aggregate,
        "depth": make_depth, SNAPSHOT: make_snapshot,
    },
    SPOT_READERS,
    (*STREAMS, "aggTrade"),
)  # fmt: skip


def _place(rng: Rng, frame: bytes) -> int:
    return int(rng.integers(0, len(frame) + 1))


def flip(rng: Rng, frame: bytes) -> bytes:
    at = _place(rng, frame)
    turned = bytes(byte ^ (1 << int(rng.integers(0, 8))) for byte in frame[at : at + 1])
    return frame[:at] + turned + frame[at + 1 :]


def cut(rng: Rng, frame: bytes) -> bytes:
    return frame[: _place(rng, frame)]


def remove(rng: Rng, frame: bytes) -> bytes:
    at = _place(rng, frame)
    return frame[:at] + frame[at + int(rng.integers(1, 9)) :]


def insert(rng: Rng, frame: bytes) -> bytes:
    at = _place(rng, frame)
    return frame[:at] + rng.bytes(int(rng.integers(1, 5))) + frame[at:]


def double(rng: Rng, frame: bytes) -> bytes:
    start, end = sorted((_place(rng, frame), _place(rng, frame)))
    return frame[:end] + frame[start:end] + frame[end:]


def digit(rng: Rng, frame: bytes) -> bytes:
    places = [at for at, byte in enumerate(frame) if 48 <= byte <= 57]
    if not places:
        return frame
    at = places[int(rng.integers(0, len(places)))]
    return frame[:at] + b"%d" % rng.integers(0, 10) + frame[at + 1 :]


def _pick(rng: Rng, values: tuple[bytes, ...]) -> bytes:
    return values[int(rng.integers(0, len(values)))]


def _number_span(rng: Rng, frame: bytes) -> tuple[int, int]:
    starts = [
        at
        for at, byte in enumerate(frame)
        if byte in b"0123456789." and frame[at - 1 : at] in {b'"', b":"}
    ]
    if not starts:
        return 0, 0
    start = end = starts[int(rng.integers(0, len(starts)))]
    while end < len(frame) and frame[end] in b"0123456789.":
        end += 1
    return start, end


ODD_NUMBERS = (
    b"-1", b"+1", b"1e3", b"1E-2", b"0x10", b"NaN", b"Infinity", b"-0", b"00", b"1.", b".5", b"1_0",
    b"", b" 1", b"1 ", b"\\u0031", b"1,5", b"9" * 17, b"9" * 18, b"9" * 19, b"9" * 400, b"9" * 5000,
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551617", b"0." + b"0" * 30,
    b"1." + b"0" * 16, b"1." + b"0" * 17, b"0.00000001", b"0.000000001", "\u0661".encode(),
)  # fmt: skip


def odd_number(rng: Rng, frame: bytes) -> bytes:
    start, end = _number_span(rng, frame)
    return frame[:start] + _pick(rng, ODD_NUMBERS) + frame[end:]


def exponent(rng: Rng, frame: bytes) -> bytes:
    _, end = _number_span(rng, frame)
    return frame[:end] + _pick(rng, (b"e0", b"E+1", b"e-1", b"e999999999")) + frame[end:]


def sign(rng: Rng, frame: bytes) -> bytes:
    start, _ = _number_span(rng, frame)
    return frame[:start] + _pick(rng, (b"-", b"+", b"--", b" ")) + frame[start:]


def not_utf8(rng: Rng, frame: bytes) -> bytes:
    at = _place(rng, frame)
    odd = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\x80", b"\0")
    return frame[:at] + _pick(rng, odd) + frame[at:]


def escape(rng: Rng, frame: bytes) -> bytes:
    at = _place(rng, frame)
    escaped = b"".join(b"\\u%04x" % byte for byte in frame[at : at + 1])
    return frame[:at] + escaped + frame[at + 1 :]


def wrong_type(rng: Rng, frame: bytes) -> bytes:
    start, end = _number_span(rng, frame)
    if frame[start - 1 : start] == b'"' == frame[end : end + 1]:
        start, end = start - 1, end + 1
    odd = (b"null", b"true", b"[]", b"{}", b"1", b'"1"', b"[1]", b'{"a":1}', b"1.5", b'"x"', b"1e2")
    return frame[:start] + _pick(rng, odd) + frame[end:]


NESTED = tuple(
    opened * count + closed * count
    for count in (3, 60, 2_000, 100_000)
    for opened, closed in ((b"[", b"]"), (b'{"a":', b""))
)


def nested(rng: Rng, frame: bytes) -> bytes:
    at = frame.find(b"{", int(rng.integers(0, 60))) + 1
    return frame[:at] + b'"zz":' + _pick(rng, NESTED) + b"," + frame[at:]


def _object(frame: bytes) -> tuple[dict[str, object], dict[str, object]]:
    whole = json.loads(frame)
    return whole, whole.get("data", whole)


def twice(rng: Rng, frame: bytes) -> bytes:
    """Writes a key a second time with another value, in front of or behind the rest."""
    _, data = _object(frame)
    key = list(data)[int(rng.integers(0, len(data)))]
    value = _pick(rng, (b'"1.00"', b"7", b"true", b"null", b'"BTCUSDT"', b"[]", b'[["1","2"]]'))
    pair = b'"%b":%b' % (key.encode(), value)
    if rng.integers(0, 2):
        at = frame.rfind(b"}}") if b'"data"' in frame else len(frame) - 1
        return frame[:at] + b"," + pair + frame[at:]
    at = frame.rfind(b'{"') + 2 - 1
    return frame[:at] + pair + b"," + frame[at:]


def shuffle(rng: Rng, frame: bytes) -> bytes:
    whole, data = _object(frame)
    keys = list(data)
    rng.shuffle(keys)
    moved = {key: data[key] for key in keys}
    if "data" in whole:
        moved = {"data": moved, "stream": whole["stream"]}
    return json.dumps(moved, separators=(",", ":")).encode()


def spaces(rng: Rng, frame: bytes) -> bytes:
    return json.dumps(json.loads(frame), indent=int(rng.integers(0, 3))).encode()


def unknown_key(rng: Rng, frame: bytes) -> bytes:
    whole, data = _object(frame)
    data["zz"] = [1, {"deep": "x\u20ac"}]
    return json.dumps(whole).encode()


# Mutations after which a frame says the same: it must still be read.
KEEPING: tuple[Mutation, ...] = (shuffle, spaces, unknown_key)
SPOILING: tuple[Mutation, ...] = (
    flip, cut, remove, insert, double, digit, odd_number, exponent, sign, not_utf8, escape,
    wrong_type, nested, twice,
)  # fmt: skip
