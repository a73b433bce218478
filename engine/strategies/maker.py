"""engine room: quotes both sides of the touch and leans against its own position.

One post-only order a side. Each wanted price is `offset_ticks` behind its touch, moved by up to
`skew_ticks_max` so that a long position makes both prices lower and a short one higher. An order is
replaced when the wanted price is more than `requote_ticks` away from it: it is cancelled first, and
the next one is placed only when the report says that it has ended. A side is left empty while an
order on it could take the position beyond the cap. Per side there is at most one message every
`requote_ms`. When the book is not to be trusted, both orders are cancelled.

It places on quotes only, so each of its orders carries the trigger of the quote that caused it.
"""

from __future__ import annotations

from engine.actions import (
    OWN_CANCEL_NS,
    OWN_CLIENT_ID,
    OWN_PRICE_TICKS,
    VIEW_ASK_TICKS,
    VIEW_BID_TICKS,
    VIEW_GRID,
    VIEW_NOW_NS,
    VIEW_POSITION_LOTS,
    cancel,
    is_tradable,
    live_order,
    lots_of_value,
    place,
)
from engine.instruments import NOTIONAL_MIN
from engine.records import Kind, OrderType, Side, TimeInForce, kind_of
from engine.strategy import Parameter, Strategy
from shm.jit import handler, jit
from shm.segment import Words

(
    ORDER_VALUE_E2, POSITION_VALUE_E2, OFFSET_TICKS, REQUOTE_TICKS, SKEW_TICKS_MAX, REQUOTE_NS,
    CANCEL_RETRY_NS,
) = range(7)  # fmt: skip
NEXT_BUY_NS, NEXT_SELL_NS = 0, 1  # state
STATE_WORDS = 8

_QUOTE, _TIMER, _BOOK_STATE = int(Kind.QUOTE), int(Kind.STEP), int(Kind.BOOK_STATE)
_BUY, _SELL = int(Side.BUY), int(Side.SELL)
_MAKER, _NONE = int(OrderType.LIMIT_MAKER), int(TimeInForce.NONE)


@jit
def wanted_ticks(view: Words, parameters: Words, side: int) -> int:
    """Answers the price that a side should rest at; it never crosses the other side's touch."""
    bid, ask = view[VIEW_BID_TICKS], view[VIEW_ASK_TICKS]
    cap = max(1, lots_of_value(view, parameters[POSITION_VALUE_E2], ask))
    skew = view[VIEW_POSITION_LOTS] * parameters[SKEW_TICKS_MAX] // cap
    skew = max(-parameters[SKEW_TICKS_MAX], min(parameters[SKEW_TICKS_MAX], skew))
    if side == _BUY:
        return min(bid - parameters[OFFSET_TICKS] - skew, ask - 1)  # type: ignore[no-any-return]
    return max(ask + parameters[OFFSET_TICKS] - skew, bid + 1)  # type: ignore[no-any-return]


@jit
def _withdraw(view: Words, parameters: Words, out: Words, base: int) -> bool:
    """Cancels the order at `base` of the view unless that was asked for a moment ago."""
    asked_ns = view[base + OWN_CANCEL_NS]
    if asked_ns != 0 and view[VIEW_NOW_NS] - asked_ns < parameters[CANCEL_RETRY_NS]:
        return False
    return cancel(out, view[base + OWN_CLIENT_ID]) > 0


@jit
def _quote(view: Words, parameters: Words, out: Words, side: int) -> bool:
    """Places a side's order if the position cap and the venue's smallest value allow."""
    price = wanted_ticks(view, parameters, side)
    lots = lots_of_value(view, parameters[ORDER_VALUE_E2], price)
    cap = lots_of_value(view, parameters[POSITION_VALUE_E2], price)
    held = view[VIEW_POSITION_LOTS] if side == _BUY else -view[VIEW_POSITION_LOTS]
    if held + lots > cap or lots * price < view[VIEW_GRID + NOTIONAL_MIN]:
        return False
    return place(out, side, price, lots, _MAKER, _NONE) > 0


@jit
def _tend(view: Words, state: Words, parameters: Words, out: Words, side: int) -> None:
    """Brings one side to where it should be, one message at a time."""
    pause = NEXT_BUY_NS if side == _BUY else NEXT_SELL_NS
    if view[VIEW_NOW_NS] < state[pause]:
        return
    base = live_order(view, side)
    if base < 0:
        acted = _quote(view, parameters, out, side)
    else:
        away = abs(view[base + OWN_PRICE_TICKS] - wanted_ticks(view, parameters, side))
        acted = away > parameters[REQUOTE_TICKS] and _withdraw(view, parameters, out, base)
    if acted:
        state[pause] = view[VIEW_NOW_NS] + parameters[REQUOTE_NS]


@jit
def _withdraw_all(view: Words, parameters: Words, out: Words) -> None:
    for side in (_BUY, _SELL):
        base = live_order(view, side)
        if base >= 0:
            _withdraw(view, parameters, out, base)


@handler
def on_record(row: Words, view: Words, state: Words, parameters: Words, out: Words) -> int:
    """Tends both sides on each quote; withdraws when the book is not to be trusted."""
    kind = kind_of(row)
    if not is_tradable(view):
        if kind in (_BOOK_STATE, _TIMER):
            _withdraw_all(view, parameters, out)
        return 0
    if kind == _QUOTE:
        _tend(view, state, parameters, out, _BUY)
        _tend(view, state, parameters, out, _SELL)
    return 1


STRATEGY = Strategy(
    "maker",
    on_record,
    (
        Parameter("order_value", 200.0, "quote asset", 100),
        Parameter("position_value_max", 1_000.0, "quote asset", 100),
        Parameter("offset_ticks", 0.0, "ticks behind the touch"),
        Parameter("requote_ticks", 5.0, "ticks"),
        Parameter("skew_ticks_max", 20.0, "ticks at the position cap"),
        Parameter("requote_ms", 100.0, "ms", 1_000_000),
        Parameter("cancel_retry_ms", 1_000.0, "ms", 1_000_000),
    ),
    STATE_WORDS,
)
