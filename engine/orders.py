"""engine room: what an order may become, and when: order state and request state, two axes.

The *order state* says what we believe the order is at the venue. The *request state* says what
became of the last thing we asked the venue about it. They are kept apart because a lost answer says
nothing about the order: it makes the request TIMEOUT or DISCONNECTED and the order UNKNOWN, which
counts as live at its worst until the venue proves otherwise.

An event never changes an order directly. `next_status` answers what would become of it; the worker
writes that into a report, publishes it, and then `settle` takes the report into the order. So an
order is the fold of its reports, and a worker that dies between the two steps is mended by settling
the last published reports again: settling twice is the same as once.

What always holds, proved by the property tests:
- cumulative only grows and never passes the original quantity; leaves = original - cumulative
- a terminal order stays as it is, except that a late fill still counts
- UNKNOWN ends by the venue's evidence only; a refused cancel never ends a working order

Row of an order, ORDER_WORDS words of int64; the one writer is the execution worker.
"""

from __future__ import annotations

from enum import IntEnum

from engine.records import (
    CLIENT_ID,
    CUMULATIVE_LOTS,
    LAST_LOTS,
    LAST_TICKS,
    LEAVES_LOTS,
    REPORT_VENUE_ORDER_ID,
    SEQUENCE,
    STATUS,
    STATUS_LIQUIDITY,
    STATUS_ORDER,
    STATUS_REASON,
    STATUS_REQUEST,
    TAG,
    TERMS_SIDE,
    TERMS_STRATEGY,
    TRIGGER,
    TRIGGER_NS,
    Kind,
    OrderState,
    Reason,
    RequestState,
    pack,
    part,
    tag,
)
from shm.jit import jit
from shm.segment import Words

ORDER_WORDS = 32
(
    ORDER_ID, ORDER_STATE, ORDER_REQUEST, ORDER_REQUEST_KIND, ORDER_REQUEST_NUMBER,
    ORDER_INSTRUMENT, ORDER_TERMS, ORDER_TICKS, ORDER_LOTS, ORDER_CUMULATIVE, ORDER_VENUE_ID,
    ORDER_TRIGGER_NS, ORDER_TRIGGER, ORDER_SENT_NS, ORDER_REPORTED, ORDER_CANCEL_WANTED,
    ORDER_QUERIES, ORDER_ABSENCES, ORDER_ENDED_NS,
) = range(19)  # fmt: skip
# ORDER_ID: client order id, 0 in a free row. ORDER_REPORTED: number of the last report settled
# into it, counted from 1; 0 when its SENT report is not out yet. ORDER_CANCEL_WANTED: 1 when it
# is to be cancelled once there is a connection. ORDER_QUERIES: times the venue was asked about it
# since it was last certain. ORDER_ABSENCES: answers in a row that the venue does not know it.


class Request(IntEnum):
    """What the last request about an order asked for."""

    NONE = 0
    PLACE = 1
    CANCEL = 2


class Event(IntEnum):
    """What can happen to an order."""

    ACK = 1  # the venue took it
    REJECT = 2  # the venue refused to take it
    FILL = 3  # the venue traded it
    CANCELED = 4  # the venue ended it on request
    EXPIRED = 5  # the venue ended it by its own rules
    CANCEL_SENT = 6  # we asked to end it
    CANCEL_REJECT = 7  # the venue refused to end it
    TIMEOUT = 8  # a request stayed without an answer
    DISCONNECT = 9  # a request was under way when the connection went
    WORKING = 10  # a query found it open
    ABSENT = 11  # queries found, often enough, that the venue does not have it
    ADOPT = 12  # an open order of ours that we had not known


# Answers of next_status that are not a status.
QUIET = 0  # nothing new
MISSING_FILLS = -1  # the venue has traded more of it than we know: ask for the trades first
OVERFILL = -2  # a fill beyond the original quantity: refused
GHOST = -3  # the venue has an order that it had said not to have: cancel it

_PENDING, _NEW, _PARTIAL, _FILLED, _CANCELED, _REJECTED, _EXPIRED, _UNKNOWN = (
    int(s) for s in OrderState
)
_SENT, _ACKED, _REFUSED, _TIMEOUT, _DISCONNECTED = (int(r) for r in list(RequestState)[1:])
(
    _SENT_REASON, _ACK_REASON, _FILL_REASON, _REJECT_REASON, _CANCELED_REASON, _EXPIRED_REASON,
    _CANCEL_SENT_REASON, _CANCEL_REJECT_REASON, _UNKNOWN_REASON, _RESOLVED_REASON, _ADOPTED_REASON,
) = (int(r) for r in Reason)  # fmt: skip
(
    _E_ACK, _E_REJECT, _E_FILL, _E_CANCELED, _E_EXPIRED, _E_CANCEL_SENT, _E_CANCEL_REJECT,
    _E_TIMEOUT, _E_DISCONNECT, _E_WORKING, _E_ABSENT, _E_ADOPT,
) = (int(e) for e in Event)  # fmt: skip
_PLACE, _CANCEL = int(Request.PLACE), int(Request.CANCEL)
_REPORT = int(Kind.REPORT)


@jit
def is_terminal(state: int) -> bool:
    """Says whether an order in this state is over."""
    return _FILLED <= state <= _EXPIRED


@jit
def _status(state: int, request: int, reason: int) -> int:
    return pack(state, request, reason, 0)


@jit
def _working_state(cumulative: int) -> int:
    return _PARTIAL if cumulative > 0 else _NEW


@jit
def _answered(row: Words) -> int:
    """Answers the request state once the venue has shown that the request took effect."""
    request = row[ORDER_REQUEST]
    if request in (_SENT, _TIMEOUT, _DISCONNECTED):
        return _ACKED
    return request  # type: ignore[no-any-return]


@jit
def _after_fill(row: Words, lots: int) -> int:
    state, cumulative = row[ORDER_STATE], row[ORDER_CUMULATIVE] + lots
    if lots <= 0 or cumulative > row[ORDER_LOTS]:
        return OVERFILL
    is_place = row[ORDER_REQUEST_KIND] == _PLACE
    request = _answered(row) if is_place else row[ORDER_REQUEST]
    if cumulative == row[ORDER_LOTS]:
        state = _FILLED
    elif state == _REJECTED:
        state = _UNKNOWN  # the venue had said that it has no such order, and trades it
    elif not is_terminal(state) and (state != _UNKNOWN or is_place):
        state = _PARTIAL
    return _status(state, request, _FILL_REASON)


@jit
def _after_ack(row: Words) -> int:
    state = row[ORDER_STATE]
    is_place = row[ORDER_REQUEST_KIND] == _PLACE
    request = _ACKED if is_place else row[ORDER_REQUEST]  # a cancel may be under way already
    if state == _PENDING:
        return _status(_working_state(row[ORDER_CUMULATIVE]), request, _ACK_REASON)
    if state == _UNKNOWN and is_place:
        return _status(_working_state(row[ORDER_CUMULATIVE]), request, _RESOLVED_REASON)
    if state == _REJECTED:
        return GHOST
    return QUIET


@jit
def _after_reject(row: Words) -> int:
    if row[ORDER_STATE] in (_PENDING, _UNKNOWN) and row[ORDER_CUMULATIVE] == 0:
        is_place = row[ORDER_REQUEST_KIND] == _PLACE
        return _status(_REJECTED, _REFUSED if is_place else row[ORDER_REQUEST], _REJECT_REASON)
    return QUIET


@jit
def _after_end(row: Words, state: int, reason: int, venue_cumulative: int) -> int:
    if is_terminal(row[ORDER_STATE]):
        return QUIET
    if venue_cumulative > row[ORDER_CUMULATIVE]:
        return MISSING_FILLS
    if row[ORDER_STATE] == _UNKNOWN:
        reason = _RESOLVED_REASON
    return _status(state, _answered(row), reason)


@jit
def _after_loss(row: Words, request: int) -> int:
    if row[ORDER_REQUEST] != _SENT or is_terminal(row[ORDER_STATE]):
        return QUIET
    return _status(_UNKNOWN, request, _UNKNOWN_REASON)


@jit
def _after_working(row: Words, venue_cumulative: int) -> int:
    state = row[ORDER_STATE]
    if state == _REJECTED:
        return GHOST
    if is_terminal(state):
        return QUIET
    if venue_cumulative > row[ORDER_CUMULATIVE]:
        return MISSING_FILLS
    if state not in (_PENDING, _UNKNOWN):
        return QUIET
    is_place = row[ORDER_REQUEST_KIND] == _PLACE
    request = _answered(row) if is_place else row[ORDER_REQUEST]
    reason = _ACK_REASON if state == _PENDING else _RESOLVED_REASON
    return _status(_working_state(row[ORDER_CUMULATIVE]), request, reason)


@jit
def _after_absence(row: Words) -> int:
    state = row[ORDER_STATE]
    if state not in (_PENDING, _UNKNOWN):
        return QUIET
    if row[ORDER_VENUE_ID] != 0 or row[ORDER_CUMULATIVE] > 0:
        # It existed and is no longer kept: it cannot be open.
        return _status(_CANCELED, _answered(row), _RESOLVED_REASON)
    return _status(_REJECTED, _REFUSED, _RESOLVED_REASON)


@jit
def _after_request(row: Words, event: int) -> int:
    """Answers for the events of a cancel and of adoption."""
    state = row[ORDER_STATE]
    if event == _E_CANCEL_SENT:
        if is_terminal(state):
            return QUIET
        return _status(state, _SENT, _CANCEL_SENT_REASON)
    if event == _E_CANCEL_REJECT:
        if row[ORDER_REQUEST_KIND] != _CANCEL or row[ORDER_REQUEST] in (_ACKED, _REFUSED):
            return QUIET
        return _status(state, _REFUSED, _CANCEL_REJECT_REASON)
    return _status(state, row[ORDER_REQUEST], _ADOPTED_REASON)


@jit
def next_status(row: Words, event: int, lots: int, venue_cumulative: int) -> int:
    """Answers what becomes of an order, as a packed status, or why nothing does.

    Args:
        row: (ORDER_WORDS,) int64; not changed.
        event: an `Event`.
        lots: of a FILL, else 0.
        venue_cumulative: what the venue says is traded, for CANCELED, EXPIRED and WORKING; -1
            when it did not say.

    Returns:
        a positive status word without liquidity, or QUIET, MISSING_FILLS, OVERFILL, GHOST.
    """
    status = QUIET
    if event == _E_FILL:
        status = _after_fill(row, lots)
    elif event == _E_ACK:
        status = _after_ack(row)
    elif event == _E_REJECT:
        status = _after_reject(row)
    elif event == _E_CANCELED:
        status = _after_end(row, _CANCELED, _CANCELED_REASON, venue_cumulative)
    elif event == _E_EXPIRED:
        status = _after_end(row, _EXPIRED, _EXPIRED_REASON, venue_cumulative)
    elif event == _E_TIMEOUT:
        status = _after_loss(row, _TIMEOUT)
    elif event == _E_DISCONNECT:
        status = _after_loss(row, _DISCONNECTED)
    elif event == _E_WORKING:
        status = _after_working(row, venue_cumulative)
    elif event == _E_ABSENT:
        status = _after_absence(row)
    else:
        status = _after_request(row, event)
    return status


@jit
def write_report(row: Words, status: int, lots: int, report: Words) -> None:
    """Fills in everything of a report that follows from its order and status.

    Args:
        row: the order, not changed.
        status: from `next_status`, liquidity added where known.
        lots: of a fill; 0 otherwise, and the report then shows the order's own price and quantity.
        report: (16,) int64; sequence, publish time, venue ids, fill price and fee are the caller's.
    """
    terms = row[ORDER_TERMS]
    report[TAG] = tag(
        _REPORT, part(terms, TERMS_SIDE), row[ORDER_INSTRUMENT], part(terms, TERMS_STRATEGY)
    )
    report[TRIGGER_NS], report[TRIGGER] = row[ORDER_TRIGGER_NS], row[ORDER_TRIGGER]
    report[CLIENT_ID], report[STATUS] = row[ORDER_ID], status
    if lots == 0:
        report[LAST_TICKS], report[LAST_LOTS] = row[ORDER_TICKS], row[ORDER_LOTS]
    report[CUMULATIVE_LOTS] = row[ORDER_CUMULATIVE] + lots
    report[LEAVES_LOTS] = row[ORDER_LOTS] - report[CUMULATIVE_LOTS]
    if report[REPORT_VENUE_ORDER_ID] == 0:
        report[REPORT_VENUE_ORDER_ID] = row[ORDER_VENUE_ID]


@jit
def settle(row: Words, report: Words) -> None:
    """Takes a published report into its order; doing it again changes nothing."""
    status = report[STATUS]
    row[ORDER_STATE] = part(status, STATUS_ORDER)
    row[ORDER_REQUEST] = part(status, STATUS_REQUEST)
    reason = part(status, STATUS_REASON)
    if reason == _CANCEL_SENT_REASON:
        row[ORDER_REQUEST_KIND] = _CANCEL
    row[ORDER_CUMULATIVE] = max(row[ORDER_CUMULATIVE], report[CUMULATIVE_LOTS])
    if report[REPORT_VENUE_ORDER_ID] != 0:
        row[ORDER_VENUE_ID] = report[REPORT_VENUE_ORDER_ID]
    row[ORDER_REPORTED] = report[SEQUENCE] + 1


@jit
def is_fill(report: Words) -> bool:
    """Says whether a report is about a trade."""
    return part(report[STATUS], STATUS_REASON) == _FILL_REASON


def with_liquidity(status: int, *, maker: bool) -> int:
    """Answers a fill's status with its liquidity: 1 maker, 2 taker."""
    return status | ((1 if maker else 2) << (16 * STATUS_LIQUIDITY))
