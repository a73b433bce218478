"""engine room: takes the touch when one side of it is much larger than the other.

When the quantity at the best bid outweighs the best ask by `threshold`, the price tends to rise, so
the strategy buys at the ask, immediate or cancel, and the other way round. A position is closed
when it was held for `hold_ms` or the imbalance has turned against it by `exit`. Between two orders
lies at least `cooldown_ms`, and one order is out at a time.

It decides on quotes only, so each of its orders carries the trigger of the quote that caused it.
"""

from __future__ import annotations

from engine.actions import (
    VIEW_ASK_TICKS,
    VIEW_BID_TICKS,
    VIEW_GRID,
    VIEW_NOW_NS,
    VIEW_OPEN_COUNT,
    VIEW_POSITION_LOTS,
    imbalance_ppm,
    is_tradable,
    lots_of_value,
    place,
    signal,
)
from engine.instruments import NOTIONAL_MIN
from engine.records import Kind, OrderType, Side, TimeInForce, kind_of
from engine.strategy import Parameter, Strategy
from shm.jit import handler, jit
from shm.segment import Words

(
    THRESHOLD_PPM, EXIT_PPM, ORDER_VALUE_E2, POSITION_VALUE_E2, COOLDOWN_NS, HOLD_NS, SPREAD_PPM,
    SLIPPAGE_PPM, SIGNAL_STEP_PPM,
) = range(9)  # fmt: skip
NEXT_NS, ENTERED_NS, SIGNAL_PPM = range(3)  # state
STATE_WORDS = 8

_QUOTE = int(Kind.QUOTE)
_BUY, _SELL = int(Side.BUY), int(Side.SELL)
_LIMIT, _IOC = int(OrderType.LIMIT), int(TimeInForce.IOC)


@jit
def _tell(state: Words, parameters: Words, out: Words, imbalance: int) -> None:
    """Publishes the imbalance when it has moved far enough since it was last told."""
    if abs(imbalance - state[SIGNAL_PPM]) >= parameters[SIGNAL_STEP_PPM]:
        state[SIGNAL_PPM] = imbalance
        signal(out, imbalance)


@jit
def _take(view: Words, parameters: Words, out: Words, side: int, lots: int) -> bool:
    """Sends an order that trades at the touch or a little behind; False when it is too small."""
    touch = view[VIEW_ASK_TICKS] if side == _BUY else view[VIEW_BID_TICKS]
    slip = touch * parameters[SLIPPAGE_PPM] // 1_000_000
    price = touch + slip if side == _BUY else touch - slip
    if lots * price < view[VIEW_GRID + NOTIONAL_MIN]:
        return False
    return place(out, side, price, lots, _LIMIT, _IOC) > 0


@jit
def _is_over(view: Words, state: Words, parameters: Words, imbalance: int) -> bool:
    """Says whether to close the position: held long enough, or the touch turned against it."""
    if view[VIEW_NOW_NS] - state[ENTERED_NS] >= parameters[HOLD_NS]:
        return True
    with_position = imbalance if view[VIEW_POSITION_LOTS] > 0 else -imbalance
    return bool(with_position <= -parameters[EXIT_PPM])


@jit
def _flatten(view: Words, parameters: Words, out: Words) -> bool:
    """Closes the position; answers False when what is left is too little to be sold."""
    position = view[VIEW_POSITION_LOTS]
    return _take(view, parameters, out, _SELL if position > 0 else _BUY, abs(position))


@jit
def _enter(view: Words, state: Words, parameters: Words, out: Words, imbalance: int) -> bool:
    """Goes with the heavier side, up to the position cap."""
    if abs(imbalance) < parameters[THRESHOLD_PPM]:
        return False
    side = _BUY if imbalance > 0 else _SELL
    price = view[VIEW_ASK_TICKS]
    cap = lots_of_value(view, parameters[POSITION_VALUE_E2], price)
    held = view[VIEW_POSITION_LOTS] if side == _BUY else -view[VIEW_POSITION_LOTS]
    lots = min(lots_of_value(view, parameters[ORDER_VALUE_E2], price), cap - held)
    if lots <= 0 or not _take(view, parameters, out, side, lots):
        return False
    state[ENTERED_NS] = view[VIEW_NOW_NS]
    return True


@handler
def on_record(row: Words, view: Words, state: Words, parameters: Words, out: Words) -> int:
    """Decides on each quote of a synced book."""
    if kind_of(row) != _QUOTE or not is_tradable(view):
        return 0
    imbalance = imbalance_ppm(view)
    _tell(state, parameters, out, imbalance)
    bid, ask = view[VIEW_BID_TICKS], view[VIEW_ASK_TICKS]
    if (ask - bid) * 1_000_000 > parameters[SPREAD_PPM] * bid:
        return 0
    if view[VIEW_OPEN_COUNT] > 0 or view[VIEW_NOW_NS] < state[NEXT_NS]:
        return 0
    acted = False
    if view[VIEW_POSITION_LOTS] != 0 and _is_over(view, state, parameters, imbalance):
        acted = _flatten(view, parameters, out)
    if not acted:
        acted = _enter(view, state, parameters, out, imbalance)
    if acted:
        state[NEXT_NS] = view[VIEW_NOW_NS] + parameters[COOLDOWN_NS]
    return 1


STRATEGY = Strategy(
    "imbalance",
    on_record,
    (
        Parameter("threshold", 0.6, "ratio of touch quantities, 0 to 1", 1_000_000),
        Parameter("exit", 0.3, "ratio against the position, 0 to 1", 1_000_000),
        Parameter("order_value", 200.0, "quote asset", 100),
        Parameter("position_value_max", 1_000.0, "quote asset", 100),
        Parameter("cooldown_ms", 250.0, "ms", 1_000_000),
        Parameter("hold_ms", 2_000.0, "ms", 1_000_000),
        Parameter("spread_bps_max", 10.0, "basis points of the price", 100),
        Parameter("slippage_bps", 1.0, "basis points of the price", 100),
        Parameter("signal_step", 0.2, "ratio", 1_000_000),
    ),
    STATE_WORDS,
)
