"""workers room: the compiled path from an order record to the bytes of its request, and back.

`advance` reads one record of the ring `orders` in place, enters it into the order table and writes
the request so that it ends where the reused send buffer ends; the caller hands it to the socket
and then calls `sent`, which publishes the SENT report. The row is in the table before the bytes
leave, so a successor after kill -9 finds every order that may have reached the venue and sends
none twice. `apply` is the way of everything that the venue says: event to report to table.

`advance` writes the STEP record of a batch before any of it is acted on, and gives the batch back
at its end.
"""

from __future__ import annotations

from engine.decision import Input
from engine.ordercodec import (
    NUMBERS,
    RECEIVE_WINDOW_MS,
    REQUEST_BYTES_MAX,
    REQUEST_NUMBER,
    TIMESTAMP_MS,
    write_cancel,
    write_cancel_payload,
    write_place,
    write_place_payload,
)
from engine.orders import (
    ORDER_CANCEL_WANTED,
    ORDER_ID,
    ORDER_INSTRUMENT,
    ORDER_LOTS,
    ORDER_REQUEST,
    ORDER_REQUEST_KIND,
    ORDER_REQUEST_NUMBER,
    ORDER_SENT_NS,
    ORDER_STATE,
    ORDER_TERMS,
    ORDER_TICKS,
    ORDER_TRIGGER,
    ORDER_TRIGGER_NS,
    ORDER_WORDS,
    Event,
    Request,
    is_terminal,
    next_status,
)
from engine.ordertable import (
    NEXT_REQUEST,
    NOT_FOUND,
    ORDERS_AT,
    TAKEN,
    find,
    has_row,
    insert,
)
from engine.records import (
    CLIENT_ID,
    PRICE_TICKS,
    PUBLISH_NS,
    QUANTITY_LOTS,
    ROW_WORDS,
    SEQUENCE,
    STEP_CLOCK_NS,
    STEP_COUNT,
    STEP_FIRST,
    STEP_INPUT,
    STEP_OUTPUT_CURSOR,
    TAG,
    TERMS,
    TRIGGER,
    TRIGGER_NS,
    Kind,
    OrderState,
    Reason,
    RequestState,
    instrument_of,
    kind_of,
    tag,
)
from engine.venuemessages import NO_SESSION, REQUESTS_FULL, STALE_ORDER, TABLE_FULL, UNKNOWN_ORDER
from shm.histogram import HISTOGRAM_WORDS, record
from shm.jit import bytes_at, epoch_ns, jit, now_ns, rows_at, stage, store_release, words_at
from shm.ring import (
    CONTROL_WORDS,
    CURSOR,
    claim,
    poll,
    publish,
    release,
    released,
)
from shm.segment import Words
from workers.orderlayout import (
    BATCH_MAX,
    BIND_WORDS,
    CANCELS_SENT_AT,
    CLIENT,
    CURRENT_KIND,
    CURRENT_ROW,
    EPOCH_OFFSET,
    HANDED,
    HEAD_AT,
    HEAD_BYTES,
    IDLE,
    IS_READY,
    IS_SIGNED,
    KIND,
    LAST,
    LATENCY_AT,
    NOW,
    NUMBER,
    NUMBERS_AT,
    ORDERS_CAPACITY,
    ORDERS_CONTROL,
    ORDERS_READER,
    ORDERS_ROWS,
    ORDERS_SENT_AT,
    OUT_AT,
    REPORTS_CAPACITY,
    REQUEST_WORDS,
    REQUESTS_AT,
    REQUESTS_MAX,
    ROOM,
    ROW,
    SENT_NS,
    SKIPPED,
    STEPS_CAPACITY,
    STEPS_CONTROL,
    STEPS_ROWS,
    TAIL_AT,
    TAIL_BYTES,
    TAKING,
    instrument_at,
    lookup_of,
    order_of,
    reports_control,
    table_of,
)
from workers.orderreport import has_room, refuse, report_sent, write_status

_ORDER_NEW, _REPORT, _STEP = int(Kind.ORDER_NEW), int(Kind.REPORT), int(Kind.STEP)
_PLACE, _CANCEL = int(Request.PLACE), int(Request.CANCEL)
_PENDING, _REJECTED = int(OrderState.PENDING_NEW), int(OrderState.REJECTED)
_SENT, _REFUSED = int(RequestState.SENT), int(RequestState.REJECTED)
_SENT_REASON, _REJECT_REASON = int(Reason.SENT), int(Reason.REJECT)
_CANCEL_REJECT_REASON = int(Reason.CANCEL_REJECT)
_CANCEL_SENT = int(Event.CANCEL_SENT)
_ORDERS = int(Input.ORDERS)


@jit
def _has_request(bind: Words) -> bool:
    """Says whether one more request may be under way."""
    requests = rows_at(bind[REQUESTS_AT], REQUESTS_MAX, REQUEST_WORDS)
    number = table_of(bind)[NEXT_REQUEST] + 1
    return requests[number & (REQUESTS_MAX - 1), NUMBER] == 0  # type: ignore[no-any-return]


@jit
def open_request(bind: Words, kind: int, row_index: int, client_id: int) -> int:
    """Enters a request that is about to leave; answers its number, -1 when too many wait."""
    if not _has_request(bind):
        return -1
    number = table_of(bind)[NEXT_REQUEST] + 1
    table_of(bind)[NEXT_REQUEST] = number
    requests = rows_at(bind[REQUESTS_AT], REQUESTS_MAX, REQUEST_WORDS)
    request = requests[number & (REQUESTS_MAX - 1)]
    request[KIND], request[ROW], request[SENT_NS] = kind, row_index, bind[NOW]
    request[CLIENT], request[NUMBER] = client_id, number
    return number  # type: ignore[no-any-return]


@jit
def _start(bind: Words, row_index: int, kind: int, number: int) -> int:
    """Makes a request the current one and writes it; answers where its bytes begin."""
    row = order_of(bind, row_index)
    row[ORDER_REQUEST_NUMBER] = number
    numbers = words_at(bind[NUMBERS_AT], NUMBERS)
    numbers[REQUEST_NUMBER] = number
    numbers[TIMESTAMP_MS] = (bind[NOW] + bind[EPOCH_OFFSET]) // 1_000_000
    bind[CURRENT_ROW], bind[CURRENT_KIND] = row_index, kind
    return write_payload(bind) if bind[IS_SIGNED] == 1 else write_request(bind)


@jit
def write_payload(bind: Words) -> int:
    """Writes the text to sign for the current request; answers where it begins in the buffer."""
    row = order_of(bind, bind[CURRENT_ROW])
    instrument = instrument_at(bind, row[ORDER_INSTRUMENT])
    numbers = words_at(bind[NUMBERS_AT], NUMBERS)
    head = bytes_at(bind[HEAD_AT], bind[HEAD_BYTES])
    out = bytes_at(bind[OUT_AT], REQUEST_BYTES_MAX)
    if bind[CURRENT_KIND] == _PLACE:
        return write_place_payload(row, instrument, numbers, head, out)
    return write_cancel_payload(row, instrument, numbers, head, out)


@jit
def write_request(bind: Words) -> int:
    """Writes the current request; answers where it begins in the buffer."""
    row = order_of(bind, bind[CURRENT_ROW])
    instrument = instrument_at(bind, row[ORDER_INSTRUMENT])
    numbers = words_at(bind[NUMBERS_AT], NUMBERS)
    tail = bytes_at(bind[TAIL_AT], bind[TAIL_BYTES])
    out = bytes_at(bind[OUT_AT], REQUEST_BYTES_MAX)
    if bind[CURRENT_KIND] == _PLACE:
        return write_place(row, instrument, numbers, tail, out)
    return write_cancel(row, instrument, numbers, tail, out)


@jit
def _fill_row(row: Words, source: Words, now: int) -> None:
    row[ORDER_STATE], row[ORDER_REQUEST], row[ORDER_REQUEST_KIND] = _PENDING, _SENT, _PLACE
    row[ORDER_INSTRUMENT], row[ORDER_TERMS] = instrument_of(source), source[TERMS]
    row[ORDER_TICKS], row[ORDER_LOTS] = source[PRICE_TICKS], source[QUANTITY_LOTS]
    row[ORDER_TRIGGER_NS], row[ORDER_TRIGGER] = source[TRIGGER_NS], source[TRIGGER]
    row[ORDER_SENT_NS] = now


@jit
def _fault(bind: Words, source: Words) -> int:
    """Answers the code of the reason why an order must not be sent, 0 when it may."""
    window_ns = words_at(bind[NUMBERS_AT], NUMBERS)[RECEIVE_WINDOW_MS] * 1_000_000
    code = 0
    if bind[IS_READY] == 0:
        code = NO_SESSION
    elif bind[NOW] - source[PUBLISH_NS] > window_ns:
        code = STALE_ORDER
    elif not has_row(lookup_of(bind)):
        code = TABLE_FULL
    elif not _has_request(bind):
        code = REQUESTS_FULL
    return code


@jit
def _take_new(bind: Words, source: Words) -> int:
    table, lookup = table_of(bind), lookup_of(bind)
    client_id = source[CLIENT_ID]
    if find(table, lookup, client_id) != NOT_FOUND:
        return SKIPPED  # a worker before us took it
    code = _fault(bind, source)
    if code != 0:
        return refuse(bind, source, _REJECTED, code)
    row_index = insert(table, lookup, client_id)
    _fill_row(order_of(bind, row_index), source, bind[NOW])
    number = open_request(bind, _PLACE, row_index, client_id)
    # The order exists from here on, also for a successor: before any byte of it leaves.
    store_release(table, ORDERS_AT + row_index * ORDER_WORDS + ORDER_ID, client_id)
    return _start(bind, row_index, _PLACE, number)


@jit
def _take_cancel(bind: Words, source: Words) -> int:
    table, lookup = table_of(bind), lookup_of(bind)
    row_index = find(table, lookup, source[CLIENT_ID])
    if row_index == NOT_FOUND:
        return refuse(bind, source, _REJECTED, UNKNOWN_ORDER)
    state = order_of(bind, row_index)[ORDER_STATE]
    if is_terminal(state):
        return refuse(bind, source, state, UNKNOWN_ORDER)
    return cancel(bind, row_index)


@jit
def cancel(bind: Words, row_index: int) -> int:
    """Writes a cancel of an order, or marks it as wanted while there is no connection.

    Answers where the request begins in the buffer, SKIPPED when nothing is to be sent.
    """
    row = order_of(bind, row_index)
    if row[ORDER_REQUEST_KIND] == _CANCEL and row[ORDER_REQUEST] == _SENT:
        return SKIPPED  # one is under way
    number = -1
    if bind[IS_READY] == 1:
        number = open_request(bind, _CANCEL, row_index, row[ORDER_ID])
    if number < 0:
        row[ORDER_CANCEL_WANTED] = 1
        return SKIPPED
    row[ORDER_CANCEL_WANTED] = 0
    return _start(bind, row_index, _CANCEL, number)


@jit
def _begin(bind: Words) -> bool:
    """Polls the ring `orders` and records what will be taken; False when nothing may be.

    No order is taken while the ring `reports` lacks room for what may follow.
    """
    control = words_at(bind[ORDERS_CONTROL], CONTROL_WORDS)
    first = max(released(control, bind[ORDERS_READER]) + 1, table_of(bind)[TAKEN])
    count = min(poll(control, bind[ORDERS_READER]) - first + 1, BATCH_MAX)
    room = min(ROOM, bind[REPORTS_CAPACITY] // 4) + 2 * count
    if count <= 0 or not has_room(bind, room):
        return False
    steps = words_at(bind[STEPS_CONTROL], CONTROL_WORDS)
    sequence = claim(steps, 1)
    if sequence < 0:
        return False
    bind[NOW] = now_ns()
    rows = rows_at(bind[STEPS_ROWS], bind[STEPS_CAPACITY], ROW_WORDS)
    step = rows[sequence & (bind[STEPS_CAPACITY] - 1)]
    step[:] = 0
    step[SEQUENCE], step[TAG], step[PUBLISH_NS] = sequence, tag(_STEP, 0, 0, 0), bind[NOW]
    step[STEP_INPUT] = _ORDERS
    step[STEP_FIRST], step[STEP_COUNT], step[STEP_CLOCK_NS] = first, count, bind[NOW]
    step[STEP_OUTPUT_CURSOR] = reports_control(bind)[CURSOR]
    publish(steps, sequence)
    bind[TAKING], bind[LAST] = first, first + count - 1
    return True


@jit
def advance(bind: Words) -> int:
    """Acts on the next record of the ring `orders`, at most BATCH_MAX before it answers IDLE.

    Answers:
        where the request begins in the send buffer (with IS_SIGNED: where the text to sign
        begins); SKIPPED or REFUSED when there is nothing to send for this record; IDLE when
        there is no record, or the batch is done and given back.
    """
    if bind[TAKING] == 0:
        if not _begin(bind):
            return IDLE
        bind[TAKING] += 1
    if bind[TAKING] > bind[LAST] + 1:
        control = words_at(bind[ORDERS_CONTROL], CONTROL_WORDS)
        release(control, bind[ORDERS_READER], bind[LAST])
        bind[TAKING] = 0
        return IDLE
    sequence = bind[TAKING] - 1
    bind[TAKING] += 1
    rows = rows_at(bind[ORDERS_ROWS], bind[ORDERS_CAPACITY], ROW_WORDS)
    source = rows[sequence & (bind[ORDERS_CAPACITY] - 1)]
    at = _take_new(bind, source) if kind_of(source) == _ORDER_NEW else _take_cancel(bind, source)
    store_release(table_of(bind), TAKEN, sequence + 1)
    return at


@stage
def advance_at(address: int) -> int:
    """Acts on the next order of the bind at `address`, for workers/chain.py; answers 1 if any.

    HANDED then holds what `advance` answered; the desk goes on from there.
    """
    bind = words_at(address, BIND_WORDS)
    at = advance(bind)
    bind[HANDED] = at
    return 0 if at == IDLE else 1


@jit
def sent(bind: Words) -> None:
    """Counts and reports that the current request was handed to the socket."""
    row = order_of(bind, bind[CURRENT_ROW])
    bind[NOW] = now_ns()
    if bind[CURRENT_KIND] == _PLACE:
        words_at(bind[ORDERS_SENT_AT], 1)[0] += 1
        if row[ORDER_TRIGGER_NS] > 0:
            latency_ns = bind[NOW] - row[ORDER_TRIGGER_NS]
            record(words_at(bind[LATENCY_AT], HISTOGRAM_WORDS), latency_ns)
        report_sent(bind, bind[CURRENT_ROW])
        return
    words_at(bind[CANCELS_SENT_AT], 1)[0] += 1
    status = next_status(row, _CANCEL_SENT, 0, -1)
    if status > 0:
        write_status(bind, bind[CURRENT_ROW], status)


@jit
def set_clock(bind: Words) -> int:
    """Reads both clocks; answers CLOCK_MONOTONIC in ns. Called by: the duty cycle, often."""
    bind[NOW] = now_ns()
    bind[EPOCH_OFFSET] = epoch_ns() - bind[NOW]
    return bind[NOW]  # type: ignore[no-any-return]
