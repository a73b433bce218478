"""workers room: compiles the order path on scratch memory, so that no order waits for it."""

from __future__ import annotations

import numpy as np

from engine import ordertable, positions
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX
from engine.ordercodec import NUMBERS, REQUEST_BYTES_MAX
from engine.records import (
    CLIENT_ID,
    QUANTITY_LOTS,
    ROW_WORDS,
    SEQUENCE,
    TAG,
    TRIGGER_NS,
    Kind,
    client_id_of,
    part,
    tag,
)
from shm.histogram import HISTOGRAM_WORDS, record
from shm.jit import epoch_ns, now_ns
from shm.latest import write_latest
from shm.ring import CAPACITY, CLAIMED, CONTROL_WORDS, CURSOR, GATING_CACHED, RELEASED
from shm.ring import READER_BASE as READER
from shm.segment import Words
from workers import orderlayout as layout
from workers import orderpath, orderreport

RECORDS = 2048  # more than the room that execution keeps


def _scratch_ring(bind: Words, at: int, keep: list[Words]) -> tuple[Words, Words]:
    """Binds a ring in private memory; answers its control words and rows."""
    control = np.zeros(CONTROL_WORDS, np.int64)
    rows = np.zeros((RECORDS, ROW_WORDS), np.int64)
    control[[CURSOR, CLAIMED, GATING_CACHED, READER + RELEASED]] = -1
    control[CAPACITY] = RECORDS
    bind[at : at + 4] = (control.ctypes.data, rows.ctypes.data, RECORDS, 0)
    keep += [control, rows]
    return control, rows


def _scratch_bind(keep: list[Words]) -> Words:
    """Makes a `bind` whose every address leads to private memory that `keep` holds."""
    bind = np.zeros(layout.BIND_WORDS, np.int64)
    for place, words in (
        (layout.TABLE_AT, ordertable.TABLE_WORDS),
        (layout.LOOKUP_AT, ordertable.LOOKUP_WORDS),
        (layout.INSTRUMENTS_AT, INSTRUMENTS_MAX * INSTRUMENT_WORDS),
        (layout.REQUESTS_AT, layout.REQUESTS_MAX * layout.REQUEST_WORDS),
        (layout.OUT_AT, REQUEST_BYTES_MAX),
        (layout.LATENCY_AT, HISTOGRAM_WORDS),
        (layout.NUMBERS_AT, NUMBERS),
        (layout.HEAD_AT, 1),
        (layout.TAIL_AT, 1),
        (layout.ORDERS_SENT_AT, 1),
        (layout.CANCELS_SENT_AT, 1),
    ):
        keep.append(np.zeros(words, np.int64))
        bind[place] = keep[-1].ctypes.data
    return bind


def warm() -> None:
    """Calls every compiled function of execution once. Called by: preload, before any order."""
    keep: list[Words] = []
    bind = _scratch_bind(keep)
    table, lookup = keep[0], keep[1]
    ordertable.rebuild(table, lookup)
    control, rows = _scratch_ring(bind, layout.ORDERS_CONTROL, keep)
    _scratch_ring(bind, layout.REPORTS_CONTROL, keep)
    _scratch_ring(bind, layout.STEPS_CONTROL, keep)
    bind[layout.IS_READY] = 1
    client_id = client_id_of(1, 1)
    for sequence, kind in enumerate((Kind.ORDER_NEW, Kind.ORDER_CANCEL)):
        rows[sequence, [SEQUENCE, TAG, CLIENT_ID, QUANTITY_LOTS, TRIGGER_NS]] = (
            sequence, tag(int(kind), 0, 0, 0), client_id, 5, 1,
        )  # fmt: skip
    control[CURSOR] = 1
    orderpath.set_clock(bind)
    while orderpath.advance(bind) != layout.IDLE:
        orderpath.write_payload(bind)
        orderpath.write_request(bind)
        orderpath.sent(bind)
    orderpath.advance_at(int(bind.ctypes.data))
    row = ordertable.find(table, lookup, client_id)
    orderpath.cancel(bind, row)
    orderpath.open_request(bind, layout.STATUS_QUERY, row, client_id)
    orderreport.apply(bind, np.zeros(layout.FACTS, np.int64))
    orderreport.has_room(bind, 1)
    orderreport.report_sent(bind, row)
    orderreport.refuse_again(bind, 0)
    _warm_table(table, lookup)
    record(np.zeros(HISTOGRAM_WORDS, np.int64), 1)
    part(epoch_ns() - now_ns(), 0)


def _warm_table(table: Words, lookup: Words) -> None:
    ordertable.has_trade(table, ordertable.trade_key(0, 1))
    ordertable.live_count(lookup)
    ordertable.insert(table, lookup, client_id_of(1, 2))
    ordertable.commit(table, lookup, 0, np.zeros(ROW_WORDS, np.int64))
    cell = np.zeros(1 + positions.POSITION_WORDS, np.int64)
    write_latest(cell, ordertable.position(table, 0))
