"""engine room: the bounded table of orders, the trades already booked, and positions.

Everything that must outlive the execution worker lies in one array of words, which it shares with
nobody but its own successor (segment `table.execution`), offsets in words:

    0                    next_request   number of the next request to the venue
    1                    taken          records of the ring `orders` that were acted on
    2                    committed      reports that were settled
    64                   orders         ORDERS_MAX rows of ORDER_WORDS, see engine/orders.py
    TRADES_AT            trades         TRADE_BUCKETS rows of TRADE_WAYS keys, newest first
    POSITIONS_AT         positions      two rows an instrument; `active` says which one is whole
    ACTIVE_AT            active         one word an instrument

What can be rebuilt lies in a second, private array, `lookup`: a stack of free rows, a queue of
ended rows in the order of their end (an ended row is only used again when no free one is left, so
late messages still find their order), and an open-addressing index from client id to row with
deletion by backward shift (Knuth, The Art of Computer Programming 3, 6.4, algorithm R).

Nothing here grows: a full table refuses, and the trade table forgets its oldest keys.
"""

from __future__ import annotations

import numpy as np

from engine.instruments import INSTRUMENTS_MAX
from engine.orders import (
    ORDER_CUMULATIVE,
    ORDER_ENDED_NS,
    ORDER_ID,
    ORDER_REPORTED,
    ORDER_STATE,
    ORDER_TERMS,
    ORDER_WORDS,
    is_fill,
    is_terminal,
    settle,
)
from engine.positions import LAST_REPORT, POSITION_WORDS, apply_fill
from engine.records import (
    FEE_ASSET,
    FEE_E8,
    LAST_LOTS,
    LAST_TICKS,
    PUBLISH_NS,
    REPORT_TRADE_ID,
    SEQUENCE,
    TERMS_SIDE,
    instrument_of,
    part,
)
from shm.jit import jit, store_release
from shm.segment import Words, fingerprint

ORDERS_MAX = 4096
TRADE_BUCKETS, TRADE_WAYS = 4096, 8
NEXT_REQUEST, TAKEN, COMMITTED = range(3)
ORDERS_AT = 64
TRADES_AT = ORDERS_AT + ORDERS_MAX * ORDER_WORDS
POSITIONS_AT = TRADES_AT + TRADE_BUCKETS * TRADE_WAYS
ACTIVE_AT = POSITIONS_AT + INSTRUMENTS_MAX * 2 * POSITION_WORDS
TABLE_WORDS = ACTIVE_AT + INSTRUMENTS_MAX
SEGMENT = "table.execution"
LAYOUT = fingerprint(
    "orders", 1, ORDERS_MAX, ORDER_WORDS, TRADE_BUCKETS, TRADE_WAYS, POSITION_WORDS
)

FREE_COUNT, ENDED_FIRST, ENDED_COUNT = range(3)
_FREE_AT = 16
_ENDED_AT = _FREE_AT + ORDERS_MAX
_INDEX_AT = _ENDED_AT + ORDERS_MAX
_INDEX_SIZE = 4 * ORDERS_MAX
LOOKUP_WORDS = _INDEX_AT + _INDEX_SIZE
NOT_FOUND = -1


def new_lookup() -> Words:
    """Makes the private array, to be filled by `rebuild`."""
    return np.zeros(LOOKUP_WORDS, np.int64)


@jit
def order_rows(table: Words) -> Words:
    """Views the orders, (ORDERS_MAX, ORDER_WORDS)."""
    return table[ORDERS_AT:TRADES_AT].reshape(ORDERS_MAX, ORDER_WORDS)


@jit
def _home(client_id: int) -> int:
    mixed = client_id ^ (client_id >> 29) ^ (client_id >> 40)
    return (mixed * 0x9E3779B1) >> 7 & (_INDEX_SIZE - 1)


@jit
def find(table: Words, lookup: Words, client_id: int) -> int:
    """Answers the row of a client order id, NOT_FOUND when there is none."""
    place = _home(client_id)
    for _ in range(_INDEX_SIZE):
        row = lookup[_INDEX_AT + place] - 1
        if row < 0:
            return NOT_FOUND
        if table[ORDERS_AT + row * ORDER_WORDS + ORDER_ID] == client_id:
            return row  # type: ignore[no-any-return]
        place = (place + 1) & (_INDEX_SIZE - 1)
    return NOT_FOUND


@jit
def _index(lookup: Words, client_id: int, row: int) -> None:
    place = _home(client_id)
    while lookup[_INDEX_AT + place] != 0:  # ends: the index is four times the table
        place = (place + 1) & (_INDEX_SIZE - 1)
    lookup[_INDEX_AT + place] = row + 1


@jit
def _unindex(table: Words, lookup: Words, client_id: int) -> None:
    place = _home(client_id)
    while table[ORDERS_AT + (lookup[_INDEX_AT + place] - 1) * ORDER_WORDS + ORDER_ID] != client_id:
        place = (place + 1) & (_INDEX_SIZE - 1)
    hole = place
    lookup[_INDEX_AT + hole] = 0
    while True:
        place = (place + 1) & (_INDEX_SIZE - 1)
        row = lookup[_INDEX_AT + place] - 1
        if row < 0:
            return
        home = _home(table[ORDERS_AT + row * ORDER_WORDS + ORDER_ID])
        if (place - home) & (_INDEX_SIZE - 1) >= (place - hole) & (_INDEX_SIZE - 1):
            lookup[_INDEX_AT + hole] = row + 1
            lookup[_INDEX_AT + place] = 0
            hole = place


@jit
def insert(table: Words, lookup: Words, client_id: int) -> int:
    """Gives a client order id a zeroed row; NOT_FOUND when every row holds a live order.

    The id word is the caller's to store last: until then the row counts as free after a restart.
    """
    if lookup[FREE_COUNT] > 0:
        lookup[FREE_COUNT] -= 1
        row = lookup[_FREE_AT + lookup[FREE_COUNT]]
    elif lookup[ENDED_COUNT] > 0:
        row = lookup[_ENDED_AT + lookup[ENDED_FIRST]]
        lookup[ENDED_FIRST] = (lookup[ENDED_FIRST] + 1) % ORDERS_MAX
        lookup[ENDED_COUNT] -= 1
        _unindex(table, lookup, table[ORDERS_AT + row * ORDER_WORDS + ORDER_ID])
    else:
        return NOT_FOUND
    start = ORDERS_AT + row * ORDER_WORDS
    table[start : start + ORDER_WORDS] = 0
    _index(lookup, client_id, row)
    return row  # type: ignore[no-any-return]


@jit
def has_row(lookup: Words) -> bool:
    """Says whether `insert` would find a row."""
    return lookup[FREE_COUNT] + lookup[ENDED_COUNT] > 0  # type: ignore[no-any-return]


@jit
def live_count(lookup: Words) -> int:
    """Answers how many orders are not over."""
    return ORDERS_MAX - lookup[FREE_COUNT] - lookup[ENDED_COUNT]  # type: ignore[no-any-return]


@jit
def _retire(lookup: Words, row: int) -> None:
    lookup[_ENDED_AT + (lookup[ENDED_FIRST] + lookup[ENDED_COUNT]) % ORDERS_MAX] = row
    lookup[ENDED_COUNT] += 1


@jit
def _revive(lookup: Words, row: int) -> None:
    """Takes a row out of the ended queue again: a venue contradicted itself. Rare, so linear."""
    count, first = lookup[ENDED_COUNT], lookup[ENDED_FIRST]
    kept = 0
    for position in range(count):
        ended = lookup[_ENDED_AT + (first + position) % ORDERS_MAX]
        if ended != row:
            lookup[_ENDED_AT + (first + kept) % ORDERS_MAX] = ended
            kept += 1
    lookup[ENDED_COUNT] = kept


def rebuild(table: Words, lookup: Words) -> None:
    """Makes `lookup` from the table's rows. Called by: the worker when it starts."""
    rows = order_rows(table)
    lookup[:] = 0
    for row in range(ORDERS_MAX - 1, -1, -1):
        if rows[row, ORDER_ID] == 0:
            lookup[_FREE_AT + int(lookup[FREE_COUNT])] = row
            lookup[FREE_COUNT] += 1
        else:
            _index(lookup, int(rows[row, ORDER_ID]), row)
    held = [int(row) for row in np.flatnonzero(rows[:, ORDER_ID])]
    for row in sorted(held, key=lambda row: int(rows[row, ORDER_ENDED_NS])):
        if is_terminal(int(rows[row, ORDER_STATE])):
            _retire(lookup, row)


@jit
def trade_key(instrument: int, trade_id: int) -> int:
    """Answers the key of a trade: a venue's trade ids are unique within an instrument only."""
    return (trade_id * INSTRUMENTS_MAX + instrument) + 1


@jit
def has_trade(table: Words, key: int) -> bool:
    """Says whether a trade was booked, as far as the table remembers."""
    start = TRADES_AT + ((key * 0x9E3779B1) >> 9 & (TRADE_BUCKETS - 1)) * TRADE_WAYS
    found = False
    for way in range(TRADE_WAYS):
        found |= table[start + way] == key
    return found


@jit
def _remember_trade(table: Words, key: int) -> None:
    start = TRADES_AT + ((key * 0x9E3779B1) >> 9 & (TRADE_BUCKETS - 1)) * TRADE_WAYS
    for way in range(TRADE_WAYS - 1, 0, -1):
        table[start + way] = table[start + way - 1]
    table[start] = key


@jit
def position(table: Words, instrument: int) -> Words:
    """Views the whole row of an instrument's position, (POSITION_WORDS,)."""
    row = 2 * instrument + table[ACTIVE_AT + instrument]
    start = POSITIONS_AT + row * POSITION_WORDS
    return table[start : start + POSITION_WORDS]


@jit
def _book(table: Words, row: Words, report: Words) -> None:
    """Books a fill into the position's other row and then switches to it."""
    instrument = instrument_of(report)
    current = position(table, instrument)
    if current[LAST_REPORT] > report[SEQUENCE]:
        return  # booked before the last worker died
    other = 1 - table[ACTIVE_AT + instrument]
    start = POSITIONS_AT + (2 * instrument + other) * POSITION_WORDS
    after = table[start : start + POSITION_WORDS]
    after[:] = current
    side = part(row[ORDER_TERMS], TERMS_SIDE)
    lots, fee = report[LAST_LOTS], report[FEE_E8]
    apply_fill(after, side, report[LAST_TICKS], lots, fee, report[FEE_ASSET])
    after[LAST_REPORT] = report[SEQUENCE] + 1
    # Pairs with nothing in another process: keeps the order for a successor after kill -9.
    store_release(table, ACTIVE_AT + instrument, other)


@jit
def commit(table: Words, lookup: Words, row_index: int, report: Words) -> None:
    """Takes a published report into order, trades and position; twice is the same as once.

    Called by: execution, for each report in the order of their sequences.
    """
    start = ORDERS_AT + row_index * ORDER_WORDS
    row = table[start : start + ORDER_WORDS]
    was_over = is_terminal(row[ORDER_STATE])
    if is_fill(report):
        key = trade_key(instrument_of(report), report[REPORT_TRADE_ID])
        if not has_trade(table, key):
            _remember_trade(table, key)
        _book(table, row, report)
    settle(row, report)
    is_over = is_terminal(row[ORDER_STATE])
    if is_over and not was_over:
        row[ORDER_ENDED_NS] = report[PUBLISH_NS]
        _retire(lookup, row_index)
    elif was_over and not is_over:
        _revive(lookup, row_index)
    table[COMMITTED] = report[SEQUENCE] + 1


def live_rows(table: Words) -> list[int]:
    """Answers the rows of every order that is not over. Cold: looks at the whole table."""
    rows = order_rows(table)
    held = np.flatnonzero(rows[:, ORDER_ID])
    return [int(row) for row in held if not is_terminal(int(rows[row, ORDER_STATE]))]


def unreported_rows(table: Words) -> list[int]:
    """Answers the rows whose SENT report never came out: the worker died in between."""
    rows = order_rows(table)
    return [
        int(r) for r in np.flatnonzero((rows[:, ORDER_ID] != 0) & (rows[:, ORDER_REPORTED] == 0))
    ]


def traded_lots(table: Words) -> int:
    """Answers the lots traded over all orders still held, for tests and summaries."""
    return int(order_rows(table)[:, ORDER_CUMULATIVE].sum())
