"""Bench: the strategy of the tick-to-order race: buy at the ask when the bid is much heavier.

Each ask price is acted on once, so a fill's own quote does not cause another order. The asyncio
rival (bench/rivals/asyncio_engine.py) does the same in plain Python.
"""

from __future__ import annotations

from engine.actions import (
    VIEW_ASK_TICKS,
    imbalance_ppm,
    is_tradable,
    lots_of_value,
    place,
)
from engine.records import Kind, OrderType, Side, TimeInForce, kind_of
from engine.strategy import Parameter, Strategy
from shm.jit import handler
from shm.segment import Words

THRESHOLD_PPM, VALUE_E2 = range(2)
LAST_ASK_TICKS = 0
_QUOTE, _BUY, _LIMIT, _IOC = (
    int(Kind.QUOTE),
    int(Side.BUY),
    int(OrderType.LIMIT),
    int(TimeInForce.IOC),
)


@handler
def on_record(row: Words, view: Words, state: Words, parameters: Words, out: Words) -> int:
    """Places one immediate-or-cancel buy for each new ask price under a heavy bid."""
    if kind_of(row) != _QUOTE or not is_tradable(view):
        return 0
    ask_ticks = view[VIEW_ASK_TICKS]
    if ask_ticks == state[LAST_ASK_TICKS] or imbalance_ppm(view) <= parameters[THRESHOLD_PPM]:
        return 0
    state[LAST_ASK_TICKS] = ask_ticks
    lots = lots_of_value(view, parameters[VALUE_E2], ask_ticks)
    place(out, _BUY, ask_ticks, lots, _LIMIT, _IOC)
    return 0


STRATEGY = Strategy(
    "threshold",
    on_record,
    (
        Parameter("threshold", 0.6, "ratio", 1_000_000),
        Parameter("value", 61.0, "quote asset", 100),
    ),
    state_words=1,
)
