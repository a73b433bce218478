"""engine room: rewrites a frame of any JSON shape into the one that the compiled codec reads.

Key order, spaces and unknown keys do not matter to JSON, so a venue may change them on any day.
Values are carried over as the bytes they were written with: no number is read here, and so none
can come out different. What lacks a key, or has another type, is no frame.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Raw


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


class _Depth(msgspec.Struct):
    e: Literal["depthUpdate"]
    E: Raw
    s: Raw
    U: Raw
    u: Raw
    b: list[tuple[Raw, Raw]]
    a: list[tuple[Raw, Raw]]


class _Snapshot(msgspec.Struct):
    lastUpdateId: Raw  # noqa: N815 - the venue's key
    bids: list[tuple[Raw, Raw]]
    asks: list[tuple[Raw, Raw]]


_combined = msgspec.json.Decoder(_Combined)
_quote = msgspec.json.Decoder(_Quote)
_trade = msgspec.json.Decoder(_Trade)
_depth = msgspec.json.Decoder(_Depth)
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


def _depth_text(data: Raw) -> bytes:
    d = _depth.decode(data)
    parts = (d.E, d.s, d.U, d.u, _levels(d.b), _levels(d.a))
    return b'{"e":"depthUpdate","E":%b,"s":%b,"U":%b,"u":%b,"b":[%b],"a":[%b]}' % parts


def canonical(frame: bytes) -> bytes | None:
    """Answers the frame in the venue's own key order without spaces, None when it is no frame."""
    try:
        combined = _combined.decode(frame)
        kind = combined.stream.partition("@")[2].partition("@")[0]
        write = {"bookTicker": _quote_text, "trade": _trade_text, "depth": _depth_text}.get(kind)
        if write is None or '"' in combined.stream:
            return None
        return b'{"stream":"%b","data":%b}' % (combined.stream.encode(), write(combined.data))
    except (msgspec.DecodeError, UnicodeError):
        return None


def canonical_snapshot(body: bytes) -> bytes | None:
    """Answers a depth snapshot in the venue's own key order, None when it is none."""
    try:
        s = _snapshot.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        return None
    parts = (s.lastUpdateId, _levels(s.bids), _levels(s.asks))
    return b'{"lastUpdateId":%b,"bids":[%b],"asks":[%b]}' % parts
