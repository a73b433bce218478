"""engine room: the risk worker's kernel: exposure kept, intents checked, orders or denials written.

state word          meaning
0 .. 63             header, see engine/risk_checks.py
64 + 64 i           book of instrument i, see engine/risk_checks.py
then                WINDOW_MAX clocks of messages that passed
then                order table, see engine/exposure.py

parameters          0 generation, 1 instruments, 2 where the window begins, 3 where the orders
                    begin, 4 entries of the order table
"""

from __future__ import annotations

import numpy as np

from engine.decision import (
    DECISIONS,
    NOTES,
    SCRATCH,
    Input,
    finish_row,
    next_row,
)
from engine.exposure import ENTRY_WORDS, find, free_entry, open_order, see_report
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX
from engine.records import (
    ASK_TICKS,
    BID_TICKS,
    CLIENT_ID,
    CLOCK_NS,
    DENIAL_CODE,
    DENIAL_INTENT,
    DENIAL_LIMIT,
    DENIAL_OBSERVED,
    INTENT,
    PRICE_TICKS,
    QUANTITY_LOTS,
    ROW_WORDS,
    STATE,
    STEP_CLOCK_NS,
    STEP_COUNT,
    STEP_FIRST,
    STEP_INPUT,
    TAG,
    TERMS,
    TERMS_SIDE,
    TRIGGER,
    TRIGGER_NS,
    Kind,
    instrument_of,
    kind_of,
    part,
    source_of,
    tag,
)
from engine.risk import LIMIT_WORDS, LIMITS_HEADER, WINDOW_MAX, RiskReason
from engine.risk_checks import (
    BOOK_ASK_TICKS,
    BOOK_BID_TICKS,
    BOOK_GRID,
    BOOK_LIMITS,
    BOOK_MARKET_NS,
    BOOK_STATE,
    BOOK_WORDS,
    HEADER_CANCELS_PASSED,
    HEADER_DENIALS,
    HEADER_LAST_CLIENT_ID,
    HEADER_LEVEL,
    HEADER_LIMITS,
    HEADER_LIMITS_VERSION,
    HEADER_PASSED,
    HEADER_UNMATCHED,
    HEADER_WORDS,
    TABLE_FULL,
    check_cancel_rate,
    check_order,
    check_rate,
    deny,
    note_message,
)
from shm.jit import handler, jit
from shm.segment import Words

GENERATION, INSTRUMENTS, WINDOW_AT, ORDERS_AT, ORDERS_ENTRIES, PARAMETERS_WORDS = range(6)
ENTRIES_MAX = 1 << 14
RISK_STATE_REASON, RISK_STATE_VERSION, RISK_STATE_CLOCK_NS = STATE + 1, STATE + 2, STATE + 3
DENIAL_CLOCK_NS = DENIAL_INTENT + 1

_SIGNAL, _INTENT_NEW, _INTENT_CANCEL = (
    int(Kind.SIGNAL),
    int(Kind.INTENT_NEW),
    int(Kind.INTENT_CANCEL),
)
_ORDER_NEW, _ORDER_CANCEL, _DENIAL = int(Kind.ORDER_NEW), int(Kind.ORDER_CANCEL), int(Kind.DENIAL)
_RISK_STATE, _REPORT = int(Kind.RISK_STATE), int(Kind.REPORT)
_QUOTE, _BOOK_STATE = int(Kind.QUOTE), int(Kind.BOOK_STATE)
_CONTROL, _REFERENCE = int(Input.CONTROL), int(Input.REFERENCE)
_HALTED, _RESUMED, _LIMITS_LOADED = (
    int(RiskReason.HALTED),
    int(RiskReason.RESUMED),
    int(RiskReason.LIMITS_LOADED),
)
_LIMITS_AT = ROW_WORDS + INSTRUMENT_WORDS * INSTRUMENTS_MAX  # within a REFERENCE step


def entries_for(open_orders: int) -> int:
    """Answers the entries of an order table for this many live orders: a quarter of it is used."""
    entries = 256
    while entries < 4 * open_orders and entries < ENTRIES_MAX:
        entries *= 2
    return entries


def parameters_of(generation: int, instruments: int, entries: int) -> Words:
    """Answers the kernel's parameters for this many instruments and order table entries."""
    window = HEADER_WORDS + BOOK_WORDS * instruments
    words = (generation, instruments, window, window + WINDOW_MAX, entries)
    return np.array(words, np.int64)


def state_words(parameters: Words) -> int:
    """Answers the size of the kernel's state."""
    return int(parameters[ORDERS_AT] + ENTRY_WORDS * parameters[ORDERS_ENTRIES])


@jit
def book_of(state: Words, instrument: int) -> Words:
    """Views the book of an instrument within the state."""
    base = HEADER_WORDS + BOOK_WORDS * instrument
    return state[base : base + BOOK_WORDS]


@jit
def _see_market(book: Words, row: Words) -> None:
    kind = kind_of(row)
    if kind == _QUOTE:
        book[BOOK_BID_TICKS], book[BOOK_ASK_TICKS] = row[BID_TICKS], row[ASK_TICKS]
    elif kind == _BOOK_STATE:
        book[BOOK_STATE] = row[STATE]
        return  # a book that was declared stale is no sign of life
    book[BOOK_MARKET_NS] = max(book[BOOK_MARKET_NS], row[TRIGGER_NS])


@jit
def _write_denial(outputs: Words, row: Words, code: int, clock_ns: int, verdict: Words) -> None:
    out = next_row(outputs, NOTES)
    out[TAG] = tag(_DENIAL, 0, instrument_of(row), source_of(row))
    out[TRIGGER_NS], out[TRIGGER] = row[TRIGGER_NS], row[TRIGGER]
    out[CLIENT_ID], out[TERMS], out[DENIAL_CODE] = row[CLIENT_ID], row[TERMS], code
    out[DENIAL_LIMIT], out[DENIAL_OBSERVED] = verdict[0], verdict[1]
    out[DENIAL_INTENT], out[DENIAL_CLOCK_NS] = row[INTENT], clock_ns
    finish_row(outputs, NOTES, out)


@jit
def _write_order(outputs: Words, row: Words, kind: int, clock_ns: int) -> None:
    out = next_row(outputs, DECISIONS)
    out[TAG] = tag(kind, 0, instrument_of(row), source_of(row))
    out[TRIGGER_NS], out[TRIGGER] = row[TRIGGER_NS], row[TRIGGER]
    out[CLIENT_ID], out[TERMS] = row[CLIENT_ID], row[TERMS]
    out[PRICE_TICKS], out[QUANTITY_LOTS] = row[PRICE_TICKS], row[QUANTITY_LOTS]
    out[INTENT], out[CLOCK_NS] = row[INTENT], clock_ns
    finish_row(outputs, DECISIONS, out)


@jit
def _write_state(outputs: Words, header: Words, reason: int, step: Words) -> None:
    out = next_row(outputs, NOTES)
    out[TAG] = tag(_RISK_STATE, 0, 0, 0)
    out[TRIGGER_NS], out[TRIGGER] = step[TRIGGER_NS], step[TRIGGER]
    out[STATE], out[RISK_STATE_REASON] = header[HEADER_LEVEL], reason
    out[RISK_STATE_VERSION] = header[HEADER_LIMITS_VERSION]
    out[RISK_STATE_CLOCK_NS] = step[STEP_CLOCK_NS]
    finish_row(outputs, NOTES, out)


@jit
def _judge_order(row: Words, clock_ns: int, state: Words, parameters: Words, verdict: Words) -> int:
    """Answers 0 and counts the order as open, or the code against it."""
    header, book = state[:HEADER_WORDS], book_of(state, instrument_of(row))
    window = state[parameters[WINDOW_AT] : parameters[WINDOW_AT] + WINDOW_MAX]
    orders = state[parameters[ORDERS_AT] :]
    code = check_order(row, header, book, clock_ns, verdict)
    if code == 0:
        code = check_rate(header, window, clock_ns, verdict)
    client_id = row[CLIENT_ID]
    if code == 0 and (find(orders, client_id) >= 0 or free_entry(orders, client_id) < 0):
        code = deny(verdict, TABLE_FULL, parameters[ORDERS_ENTRIES], book[3] + 1)
    if code == 0:
        terms = part(row[TERMS], TERMS_SIDE) | (instrument_of(row) << 16)
        open_order(book, orders, client_id, terms, row[PRICE_TICKS], row[QUANTITY_LOTS])
        note_message(header, window, clock_ns)
        header[HEADER_LAST_CLIENT_ID] = client_id
        header[HEADER_PASSED] += 1
    return code


@jit
def _judge_cancel(clock_ns: int, state: Words, parameters: Words, verdict: Words) -> int:
    """Answers 0 or CANCEL_RATE; nothing else stops a cancel."""
    header = state[:HEADER_WORDS]
    window = state[parameters[WINDOW_AT] : parameters[WINDOW_AT] + WINDOW_MAX]
    code = check_cancel_rate(header, window, clock_ns, verdict)
    if code == 0:
        note_message(header, window, clock_ns)
        header[HEADER_CANCELS_PASSED] += 1
    return code


@jit
def _see_intent(row: Words, clock_ns: int, state: Words, parameters: Words, outputs: Words) -> None:
    verdict = outputs[SCRATCH : SCRATCH + 2]
    is_new = kind_of(row) == _INTENT_NEW
    if is_new:
        code = _judge_order(row, clock_ns, state, parameters, verdict)
    else:
        code = _judge_cancel(clock_ns, state, parameters, verdict)
    if code != 0:
        state[HEADER_DENIALS + code] += 1
        _write_denial(outputs, row, code, clock_ns, verdict)
    else:
        _write_order(outputs, row, _ORDER_NEW if is_new else _ORDER_CANCEL, clock_ns)


@jit
def _see_record(row: Words, clock_ns: int, state: Words, parameters: Words, outputs: Words) -> None:
    kind, instrument = kind_of(row), instrument_of(row)
    if instrument >= parameters[INSTRUMENTS]:
        return
    if kind < _SIGNAL:
        _see_market(book_of(state, instrument), row)
    elif kind in (_INTENT_NEW, _INTENT_CANCEL):
        _see_intent(row, clock_ns, state, parameters, outputs)
    elif kind == _REPORT:
        orders = state[parameters[ORDERS_AT] :]
        if not see_report(book_of(state, instrument), orders, row):
            state[HEADER_UNMATCHED] += 1


@jit
def _see_level(step: Words, state: Words, outputs: Words) -> None:
    before, level = state[HEADER_LEVEL], step[STEP_FIRST]
    state[HEADER_LEVEL] = level
    if level != before:
        reason = _HALTED if level > before else _RESUMED
        _write_state(outputs, state[:HEADER_WORDS], reason, step)


@jit
def _see_reference(step: Words, state: Words, parameters: Words, outputs: Words) -> None:
    """Takes instruments and limits over from the words behind the step."""
    for instrument in range(parameters[INSTRUMENTS]):
        book = book_of(state, instrument)
        grid = ROW_WORDS + INSTRUMENT_WORDS * instrument
        book[BOOK_GRID : BOOK_GRID + INSTRUMENT_WORDS] = step[grid : grid + INSTRUMENT_WORDS]
        limits = _LIMITS_AT + LIMITS_HEADER + LIMIT_WORDS * instrument
        book[BOOK_LIMITS : BOOK_LIMITS + LIMIT_WORDS] = step[limits : limits + LIMIT_WORDS]
    header = state[:HEADER_WORDS]
    header[HEADER_LIMITS : HEADER_LIMITS + LIMITS_HEADER] = step[
        _LIMITS_AT : _LIMITS_AT + LIMITS_HEADER
    ]
    version = step[STEP_FIRST] >> 32
    if version != header[HEADER_LIMITS_VERSION]:
        header[HEADER_LIMITS_VERSION] = version
        _write_state(outputs, header, _LIMITS_LOADED, step)


@handler
def risk_kernel(rows: Words, step: Words, state: Words, parameters: Words, outputs: Words) -> int:
    """Runs one step of the risk worker; answers the records it took. See engine/decision.py."""
    if step[STEP_INPUT] == _CONTROL:
        _see_level(step, state, outputs)
    elif step[STEP_INPUT] == _REFERENCE:
        _see_reference(step, state, parameters, outputs)
    count = step[STEP_COUNT]
    for index in range(count):
        row = rows[ROW_WORDS * index : ROW_WORDS * (index + 1)]
        _see_record(row, step[STEP_CLOCK_NS], state, parameters, outputs)
    return count  # type: ignore[no-any-return]
