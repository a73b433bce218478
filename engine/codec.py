"""engine room: Binance spot frames of the combined stream as market records, in compiled code.

One frame is `{"stream":"btcusdt@trade","data":{...}}`. Its stream name is looked up in a table made
at start, which says what to expect behind it; then the frame is read in one pass against the key
order that the venue writes. A frame that differs (another order, an unknown key, spaces) is ODD:
the caller rewrites it into this order by the slower `engine/codec_exact.py` and tries once more, so
there is one reader of numbers only. Numbers off the instrument's grid are ODD both times, which
rejects the frame. USD-M frames have a module of their own, engine/codec_usdm.py.
"""

from __future__ import annotations

import numpy as np

from engine.codec_layout import (
    FULL,
    GRID_LOT_UNITS,
    GRID_PRICE_DECIMALS,
    GRID_QUANTITY_DECIMALS,
    GRID_TICK_UNITS,
    NAME_LENGTH,
    NAME_START,
    ODD,
    SPOT_TRADE,
    STREAM_FORMAT,
    STREAM_INSTRUMENT,
    STREAM_LAST,
    STREAM_SLOT,
    STREAM_TAG,
    SUM_BASE_LOTS,
    SUM_BASE_PLACES,
    SUM_COPY,
    SUM_FIRST,
    SUM_LAST_ID,
    SUM_MAKER_BUYS,
    SUM_QUOTE_HIGH,
    SUM_QUOTE_LOW,
    SUM_QUOTE_PLACES,
    SUM_TRADES,
    SYMBOL_LENGTH,
    SYMBOL_START,
    SYNC_STATE,
    TABLE_AT,
    TABLE_SLOTS,
    TOP_ASK_LOTS,
    TOP_ASK_TICKS,
    TOP_BID_LOTS,
    TOP_BID_TICKS,
    TOP_NOW_NS,
    TOP_STATE,
    WRITTEN,
    data_of,
    is_double,
    reserve,
    row_of,
    stamp,
    stream_of,
    sums_of,
    sync_of,
    text_of,
    top_of,
)
from engine.codec_scan import match, match_slice, steps, whole
from engine.records import (
    AGGRESSOR_SIDE,
    ASK_LOTS,
    ASK_TICKS,
    BID_LOTS,
    BID_TICKS,
    PUBLISH_NS,
    QUOTE_VENUE_NS,
    TRADE_ID,
    TRADE_LOTS,
    TRADE_TICKS,
    TRADE_VENUE_NS,
    UPDATE_ID,
    Side,
)
from shm.jit import inlined, jit, words_at
from shm.latest import begin_change, begin_other, end_change
from shm.segment import Bytes, Words


def literal(text: str) -> Bytes:
    """Answers text as the bytes that `match` compares with."""
    return np.frombuffer(text.encode(), np.uint8)


NAME_MAX = 64  # bytes of a stream name
MILLISECONDS_MAX = 9_000_000_000_000  # beyond, ns would leave int64
MICROSECONDS_MIN = 100_000_000_000_000  # 1973; as ms it would be the year 5138
NS_PER_MS, NS_PER_US = 1_000_000, 1_000
_BUYER, _SELLER = int(Side.BUY), int(Side.SELL)
_PRODUCT_MAX = 1 << 62
DOUBLE = -9  # what `open_row` answers for a frame that the connection before has brought

_HEAD = literal('{"stream":"')
_QUOTE_ID = literal('","data":{"u":')
_SYMBOL = literal(',"s":"')
_BID = literal('","b":')
_BID_LOTS = literal(',"B":')
_ASK = literal(',"a":')
_ASK_LOTS = literal(',"A":')
_END = literal("}}")
_TRADE_HEAD = literal('","data":{"e":"trade","E":')
_AGGREGATE_HEAD = literal('","data":{"e":"aggTrade","E":')
_TRADE_ID, _AGGREGATE_ID = literal('","t":'), literal('","a":')
_FIRST, _LAST = literal(',"f":'), literal(',"l":')
_PRICE = literal(',"p":')
_QUANTITY = literal(',"q":')
_TIME = literal(',"T":')
_MAKER = literal(',"m":')
_TRUE, _FALSE = literal("true"), literal("false")
_REST = literal(',"M":')


@jit
def lookup(path: Words, at: int, end: int) -> tuple[int, int]:
    """Answers the stream whose frame begins at `at` and the place behind its name; -1 for neither.

    The hash adds bytes weighted by their place, so its steps do not wait for one another.
    """
    data, text = data_of(path), text_of(path)
    at = match(data, at, end, _HEAD)
    if at < 0:
        return -1, -1
    start = at
    mixed = 0
    while at < end and data[at] != 34 and at - start <= NAME_MAX:  # noqa: PLR2004 - a quote
        mixed += data[at] * ((at - start) * 0x2545F + 0x9E37)
        at += 1
    table = words_at(path[TABLE_AT], TABLE_SLOTS)
    place = mixed & (TABLE_SLOTS - 1)
    while table[place] >= 0:
        stream = stream_of(path, table[place])
        if stream[NAME_LENGTH] == at - start:
            behind = match_slice(data, start, end, text, stream[NAME_START], stream[NAME_LENGTH])
            if behind >= 0:
                return table[place], behind
        place = (place + 1) & (TABLE_SLOTS - 1)
    return -1, -1


def name_hash(name: str) -> int:
    """Answers where the search for a stream name begins, as `lookup` computes it."""
    mixed = sum(byte * (place * 0x2545F + 0x9E37) for place, byte in enumerate(name.encode()))
    return mixed & (TABLE_SLOTS - 1)


@inlined
def symbol(path: Words, stream: Words, at: int, end: int) -> int:
    """Answers the place behind `,"s":"SYMBOL` when it names the stream's symbol, else -1."""
    data = data_of(path)
    at = match(data, at, end, _SYMBOL)
    return match_slice(data, at, end, text_of(path), stream[SYMBOL_START], stream[SYMBOL_LENGTH])


@inlined
def price(path: Words, stream: Words, at: int, end: int) -> tuple[int, int, int]:
    """Reads a price as ticks of the stream's instrument, see `steps`."""
    return steps(data_of(path), at, end, stream[GRID_PRICE_DECIMALS], stream[GRID_TICK_UNITS])


@inlined
def quantity(path: Words, stream: Words, at: int, end: int) -> tuple[int, int, int]:
    """Reads a quantity as lots of the stream's instrument, see `steps`."""
    return steps(data_of(path), at, end, stream[GRID_QUANTITY_DECIMALS], stream[GRID_LOT_UNITS])


@jit
def time_ns(value: int) -> int:
    """Answers a venue's time in ns; it is in ms or us, which its size tells; -1 for neither."""
    if value <= MILLISECONDS_MAX:
        return value * NS_PER_MS
    if MICROSECONDS_MIN <= value <= MILLISECONDS_MAX * 1_000:
        return value * NS_PER_US
    return -1


@jit
def best(path: Words, stream: Words, at: int, end: int) -> tuple[tuple[int, int, int, int], int]:
    """Reads `","b":"..","B":"..","a":"..","A":".."`; answers the four and the place behind."""
    data = data_of(path)
    at = match(data, at, end, _BID)
    bid_ticks, at, _ = price(path, stream, at, end)
    at = match(data, at, end, _BID_LOTS)
    bid_lots, at, _ = quantity(path, stream, at, end)
    at = match(data, at, end, _ASK)
    ask_ticks, at, _ = price(path, stream, at, end)
    at = match(data, at, end, _ASK_LOTS)
    ask_lots, at, _ = quantity(path, stream, at, end)
    return (bid_ticks, bid_lots, ask_ticks, ask_lots), at


@jit
def open_row(path: Words, stream: Words, number: int, flags: int, read_ns: int) -> int:
    """Reserves and stamps the one record of a frame with id `number`.

    Answers its sequence; FULL, when nothing has changed; or DOUBLE, when there is none to write.
    """
    if is_double(path, stream, number):
        return DOUBLE
    sequence = reserve(path, 1)
    if sequence < 0:
        return FULL
    stamp(path, row_of(path, sequence), sequence, stream[STREAM_TAG] | (flags << 16), read_ns)
    path[WRITTEN] += 1
    stream[STREAM_LAST] = number
    return sequence


@jit
def put_quote(
    path: Words,
    stream: Words,
    update_id: int,
    tops: tuple[int, int, int, int],
    venue_ns: int,
    read_ns: int,
) -> int:
    """Writes a QUOTE unless it is a double; answers 1 or FULL."""
    sequence = open_row(path, stream, update_id, 0, read_ns)
    if sequence < 0:
        return 1 if sequence == DOUBLE else FULL
    row = row_of(path, sequence)
    row[UPDATE_ID] = update_id
    row[BID_TICKS], row[BID_LOTS], row[ASK_TICKS], row[ASK_LOTS] = tops
    row[QUOTE_VENUE_NS] = venue_ns
    _set_top(path, stream, row)
    return 1


@jit
def quote(path: Words, stream: Words, at: int, end: int, read_ns: int) -> int:
    """Reads a bookTicker frame from behind its stream name into a QUOTE; answers 1, FULL or ODD."""
    data = data_of(path)
    at = match(data, at, end, _QUOTE_ID)
    update_id, at = whole(data, at, end)
    at = symbol(path, stream, at, end)
    tops, at = best(path, stream, at, end)
    if match(data, at, end, _END) != end:
        return ODD
    return put_quote(path, stream, update_id, tops, 0, read_ns)  # the venue sends no time with it


@jit
def _set_top(path: Words, stream: Words, row: Words) -> None:
    """Writes the top cell, as `shm.latest.write_latest` does from an array."""
    cell = top_of(path, stream[STREAM_INSTRUMENT])
    begin_change(cell)
    cell[1 + TOP_BID_TICKS] = row[BID_TICKS]
    cell[1 + TOP_BID_LOTS] = row[BID_LOTS]
    cell[1 + TOP_ASK_TICKS] = row[ASK_TICKS]
    cell[1 + TOP_ASK_LOTS] = row[ASK_LOTS]
    cell[1 + TOP_NOW_NS] = row[PUBLISH_NS]
    cell[1 + TOP_STATE] = sync_of(path, stream[STREAM_SLOT])[SYNC_STATE]
    end_change(cell)


@jit
def maker(data: Bytes, at: int, end: int) -> tuple[bool, int]:
    """Reads `,"m":true`; answers whether the buyer was the maker, and the place behind."""
    at = match(data, at, end, _MAKER)
    behind = match(data, at, end, _TRUE)
    return behind >= 0, behind if behind >= 0 else match(data, at, end, _FALSE)


@jit
def put_trade(
    path: Words,
    stream: Words,
    flags: int,
    terms: tuple[int, int, int, int, int],
    is_maker_buyer: bool,  # noqa: FBT001 - compiled code has no keyword arguments
    times: tuple[int, int],
) -> int:
    """Writes a TRADE unless it is a double; answers 1, FULL or ODD.

    `terms` are id, ticks, lots, and the places of price and quantity as written; `times` are the
    venue's and when the frame was read, ns.
    """
    trade_id, ticks, lots, price_places, quantity_places = terms
    if times[0] < 0 or (lots > 0 and ticks > (_PRODUCT_MAX - 1) // lots):
        return ODD
    sequence = open_row(path, stream, trade_id, flags, times[1])
    if sequence < 0:
        return 1 if sequence == DOUBLE else FULL
    row = row_of(path, sequence)
    row[TRADE_ID] = trade_id
    row[TRADE_TICKS] = ticks
    row[TRADE_LOTS] = lots
    row[AGGRESSOR_SIDE] = _SELLER if is_maker_buyer else _BUYER
    row[TRADE_VENUE_NS] = times[0]
    _add_trade(path, stream[STREAM_SLOT], row, price_places, quantity_places)
    return 1


@jit
def price_and_quantity(
    path: Words, stream: Words, at: int, end: int
) -> tuple[tuple[int, int, int, int], int]:
    """Reads `,"p":"..","q":".."`; answers ticks, lots, the places of both, and the place behind."""
    data = data_of(path)
    at = match(data, at, end, _PRICE)
    ticks, at, price_places = price(path, stream, at, end)
    at = match(data, at, end, _QUANTITY)
    lots, at, quantity_places = quantity(path, stream, at, end)
    return (ticks, lots, price_places, quantity_places), at


@jit
def trade(path: Words, stream: Words, at: int, end: int, read_ns: int) -> int:
    """Reads a trade or aggTrade frame from behind its stream name; answers 1, FULL or ODD."""
    data = data_of(path)
    is_single = stream[STREAM_FORMAT] == SPOT_TRADE
    at = match(data, at, end, _TRADE_HEAD if is_single else _AGGREGATE_HEAD)
    _, at = whole(data, at, end)
    at = symbol(path, stream, at, end)
    at = match(data, at, end, _TRADE_ID if is_single else _AGGREGATE_ID)
    trade_id, at = whole(data, at, end)
    traded, at = price_and_quantity(path, stream, at, end)
    if not is_single:
        at = first_and_last(data, at, end)
    at = match(data, at, end, _TIME)
    venue, at = whole(data, at, end)
    is_maker_buyer, at = maker(data, at, end)
    at = match(data, at, end, _REST)
    behind = match(data, at, end, _TRUE)
    at = behind if behind >= 0 else match(data, at, end, _FALSE)
    if match(data, at, end, _END) != end:
        return ODD
    return put_trade(
        path, stream, 0, (trade_id, *traded), is_maker_buyer, (time_ns(venue), read_ns)
    )


@jit
def first_and_last(data: Bytes, at: int, end: int) -> int:
    """Answers the place behind the ids of an aggTrade's first and last trade."""
    at = match(data, at, end, _FIRST)
    _, at = whole(data, at, end)
    at = match(data, at, end, _LAST)
    _, at = whole(data, at, end)
    return at


@jit
def _add_trade(path: Words, slot: int, row: Words, price_places: int, quantity_places: int) -> None:
    """Adds a trade to the exact sums: written beside the valid copy, then made valid at once.

    So a reader, and a successor after a kill, always finds one whole copy.
    """
    sums = sums_of(path, slot)
    version = sums[0]
    begin_other(sums)
    old = SUM_FIRST + SUM_COPY * (version & 1)
    new = SUM_FIRST + SUM_COPY * ((version + 1) & 1)
    low = sums[old + SUM_QUOTE_LOW] + row[TRADE_TICKS] * row[TRADE_LOTS]
    carry = 1 if low >= _PRODUCT_MAX else 0
    places = price_places + quantity_places
    sums[new + SUM_TRADES] = sums[old + SUM_TRADES] + 1
    sums[new + SUM_BASE_LOTS] = sums[old + SUM_BASE_LOTS] + row[TRADE_LOTS]
    sums[new + SUM_QUOTE_LOW] = low - carry * _PRODUCT_MAX
    sums[new + SUM_QUOTE_HIGH] = sums[old + SUM_QUOTE_HIGH] + carry
    sums[new + SUM_BASE_PLACES] = max(sums[old + SUM_BASE_PLACES], quantity_places)
    sums[new + SUM_QUOTE_PLACES] = max(sums[old + SUM_QUOTE_PLACES], places)
    sums[new + SUM_LAST_ID] = row[TRADE_ID]
    bought = 1 if row[AGGRESSOR_SIDE] == _SELLER else 0
    sums[new + SUM_MAKER_BUYS] = sums[old + SUM_MAKER_BUYS] + bought
    end_change(sums)
