"""engine room: Binance USD-M frames of the combined stream as market records, in compiled code.

The same kinds as spot (engine/codec.py) in another key order, with times in every frame, and the
mark price, which has eight decimals whatever the instrument's grid.
"""

from __future__ import annotations

from engine.codec import (
    DOUBLE,
    best,
    first_and_last,
    literal,
    maker,
    open_row,
    price_and_quantity,
    put_quote,
    put_trade,
    symbol,
    time_ns,
)
from engine.codec_layout import (
    FULL,
    ODD,
    data_of,
    row_of,
)
from engine.codec_scan import match, signed_units, whole
from engine.records import (
    FUNDING_E8,
    INDEX_E8,
    MARK_E8,
    MARK_VENUE_NS,
    NEXT_FUNDING_NS,
    SETTLE_E8,
    TRADE_OFF_BOOK,
)
from shm.jit import jit
from shm.segment import Bytes, Words

E8 = 8  # decimals of mark prices and funding rates
_QUOTE_HEAD = literal('","data":{"e":"bookTicker","u":')
_TRADE_HEAD = literal('","data":{"e":"trade","E":')
_AGGREGATE_HEAD = literal('","data":{"e":"aggTrade","E":')
_MARK_HEAD = literal('","data":{"e":"markPriceUpdate","E":')
_TIME, _EVENT = literal(',"T":'), literal(',"E":')
_TRADE_ID, _AGGREGATE_ID = literal('","t":'), literal('","a":')
_ORIGIN, _MARKET = literal(',"X":"'), literal('MARKET"')
_MARK, _SETTLE, _INDEX, _RATE = (literal(t) for t in ('","p":', ',"P":', ',"i":', ',"r":'))
_END = literal("}}")
_ORIGIN_MAX = 24  # characters of who caused a trade
_LETTER_A, _LETTER_Z, _UNDERSCORE, _QUOTE = 65, 90, 95, 34


@jit
def quote(path: Words, stream: Words, at: int, end: int, read_ns: int) -> int:
    """Reads a bookTicker frame from behind its stream name into a QUOTE; answers 1, FULL or ODD."""
    data = data_of(path)
    at = match(data, at, end, _QUOTE_HEAD)
    update_id, at = whole(data, at, end)
    at = symbol(path, stream, at, end)
    tops, at = best(path, stream, at, end)
    at = match(data, at, end, _TIME)
    venue, at = whole(data, at, end)
    at = match(data, at, end, _EVENT)
    _, at = whole(data, at, end)
    venue_ns = time_ns(venue)
    if match(data, at, end, _END) != end or venue_ns < 0:
        return ODD
    return put_quote(path, stream, update_id, tops, venue_ns, read_ns)


@jit
def _origin(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Reads `,"X":"WORD"`; answers the flags of the trade and the place behind."""
    at = match(data, at, end, _ORIGIN)
    behind = match(data, at, end, _MARKET)
    if behind >= 0 or at < 0:
        return 0, behind
    start = at
    while at < end and at - start <= _ORIGIN_MAX:
        letter = data[at]
        if letter == _QUOTE:
            return TRADE_OFF_BOOK, at + 1 if at > start else -1
        if not (_LETTER_A <= letter <= _LETTER_Z or letter == _UNDERSCORE):
            break
        at += 1
    return 0, -1


@jit
def trade(path: Words, stream: Words, at: int, end: int, read_ns: int) -> int:
    """Reads a trade frame from behind its stream name into a TRADE; answers 1, FULL or ODD."""
    data = data_of(path)
    at = match(data, at, end, _TRADE_HEAD)
    _, at = whole(data, at, end)
    at = match(data, at, end, _TIME)
    venue, at = whole(data, at, end)
    at = symbol(path, stream, at, end)
    at = match(data, at, end, _TRADE_ID)
    trade_id, at = whole(data, at, end)
    traded, at = price_and_quantity(path, stream, at, end)
    flags, at = _origin(data, at, end)
    is_maker_buyer, at = maker(data, at, end)
    if match(data, at, end, _END) != end:
        return ODD
    return put_trade(
        path, stream, flags, (trade_id, *traded), is_maker_buyer, (time_ns(venue), read_ns)
    )


@jit
def aggregate(path: Words, stream: Words, at: int, end: int, read_ns: int) -> int:
    """Reads an aggTrade frame from behind its stream name into a TRADE; answers 1, FULL or ODD."""
    data = data_of(path)
    at = match(data, at, end, _AGGREGATE_HEAD)
    _, at = whole(data, at, end)
    at = symbol(path, stream, at, end)
    at = match(data, at, end, _AGGREGATE_ID)
    trade_id, at = whole(data, at, end)
    traded, at = price_and_quantity(path, stream, at, end)
    at = first_and_last(data, at, end)
    at = match(data, at, end, _TIME)
    venue, at = whole(data, at, end)
    is_maker_buyer, at = maker(data, at, end)
    if match(data, at, end, _END) != end:
        return ODD
    return put_trade(
        path, stream, 0, (trade_id, *traded), is_maker_buyer, (time_ns(venue), read_ns)
    )


@jit
def mark(path: Words, stream: Words, at: int, end: int, read_ns: int) -> int:
    """Reads a markPriceUpdate frame from behind its stream name; answers 1, FULL or ODD.

    It has no id: its event time takes that place.
    """
    data = data_of(path)
    at = match(data, at, end, _MARK_HEAD)
    event, at = whole(data, at, end)
    at = symbol(path, stream, at, end)
    mark_e8, at = signed_units(data, match(data, at, end, _MARK), end, E8)
    settle_e8, at = signed_units(data, match(data, at, end, _SETTLE), end, E8)
    index_e8, at = signed_units(data, match(data, at, end, _INDEX), end, E8)
    funding_e8, at = signed_units(data, match(data, at, end, _RATE), end, E8)
    at = match(data, at, end, _TIME)
    funding, at = whole(data, at, end)
    venue_ns, next_ns = time_ns(event), time_ns(funding)
    if match(data, at, end, _END) != end or venue_ns < 0 or next_ns < 0:
        return ODD
    sequence = open_row(path, stream, event, 0, read_ns)
    if sequence < 0:
        return 1 if sequence == DOUBLE else FULL
    row = row_of(path, sequence)
    row[MARK_E8], row[INDEX_E8], row[SETTLE_E8] = mark_e8, index_e8, settle_e8
    row[FUNDING_E8], row[NEXT_FUNDING_NS], row[MARK_VENUE_NS] = funding_e8, next_ns, venue_ns
    return 1
