"""Risk: each check trips with code, limit and observed value; the position limit holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.control import CANCEL_ALL, NO_NEW, TRADE
from engine.decision import Input
from engine.exposure import OPEN_BUY_LOTS, OPEN_ORDERS, OPEN_SELL_LOTS, POSITION_LOTS
from engine.records import (
    CLIENT_ID,
    CLOCK_NS,
    DENIAL_INTENT,
    INTENT,
    PRICE_TICKS,
    QUANTITY_LOTS,
    STATE,
    TERMS,
    TRIGGER,
    TRIGGER_NS,
    BookState,
    Kind,
    OrderState,
    OrderType,
    Reason,
    Side,
    client_id_of,
    kind_of,
    pack,
)
from engine.risk import (
    MEANINGS,
    DenialCode,
    RiskReason,
    describe,
)
from engine.risk_checks import product
from shm.segment import Words
from tests.engine.kernel_rig import BTC, GENERATION, book_state, quote, report
from tests.engine.risk_rig import (
    ASK,
    BID,
    OLD,
    OPEN_MAX,
    POSITION_MAX,
    SECOND,
    RiskRig,
    limits,
    verdict,
)


class TestPassing:
    def test_an_order_within_all_limits_passes_unchanged(self) -> None:
        rig = RiskRig()

        row = rig.ask(100, BID, Side.BUY)

        assert kind_of(row) == Kind.ORDER_NEW
        assert [client_id_of(GENERATION, 0), pack(1, 1, 1, 5), BID, 100, 0, rig.clock] == list(
            row[[CLIENT_ID, TERMS, PRICE_TICKS, QUANTITY_LOTS, INTENT, CLOCK_NS]]
        )

    def test_trigger_is_carried_to_orders_and_denials(self) -> None:
        rig = RiskRig()

        rows = rig.ask(100), rig.ask(10**5)

        assert [(row[TRIGGER_NS], row[TRIGGER]) for row in rows] == [(77, 78), (77, 78)]

    def test_a_denial_names_intent_and_client_id(self) -> None:
        rig = RiskRig()
        rig.ask(100)

        row = rig.ask(10**5)

        assert (1, client_id_of(GENERATION, 1)) == (row[DENIAL_INTENT], row[CLIENT_ID])


def halted() -> RiskRig:
    rig = RiskRig()
    rig.level(NO_NEW)
    return rig


def without_limits() -> RiskRig:
    rig = RiskRig(ready=False)
    rig.load(BTC)
    return rig


def unknown_instrument() -> RiskRig:
    rig = RiskRig(ready=False)
    rig.load(limits=limits())
    return rig


def not_trading() -> RiskRig:
    return RiskRig(replace(BTC, trading=False))


def stale(age_ns: int) -> RiskRig:
    rig = RiskRig()
    rig.clock += age_ns
    return rig


def gapped() -> RiskRig:
    rig = RiskRig()
    rig.market(book_state(BookState.STALE_GAP))
    return rig


def after(count: int, *args: int) -> RiskRig:
    rig = RiskRig()
    for _ in range(count):
        assert kind_of(rig.ask(*args)) == Kind.ORDER_NEW
    return rig


MARKET = {"order_type": int(OrderType.MARKET), "tif": 0}
C = DenialCode
BTC_TOO_FAR = BID + BID // 100 + 100


class TestDenials:
    @pytest.mark.parametrize(
        ("rig", "args", "named", "expected"),
        [
            (halted, (100,), {}, (C.TRADING_HALTED, 0, NO_NEW)),
            (without_limits, (100,), {}, (C.LIMITS_NOT_LOADED, 1, 0)),
            (unknown_instrument, (100,), {}, (C.INSTRUMENT_UNKNOWN, 1, 0)),
            (not_trading, (100,), {}, (C.INSTRUMENT_NOT_TRADING, 1, 2)),
            (RiskRig, (100, BID, 3), {}, (C.TERMS_INVALID, 0, pack(3, 1, 1, 5))),
            (RiskRig, (100,), {"tif": 0}, (C.TERMS_INVALID, 0, pack(1, 1, 0, 5))),
            (RiskRig, (100,), {"client_id": 0}, (C.DUPLICATE_CLIENT_ID, 0, 0)),
            (gapped, (100,), {}, (C.BOOK_NOT_SYNCED, 1, int(BookState.STALE_GAP))),
            (lambda: stale(OLD), (100,), {}, (C.STALE_MARKET_DATA, 2 * SECOND, OLD)),
            (RiskRig, (100, 99), {}, (C.PRICE_MIN, 100, 99)),
            (RiskRig, (100, 10**8 + 1), {}, (C.PRICE_MAX, 10**8, 10**8 + 1)),
            (RiskRig, (100, BTC_TOO_FAR), {}, (C.PRICE_COLLAR, 10_000, 10_016)),
            (RiskRig, (1,), {}, (C.QUANTITY_MIN, 2, 1)),
            (RiskRig, (2, 0), MARKET, (C.QUANTITY_MIN, 3, 2)),
            (RiskRig, (10**6 + 1,), {}, (C.QUANTITY_MAX, 10**6, 10**6 + 1)),
            (RiskRig, (5 * 10**5 + 1, 0), MARKET, (C.QUANTITY_MAX, 5 * 10**5, 5 * 10**5 + 1)),
            (RiskRig, (501,), {}, (C.ORDER_QUANTITY_MAX, 500, 501)),
            (RiskRig, (8,), {}, (C.NOTIONAL_MIN, 5 * 10**7, 8 * BID)),
            (RiskRig, (8, 0, 1), MARKET, (C.NOTIONAL_MIN, 5 * 10**7, 8 * ASK)),
            (lambda: after(2, 500), (9,), {}, (C.POSITION_LIMIT, 1_000, 1_009)),
            (lambda: after(8, 10), (10,), {}, (C.OPEN_ORDERS_MAX, 8, 9)),
        ],
    )  # fmt: skip
    def test_each_check_trips_with_code_limit_and_observed_value(
        self, rig: Any, args: tuple[int, ...], named: dict[str, int], expected: tuple[int, int, int]
    ) -> None:
        assert expected == verdict(rig().ask(*args, **named))

    def test_our_largest_value_is_enforced(self) -> None:
        rig = RiskRig(limit=limits(order_notional=10**9))

        assert verdict(rig.ask(200)) == (C.ORDER_VALUE_MAX, 10**9, 200 * BID)

    def test_a_quantity_off_the_step_for_orders_is_refused(self) -> None:
        rig = RiskRig(replace(BTC, quantity_step_lots=10))

        assert verdict(rig.ask(101)) == (C.QUANTITY_STEP, 10, 101)

    def test_the_venues_largest_value_is_enforced(self) -> None:
        rig = RiskRig(replace(BTC, notional_max=10**9))

        assert verdict(rig.ask(200)) == (C.NOTIONAL_MAX, 10**9, 200 * BID)

    def test_a_client_id_is_never_taken_twice(self) -> None:
        rig = RiskRig()
        first = rig.ask(100)

        again = rig.ask(100, client_id=int(first[CLIENT_ID]))

        assert (C.DUPLICATE_CLIENT_ID, first[CLIENT_ID], first[CLIENT_ID]) == verdict(again)

    def test_new_orders_leave_the_reserve_to_cancels(self) -> None:
        rig = RiskRig(limit=limits(open_orders=100, position_lots=10**6))
        rows = [rig.ask(10) for _ in range(31)]
        canceled = [rig.cancel(int(rows[0][CLIENT_ID])) for _ in range(11)]

        assert [Kind(kind_of(row)) for row in rows[:30]] == [Kind.ORDER_NEW] * 30
        assert verdict(rows[30]) == (C.MESSAGE_RATE, 30, 31)
        assert [Kind(kind_of(row)) for row in canceled[:10]] == [Kind.ORDER_CANCEL] * 10
        assert verdict(canceled[10]) == (C.CANCEL_RATE, 40, 41)

    def test_the_message_window_slides_with_the_clock(self) -> None:
        rig = RiskRig(limit=limits(open_orders=100, position_lots=10**6))
        for _ in range(30):
            rig.ask(10)
            rig.clock += 1_000_000
        rig.clock += SECOND - 30_000_000  # the first message is now one second old

        assert kind_of(rig.ask(10)) == Kind.ORDER_NEW
        assert verdict(rig.ask(10))[0] == C.MESSAGE_RATE

    def test_an_overflowing_product_is_the_largest_word(self) -> None:
        assert product(1 << 40, 1 << 30) == (1 << 63) - 1
        assert product(2, 3) == 6


class TestLevels:
    def test_halt_and_resume_are_told(self) -> None:
        rig = RiskRig()

        _, halt = rig.level(CANCEL_ALL)
        _, same = rig.level(CANCEL_ALL)
        _, resume = rig.level(TRADE)

        assert (halt[0][STATE], halt[0][STATE + 1]) == (CANCEL_ALL, RiskReason.HALTED)
        assert len(same) == 0
        assert (resume[0][STATE], resume[0][STATE + 1]) == (TRADE, RiskReason.RESUMED)

    def test_cancels_pass_while_halted(self) -> None:
        rig = RiskRig()
        order = rig.ask(100)
        rig.level(CANCEL_ALL)

        assert kind_of(rig.cancel(int(order[CLIENT_ID]))) == Kind.ORDER_CANCEL

    def test_loading_limits_is_told_with_its_version(self) -> None:
        rig = RiskRig(ready=False)

        _, nothing = rig.load(BTC)
        _, loaded = rig.load(BTC, limits=limits(), version=4)

        assert len(nothing) == 0
        assert (loaded[0][STATE + 1], loaded[0][STATE + 2]) == (RiskReason.LIMITS_LOADED, 4)


class TestExposure:
    def test_an_unknown_order_counts_in_full(self) -> None:
        rig = RiskRig()
        order = rig.ask(500)
        rig.report(order[CLIENT_ID], Side.BUY, OrderState.UNKNOWN, Reason.UNKNOWN, lots=500)

        rig.ask(490)

        assert verdict(rig.ask(11)) == (C.POSITION_LIMIT, 1_000, 1_001)
        assert rig.book[OPEN_BUY_LOTS] == 990

    def test_a_fill_told_twice_counts_once(self) -> None:
        rig = RiskRig()
        order = rig.ask(100)
        for _ in range(2):
            rig.report(
                order[CLIENT_ID], Side.BUY, OrderState.PARTIALLY_FILLED, Reason.FILL,
                lots=100, cumulative=40, filled=40,
            )  # fmt: skip

        assert list(rig.book[:4]) == [40, 60, 0, 1]

    def test_a_late_fill_of_an_ended_order_moves_the_position(self) -> None:
        rig = RiskRig()
        order = rig.ask(100)
        rig.report(order[CLIENT_ID], Side.BUY, OrderState.CANCELED, Reason.CANCELED, lots=100)
        rig.report(
            order[CLIENT_ID], Side.BUY, OrderState.CANCELED, Reason.FILL,
            lots=100, cumulative=30, filled=30,
        )  # fmt: skip

        assert list(rig.book[:4]) == [30, 0, 0, 0]

    def test_an_adopted_order_counts_on_its_side(self) -> None:
        rig = RiskRig()
        rig.report(0, Side.SELL, OrderState.NEW, Reason.ADOPTED, lots=70, venue_id=12)

        assert list(rig.book[:4]) == [0, 0, 70, 1]

    def test_an_adopted_order_without_side_counts_on_both(self) -> None:
        rig = RiskRig()
        row = report(0, Side.BUY, OrderState.NEW, Reason.ADOPTED, lots=70, venue_id=12)
        row[1] &= ~(0x7FFF << 16)
        rig.step(Input.REPORTS, row)

        assert list(rig.book[:4]) == [0, 70, 70, 1]

    def test_opposite_orders_are_not_netted(self) -> None:
        rig = RiskRig()
        rig.ask(500, BID, Side.BUY)
        rig.ask(500, ASK, Side.SELL)
        rig.ask(500, BID, Side.BUY)

        assert verdict(rig.ask(10, BID, Side.BUY)) == (C.POSITION_LIMIT, 1_000, 1_010)
        assert kind_of(rig.ask(10, ASK, Side.SELL)) == Kind.ORDER_NEW


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["new", "fill", "cancel", "unknown", "reject", "wait", "repeat"]),
        st.integers(0, 30),
        st.integers(2, 520),
        st.sampled_from([Side.BUY, Side.SELL]),
    ),
    max_size=120,
)


class Venue:
    """A venue that may do anything it is allowed to: fill, end, lose and repeat, in any order."""

    def __init__(self) -> None:
        self.orders: list[list[int]] = []  # client id, side, lots, cumulative, is over
        self.position = 0
        self.last: Words | None = None

    def act(self, rig: RiskRig, what: str, pick: int, lots: int, side: Side) -> None:
        if what == "new":
            price = BID if side == Side.BUY else ASK
            row = rig.ask(lots, price, int(side))
            if kind_of(row) == Kind.ORDER_NEW:
                self.orders.append([int(row[CLIENT_ID]), int(side), lots, 0, 0])
        elif what == "wait":
            rig.clock += SECOND
            rig.market(quote(BID, spread=ASK - BID, at_ns=rig.clock))
        elif what == "repeat" and self.last is not None:
            rig.step(Input.REPORTS, self.last)
        elif self.orders:
            self._end(rig, what, self.orders[pick % len(self.orders)], lots)

    def _end(self, rig: RiskRig, what: str, order: list[int], lots: int) -> None:
        client_id, side, total, cumulative, over = order
        if what == "fill":
            filled = min(lots, total - cumulative)
            if filled == 0:
                return
            order[3] += filled
            self.position += filled if side == Side.BUY else -filled
            state = OrderState.FILLED if order[3] == total else OrderState.PARTIALLY_FILLED
            state = OrderState.CANCELED if over else state
            reason = Reason.FILL
        elif over or cumulative == total:  # an order that has ended is never said to live again
            return
        elif what == "unknown":
            state, reason, filled = OrderState.UNKNOWN, Reason.UNKNOWN, 0
        else:
            order[4] = 1
            state, reason, filled = OrderState.CANCELED, Reason.CANCELED, 0
        self.last = report(
            client_id, Side(side), state, reason, lots=total, cumulative=order[3], filled=filled
        )
        rig.step(Input.REPORTS, self.last, clock_ns=rig.clock)

    def worst(self) -> tuple[int, int]:
        """Answers the lowest and highest position that live orders can lead to."""
        low = high = self.position
        for _, side, total, cumulative, over in self.orders:
            left = 0 if over else total - cumulative
            high += left if side == Side.BUY else 0
            low -= left if side == Side.SELL else 0
        return low, high


class TestPositionLimit:
    @given(ACTIONS)
    def test_no_sequence_takes_the_worst_case_beyond_the_limit(
        self, actions: list[tuple[str, int, int, Side]]
    ) -> None:
        rig, venue = RiskRig(), Venue()
        late = 0
        for what, pick, lots, side in actions:
            before = venue.position
            was_over = [order[4] for order in venue.orders]
            venue.act(rig, what, pick, lots, side)
            if what == "fill" and venue.orders and was_over[pick % len(was_over)]:
                late += abs(venue.position - before)  # nobody can count on what has ended
            low, high = venue.worst()

            assert -POSITION_MAX - late <= low
            assert high <= POSITION_MAX + late
            assert venue.position == rig.book[POSITION_LOTS]
            assert high - venue.position == rig.book[OPEN_BUY_LOTS]
            assert venue.position - low == rig.book[OPEN_SELL_LOTS]
            live = [order for order in venue.orders if not order[4] and order[3] < order[2]]
            assert len(live) == rig.book[OPEN_ORDERS]
            assert len(live) <= OPEN_MAX


class TestCodes:
    def test_every_code_has_a_meaning_and_a_unit(self) -> None:
        assert set(DenialCode) == set(MEANINGS)

    def test_a_description_names_limit_and_observed_value_with_their_unit(self) -> None:
        assert describe(18, 200, 215) == "POSITION_LIMIT: limit_lots=200 observed_lots=215"
        assert describe(99, 1, 2) == "UNKNOWN_CODE: code=99 limit=1 observed=2"
