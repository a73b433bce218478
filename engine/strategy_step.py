"""engine room: the signal worker's kernel: views kept, strategies called, actions made records.

A *pair* is one strategy on one instrument; it has a view and the strategy's own state. Pairs are
sorted by instrument, so that a market record finds its pairs in a row.

    state word     meaning
    0 .. 7         HEADER_* below, counted since the first step
    64 ..          for each pair: view (VIEW_WORDS), then the strategy's state

    parameters     0 generation, 1 instruments, 2 pairs
    8 + 2 i        first pair of instrument i, number of its pairs
    then           for each pair PAIR_WORDS: PAIR_* below
    then           parameter words of the pairs

The layout is computed by `plan`; nothing else knows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.actions import (
    ACTION_CLIENT_ID,
    ACTION_KIND,
    ACTION_PRICE_TICKS,
    ACTION_QUANTITY_LOTS,
    ACTION_TERMS,
    ACTION_WORDS,
    ACTIONS_MAX,
    CANCEL,
    ORDERS_MAX,
    OUT_COUNT,
    OUT_DROPPED,
    OUT_GENERATION,
    OUT_HEADER,
    OUT_INTENT,
    OUT_LEVEL,
    OUT_ORDERS_FREE,
    OUT_WORDS,
    OWN_CANCEL_NS,
    PLACE,
    VIEW_ASK_TICKS,
    VIEW_BID_TICKS,
    VIEW_GRID,
    VIEW_INSTRUMENT,
    VIEW_LEVEL,
    VIEW_NOW_NS,
    VIEW_OPEN_COUNT,
    VIEW_STRATEGY,
    VIEW_WORDS,
    own_order,
)
from engine.decision import (
    DECISIONS,
    NOTES,
    OUTPUT_NEXT,
    OUTPUT_WORDS,
    SCRATCH,
    Input,
    clear,
    finish_row,
    next_row,
)
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX, STATUS_WORD
from engine.records import (
    CLIENT_ID,
    CLOCK_NS,
    INTENT,
    PRICE_TICKS,
    QUANTITY_LOTS,
    ROW_WORDS,
    SIGNAL_STRATEGY,
    SIGNAL_VALUE_PPM,
    STEP_CLOCK_NS,
    STEP_COUNT,
    STEP_FIRST,
    STEP_INPUT,
    TAG,
    TERMS,
    TRIGGER,
    TRIGGER_NS,
    Kind,
    OrderState,
    Reason,
    Side,
    instrument_of,
    kind_of,
    pack,
    tag,
)
from engine.strategy import Strategy
from engine.strategy_view import (
    count_open,
    enter_order,
    see_denial,
    see_market,
    see_report,
)
from shm.jit import call_handler, handler, handler_address, jit
from shm.segment import Words

HEADER_WORDS = 64
(
    HEADER_LEVEL, HEADER_DROPPED, HEADER_UNMATCHED, HEADER_PLACED, HEADER_CANCELED,
    HEADER_SIGNALED,
) = range(6)  # fmt: skip
GENERATION, INSTRUMENTS, PAIRS = range(3)
INSTRUMENT_AT, PAIR_AT = 8, 8 + 2 * INSTRUMENTS_MAX
PAIR_WORDS = 8
PAIR_HANDLER, PAIR_STRATEGY, PAIR_VIEW, PAIR_STATE_WORDS, PAIR_PARAMETERS, PAIR_COUNT = range(6)

_QUOTE, _TRADE, _BOOK_STATE = int(Kind.QUOTE), int(Kind.TRADE), int(Kind.BOOK_STATE)
_REPORT, _DENIAL, _STEP = int(Kind.REPORT), int(Kind.DENIAL), int(Kind.STEP)
_INTENT_NEW, _INTENT_CANCEL = int(Kind.INTENT_NEW), int(Kind.INTENT_CANCEL)
_SIGNAL, _BUY = int(Kind.SIGNAL), int(Side.BUY)
_PENDING, _REJECTED = int(OrderState.PENDING_NEW), int(OrderState.REJECTED)
_CANCEL_REJECT = int(Reason.CANCEL_REJECT)
_CONTROL, _REFERENCE, _TIMER = int(Input.CONTROL), int(Input.REFERENCE), int(Input.TIMER)


class Placed(NamedTuple):
    """One strategy of the configuration on its instruments."""

    strategy: Strategy
    instruments: tuple[int, ...]
    parameters: Words


@dataclass(frozen=True, slots=True)
class SignalPlan:
    """What the decision loop must know about this kernel.

    Attributes:
        parameters: (n,) int64 for the kernel.
        state_words: size of its state.
        outputs_per_record: most records it writes to either output for one market record.
        outputs_per_event: the same for a step without records.
    """

    parameters: Words
    state_words: int
    outputs_per_record: int
    outputs_per_event: int


def plan(placed: tuple[Placed, ...], generation: int, instruments: int) -> SignalPlan:
    """Lays out the state and the parameters of the kernel; a strategy's number is its place."""
    pairs = [
        (instrument, number, item)
        for instrument in range(instruments)
        for number, item in enumerate(placed)
        if instrument in item.instruments
    ]
    words = [0] * (PAIR_AT + PAIR_WORDS * len(pairs))
    words[GENERATION], words[INSTRUMENTS], words[PAIRS] = generation, instruments, len(pairs)
    view = HEADER_WORDS
    for index, (instrument, number, item) in enumerate(pairs):
        at = INSTRUMENT_AT + 2 * instrument
        words[at] = words[at] if words[at + 1] else index
        words[at + 1] += 1
        base = PAIR_AT + PAIR_WORDS * index
        words[base : base + 6] = [
            handler_address(item.strategy.on_record),
            number,
            view,
            item.strategy.state_words,
            len(words),
            len(item.parameters),
        ]
        words.extend(int(word) for word in item.parameters)
        view += VIEW_WORDS + item.strategy.state_words
    most = max((words[INSTRUMENT_AT + 2 * i + 1] for i in range(instruments)), default=0)
    return SignalPlan(
        np.array(words, np.int64),
        view,
        max(1, most) * ACTIONS_MAX,
        max(1, len(pairs)) * ACTIONS_MAX,
    )


@jit
def _pair(parameters: Words, index: int) -> Words:
    base = PAIR_AT + PAIR_WORDS * index
    return parameters[base : base + PAIR_WORDS]


@jit
def _view(state: Words, pair: Words) -> Words:
    return state[pair[PAIR_VIEW] : pair[PAIR_VIEW] + VIEW_WORDS]


@jit
def _header(out: Words, kind: int, view: Words, cause: Words) -> None:
    """Fills the words that every output has alike; the trigger is carried on unchanged."""
    strategy = view[VIEW_STRATEGY]
    out[TAG] = tag(kind, 0, view[VIEW_INSTRUMENT], strategy)
    out[TRIGGER_NS], out[TRIGGER] = cause[TRIGGER_NS], cause[TRIGGER]


@jit
def _write_intent(outputs: Words, view: Words, action: Words, cause: Words) -> None:
    row = next_row(outputs, DECISIONS)
    terms = action[ACTION_TERMS] | pack(0, 0, 0, view[VIEW_STRATEGY])
    row[CLIENT_ID] = action[ACTION_CLIENT_ID]
    row[PRICE_TICKS], row[QUANTITY_LOTS] = (
        action[ACTION_PRICE_TICKS],
        action[ACTION_QUANTITY_LOTS],
    )
    row[INTENT], row[CLOCK_NS], row[TERMS] = row[0], view[VIEW_NOW_NS], terms
    if action[ACTION_KIND] == PLACE:
        _header(row, _INTENT_NEW, view, cause)
        enter_order(view, action)
    else:
        _header(row, _INTENT_CANCEL, view, cause)
        own = own_order(view, action[ACTION_CLIENT_ID])
        if own >= 0:
            view[own + OWN_CANCEL_NS] = view[VIEW_NOW_NS]
    finish_row(outputs, DECISIONS, row)


@jit
def _write_signal(outputs: Words, view: Words, value_ppm: int, cause: Words) -> None:
    row = next_row(outputs, NOTES)
    _header(row, _SIGNAL, view, cause)
    row[SIGNAL_STRATEGY], row[SIGNAL_VALUE_PPM] = view[VIEW_STRATEGY], value_ppm
    row[SIGNAL_VALUE_PPM + 1], row[SIGNAL_VALUE_PPM + 2] = (
        view[VIEW_BID_TICKS],
        view[VIEW_ASK_TICKS],
    )
    finish_row(outputs, NOTES, row)


@jit
def _write_actions(outputs: Words, state: Words, view: Words, cause: Words) -> None:
    out = outputs[SCRATCH : SCRATCH + OUT_WORDS]
    for index in range(out[OUT_COUNT]):
        base = OUT_HEADER + ACTION_WORDS * index
        action = out[base : base + ACTION_WORDS]
        kind = action[ACTION_KIND]
        if kind in (PLACE, CANCEL):
            _write_intent(outputs, view, action, cause)
            state[HEADER_PLACED if kind == PLACE else HEADER_CANCELED] += 1
        else:
            _write_signal(outputs, view, action[ACTION_PRICE_TICKS], cause)
            state[HEADER_SIGNALED] += 1
    if out[OUT_COUNT] > 0:
        count_open(view)


@jit
def _ask(row: Words, state: Words, parameters: Words, outputs: Words, index: int) -> None:
    """Lets the strategy of one pair hear a record and writes what it wants done."""
    pair = _pair(parameters, index)
    view = _view(state, pair)
    if view[VIEW_GRID + STATUS_WORD] == 0:
        return  # the venue has not told what this instrument is
    out = outputs[SCRATCH : SCRATCH + OUT_WORDS]
    clear(out, OUT_HEADER)
    out[OUT_INTENT] = outputs[OUTPUT_WORDS * DECISIONS + OUTPUT_NEXT]
    out[OUT_GENERATION] = parameters[GENERATION]
    out[OUT_ORDERS_FREE] = ORDERS_MAX - view[VIEW_OPEN_COUNT]
    out[OUT_LEVEL] = view[VIEW_LEVEL]
    own = pair[PAIR_VIEW] + VIEW_WORDS
    words = pair[PAIR_PARAMETERS]
    call_handler(
        pair[PAIR_HANDLER],
        row,
        view,
        state[own : own + pair[PAIR_STATE_WORDS]],
        parameters[words : words + pair[PAIR_COUNT]],
        out,
    )
    state[HEADER_DROPPED] += out[OUT_DROPPED]
    if out[OUT_COUNT] > 0:
        _write_actions(outputs, state, view, row)


@jit
def _hear_own(row: Words, clock_ns: int, state: Words, parameters: Words, outputs: Words) -> None:
    """A report or a denial: only the pair whose order it is hears it."""
    at = INSTRUMENT_AT + 2 * instrument_of(row)
    for index in range(parameters[at], parameters[at] + parameters[at + 1]):
        view = _view(state, _pair(parameters, index))
        base = own_order(view, row[CLIENT_ID])
        if base >= 0:
            view[VIEW_NOW_NS] = clock_ns
            if kind_of(row) == _REPORT:
                see_report(view, base, row)
            else:
                see_denial(view, base, row, parameters[GENERATION])
            _ask(row, state, parameters, outputs, index)
            return
    state[HEADER_UNMATCHED] += 1


@jit
def _hear_market(
    row: Words, clock_ns: int, state: Words, parameters: Words, outputs: Words
) -> None:
    at = INSTRUMENT_AT + 2 * instrument_of(row)
    for index in range(parameters[at], parameters[at] + parameters[at + 1]):
        view = _view(state, _pair(parameters, index))
        view[VIEW_NOW_NS] = clock_ns
        see_market(view, row)
        _ask(row, state, parameters, outputs, index)


@jit
def _hear_event(step: Words, state: Words, parameters: Words, outputs: Words) -> None:
    """A step without records: level, reference words or timer, for every pair."""
    what = step[STEP_INPUT]
    if what == _CONTROL:
        state[HEADER_LEVEL] = step[STEP_FIRST]
    for instrument in range(parameters[INSTRUMENTS]):
        at = INSTRUMENT_AT + 2 * instrument
        for index in range(parameters[at], parameters[at] + parameters[at + 1]):
            pair = _pair(parameters, index)
            view = _view(state, pair)
            view[VIEW_NOW_NS], view[VIEW_LEVEL] = step[STEP_CLOCK_NS], state[HEADER_LEVEL]
            view[VIEW_INSTRUMENT], view[VIEW_STRATEGY] = instrument, pair[PAIR_STRATEGY]
            if what == _REFERENCE:
                grid = ROW_WORDS + INSTRUMENT_WORDS * instrument
                view[VIEW_GRID : VIEW_GRID + INSTRUMENT_WORDS] = step[
                    grid : grid + INSTRUMENT_WORDS
                ]
            elif what == _TIMER:
                _ask(step[:ROW_WORDS], state, parameters, outputs, index)


@handler
def signal_kernel(rows: Words, step: Words, state: Words, parameters: Words, outputs: Words) -> int:
    """Runs one step of the signal worker; answers the records it took. See engine/decision.py."""
    count = step[STEP_COUNT]
    if step[STEP_INPUT] >= _CONTROL:
        _hear_event(step, state, parameters, outputs)
    for index in range(count):
        row = rows[ROW_WORDS * index : ROW_WORDS * (index + 1)]
        kind = kind_of(row)
        if instrument_of(row) >= parameters[INSTRUMENTS]:
            continue
        if kind < _SIGNAL:
            _hear_market(row, step[STEP_CLOCK_NS], state, parameters, outputs)
        elif kind in (_REPORT, _DENIAL):
            _hear_own(row, step[STEP_CLOCK_NS], state, parameters, outputs)
    return count  # type: ignore[no-any-return]
