"""engine room: rewrites a frame of any JSON shape into the one that the compiled codec reads.

Key order, spaces and unknown keys do not matter to JSON, so a venue may change them on any day.
Values are carried over as the bytes they were written with: no number is read here, and so none
can come out different. What lacks a key, or has another type, is no frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
from msgspec import Raw

from engine.venues import SPOT, USDM


class _Combined(msgspec.Struct):
    stream: str
    data: Raw


class _Quote(msgspec.Struct):
    u: Raw
    s: Raw
    b: Raw
    B: Raw
    a: Raw
    A: Raw


class _Trade(msgspec.Struct):
    e: Literal["trade"]
    E: Raw
    s: Raw
    t: Raw
    p: Raw
    q: Raw
    T: Raw
    m: bool


class _Aggregate(msgspec.Struct):
    e: Literal["aggTrade"]
    E: Raw
    s: Raw
    a: Raw
    p: Raw
    q: Raw
    f: Raw
    l: Raw  # noqa: E741 - the venue's key
    T: Raw
    m: bool


class _UsdmQuote(_Quote):
    e: Literal["bookTicker"]
    T: Raw
    E: Raw


class _UsdmTrade(_Trade):
    X: Raw


class _Mark(msgspec.Struct):
    e: Literal["markPriceUpdate"]
    E: Raw
    s: Raw
    p: Raw
    P: Raw
    i: Raw
    r: Raw
    T: Raw


class _Depth(msgspec.Struct):
    e: Literal["depthUpdate"]
    E: Raw
    s: Raw
    U: Raw
    u: Raw
    b: list[tuple[Raw, Raw]]
    a: list[tuple[Raw, Raw]]


class _UsdmDepth(_Depth):
    T: Raw
    pu: Raw


class _Snapshot(msgspec.Struct):
    lastUpdateId: Raw  # noqa: N815 - the venue's key
    bids: list[tuple[Raw, Raw]]
    asks: list[tuple[Raw, Raw]]


_combined = msgspec.json.Decoder(_Combined)
_quote = msgspec.json.Decoder(_Quote)
_trade = msgspec.json.Decoder(_Trade)
_aggregate = msgspec.json.Decoder(_Aggregate)
_depth = msgspec.json.Decoder(_Depth)
_usdm_quote = msgspec.json.Decoder(_UsdmQuote)
_usdm_trade = msgspec.json.Decoder(_UsdmTrade)
_usdm_depth = msgspec.json.Decoder(_UsdmDepth)
_mark = msgspec.json.Decoder(_Mark)
_snapshot = msgspec.json.Decoder(_Snapshot)


def _levels(levels: list[tuple[Raw, Raw]]) -> bytes:
    return b",".join(b"[%b,%b]" % (price, quantity) for price, quantity in levels)


def _quote_text(data: Raw) -> bytes:
    q = _quote.decode(data)
    parts = (q.u, q.s, q.b, q.B, q.a, q.A)
    return b'{"u":%b,"s":%b,"b":%b,"B":%b,"a":%b,"A":%b}' % parts


def _trade_text(data: Raw) -> bytes:
    t = _trade.decode(data)
    parts = (t.E, t.s, t.t, t.p, t.q, t.T, b"true" if t.m else b"false")
    keys = b'{"e":"trade","E":%b,"s":%b,"t":%b,"p":%b,"q":%b,"T":%b,"m":%b,"M":true}'
    return keys % parts


def _aggregate_text(data: Raw, end: bytes) -> bytes:
    t = _aggregate.decode(data)
    parts = (t.E, t.s, t.a, t.p, t.q, t.f, t.l, t.T, b"true" if t.m else b"false", end)
    keys = b'{"e":"aggTrade","E":%b,"s":%b,"a":%b,"p":%b,"q":%b,"f":%b,"l":%b,"T":%b,"m":%b%b}'
    return keys % parts


def _depth_text(data: Raw) -> bytes:
    d = _depth.decode(data)
    parts = (d.E, d.s, d.U, d.u, _levels(d.b), _levels(d.a))
    return b'{"e":"depthUpdate","E":%b,"s":%b,"U":%b,"u":%b,"b":[%b],"a":[%b]}' % parts


def _usdm_quote_text(data: Raw) -> bytes:
    q = _usdm_quote.decode(data)
    parts = (q.u, q.s, q.b, q.B, q.a, q.A, q.T, q.E)
    keys = b'{"e":"bookTicker","u":%b,"s":%b,"b":%b,"B":%b,"a":%b,"A":%b,"T":%b,"E":%b}'
    return keys % parts


def _usdm_trade_text(data: Raw) -> bytes:
    t = _usdm_trade.decode(data)
    parts = (t.E, t.T, t.s, t.t, t.p, t.q, t.X, b"true" if t.m else b"false")
    return b'{"e":"trade","E":%b,"T":%b,"s":%b,"t":%b,"p":%b,"q":%b,"X":%b,"m":%b}' % parts


def _usdm_depth_text(data: Raw) -> bytes:
    d = _usdm_depth.decode(data)
    parts = (d.E, d.T, d.s, d.U, d.u, d.pu, _levels(d.b), _levels(d.a))
    keys = b'{"e":"depthUpdate","E":%b,"T":%b,"s":%b,"U":%b,"u":%b,"pu":%b,"b":[%b],"a":[%b]}'
    return keys % parts


def _mark_text(data: Raw) -> bytes:
    m = _mark.decode(data)
    rate = b'"0"' if bytes(m.r) == b'""' else bytes(m.r)  # a contract without funding
    parts = (m.E, m.s, m.p, m.P, m.i, rate, m.T)
    return b'{"e":"markPriceUpdate","E":%b,"s":%b,"p":%b,"P":%b,"i":%b,"r":%b,"T":%b}' % parts


_SPOT: dict[str, Callable[[Raw], bytes]] = {
    "bookTicker": _quote_text,
    "trade": _trade_text,
    "aggTrade": lambda data: _aggregate_text(data, b',"M":true'),
    "depth": _depth_text,
}
_USDM: dict[str, Callable[[Raw], bytes]] = {
    "bookTicker": _usdm_quote_text,
    "trade": _usdm_trade_text,
    "aggTrade": lambda data: _aggregate_text(data, b""),
    "depth": _usdm_depth_text,
    "markPrice": _mark_text,
}
_WRITERS = {SPOT.name: _SPOT, USDM.name: _USDM}


def canonical(frame: bytes, market: str) -> bytes | None:
    """Answers the frame in the market's own key order without spaces, None when it is no frame."""
    try:
        combined = _combined.decode(frame)
        kind = combined.stream.partition("@")[2].partition("@")[0]
        write = _WRITERS[market].get(kind)
        if write is None or '"' in combined.stream:
            return None
        return b'{"stream":"%b","data":%b}' % (combined.stream.encode(), write(combined.data))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def canonical_snapshot(body: bytes) -> bytes | None:
    """Answers a depth snapshot in the venue's own key order, None when it is none."""
    try:
        s = _snapshot.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    parts = (s.lastUpdateId, _levels(s.bids), _levels(s.asks))
    return b'{"lastUpdateId":%b,"bids":[%b],"asks":[%b]}' % parts
