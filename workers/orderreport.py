"""workers room: compiled writing of reports: event to report to order table.

A report is published before the order takes it in (`commit`), so a successor after kill -9 can
mend the order from the ring, and the rest of the engine never hears of anything twice.
"""

from __future__ import annotations

from engine.orders import (
    Event,
    Request,
    next_status,
    write_report,
)
from engine.ordertable import (
    COMMITTED,
    TAKEN,
    commit,
)
from engine.records import (
    CLIENT_ID,
    FEE_ASSET,
    FEE_E8,
    LAST_LOTS,
    LAST_TICKS,
    LEAVES_LOTS,
    PRICE_TICKS,
    PUBLISH_NS,
    QUANTITY_LOTS,
    REPORT_TRADE_ID,
    REPORT_VENUE_ORDER_ID,
    ROW_WORDS,
    SEQUENCE,
    STATUS,
    STATUS_LIQUIDITY,
    TAG,
    TERMS,
    TERMS_SIDE,
    TERMS_STRATEGY,
    TRIGGER,
    TRIGGER_NS,
    VENUE_CODE,
    Kind,
    OrderState,
    Reason,
    RequestState,
    instrument_of,
    kind_of,
    pack,
    part,
    tag,
)
from engine.venuemessages import NO_SESSION
from shm.jit import jit, now_ns, rows_at, store_release
from shm.ring import (
    CAPACITY,
    CURSOR,
    claim,
    publish,
    slowest_gating,
)
from shm.segment import Words
from workers.orderlayout import (
    FACT_EVENT,
    FACT_FEE_ASSET,
    FACT_FEE_E8,
    FACT_LIQUIDITY,
    FACT_LOTS,
    FACT_ROW,
    FACT_TICKS,
    FACT_TRADE_ID,
    FACT_VENUE_CODE,
    FACT_VENUE_CUMULATIVE,
    FACT_VENUE_ORDER_ID,
    ORDERS_CAPACITY,
    ORDERS_ROWS,
    REFUSED,
    REPORTS_CAPACITY,
    REPORTS_FULL,
    REPORTS_ROWS,
    lookup_of,
    order_of,
    reports_control,
    table_of,
)

_ORDER_NEW, _REPORT, _STEP = int(Kind.ORDER_NEW), int(Kind.REPORT), int(Kind.STEP)
_PLACE, _CANCEL = int(Request.PLACE), int(Request.CANCEL)
_PENDING, _REJECTED = int(OrderState.PENDING_NEW), int(OrderState.REJECTED)
_SENT, _REFUSED = int(RequestState.SENT), int(RequestState.REJECTED)
_SENT_REASON, _REJECT_REASON = int(Reason.SENT), int(Reason.REJECT)
_CANCEL_REJECT_REASON = int(Reason.CANCEL_REJECT)
_FILL, _CANCEL_SENT = int(Event.FILL), int(Event.CANCEL_SENT)


@jit
def _report_at(bind: Words, sequence: int) -> Words:
    """Clears and stamps the report row of a claimed sequence."""
    rows = rows_at(bind[REPORTS_ROWS], bind[REPORTS_CAPACITY], ROW_WORDS)
    report = rows[sequence & (bind[REPORTS_CAPACITY] - 1)]
    report[:] = 0
    report[SEQUENCE] = sequence
    report[PUBLISH_NS] = now_ns()
    return report  # type: ignore[no-any-return]


@jit
def refuse(bind: Words, source: Words, state: int, code: int) -> int:
    """Reports that a record of the ring `orders` went nowhere; answers REFUSED.

    The caller keeps room in the ring `reports` for this.
    """
    table = table_of(bind)
    # First the mark, then the report: a successor sends nothing that was refused. Should we die in
    # between, it finds a taken record without row or report and writes the report itself.
    store_release(table, TAKEN, source[SEQUENCE] + 1)
    sequence = claim(reports_control(bind), 1)
    if sequence < 0:
        return REFUSED
    report = _report_at(bind, sequence)
    terms = source[TERMS]
    is_new = kind_of(source) == _ORDER_NEW
    report[TAG] = tag(
        _REPORT, part(terms, TERMS_SIDE), instrument_of(source), part(terms, TERMS_STRATEGY)
    )
    report[TRIGGER_NS], report[TRIGGER] = source[TRIGGER_NS], source[TRIGGER]
    report[CLIENT_ID], report[VENUE_CODE] = source[CLIENT_ID], code
    reason = _REJECT_REASON if is_new else _CANCEL_REJECT_REASON
    report[STATUS] = pack(state, _REFUSED, reason, 0)
    report[LAST_TICKS], report[LAST_LOTS] = source[PRICE_TICKS], source[QUANTITY_LOTS]
    report[LEAVES_LOTS] = source[QUANTITY_LOTS]
    publish(reports_control(bind), sequence)
    table[COMMITTED] = sequence + 1
    return REFUSED


@jit
def refuse_again(bind: Words, sequence: int) -> None:
    """Writes the report of a refused record that a worker before us took and never reported."""
    rows = rows_at(bind[ORDERS_ROWS], bind[ORDERS_CAPACITY], ROW_WORDS)
    refuse(bind, rows[sequence & (bind[ORDERS_CAPACITY] - 1)], _REJECTED, NO_SESSION)


@jit
def has_room(bind: Words, count: int) -> bool:
    """Says whether `count` more reports fit into their ring."""
    control = reports_control(bind)
    return control[CAPACITY] - (control[CURSOR] - slowest_gating(control)) >= count  # type: ignore[no-any-return]


@jit
def report_sent(bind: Words, row_index: int) -> None:
    """Writes an order's SENT report. Called by: `sent`, and a successor that finds it missing."""
    write_status(bind, row_index, pack(_PENDING, _SENT, _SENT_REASON, 0))


@jit
def write_status(bind: Words, row_index: int, status: int) -> None:
    """Publishes a report without facts of the venue; the caller keeps room for it."""
    sequence = claim(reports_control(bind), 1)
    if sequence < 0:
        return
    report = _report_at(bind, sequence)
    write_report(order_of(bind, row_index), status, 0, report)
    publish(reports_control(bind), sequence)
    commit(table_of(bind), lookup_of(bind), row_index, report)


@jit
def apply(bind: Words, facts: Words) -> int:
    """Takes one event into the order: report, publish, commit.

    Args:
        bind: see the module.
        facts: (FACTS,) int64, FACT_* words.

    Returns:
        the new packed status; QUIET, MISSING_FILLS, OVERFILL or GHOST from `next_status`;
        REPORTS_FULL when there is no room for the report and nothing was changed.
    """
    row_index, event, lots = facts[FACT_ROW], facts[FACT_EVENT], facts[FACT_LOTS]
    row = order_of(bind, row_index)
    status = next_status(row, event, lots, facts[FACT_VENUE_CUMULATIVE])
    if status <= 0:
        return status
    sequence = claim(reports_control(bind), 1)
    if sequence < 0:
        return REPORTS_FULL
    report = _report_at(bind, sequence)
    report[REPORT_VENUE_ORDER_ID] = facts[FACT_VENUE_ORDER_ID]
    report[VENUE_CODE] = facts[FACT_VENUE_CODE]
    if event == _FILL:
        report[REPORT_TRADE_ID] = facts[FACT_TRADE_ID]
        report[LAST_TICKS], report[LAST_LOTS] = facts[FACT_TICKS], lots
        report[FEE_E8], report[FEE_ASSET] = facts[FACT_FEE_E8], facts[FACT_FEE_ASSET]
        status |= facts[FACT_LIQUIDITY] << (16 * STATUS_LIQUIDITY)
    write_report(row, status, lots, report)
    publish(reports_control(bind), sequence)
    commit(table_of(bind), lookup_of(bind), row_index, report)
    return status
