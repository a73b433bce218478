"""engine room: keeps a strategy's view up to date with market records, reports and denials."""

from __future__ import annotations

from engine.actions import (
    ACTION_CLIENT_ID,
    ACTION_PRICE_TICKS,
    ACTION_QUANTITY_LOTS,
    ACTION_TERMS,
    ORDER_WORDS,
    ORDERS_MAX,
    OWN_CANCEL_NS,
    OWN_CLIENT_ID,
    OWN_CUMULATIVE_LOTS,
    OWN_LEAVES_LOTS,
    OWN_PLACED_NS,
    OWN_PRICE_TICKS,
    OWN_QUANTITY_LOTS,
    OWN_SIDE,
    OWN_STATE,
    VIEW_ASK_LOTS,
    VIEW_ASK_TICKS,
    VIEW_BID_LOTS,
    VIEW_BID_TICKS,
    VIEW_BOOK_STATE,
    VIEW_FILLS,
    VIEW_NOW_NS,
    VIEW_OPEN_BUY_LOTS,
    VIEW_OPEN_COUNT,
    VIEW_OPEN_SELL_LOTS,
    VIEW_ORDERS,
    VIEW_POSITION_LOTS,
    VIEW_QUOTE_ID,
    VIEW_QUOTE_NS,
    VIEW_TRADE_LOTS,
    VIEW_TRADE_SIDE,
    VIEW_TRADE_TICKS,
    is_live,
)
from engine.records import (
    AGGRESSOR_SIDE,
    ASK_LOTS,
    ASK_TICKS,
    BID_LOTS,
    BID_TICKS,
    CLIENT_ID,
    CUMULATIVE_LOTS,
    DENIAL_INTENT,
    STATE,
    STATUS,
    STATUS_ORDER,
    STATUS_REASON,
    TRADE_LOTS,
    TRADE_TICKS,
    TRIGGER_NS,
    UPDATE_ID,
    Kind,
    OrderState,
    Reason,
    Side,
    client_id_of,
    kind_of,
    part,
)
from shm.jit import jit
from shm.segment import Words

_QUOTE, _TRADE, _BOOK_STATE = int(Kind.QUOTE), int(Kind.TRADE), int(Kind.BOOK_STATE)
_BUY = int(Side.BUY)
_PENDING, _REJECTED = int(OrderState.PENDING_NEW), int(OrderState.REJECTED)
_CANCEL_REJECT = int(Reason.CANCEL_REJECT)


@jit
def count_open(view: Words) -> None:
    """Adds up the live own orders of a view."""
    count, buys, sells = 0, 0, 0
    for index in range(ORDERS_MAX):
        base = VIEW_ORDERS + ORDER_WORDS * index
        if is_live(view[base + OWN_STATE]):
            count += 1
            if view[base + OWN_SIDE] == _BUY:
                buys += view[base + OWN_LEAVES_LOTS]
            else:
                sells += view[base + OWN_LEAVES_LOTS]
    view[VIEW_OPEN_COUNT] = count
    view[VIEW_OPEN_BUY_LOTS] = buys
    view[VIEW_OPEN_SELL_LOTS] = sells


@jit
def see_market(view: Words, row: Words) -> None:
    """Brings a view up to date with a market record."""
    kind = kind_of(row)
    if kind == _QUOTE:
        view[VIEW_BID_TICKS], view[VIEW_BID_LOTS] = row[BID_TICKS], row[BID_LOTS]
        view[VIEW_ASK_TICKS], view[VIEW_ASK_LOTS] = row[ASK_TICKS], row[ASK_LOTS]
        view[VIEW_QUOTE_ID], view[VIEW_QUOTE_NS] = row[UPDATE_ID], row[TRIGGER_NS]
    elif kind == _TRADE:
        view[VIEW_TRADE_TICKS], view[VIEW_TRADE_LOTS] = row[TRADE_TICKS], row[TRADE_LOTS]
        view[VIEW_TRADE_SIDE] = row[AGGRESSOR_SIDE]
    elif kind == _BOOK_STATE:
        view[VIEW_BOOK_STATE] = row[STATE]


@jit
def _free_order(view: Words) -> int:
    """Answers the slot for a new own order: never used, else the oldest that has ended."""
    best, oldest = -1, 0
    for index in range(ORDERS_MAX):
        base = VIEW_ORDERS + ORDER_WORDS * index
        if not is_live(view[base + OWN_STATE]):
            client_id = view[base + OWN_CLIENT_ID]
            if best < 0 or client_id < oldest:
                best, oldest = base, client_id
    return best


@jit
def enter_order(view: Words, action: Words) -> None:
    """Puts a fresh own order into the view, PENDING_NEW."""
    base = _free_order(view)
    if base < 0:
        return  # cannot be: `place` refuses an order without a slot
    quantity = action[ACTION_QUANTITY_LOTS]
    for word in range(ORDER_WORDS):
        view[base + word] = 0
    view[base + OWN_CLIENT_ID] = action[ACTION_CLIENT_ID]
    view[base + OWN_SIDE] = part(action[ACTION_TERMS], 0)
    view[base + OWN_PRICE_TICKS] = action[ACTION_PRICE_TICKS]
    view[base + OWN_QUANTITY_LOTS] = quantity
    view[base + OWN_LEAVES_LOTS] = quantity
    view[base + OWN_STATE] = _PENDING
    view[base + OWN_PLACED_NS] = view[VIEW_NOW_NS]


@jit
def see_report(view: Words, base: int, row: Words) -> None:
    """Brings an own order at `base` of its view up to date with a report on it.

    Fills are booked by the growth of the cumulative quantity, so a fill told twice counts once.
    """
    status = part(row[STATUS], STATUS_ORDER)
    filled = row[CUMULATIVE_LOTS] - view[base + OWN_CUMULATIVE_LOTS]
    if filled > 0:
        view[base + OWN_CUMULATIVE_LOTS] = row[CUMULATIVE_LOTS]
        view[VIEW_POSITION_LOTS] += filled if view[base + OWN_SIDE] == _BUY else -filled
        view[VIEW_FILLS] += 1
    view[base + OWN_STATE] = status
    left = view[base + OWN_QUANTITY_LOTS] - view[base + OWN_CUMULATIVE_LOTS]
    view[base + OWN_LEAVES_LOTS] = max(0, left) if is_live(view[base + OWN_STATE]) else 0
    if part(row[STATUS], STATUS_REASON) == _CANCEL_REJECT:
        view[base + OWN_CANCEL_NS] = 0
    count_open(view)


@jit
def see_denial(view: Words, base: int, row: Words, generation: int) -> None:
    """A denied order has ended; a denied cancel may be asked for again."""
    if row[CLIENT_ID] == client_id_of(generation, row[DENIAL_INTENT]):
        view[base + OWN_STATE] = _REJECTED
        view[base + OWN_LEAVES_LOTS] = 0
    else:
        view[base + OWN_CANCEL_NS] = 0
    count_open(view)
