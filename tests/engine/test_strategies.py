"""The reference strategies on scripted records."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.actions import VIEW_OPEN_COUNT, VIEW_POSITION_LOTS, VIEW_WORDS
from engine.decision import Input
from engine.records import (
    CLIENT_ID,
    LEVEL_0,
    LEVELS_SIDE,
    PRICE_TICKS,
    QUANTITY_LOTS,
    SIGNAL_VALUE_PPM,
    TERMS,
    TERMS_SIDE,
    TERMS_TIME_IN_FORCE,
    TERMS_TYPE,
    BookState,
    Kind,
    OrderState,
    OrderType,
    Reason,
    Side,
    TimeInForce,
    kind_of,
    pack,
    part,
)
from engine.strategies import depth, imbalance, maker
from engine.strategy import Strategy
from engine.strategy_step import HEADER_WORDS, Placed, plan, signal_kernel
from shm.segment import Words
from tests.engine.kernel_rig import BTC, GENERATION, KernelRig, book_state, quote, record, report

BID = 6_000_000
MS = 1_000_000
ORDER_LOTS, CAP_LOTS = 333, 1_666  # 200 and 1,000 USDT at 60,000


class StrategyRig(KernelRig):
    """One strategy on one synced instrument, with a clock and a venue to answer it."""

    def __init__(self, strategy: Strategy, **parameters: float) -> None:
        layout = plan((Placed(strategy, (0,), strategy.words(parameters)),), GENERATION, 1)
        super().__init__(signal_kernel, layout.parameters, layout.state_words)
        self.load(BTC)
        self.clock = 1_000_000 * MS
        self.orders: dict[int, Words] = {}
        self.step(Input.MARKET, book_state(), clock_ns=self.clock)

    @property
    def view(self) -> Words:
        return self.state[HEADER_WORDS : HEADER_WORDS + VIEW_WORDS]

    def quote(self, *args: int, **named: int) -> Words:
        """Shows a quote; answers the intents it caused."""
        intents, _ = self.step(Input.MARKET, quote(*args, **named), clock_ns=self.clock)
        self.orders |= {int(r[CLIENT_ID]): r for r in intents if kind_of(r) == Kind.INTENT_NEW}
        return intents

    def wait(self, milliseconds: int) -> None:
        self.clock += milliseconds * MS

    def answer(self, row: Words, state: OrderState, reason: Reason, filled: int = 0) -> None:
        order = self.orders[int(row[CLIENT_ID])]
        told = report(
            int(row[CLIENT_ID]), Side(part(order[TERMS], TERMS_SIDE)), state, reason,
            lots=int(order[QUANTITY_LOTS]), cumulative=filled, filled=filled,
        )  # fmt: skip
        self.step(Input.REPORTS, told, clock_ns=self.clock)

    def fill(self, row: Words) -> None:
        self.answer(row, OrderState.FILLED, Reason.FILL, int(row[QUANTITY_LOTS]))


def terms(row: Words) -> tuple[int, ...]:
    return tuple(part(row[TERMS], i) for i in (TERMS_SIDE, TERMS_TYPE, TERMS_TIME_IN_FORCE))


class TestImbalance:
    IOC = (OrderType.LIMIT, TimeInForce.IOC)

    def test_a_heavy_bid_is_bought_at_the_ask_at_once_or_not_at_all(self) -> None:
        rig = StrategyRig(imbalance.STRATEGY)

        (row,) = rig.quote(BID, 900, 100)

        assert (Side.BUY, *self.IOC) == terms(row)
        assert (row[PRICE_TICKS], row[QUANTITY_LOTS]) == (BID + 1 + 600, ORDER_LOTS)

    def test_a_heavy_ask_is_sold_at_the_bid(self) -> None:
        rig = StrategyRig(imbalance.STRATEGY, slippage_bps=0)

        (row,) = rig.quote(BID, 100, 900)

        assert (Side.SELL, *self.IOC) == terms(row)
        assert row[PRICE_TICKS] == BID

    def test_a_balanced_touch_or_a_wide_one_is_left_alone(self) -> None:
        rig = StrategyRig(imbalance.STRATEGY)

        assert len(rig.quote(BID, 500, 500)) == 0
        assert len(rig.quote(BID, 900, 100, spread=7_000)) == 0

    def test_one_order_at_a_time_and_a_pause_between_two(self) -> None:
        rig = StrategyRig(imbalance.STRATEGY)
        (row,) = rig.quote(BID, 900, 100)
        rig.wait(1_000)
        while_out = len(rig.quote(BID, 900, 100))
        rig.answer(row, OrderState.EXPIRED, Reason.EXPIRED)
        after = len(rig.quote(BID, 900, 100))
        paused = len(rig.quote(BID, 900, 100))

        assert (while_out, after, paused) == (0, 1, 0)

    def test_the_position_never_passes_its_cap(self) -> None:
        rig = StrategyRig(imbalance.STRATEGY, hold_ms=1e9)
        for _ in range(10):
            for row in rig.quote(BID, 900, 100):
                rig.fill(row)
            rig.wait(1_000)

        assert CAP_LOTS >= rig.view[VIEW_POSITION_LOTS] > CAP_LOTS - ORDER_LOTS

    @pytest.mark.parametrize(("waited", "sizes"), [(2_000, (500, 500)), (300, (300, 700))])
    def test_a_position_is_closed_when_old_or_when_the_touch_turns(
        self, waited: int, sizes: tuple[int, int]
    ) -> None:
        rig = StrategyRig(imbalance.STRATEGY)
        (bought,) = rig.quote(BID, 900, 100)
        rig.fill(bought)
        rig.wait(waited)

        (sold,) = rig.quote(BID, *sizes)

        assert (Side.SELL, *self.IOC) == terms(sold)
        assert bought[QUANTITY_LOTS] == sold[QUANTITY_LOTS]

    def test_a_book_that_is_not_synced_is_not_traded(self) -> None:
        rig = StrategyRig(imbalance.STRATEGY)
        rig.step(Input.MARKET, book_state(BookState.STALE_GAP))

        assert len(rig.quote(BID, 900, 100)) == 0

    def test_the_imbalance_is_told_when_it_moves(self) -> None:
        rig = StrategyRig(imbalance.STRATEGY)
        told = [
            len(rig.step(Input.MARKET, quote(BID, *sizes), clock_ns=rig.clock)[1])
            for sizes in ((500, 500), (900, 100), (890, 110), (100, 900))
        ]

        assert told == [0, 1, 0, 1]


class TestMaker:
    def test_both_sides_of_the_touch_are_quoted_post_only(self) -> None:
        rig = StrategyRig(maker.STRATEGY)

        buy, sell = rig.quote(BID, 100, 100, spread=10)

        post_only = (OrderType.LIMIT_MAKER, TimeInForce.NONE)
        assert [(Side.BUY, *post_only), (Side.SELL, *post_only)] == [terms(buy), terms(sell)]
        assert [buy[PRICE_TICKS], sell[PRICE_TICKS]] == [BID, BID + 10]

    def test_small_moves_of_the_touch_are_ridden_out(self) -> None:
        rig = StrategyRig(maker.STRATEGY)
        rig.quote(BID, 100, 100)
        rig.wait(1_000)

        assert len(rig.quote(BID + 5, 100, 100)) == 0

    def test_an_order_is_cancelled_first_and_replaced_when_it_has_ended(self) -> None:
        rig = StrategyRig(maker.STRATEGY)
        buy, _ = rig.quote(BID, 100, 100)
        rig.wait(1_000)
        cancels = rig.quote(BID + 6, 100, 100)
        rig.wait(500)
        waiting = rig.quote(BID + 6, 100, 100)
        rig.answer(buy, OrderState.CANCELED, Reason.CANCELED)
        (again,) = rig.quote(BID + 6, 100, 100)

        assert [Kind(kind_of(row)) for row in cancels] == [Kind.INTENT_CANCEL] * 2
        assert len(waiting) == 0
        assert (part(again[TERMS], TERMS_SIDE), again[PRICE_TICKS]) == (Side.BUY, BID + 6)

    def test_a_refused_cancel_is_asked_for_again(self) -> None:
        rig = StrategyRig(maker.STRATEGY)
        buy, _ = rig.quote(BID, 100, 100)
        rig.wait(1_000)
        rig.quote(BID + 6, 100, 100)
        rig.answer(buy, OrderState.NEW, Reason.CANCEL_REJECT)
        rig.wait(200)

        (again,) = rig.quote(BID + 6, 100, 100)

        assert (Kind.INTENT_CANCEL, buy[CLIENT_ID]) == (kind_of(again), again[CLIENT_ID])

    def test_prices_lean_against_the_position(self) -> None:
        rig = StrategyRig(maker.STRATEGY, skew_ticks_max=100)
        buy, _ = rig.quote(BID, 100, 100)
        rig.fill(buy)
        rig.wait(1_000)

        rows = rig.quote(BID, 100, 100, spread=300)

        skew = 100 * ORDER_LOTS // CAP_LOTS
        new = next(row for row in rows if kind_of(row) == Kind.INTENT_NEW)
        assert BID - skew == new[PRICE_TICKS]

    def test_a_side_that_would_pass_the_cap_stays_empty(self) -> None:
        rig = StrategyRig(maker.STRATEGY, position_value_max=300)
        buy, _ = rig.quote(BID, 100, 100)
        rig.fill(buy)
        rig.wait(1_000)

        assert len(rig.quote(BID, 100, 100)) == 0

    def test_orders_are_withdrawn_when_the_book_is_stale(self) -> None:
        rig = StrategyRig(maker.STRATEGY)
        rig.quote(BID, 100, 100)

        rows, _ = rig.step(Input.MARKET, book_state(BookState.STALE_GAP), clock_ns=rig.clock)
        again, _ = rig.step(Input.TIMER, clock_ns=rig.clock)

        assert [Kind(kind_of(row)) for row in rows] == [Kind.INTENT_CANCEL] * 2
        assert len(again) == 0

    @given(st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 40)), max_size=60))
    def test_prices_never_cross_and_messages_never_burst(
        self, moves: list[tuple[int, int]]
    ) -> None:
        """At most one message a side every 100 ms and one live order a side."""
        rig = StrategyRig(maker.STRATEGY)
        bid, spread_random = BID, np.random.default_rng(1)
        sent: list[int] = []
        for move, milliseconds in moves:
            bid, spread = bid + move, int(spread_random.integers(1, 30))
            rows = rig.quote(bid, 100, 100, spread=spread)
            for row in rows:
                sent.append(rig.clock)
                if kind_of(row) == Kind.INTENT_CANCEL:
                    rig.answer(row, OrderState.CANCELED, Reason.CANCELED)
                elif part(row[TERMS], TERMS_SIDE) == Side.BUY:
                    assert row[PRICE_TICKS] < bid + spread
                else:
                    assert row[PRICE_TICKS] > bid
            assert rig.view[VIEW_OPEN_COUNT] <= 2
            rig.wait(milliseconds)
        for start in sent:
            assert sum(start <= at < start + 100 * MS for at in sent) <= 2


def _spoken(rig: StrategyRig, times: int, act: Callable[[int], Words]) -> int:
    return sum(len(act(number)) for number in range(times))


@pytest.mark.parametrize("strategy", [imbalance.STRATEGY, maker.STRATEGY])
def test_a_halted_engine_gets_no_orders(strategy: Strategy) -> None:
    rig = StrategyRig(strategy)
    rig.step(Input.CONTROL, first=1)

    assert _spoken(rig, 20, lambda n: rig.quote(BID + 9 * n, 900, 100)) == 0


class TestDepth:
    def levels(self, rig: StrategyRig, side: Side, *levels: tuple[int, int]) -> None:
        words = {LEVELS_SIDE: pack(len(levels), int(side), 0, 0)}
        for index, (ticks, lots) in enumerate(levels):
            words |= {LEVEL_0 + 2 * index: ticks, LEVEL_0 + 2 * index + 1: lots}
        rig.step(Input.MARKET, record(Kind.DEPTH, words), clock_ns=rig.clock)

    def told(self, rig: StrategyRig) -> list[int]:
        """Shows a quote; answers the values of the signals it caused."""
        intents, notes = rig.step(Input.MARKET, quote(BID), clock_ns=rig.clock)
        assert len(intents) == 0, "it trades nothing"
        return [int(row[SIGNAL_VALUE_PPM]) for row in notes]

    def test_the_lean_of_the_best_levels_is_told_when_it_has_moved(self) -> None:
        rig = StrategyRig(depth.STRATEGY, levels=2.0, step=0.2)
        self.levels(rig, Side.BUY, (BID, 30), (BID - 1, 30))
        self.levels(rig, Side.SELL, (BID + 1, 10), (BID + 2, 10))
        first, again = self.told(rig), self.told(rig)
        self.levels(rig, Side.SELL, (BID + 2, 11), (BID + 9, 1_000))
        little = self.told(rig)
        self.levels(rig, Side.BUY, (BID - 1, 0))
        much = self.told(rig)

        assert (first, again, little) == ([500_000], [], [])
        assert much == [(30 - 21) * 1_000_000 // 51]

    def test_a_book_that_is_not_synced_is_not_spoken_of(self) -> None:
        rig = StrategyRig(depth.STRATEGY)
        self.levels(rig, Side.BUY, (BID, 30), (BID - 1, 30))
        rig.step(Input.MARKET, book_state(BookState.STALE_GAP), clock_ns=rig.clock)

        assert self.told(rig) == []
