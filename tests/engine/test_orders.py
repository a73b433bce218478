"""Orders: the two axes, event by event and in any order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine import ordertable
from engine.orders import (
    GHOST,
    MISSING_FILLS,
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
    ORDER_WORDS,
    OVERFILL,
    QUIET,
    Event,
    Request,
    next_status,
    settle,
    write_report,
)
from engine.positions import BOUGHT_LOTS, FILLS, POSITION_LOTS
from engine.records import (
    CUMULATIVE_LOTS,
    LAST_LOTS,
    LAST_TICKS,
    LEAVES_LOTS,
    REPORT_TRADE_ID,
    ROW_WORDS,
    SEQUENCE,
    STATUS_ORDER,
    STATUS_REASON,
    STATUS_REQUEST,
    TERMINAL,
    OrderState,
    OrderType,
    Reason,
    RequestState,
    Side,
    TimeInForce,
    pack,
    part,
)
from shm.segment import Words

LIVE = [s for s in OrderState if s not in TERMINAL]
UNANSWERED = [RequestState.SENT, RequestState.TIMEOUT, RequestState.DISCONNECTED]


def order(
    state: OrderState,
    request: RequestState = RequestState.ACKED,
    kind: Request = Request.PLACE,
    *,
    lots: int = 10,
    cumulative: int = 0,
) -> Words:
    row = np.zeros(ORDER_WORDS, np.int64)
    row[ORDER_ID], row[ORDER_STATE], row[ORDER_REQUEST] = 77, state, request
    row[ORDER_REQUEST_KIND], row[ORDER_LOTS], row[ORDER_CUMULATIVE] = kind, lots, cumulative
    row[ORDER_TICKS] = 500
    row[ORDER_TERMS] = pack(Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 3)
    return row


def outcome(
    row: Words, event: Event, lots: int = 0, venue_cumulative: int = -1
) -> tuple[OrderState, RequestState, Reason]:
    status = next_status(row, event, lots, venue_cumulative)
    assert status > 0
    return (
        OrderState(part(status, STATUS_ORDER)),
        RequestState(part(status, STATUS_REQUEST)),
        Reason(part(status, STATUS_REASON)),
    )


class TestNextStatus:
    def test_an_ack_makes_a_pending_order_new(self) -> None:
        row = order(OrderState.PENDING_NEW, RequestState.SENT)

        assert outcome(row, Event.ACK) == (OrderState.NEW, RequestState.ACKED, Reason.ACK)

    def test_a_fill_before_the_ack_answers_the_request_too(self) -> None:
        row = order(OrderState.PENDING_NEW, RequestState.SENT)

        expected = (OrderState.PARTIALLY_FILLED, RequestState.ACKED, Reason.FILL)
        assert outcome(row, Event.FILL, 4) == expected
        row[ORDER_STATE], row[ORDER_REQUEST] = OrderState.PARTIALLY_FILLED, RequestState.ACKED
        assert next_status(row, Event.ACK, 0, -1) == QUIET

    def test_an_unanswered_request_makes_the_order_unknown_and_not_rejected(self) -> None:
        row = order(OrderState.PENDING_NEW, RequestState.SENT)

        timeout = (OrderState.UNKNOWN, RequestState.TIMEOUT, Reason.UNKNOWN)
        disconnect = (OrderState.UNKNOWN, RequestState.DISCONNECTED, Reason.UNKNOWN)
        assert outcome(row, Event.TIMEOUT) == timeout
        assert outcome(row, Event.DISCONNECT) == disconnect

    def test_a_late_ack_resolves_an_unknown_order(self) -> None:
        row = order(OrderState.UNKNOWN, RequestState.TIMEOUT)

        assert outcome(row, Event.ACK) == (OrderState.NEW, RequestState.ACKED, Reason.RESOLVED)

    def test_a_query_that_is_ahead_of_our_fills_asks_for_the_trades(self) -> None:
        row = order(OrderState.UNKNOWN, RequestState.TIMEOUT, cumulative=2)

        for event in (Event.WORKING, Event.CANCELED, Event.EXPIRED):
            assert next_status(row, event, 0, 3) == MISSING_FILLS
            assert next_status(row, event, 0, 2) > 0

    def test_an_order_the_venue_never_had_is_rejected(self) -> None:
        row = order(OrderState.UNKNOWN, RequestState.TIMEOUT)

        expected = (OrderState.REJECTED, RequestState.REJECTED, Reason.RESOLVED)
        assert outcome(row, Event.ABSENT) == expected

    def test_an_order_the_venue_once_had_and_forgot_is_canceled(self) -> None:
        row = order(OrderState.UNKNOWN, RequestState.TIMEOUT, Request.CANCEL)
        row[ORDER_VENUE_ID] = 12

        assert outcome(row, Event.ABSENT)[0] == OrderState.CANCELED

    @pytest.mark.parametrize("state", LIVE)
    def test_a_refused_cancel_never_changes_the_order(self, state: OrderState) -> None:
        row = order(state, RequestState.SENT, Request.CANCEL)

        expected = (state, RequestState.REJECTED, Reason.CANCEL_REJECT)
        assert outcome(row, Event.CANCEL_REJECT) == expected

    @pytest.mark.parametrize("state", TERMINAL)
    @pytest.mark.parametrize("event", [e for e in Event if e not in (Event.FILL, Event.ADOPT)])
    def test_an_ended_order_stays_ended(self, state: OrderState, event: Event) -> None:
        row = order(state, RequestState.SENT, Request.CANCEL, cumulative=3)
        status = next_status(row, event, 0, 3)

        assert status in (QUIET, GHOST) or part(status, STATUS_ORDER) == state

    def test_an_order_that_had_been_denied_by_the_venue_and_shows_up_is_a_ghost(self) -> None:
        row = order(OrderState.REJECTED, RequestState.REJECTED)

        assert next_status(row, Event.ACK, 0, -1) == GHOST
        assert next_status(row, Event.WORKING, 0, 0) == GHOST

    def test_a_late_fill_of_a_canceled_order_counts(self) -> None:
        row = order(OrderState.CANCELED, cumulative=3)

        assert outcome(row, Event.FILL, 2)[0] == OrderState.CANCELED
        assert outcome(row, Event.FILL, 7)[0] == OrderState.FILLED

    def test_a_fill_beyond_the_quantity_is_refused(self) -> None:
        row = order(OrderState.NEW, cumulative=3)

        assert next_status(row, Event.FILL, 8, -1) == OVERFILL
        assert next_status(row, Event.FILL, 0, -1) == OVERFILL


def test_a_report_of_a_fill_carries_side_leaves_and_trigger() -> None:
    row = order(OrderState.NEW, cumulative=3)
    report = np.zeros(ROW_WORDS, np.int64)
    report[LAST_TICKS], report[LAST_LOTS] = 499, 2
    write_report(row, next_status(row, Event.FILL, 2, -1), 2, report)

    assert report[CUMULATIVE_LOTS] == 5
    assert report[LEAVES_LOTS] == 5
    assert report[LAST_TICKS] == 499


class OrderMachine(RuleBasedStateMachine):
    """Any events in any order, through the table, against the plain rules."""

    @initialize(lots=st.integers(1, 50), side=st.sampled_from(list(Side)))
    def begin(self, lots: int, side: Side) -> None:
        self.table = np.zeros(ordertable.TABLE_WORDS, np.int64)
        self.lookup = ordertable.new_lookup()
        ordertable.rebuild(self.table, self.lookup)
        self.place = ordertable.insert(self.table, self.lookup, 99)
        self.row = ordertable.order_rows(self.table)[self.place]
        self.row[:] = order(OrderState.PENDING_NEW, RequestState.SENT, lots=lots)
        self.row[ORDER_ID] = 99
        self.row[ORDER_INSTRUMENT] = 2
        self.row[ORDER_TERMS] = pack(side, OrderType.LIMIT, TimeInForce.GTC, 0)
        self.side = side
        self.lots = lots
        self.sequence = 0
        self.trades: dict[int, int] = {}
        self.before = (int(self.row[ORDER_STATE]), 0)

    def apply(self, event: Event, lots: int = 0, venue_cumulative: int = -1, trade: int = 0) -> int:
        self.before = (int(self.row[ORDER_STATE]), int(self.row[ORDER_CUMULATIVE]))
        status = next_status(self.row, event, lots, venue_cumulative)
        if status > 0:
            report = np.zeros(ROW_WORDS, np.int64)
            report[SEQUENCE], report[REPORT_TRADE_ID] = self.sequence, trade
            report[LAST_TICKS], report[LAST_LOTS] = 100, lots
            write_report(self.row, status, lots, report)
            self.sequence += 1
            ordertable.commit(self.table, self.lookup, self.place, report)
            once = self.table.copy()
            ordertable.commit(self.table, self.lookup, self.place, report)
            assert np.array_equal(once, self.table), "settling twice is the same as once"
        return status

    @rule(trade=st.integers(1, 8), lots=st.integers(1, 20))
    def fill(self, trade: int, lots: int) -> None:
        if ordertable.has_trade(self.table, ordertable.trade_key(2, trade)):
            assert trade in self.trades
            return
        if self.apply(Event.FILL, lots, trade=trade) > 0:
            self.trades[trade] = lots

    @rule(event=st.sampled_from([Event.ACK, Event.REJECT, Event.CANCEL_SENT]))
    def answer(self, event: Event) -> None:
        self.apply(event)

    @rule(event=st.sampled_from([Event.CANCELED, Event.EXPIRED]), ahead=st.integers(-1, 1))
    def end(self, event: Event, ahead: int) -> None:
        cumulative = int(self.row[ORDER_CUMULATIVE])
        status = self.apply(event, venue_cumulative=cumulative + ahead)
        if ahead == 1 and self.before[0] not in TERMINAL:
            assert status == MISSING_FILLS

    @rule()
    def refuse_cancel(self) -> None:
        self.apply(Event.CANCEL_REJECT)
        assert self.row[ORDER_STATE] == self.before[0]

    @rule(event=st.sampled_from([Event.TIMEOUT, Event.DISCONNECT]))
    def lose(self, event: Event) -> None:
        was_asking = self.row[ORDER_REQUEST] == RequestState.SENT
        self.apply(event)
        if was_asking and self.before[0] not in TERMINAL:
            assert self.row[ORDER_STATE] == OrderState.UNKNOWN

    @precondition(lambda self: self.row[ORDER_STATE] == OrderState.UNKNOWN)
    @rule(event=st.sampled_from([Event.WORKING, Event.ABSENT]))
    def resolve(self, event: Event) -> None:
        self.apply(event, venue_cumulative=int(self.row[ORDER_CUMULATIVE]))
        assert self.row[ORDER_STATE] != OrderState.UNKNOWN

    @rule()
    def restart(self) -> None:
        ordertable.rebuild(self.table, self.lookup)
        assert ordertable.find(self.table, self.lookup, 99) == self.place

    @invariant()
    def cumulative_is_the_sum_of_trades_each_once(self) -> None:
        cumulative = int(self.row[ORDER_CUMULATIVE])
        assert cumulative == sum(self.trades.values())
        assert self.before[1] <= cumulative <= self.lots
        position = ordertable.position(self.table, 2)
        sign = 1 if self.side == Side.BUY else -1
        assert position[POSITION_LOTS] == sign * cumulative
        assert position[FILLS] == len(self.trades)
        assert position[BOUGHT_LOTS] == (cumulative if sign == 1 else 0)

    @invariant()
    def filled_means_filled(self) -> None:
        is_filled = self.row[ORDER_STATE] == OrderState.FILLED
        assert is_filled == (self.row[ORDER_CUMULATIVE] == self.lots)

    @invariant()
    def the_lookup_counts_live_orders(self) -> None:
        is_live = int(self.row[ORDER_STATE]) not in TERMINAL
        assert ordertable.live_count(self.lookup) == int(is_live)


TestOrderMachine = OrderMachine.TestCase


def test_settle_keeps_a_venue_id_once_known() -> None:
    row = order(OrderState.PENDING_NEW, RequestState.SENT)
    row[ORDER_VENUE_ID] = 8
    report = np.zeros(ROW_WORDS, np.int64)
    write_report(row, next_status(row, Event.ACK, 0, -1), 0, report)
    settle(row, report)

    assert row[ORDER_VENUE_ID] == 8
