"""workers room: the order table and its requests as the Python side of execution sees them.

Binds the arrays once (workers/orderlayout.py) and offers the compiled steps under plain names,
together with what follows from a report: counters, and the position cell that other workers read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engine import ordertable, positions
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX, Instrument, to_words
from engine.ordercodec import NUMBERS, RECEIVE_WINDOW_MS, REQUEST_BYTES_MAX
from engine.orders import (
    ORDER_CUMULATIVE,
    ORDER_ID,
    ORDER_INSTRUMENT,
    ORDER_LOTS,
    ORDER_REQUEST,
    ORDER_REQUEST_KIND,
    ORDER_STATE,
    ORDER_TERMS,
    ORDER_TICKS,
    ORDER_VENUE_ID,
    Event,
    Request,
)
from engine.records import (
    CLIENT_ID,
    STATUS_REASON,
    TERMINAL,
    OrderState,
    Reason,
    RequestState,
    part,
)
from shm.handles import Consumer, Producer
from shm.histogram import HISTOGRAM_WORDS
from shm.latest import write_latest
from shm.segment import Words
from shm.stats import Stats
from workers import orderlayout as layout
from workers import orderpath, orderreport

REPORTS_LOOKED_AT = 256  # behind the last one, for the report of a record that was refused


class OpenRequest(NamedTuple):
    """A request that waits for its answer."""

    number: int
    kind: int
    row: int
    sent_ns: int
    client_id: int


class Rings(NamedTuple):
    """The ring ends of the execution worker."""

    orders: Consumer
    reports: Producer
    steps: Producer


class Counters:
    """What execution counts, by reason of a report."""

    def __init__(self, stats: Stats) -> None:
        self.orders_sent = stats.counter("orders_sent_total")
        self.cancels_sent = stats.counter("cancels_sent_total")
        self.rejects = stats.counter("rejects_total")
        self.by_reason = {
            Reason.ACK: stats.counter("acks_total"),
            Reason.REJECT: self.rejects,
            Reason.FILL: stats.counter("fills_total"),
            Reason.UNKNOWN: stats.counter("unknown_total"),
            Reason.RESOLVED: stats.counter("resolved_total"),
            Reason.ADOPTED: stats.counter("adopted_orders_total"),
            Reason.CANCEL_REJECT: stats.counter("cancel_rejects_total"),
        }
        self.foreign = stats.counter("foreign_orders_total")
        self.duplicates = stats.counter("duplicate_fills_total")
        self.recovered = stats.counter("fills_recovered_total")
        self.ghosts = stats.counter("ghost_orders_total")
        self.bad_messages = stats.counter("order_messages_rejected_total")
        self.connections = stats.counter("order_connections_total")


class OrderMemory:
    """Orders, requests and reports of one account.

    Args:
        rings: the worker's ring ends.
        table: body of the segment `table.execution`, (ordertable.TABLE_WORDS,) int64.
        position_cells: body of the segment `positions`.
        stats: of this worker.
        receive_window_ms: how old a request may be when the venue looks at it.
    """

    def __init__(
        self,
        rings: Rings,
        table: Words,
        position_cells: Words,
        stats: Stats,
        receive_window_ms: int,
    ) -> None:
        self.rings, self.table, self._cells = rings, table, position_cells
        self.receive_window_ms = receive_window_ms
        self.counters = Counters(stats)
        self.lookup = ordertable.new_lookup()
        self.buffer = bytearray(REQUEST_BYTES_MAX)
        self.bytes = memoryview(self.buffer)
        self.latency = stats.histogram("tick_to_order_latency_seconds")
        self._instruments = np.zeros((INSTRUMENTS_MAX, INSTRUMENT_WORDS), np.int64)
        self._requests = np.zeros((layout.REQUESTS_MAX, layout.REQUEST_WORDS), np.int64)
        self._request = self._requests.data
        self._orders = ordertable.order_rows(table).data
        self._numbers = np.zeros(NUMBERS, np.int64)
        self._numbers[RECEIVE_WINDOW_MS] = receive_window_ms
        self._out = np.frombuffer(self.buffer, np.uint8)
        self._facts_words = np.zeros(layout.FACTS, np.int64)
        self._facts = self._facts_words.data
        self.bind = np.zeros(layout.BIND_WORDS, np.int64)
        self._oldest = int(table[ordertable.NEXT_REQUEST]) + 1
        self._bind_all()
        self.set_authority(b"", b"")

    def _bind_all(self) -> None:
        bind, at = self.bind, layout
        bind[at.ORDERS_CONTROL : at.ORDERS_CONTROL + 4] = self.rings.orders.port(
            self.rings.orders.reader
        )
        bind[at.REPORTS_CONTROL : at.REPORTS_CONTROL + 4] = self.rings.reports.port()
        bind[at.STEPS_CONTROL : at.STEPS_CONTROL + 4] = self.rings.steps.port()
        assert len(self.latency) == HISTOGRAM_WORDS, "the histogram is whole"
        for place, array in (
            (at.TABLE_AT, self.table),
            (at.LOOKUP_AT, self.lookup),
            (at.INSTRUMENTS_AT, self._instruments),
            (at.REQUESTS_AT, self._requests),
            (at.OUT_AT, self._out),
            (at.LATENCY_AT, self.latency),
            (at.NUMBERS_AT, self._numbers),
        ):
            bind[place] = array.ctypes.data
        for place, counter in (
            (at.ORDERS_SENT_AT, self.counters.orders_sent),
            (at.CANCELS_SENT_AT, self.counters.cancels_sent),
        ):
            bind[place] = counter.words.ctypes.data + 8 * counter.index
        orderpath.set_clock(bind)

    def set_instruments(self, instruments: tuple[Instrument, ...]) -> None:
        """Takes the grids of the instruments."""
        for instrument in instruments:
            self._instruments[instrument.index] = to_words(instrument)

    def set_authority(self, head: bytes, tail: bytes) -> None:
        """Says how requests are signed; both empty on a connection that was logged on.

        Args:
            head: what a text to sign begins with.
            tail: what a request carries; ends with 64 characters of signature and a quote.
        """
        self._head = np.frombuffer(head or b"\0", np.uint8).copy()
        self._tail = np.frombuffer(tail or b"\0", np.uint8).copy()
        self._tail_bytes = self._tail.data
        bind, at = self.bind, layout
        bind[at.HEAD_AT], bind[at.HEAD_BYTES] = self._head.ctypes.data, len(head)
        bind[at.TAIL_AT], bind[at.TAIL_BYTES] = self._tail.ctypes.data, len(tail)
        bind[at.IS_SIGNED] = int(bool(tail))

    def set_signature(self, signature: bytes) -> None:
        """Puts the signature of the current request into the tail."""
        self._tail_bytes[-1 - len(signature) : -1] = signature

    @property
    def is_ready(self) -> bool:
        """Whether orders may be sent."""
        return bool(self.bind[layout.IS_READY])

    @is_ready.setter
    def is_ready(self, value: bool) -> None:
        self.bind[layout.IS_READY] = int(value)

    @property
    def live_count(self) -> int:
        """Orders that are not over."""
        return ordertable.live_count(self.lookup)

    def live_rows(self) -> list[int]:
        """Answers the rows of the orders that are not over. Cold."""
        return ordertable.live_rows(self.table)

    def find(self, client_id: int) -> int:
        """Answers the row of a client order id, ordertable.NOT_FOUND when there is none."""
        return ordertable.find(self.table, self.lookup, client_id)

    def word(self, row: int, word: int) -> int:
        """Answers one word of an order, see engine/orders.py."""
        return self._orders[row, word]

    def set_word(self, row: int, word: int, value: int) -> None:
        """Sets a word of an order that no report carries: queries, absences, cancel wanted."""
        self._orders[row, word] = value

    def is_live(self, row: int) -> bool:
        """Says whether an order is not over."""
        return self._orders[row, ORDER_STATE] not in TERMINAL

    def has_room(self, count: int) -> bool:
        """Says whether `count` more reports fit."""
        return orderreport.has_room(self.bind, count)

    def open_request(self, kind: int, row: int) -> int:
        """Enters a request that is about to leave; answers its number, -1 when too many wait."""
        client_id = self.word(row, ORDER_ID) if row >= 0 else 0
        return orderpath.open_request(self.bind, kind, row, client_id)

    def answered(self, number: int) -> OpenRequest | None:
        """Takes out the request that an answer belongs to; None when there is none any more."""
        place = number & (layout.REQUESTS_MAX - 1)
        view = self._request
        if number <= 0 or view[place, layout.NUMBER] != number:
            return None
        view[place, layout.NUMBER] = 0
        return OpenRequest(
            number,
            view[place, layout.KIND],
            view[place, layout.ROW],
            view[place, layout.SENT_NS],
            view[place, layout.CLIENT],
        )

    def overdue(self, sent_before_ns: int) -> OpenRequest | None:
        """Takes out the oldest request sent before a time; None when there is none.

        Numbers rise with time, so each is looked at once: the oldest one waits for its turn.
        """
        last = int(self.table[ordertable.NEXT_REQUEST])
        while self._oldest <= last:
            place = self._oldest & (layout.REQUESTS_MAX - 1)
            if self._request[place, layout.NUMBER] == self._oldest:
                if self._request[place, layout.SENT_NS] >= sent_before_ns:
                    return None
                return self.answered(self._oldest)
            self._oldest += 1
        return None

    def apply(
        self,
        row: int,
        event: Event,
        *,
        venue_cumulative: int = -1,
        venue_id: int = 0,
        code: int = 0,
    ) -> int:
        """Takes an event that is no fill into an order; answers as workers.orderreport.apply."""
        facts = self._facts
        facts[layout.FACT_ROW], facts[layout.FACT_EVENT] = row, event
        facts[layout.FACT_LOTS], facts[layout.FACT_VENUE_CUMULATIVE] = 0, venue_cumulative
        facts[layout.FACT_VENUE_ORDER_ID], facts[layout.FACT_VENUE_CODE] = venue_id, code
        return self._apply()

    def fill(self, row: int, fill: Fill) -> int:
        """Takes a trade into an order unless it was booked; answers QUIET when it was."""
        key = ordertable.trade_key(self.word(row, ORDER_INSTRUMENT), fill.trade_id)
        if ordertable.has_trade(self.table, key):
            self.counters.duplicates.add()
            return 0
        facts = self._facts
        facts[layout.FACT_ROW], facts[layout.FACT_EVENT] = row, Event.FILL
        facts[layout.FACT_LOTS], facts[layout.FACT_VENUE_CUMULATIVE] = fill.lots, -1
        facts[layout.FACT_VENUE_ORDER_ID], facts[layout.FACT_VENUE_CODE] = fill.venue_id, 0
        facts[layout.FACT_TRADE_ID], facts[layout.FACT_TICKS] = fill.trade_id, fill.ticks
        facts[layout.FACT_FEE_E8], facts[layout.FACT_FEE_ASSET] = fill.fee_e8, fill.fee_asset
        facts[layout.FACT_LIQUIDITY] = 1 if fill.is_maker else 2
        status = self._apply()
        if status > 0:
            self.show_position(self.word(row, ORDER_INSTRUMENT))
        return status

    def _apply(self) -> int:
        status = orderreport.apply(self.bind, self._facts_words)
        if status > 0:
            counter = self.counters.by_reason.get(Reason(part(status, STATUS_REASON)))
            if counter is not None:
                counter.add()
        return status

    def show_position(self, instrument: int) -> None:
        """Copies a position to where other workers read it."""
        row = ordertable.position(self.table, instrument)
        write_latest(positions.cell(self._cells, instrument), row)

    def adopt(self, order: Adopted) -> int:
        """Enters an open order that we had not known; answers its row, NOT_FOUND when full."""
        row = ordertable.insert(self.table, self.lookup, order.client_id)
        if row == ordertable.NOT_FOUND:
            return row
        state = OrderState.PARTIALLY_FILLED if order.cumulative else OrderState.NEW
        for word, value in (
            (ORDER_STATE, state),
            (ORDER_REQUEST, RequestState.ACKED),
            (ORDER_REQUEST_KIND, Request.PLACE),
            (ORDER_INSTRUMENT, order.instrument),
            (ORDER_TERMS, order.terms),
            (ORDER_TICKS, order.ticks),
            (ORDER_LOTS, order.lots),
            (ORDER_CUMULATIVE, order.cumulative),
            (ORDER_VENUE_ID, order.venue_id),
            (ORDER_ID, order.client_id),
        ):
            self.set_word(row, word, value)
        self.apply(row, Event.ADOPT, venue_id=order.venue_id)
        return row

    def resume(self) -> None:
        """Mends what a worker that died in mid-step left behind; the first thing after a start."""
        ordertable.rebuild(self.table, self.lookup)
        reports = self.rings.reports
        for sequence in range(int(self.table[ordertable.COMMITTED]), reports.cursor + 1):
            report = reports.row(sequence)
            row = self.find(int(report[CLIENT_ID]))
            if row != ordertable.NOT_FOUND:
                ordertable.commit(self.table, self.lookup, row, report)
            self.table[ordertable.COMMITTED] = sequence + 1
        for row in ordertable.unreported_rows(self.table):
            orderreport.report_sent(self.bind, row)
        self._mend_refusal()
        for row in self.live_rows():
            self.apply(row, Event.DISCONNECT)
        for instrument in range(INSTRUMENTS_MAX):
            self.show_position(instrument)

    def _mend_refusal(self) -> None:
        """Reports the last taken record when it has neither a row nor a report."""
        taken = int(self.table[ordertable.TAKEN])
        if taken == 0:
            return
        source = self.rings.orders.row(taken - 1)
        client_id = int(source[CLIENT_ID])
        reports = self.rings.reports
        first = max(0, reports.cursor + 1 - REPORTS_LOOKED_AT)
        told = {int(reports.row(s)[CLIENT_ID]) for s in range(first, reports.cursor + 1)}
        if self.find(client_id) == ordertable.NOT_FOUND and client_id not in told:
            orderreport.refuse_again(self.bind, taken - 1)
            self.counters.rejects.add()


class Fill(NamedTuple):
    """One trade of ours."""

    trade_id: int
    ticks: int
    lots: int
    fee_e8: int
    fee_asset: int
    is_maker: bool
    venue_id: int


class Adopted(NamedTuple):
    """An open order of ours that we had not known."""

    client_id: int
    instrument: int
    terms: int
    ticks: int
    lots: int
    cumulative: int
    venue_id: int
