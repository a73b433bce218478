"""engine room: what a strategy sees and what it may do; the words of `view` and of `out`.

A strategy function runs once a record it hears, for one instrument. `view` is kept by the framework
and only read by the strategy; `out` takes its actions through `place`, `cancel` and `signal`. All
numbers are integers: ticks, lots, ns, parts per million.

    view word   meaning
    0 .. 18     VIEW_* below
    32 .. 63    the instrument, words of engine/instruments.py at VIEW_GRID
    64 ..       ORDERS_MAX own orders of ORDER_WORDS words; the strategy's own on this instrument
"""

from __future__ import annotations

from engine.instruments import (
    LOT_UNITS,
    PRICE_DECIMALS,
    QUANTITY_DECIMALS,
    QUANTITY_STEP_LOTS,
    STATUS_WORD,
    TICK_UNITS,
    TRADING,
)
from engine.records import BookState, OrderState, Side, client_id_of, pack
from shm.jit import jit
from shm.segment import Words

(
    VIEW_NOW_NS, VIEW_INSTRUMENT, VIEW_STRATEGY, VIEW_BID_TICKS, VIEW_BID_LOTS, VIEW_ASK_TICKS,
    VIEW_ASK_LOTS, VIEW_QUOTE_ID, VIEW_QUOTE_NS, VIEW_BOOK_STATE, VIEW_TRADE_TICKS,
    VIEW_TRADE_LOTS, VIEW_TRADE_SIDE, VIEW_POSITION_LOTS, VIEW_OPEN_COUNT, VIEW_OPEN_BUY_LOTS,
    VIEW_OPEN_SELL_LOTS, VIEW_LEVEL, VIEW_FILLS,
) = range(19)  # fmt: skip
# NOW_NS: the step's clock, the only time there is. POSITION_LOTS: of this strategy's own fills.
VIEW_GRID, VIEW_ORDERS = 32, 64
ORDERS_MAX, ORDER_WORDS = 8, 12
VIEW_WORDS = VIEW_ORDERS + ORDERS_MAX * ORDER_WORDS
(
    OWN_CLIENT_ID, OWN_SIDE, OWN_PRICE_TICKS, OWN_QUANTITY_LOTS, OWN_LEAVES_LOTS,
    OWN_CUMULATIVE_LOTS, OWN_STATE, OWN_CANCEL_NS, OWN_PLACED_NS,
) = range(9)  # fmt: skip
# OWN_STATE: an OrderState, 0 for a slot never used; OWN_CANCEL_NS: 0 until a cancel was asked for.

ACTIONS_MAX = 8  # for one record; more are dropped and counted
ACTION_WORDS = 8
OUT_HEADER = 8
OUT_WORDS = OUT_HEADER + ACTIONS_MAX * ACTION_WORDS
OUT_COUNT, OUT_INTENT, OUT_GENERATION, OUT_ORDERS_FREE, OUT_LEVEL, OUT_DROPPED = range(6)
ACTION_KIND, ACTION_CLIENT_ID, ACTION_TERMS, ACTION_PRICE_TICKS, ACTION_QUANTITY_LOTS = range(5)
PLACE, CANCEL, SIGNAL = 1, 2, 3
REFUSED = -1  # answer of an action that was not taken

_BUY = int(Side.BUY)
_SYNCED = int(BookState.SYNCED)
_PENDING, _NEW, _PARTIAL, _UNKNOWN = (
    int(state)
    for state in (
        OrderState.PENDING_NEW,
        OrderState.NEW,
        OrderState.PARTIALLY_FILLED,
        OrderState.UNKNOWN,
    )
)
_NO_NEW, _QUIET = 1, 3
_WORD_MAX = (1 << 63) - 1


@jit
def _take(out: Words, kind: int) -> int:
    """Answers the place of a fresh action in `out`, REFUSED when the record has had its share."""
    count = out[OUT_COUNT]
    if count >= ACTIONS_MAX:
        out[OUT_DROPPED] += 1
        return REFUSED
    base = OUT_HEADER + ACTION_WORDS * count
    for word in range(ACTION_WORDS):
        out[base + word] = 0
    out[base + ACTION_KIND] = kind
    out[OUT_COUNT] = count + 1
    return base  # type: ignore[no-any-return]


@jit
def place(
    out: Words, side: int, price_ticks: int, quantity_lots: int, order_type: int, time_in_force: int
) -> int:
    """Asks for an order; answers its client order id, or REFUSED.

    Refused when trading is halted, quantity is not positive, the strategy has ORDERS_MAX live
    orders on the instrument, or the record has had its ACTIONS_MAX.
    """
    if out[OUT_LEVEL] >= _NO_NEW or quantity_lots <= 0 or out[OUT_ORDERS_FREE] <= 0:
        return REFUSED
    base = _take(out, PLACE)
    if base < 0:
        return REFUSED
    client_id = client_id_of(out[OUT_GENERATION], out[OUT_INTENT])
    out[OUT_INTENT] += 1
    out[OUT_ORDERS_FREE] -= 1
    out[base + ACTION_CLIENT_ID] = client_id
    out[base + ACTION_TERMS] = pack(side, order_type, time_in_force, 0)
    out[base + ACTION_PRICE_TICKS] = price_ticks
    out[base + ACTION_QUANTITY_LOTS] = quantity_lots
    return client_id


@jit
def cancel(out: Words, client_id: int) -> int:
    """Asks for the cancel of an own order; answers the client order id, or REFUSED."""
    if out[OUT_LEVEL] >= _QUIET:
        return REFUSED
    base = _take(out, CANCEL)
    if base < 0:
        return REFUSED
    out[OUT_INTENT] += 1
    out[base + ACTION_CLIENT_ID] = client_id
    return client_id


@jit
def signal(out: Words, value_ppm: int) -> int:
    """Publishes the strategy's own number for outside subscribers; answers 1, or REFUSED."""
    if out[OUT_LEVEL] >= _QUIET:
        return REFUSED
    base = _take(out, SIGNAL)
    if base < 0:
        return REFUSED
    out[base + ACTION_PRICE_TICKS] = value_ppm
    return 1


@jit
def is_live(order_state: int) -> bool:
    """Says whether an order of this state may still trade; UNKNOWN may."""
    return order_state in (_PENDING, _NEW, _PARTIAL, _UNKNOWN)


@jit
def is_tradable(view: Words) -> bool:
    """Says whether the instrument trades, its book is synced and both sides have a price."""
    if view[VIEW_GRID + STATUS_WORD] != TRADING or view[VIEW_BOOK_STATE] != _SYNCED:
        return False
    return bool(0 < view[VIEW_BID_TICKS] < view[VIEW_ASK_TICKS])


@jit
def own_order(view: Words, client_id: int) -> int:
    """Answers where in `view` the own order lies, -1 when it is not there."""
    for index in range(ORDERS_MAX):
        base = VIEW_ORDERS + ORDER_WORDS * index
        if view[base + OWN_CLIENT_ID] == client_id and view[base + OWN_STATE] != 0:
            return base
    return -1


@jit
def live_order(view: Words, side: int) -> int:
    """Answers where in `view` the first live own order of a side lies, -1 when there is none."""
    for index in range(ORDERS_MAX):
        base = VIEW_ORDERS + ORDER_WORDS * index
        if view[base + OWN_SIDE] == side and is_live(view[base + OWN_STATE]):
            return base
    return -1


@jit
def imbalance_ppm(view: Words) -> int:
    """Answers (bid - ask) / (bid + ask) of the quantities at the touch, in parts per million."""
    total = view[VIEW_BID_LOTS] + view[VIEW_ASK_LOTS]
    if total <= 0:
        return 0
    return (view[VIEW_BID_LOTS] - view[VIEW_ASK_LOTS]) * 1_000_000 // total  # type: ignore[no-any-return]


@jit
def lots_of_value(view: Words, value_e2: int, price_ticks: int) -> int:
    """Answers the lots that a value buys at a price, a multiple of the step for orders.

    Where the product of value and both decimal scales would pass 64 bits, it divides digit by
    digit, as by hand; that is 60 ns slower.

    Args:
        view: of the instrument.
        value_e2: in 1/100 of the quote asset, at most 10**9.
        price_ticks: positive.
    """
    price_units = price_ticks * view[VIEW_GRID + TICK_UNITS]
    value_units = value_e2
    for _ in range(view[VIEW_GRID + PRICE_DECIMALS]):
        value_units *= 10
    divisor = 100 * price_units
    if divisor <= 0 or view[VIEW_GRID + LOT_UNITS] <= 0:
        return 0
    scale = 1
    for _ in range(view[VIEW_GRID + QUANTITY_DECIMALS]):
        scale *= 10
    if value_units <= _WORD_MAX // scale:
        quantity = value_units * scale // divisor
    else:
        quantity, rest = value_units // divisor, value_units % divisor
        for _ in range(view[VIEW_GRID + QUANTITY_DECIMALS]):
            quantity = quantity * 10 + rest * 10 // divisor
            rest = rest * 10 % divisor
    lots = quantity // view[VIEW_GRID + LOT_UNITS]
    return lots - lots % max(1, view[VIEW_GRID + QUANTITY_STEP_LOTS])  # type: ignore[no-any-return]
