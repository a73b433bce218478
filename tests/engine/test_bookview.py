"""What a strategy asks of a book, against plain Python over its levels."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate
from math import floor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.book import apply_row, book_words, levels, new_book, set_level
from engine.bookview import (
    PPM,
    book_in,
    imbalance_of_levels_ppm,
    lots_of_levels,
    lots_to_price,
    micro_price_e6,
    price_of_lots,
    share_ppm,
    slip_of_lots,
)
from engine.records import LEVEL_0, LEVELS_SIDE, ROW_WORDS, TAG, Kind, Side, pack, tag
from shm.jit import call_handler, handler, handler_address, jit
from shm.segment import Words

BUY, SELL = int(Side.BUY), int(Side.SELL)
SIDES = st.sampled_from((BUY, SELL))
LOTS = st.integers(1, 10**6)


@st.composite
def books(draw: st.DrawFn) -> Words:
    """A book that is not crossed: bids below 1,000 ticks, asks above."""
    book = new_book(32)
    for side, prices in ((BUY, st.integers(1, 999)), (SELL, st.integers(1_001, 2_000))):
        for ticks, lots in draw(st.dictionaries(prices, LOTS, max_size=12)).items():
            set_level(book, side, ticks, lots)
    return book


def ppm(some: int, whole: int) -> int:
    return floor(Fraction(some * PPM, whole)) if whole > 0 else 0


@given(some=st.integers(-(10**12), 10**12), whole=st.integers(-5, 10**12))
def test_a_share_is_exact_and_rounded_down(some: int, whole: int) -> None:
    assert share_ppm(some, whole) == ppm(some, whole)


@given(whole=st.integers(10**13, 1 << 62), share=st.fractions(-1, 1))
def test_a_share_of_huge_numbers_is_off_by_one_at_most(whole: int, share: Fraction) -> None:
    some = floor(whole * share)

    assert abs(share_ppm(some, whole) - ppm(some, whole)) <= 1


@given(book=books(), side=SIDES, depth=st.integers(0, 20))
def test_the_lots_of_levels_are_their_sum(book: Words, side: int, depth: int) -> None:
    assert lots_of_levels(book, side, depth) == sum(lots for _, lots in levels(book, side)[:depth])


@given(book=books(), side=SIDES, ticks=st.integers(0, 2_100))
def test_lots_to_a_price_stand_at_it_or_better(book: Words, side: int, ticks: int) -> None:
    better = [
        lots
        for price, lots in levels(book, side)
        if (price >= ticks if side == BUY else price <= ticks)
    ]

    assert lots_to_price(book, side, ticks) == sum(better)


@given(book=books(), side=SIDES, lots=st.integers(-1, 4 * 10**6))
def test_the_price_of_lots_is_the_worst_that_they_trade_at(
    book: Words, side: int, lots: int
) -> None:
    found = levels(book, side)
    sums = accumulate(lots for _, lots in found)
    prices = [price for (price, _), total in zip(found, sums, strict=True) if total >= lots > 0]

    assert price_of_lots(book, side, lots) == (prices[0] if prices else 0)


@given(book=books(), side=SIDES, lots=st.integers(0, 4 * 10**6))
def test_the_slip_is_what_fills_cost_beyond_the_best_price(
    book: Words, side: int, lots: int
) -> None:
    left, cost = lots, 0
    found = levels(book, side)
    for price, there in found:
        taken = min(left, there)
        cost += taken * abs(price - found[0][0])
        left -= taken

    assert slip_of_lots(book, side, lots) == (-1 if left else cost)


@given(book=books(), depth=st.integers(0, 12))
def test_the_imbalance_of_levels_is_that_of_their_sums(book: Words, depth: int) -> None:
    bid, ask = (sum(lots for _, lots in levels(book, side)[:depth]) for side in (BUY, SELL))

    assert imbalance_of_levels_ppm(book, depth) == ppm(bid - ask, bid + ask)


@given(book=books())
def test_the_micro_price_leans_to_the_side_with_less(book: Words) -> None:
    bids, asks = levels(book, BUY), levels(book, SELL)
    found = micro_price_e6(book)
    if not bids or not asks:
        assert found == 0
        return
    (bid, bid_lots), (ask, ask_lots) = bids[0], asks[0]
    exact = Fraction(bid * ask_lots + ask * bid_lots, bid_lots + ask_lots) * PPM

    assert bid * PPM <= found <= ask * PPM
    assert exact - (ask - bid) <= found <= exact


@handler
def keep_book(row: Words, _view: Words, state: Words, _parameters: Words, out: Words) -> int:
    """Is a strategy that keeps a book of four levels a side behind a word of its own."""
    book = book_in(state, 1, 4)
    state[0] += 1
    apply_row(book, row)
    out[0] = imbalance_of_levels_ppm(book, 4)
    return 0


@jit
def call(address: int, row: Words, view: Words, state: Words, nothing: Words, out: Words) -> int:
    return call_handler(address, row, view, state, nothing, out)


def test_a_strategy_keeps_a_book_in_its_state() -> None:
    state, out, nothing = (np.zeros(count, np.int64) for count in (1 + book_words(4), 1, 0))
    for side, changes in ((BUY, [(10, 3), (9, 1)]), (SELL, [(12, 2), (13, 0)])):
        row = np.zeros(ROW_WORDS, np.int64)
        row[TAG] = tag(Kind.DEPTH, 0, 0, 0)
        row[LEVELS_SIDE] = pack(len(changes), side, 0, 0)
        row[LEVEL_0 : LEVEL_0 + 4] = np.array(changes).reshape(-1)
        call(handler_address(keep_book), row, nothing, state, nothing, out)

    book = state[1:]
    assert levels(book, BUY) == [(10, 3), (9, 1)]
    assert levels(book, SELL) == [(12, 2)]
    assert out[0] == ppm(4 - 2, 6)
    assert state[0] == 2


@given(levels_max=st.integers(1, 3_000), rest=st.integers(0, 50))
def test_a_book_in_a_state_has_the_words_that_it_was_given(levels_max: int, rest: int) -> None:
    state = np.zeros(7 + book_words(levels_max) + rest, np.int64)

    assert len(book_in(state, 7, levels_max)) == book_words(levels_max)
