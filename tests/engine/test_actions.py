"""What a strategy may do, and the arithmetic it is given."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.actions import (
    ACTION_CLIENT_ID,
    ACTION_TERMS,
    ACTIONS_MAX,
    OUT_COUNT,
    OUT_DROPPED,
    OUT_GENERATION,
    OUT_HEADER,
    OUT_INTENT,
    OUT_LEVEL,
    OUT_ORDERS_FREE,
    OUT_WORDS,
    REFUSED,
    VIEW_ASK_LOTS,
    VIEW_BID_LOTS,
    VIEW_GRID,
    VIEW_WORDS,
    cancel,
    imbalance_ppm,
    lots_of_value,
    place,
    signal,
)
from engine.instruments import LOT_UNITS, PRICE_DECIMALS, QUANTITY_DECIMALS, TICK_UNITS
from engine.records import client_id_of, pack
from shm.segment import Words


def fresh(level: int = 0, orders_free: int = 8) -> Words:
    out = np.zeros(OUT_WORDS, np.int64)
    out[OUT_GENERATION], out[OUT_INTENT] = 3, 40
    out[OUT_LEVEL], out[OUT_ORDERS_FREE] = level, orders_free
    return out


class TestActions:
    def test_client_ids_follow_from_the_sequence_of_the_intent(self) -> None:
        out = fresh()

        found = [place(out, 1, 100, 5, 1, 1), cancel(out, 77), place(out, 2, 101, 5, 1, 1)]

        assert [client_id_of(3, 40), 77, client_id_of(3, 42)] == found

    def test_an_action_carries_its_terms(self) -> None:
        out = fresh()
        client_id = place(out, 2, 100, 5, 3, 0)

        assert client_id == out[OUT_HEADER + ACTION_CLIENT_ID]
        assert pack(2, 3, 0, 0) == out[OUT_HEADER + ACTION_TERMS]

    def test_signals_take_no_intent(self) -> None:
        out = fresh()
        signal(out, 500_000)

        assert client_id_of(3, 40) == place(out, 1, 100, 5, 1, 1)

    def test_actions_beyond_the_bound_are_refused_and_counted(self) -> None:
        out = fresh()

        answers = [cancel(out, 7) for _ in range(ACTIONS_MAX + 2)]

        assert answers == [7] * ACTIONS_MAX + [REFUSED] * 2
        assert (out[OUT_COUNT], out[OUT_DROPPED]) == (ACTIONS_MAX, 2)

    @pytest.mark.parametrize(
        ("out", "lots"), [(fresh(level=1), 5), (fresh(orders_free=0), 5), (fresh(), 0)]
    )
    def test_an_order_is_refused_when_halted_full_or_empty(self, out: Words, lots: int) -> None:
        assert place(out, 1, 100, lots, 1, 1) == REFUSED
        assert (out[OUT_COUNT], out[OUT_DROPPED]) == (0, 0)

    def test_a_halt_lets_cancels_pass_and_silence_does_not(self) -> None:
        assert (cancel(fresh(level=2), 7), cancel(fresh(level=3), 7)) == (7, REFUSED)


class TestArithmetic:
    @given(
        value_e2=st.integers(1, 10**9),
        price_ticks=st.integers(1, 10**9),
        grid=st.tuples(
            st.integers(0, 8),
            st.sampled_from([1, 5, 25]),
            st.integers(0, 8),
            st.sampled_from([1, 10]),
        ),
    )
    def test_lots_of_a_value_are_exact(
        self, value_e2: int, price_ticks: int, grid: tuple[int, int, int, int]
    ) -> None:
        """Compares with decimals of arbitrary precision."""
        view = np.zeros(VIEW_WORDS, np.int64)
        words = (PRICE_DECIMALS, TICK_UNITS, QUANTITY_DECIMALS, LOT_UNITS)
        for word, value in zip(words, grid, strict=True):
            view[VIEW_GRID + word] = value
        price = Decimal(price_ticks * grid[1]).scaleb(-grid[0])
        lot = Decimal(grid[3]).scaleb(-grid[2])
        exact = (value_e2 * 10 ** (grid[0] + grid[2])) // (100 * price_ticks * grid[1]) // grid[3]
        assume(exact * grid[3] < 1 << 62)  # lots beyond that exist on no venue
        about = (Decimal(value_e2) / 100 / price / lot).to_integral_value(ROUND_FLOOR)

        assert exact == lots_of_value(view, value_e2, price_ticks)
        assert abs(about - exact) <= 1  # the formula itself against plain decimals

    def test_imbalance_is_signed_and_zero_for_an_empty_touch(self) -> None:
        view = np.zeros(VIEW_WORDS, np.int64)
        empty = imbalance_ppm(view)
        view[VIEW_BID_LOTS], view[VIEW_ASK_LOTS] = 30, 10

        assert (empty, imbalance_ppm(view)) == (0, 500_000)
