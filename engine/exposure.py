"""engine room: what we may come to own: position and every order that may still trade.

Kept from orders that risk let pass and from reports, in fixed tables. An order counts in full from
the moment it passed; UNKNOWN and PENDING_NEW count like NEW. Buys and sells are added up apart and
never netted against each other, so the position can in no case leave

    position - open sells  ..  position + open buys

The order table is open addressing over a power of two of entries. Client order ids count up, so an
entry nearly always lies at its home; it is looked for in PROBES_MAX places from there. Ended orders
stay until their place is needed (oldest first), so a fill that is told after the end still counts.
Nothing is ever moved and no tombstone is left.

    entry word   0 key           client order id; for an order that is not ours, -2 - venue order id
                 1 terms         side | live << 8 | instrument << 16; side 0: not known, both
                 2 quantity_lots
                 3 cumulative_lots
                 4 price_ticks
                 5 order state   as last reported
"""

from __future__ import annotations

from engine.actions import is_live
from engine.records import (
    CLIENT_ID,
    CUMULATIVE_LOTS,
    LAST_LOTS,
    LAST_TICKS,
    LEAVES_LOTS,
    REPORT_VENUE_ORDER_ID,
    STATUS,
    STATUS_ORDER,
    STATUS_REASON,
    OrderState,
    Reason,
    Side,
    flags_of,
    instrument_of,
    part,
)
from shm.jit import jit
from shm.segment import Words

ENTRY_WORDS = 8
(
    ENTRY_KEY, ENTRY_TERMS, ENTRY_QUANTITY_LOTS, ENTRY_CUMULATIVE_LOTS, ENTRY_PRICE_TICKS,
    ENTRY_STATE,
) = range(6)  # fmt: skip
PROBES_MAX = 32
BOTH = 0  # side of an adopted order whose side nobody told; it counts on both

# Words of an instrument's book, see engine/risk_step.py.
POSITION_LOTS, OPEN_BUY_LOTS, OPEN_SELL_LOTS, OPEN_ORDERS = range(4)

_BUY, _SELL = int(Side.BUY), int(Side.SELL)
_PENDING, _FILL_REASON = int(OrderState.PENDING_NEW), int(Reason.FILL)
_LIVE = 1 << 8


@jit
def key_of(row: Words) -> int:
    """Answers the table key of the order that a report is about."""
    if row[CLIENT_ID] > 0:
        return row[CLIENT_ID]  # type: ignore[no-any-return]
    return -2 - row[REPORT_VENUE_ORDER_ID]  # type: ignore[no-any-return]


@jit
def find(orders: Words, key: int) -> int:
    """Answers where the entry of `key` begins, -1 when there is none."""
    entries = len(orders) // ENTRY_WORDS
    for probe in range(min(PROBES_MAX, entries)):
        base = ENTRY_WORDS * ((key + probe) & (entries - 1))
        if orders[base + ENTRY_KEY] == key:
            return base
        if orders[base + ENTRY_KEY] == 0:
            return -1
    return -1


@jit
def free_entry(orders: Words, key: int) -> int:
    """Answers where an entry for `key` may be put, -1 when all its places hold live orders."""
    entries = len(orders) // ENTRY_WORDS
    best, oldest = -1, 0
    for probe in range(min(PROBES_MAX, entries)):
        base = ENTRY_WORDS * ((key + probe) & (entries - 1))
        if orders[base + ENTRY_KEY] == 0:
            return base if best < 0 else best
        ended = orders[base + ENTRY_TERMS] & _LIVE == 0
        if ended and (best < 0 or orders[base + ENTRY_KEY] < oldest):
            best, oldest = base, orders[base + ENTRY_KEY]
    return best


@jit
def _count(book: Words, side: int, lots: int, orders: int) -> None:
    if side != _SELL:
        book[OPEN_BUY_LOTS] += lots
    if side != _BUY:
        book[OPEN_SELL_LOTS] += lots
    book[OPEN_ORDERS] += orders


@jit
def open_order(
    book: Words, orders: Words, key: int, terms: int, price_ticks: int, lots: int
) -> int:
    """Counts a live order of `lots`; answers where its entry begins, -1 when there is no room.

    Args:
        book: of the instrument.
        orders: the order table.
        key: not in the table.
        terms: side | instrument << 16.
        price_ticks: limit, 0 for none.
        lots: quantity that may still trade.
    """
    base = free_entry(orders, key)
    if base < 0:
        return -1
    for word in range(ENTRY_WORDS):
        orders[base + word] = 0
    orders[base + ENTRY_KEY], orders[base + ENTRY_TERMS] = key, terms | _LIVE
    orders[base + ENTRY_QUANTITY_LOTS], orders[base + ENTRY_PRICE_TICKS] = lots, price_ticks
    orders[base + ENTRY_STATE] = _PENDING
    _count(book, terms & 0xFF, lots, 1)
    return base


@jit
def leaves_of(orders: Words, base: int) -> int:
    """Answers what of an entry may still trade: all that has not traded while it lives, else 0."""
    if orders[base + ENTRY_TERMS] & _LIVE == 0:
        return 0
    return max(0, orders[base + ENTRY_QUANTITY_LOTS] - orders[base + ENTRY_CUMULATIVE_LOTS])  # type: ignore[no-any-return]


@jit
def _fill(book: Words, side: int, lots: int) -> None:
    if side == _BUY:
        book[POSITION_LOTS] += lots
    elif side == _SELL:
        book[POSITION_LOTS] -= lots


@jit
def _adopt(book: Words, orders: Words, row: Words) -> bool:
    """Counts an order that is not in the table: one we did not send, or one that ended long ago."""
    side = flags_of(row)
    if not is_live(part(row[STATUS], STATUS_ORDER)):
        if part(row[STATUS], STATUS_REASON) != _FILL_REASON:
            return False
        _fill(book, side, row[LAST_LOTS])
        return True
    terms = side | (instrument_of(row) << 16)
    base = open_order(book, orders, key_of(row), terms, row[LAST_TICKS], row[LEAVES_LOTS])
    if base < 0:
        return False
    orders[base + ENTRY_CUMULATIVE_LOTS] = row[CUMULATIVE_LOTS]
    orders[base + ENTRY_QUANTITY_LOTS] += row[CUMULATIVE_LOTS]
    return True


@jit
def see_report(book: Words, orders: Words, row: Words) -> bool:
    """Books a report; answers False when it is about an order that nobody knows.

    Fills are booked by the growth of the cumulative quantity, so a fill told twice counts once.
    Reports come in order from one writer, so the last order state is the one that counts.
    """
    base = find(orders, key_of(row))
    if base < 0:
        return _adopt(book, orders, row)
    side = orders[base + ENTRY_TERMS] & 0xFF
    before = leaves_of(orders, base)
    filled = row[CUMULATIVE_LOTS] - orders[base + ENTRY_CUMULATIVE_LOTS]
    if filled > 0:
        orders[base + ENTRY_CUMULATIVE_LOTS] = row[CUMULATIVE_LOTS]
        _fill(book, side, filled)
    orders[base + ENTRY_STATE] = part(row[STATUS], STATUS_ORDER)
    lived = orders[base + ENTRY_TERMS] & _LIVE != 0
    lives = is_live(orders[base + ENTRY_STATE])
    if lives:
        orders[base + ENTRY_TERMS] |= _LIVE
    else:
        orders[base + ENTRY_TERMS] &= ~_LIVE
    _count(book, side, leaves_of(orders, base) - before, int(lives) - int(lived))
    return True
