"""The book against a dictionary that cannot be wrong."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.book import (
    DROPPED_ASKS,
    DROPPED_BIDS,
    UPDATE_ID,
    apply_row,
    checksum,
    clear,
    copy_book,
    is_crossed,
    is_whole,
    level_count,
    level_lots,
    level_ticks,
    levels,
    new_book,
    set_level,
)
from engine.records import (
    DEPTH_FIRST,
    DEPTH_LAST,
    DEPTH_SNAPSHOT,
    LAST_ID,
    LEVEL_0,
    LEVELS_SIDE,
    ROW_WORDS,
    TAG,
    Kind,
    Side,
    pack,
    tag,
)
from shm.latest import begin_change, end_change
from shm.segment import Words
from tests.engine.scratch_feed import BTCUSDT

BUY, SELL = int(Side.BUY), int(Side.SELL)
CHANGES = st.lists(
    st.tuples(st.sampled_from((BUY, SELL)), st.integers(1, 90), st.integers(0, 3)), max_size=200
)


def best_first(model: dict[int, int], side: int) -> list[tuple[int, int]]:
    return sorted(model.items(), reverse=side == BUY)


@given(changes=CHANGES)
def test_book_holds_what_a_dictionary_holds(changes: list[tuple[int, int, int]]) -> None:
    book = new_book(128)
    model: dict[int, dict[int, int]] = {BUY: {}, SELL: {}}
    for side, ticks, lots in changes:
        set_level(book, side, ticks, lots)
        model[side][ticks] = lots
        if not lots:
            del model[side][ticks]

    for side in (BUY, SELL):
        assert levels(book, side) == best_first(model[side], side)
        assert level_count(book, side) == len(model[side])
    assert is_whole(book)


@given(changes=CHANGES)
def test_book_at_its_limit_keeps_the_levels_near_the_touch_and_counts_the_rest(
    changes: list[tuple[int, int, int]],
) -> None:
    limit = 4
    book = new_book(limit)
    model: dict[int, dict[int, int]] = {BUY: {}, SELL: {}}
    dropped = {BUY: 0, SELL: 0}
    for side, ticks, lots in changes:
        set_level(book, side, ticks, lots)
        kept = model[side]
        kept[ticks] = lots
        if not lots:
            del kept[ticks]
        if len(kept) > limit:
            del kept[best_first(kept, side)[-1][0]]
            dropped[side] += 1

    for side in (BUY, SELL):
        assert levels(book, side) == best_first(model[side], side)
    assert (book[DROPPED_BIDS], book[DROPPED_ASKS]) == (dropped[BUY], dropped[SELL])
    assert is_whole(book) == (not any(dropped.values()))


def test_book_is_right_far_from_the_touch_too() -> None:
    book = new_book(1024)
    for ticks in range(1, 1001):
        set_level(book, BUY, 2 * ticks, ticks)
    set_level(book, BUY, 11, 7)
    set_level(book, BUY, 20, 0)
    set_level(book, BUY, 13, 0)

    found = dict(levels(book, BUY))

    assert (found[11], 20 in found, 13 in found) == (7, False, False)
    assert level_count(book, BUY) == 1000
    assert list(found) == sorted(found, reverse=True)


def test_levels_are_counted_from_the_best() -> None:
    book = new_book(8)
    for ticks in (5, 9, 7):
        set_level(book, BUY, ticks, 10 * ticks)
        set_level(book, SELL, 100 + ticks, ticks)

    assert [level_ticks(book, BUY, depth) for depth in range(4)] == [9, 7, 5, 0]
    assert [level_lots(book, BUY, depth) for depth in range(4)] == [90, 70, 50, 0]
    assert [level_ticks(book, SELL, depth) for depth in range(4)] == [105, 107, 109, 0]
    assert [level_lots(book, SELL, depth) for depth in range(4)] == [5, 7, 9, 0]


def test_book_is_crossed_when_the_best_bid_reaches_the_best_ask() -> None:
    book = new_book(8)
    set_level(book, BUY, 10, 1)

    one_sided = is_crossed(book)
    set_level(book, SELL, 11, 1)
    apart = is_crossed(book)
    set_level(book, SELL, 10, 1)

    assert (one_sided, apart, is_crossed(book)) == (False, False, True)


def depth_row(flags: int, last_id: int, side: int, *pairs: tuple[int, int]) -> Words:
    row = np.zeros(ROW_WORDS, np.int64)
    row[TAG] = tag(int(Kind.DEPTH), flags, 0, 0)
    row[LAST_ID], row[LEVELS_SIDE] = last_id, pack(len(pairs), side, 0, 0)
    for index, (ticks, lots) in enumerate(pairs):
        row[LEVEL_0 + 2 * index], row[LEVEL_0 + 2 * index + 1] = ticks, lots
    return row


def test_snapshot_run_replaces_the_book_and_a_run_behind_it_changes_it() -> None:
    book = new_book(8)
    set_level(book, BUY, 1, 1)
    apply_row(book, depth_row(DEPTH_FIRST | DEPTH_SNAPSHOT, 7, BUY, (10, 1), (9, 2)))
    apply_row(book, depth_row(DEPTH_LAST | DEPTH_SNAPSHOT, 7, SELL, (11, 3)))
    apply_row(book, depth_row(DEPTH_FIRST | DEPTH_LAST, 8, BUY, (10, 0), (8, 4)))

    assert levels(book, BUY) == [(9, 2), (8, 4)]
    assert levels(book, SELL) == [(11, 3)]
    assert book[UPDATE_ID] == 8


def test_reader_never_takes_a_book_that_is_being_changed() -> None:
    book, out = new_book(8), new_book(8)
    set_level(book, BUY, 5, 6)
    begin_change(book)

    during = copy_book(book, out)
    end_change(book)

    assert (during, copy_book(book, out)) == (False, True)
    assert levels(out, BUY) == [(5, 6)]


def test_checksum_is_over_plain_decimals_bids_first_best_first() -> None:
    book = new_book(8)
    set_level(book, BUY, 6_160_201, 9_122_000)
    set_level(book, BUY, 6_160_000, 100_000_000)
    set_level(book, SELL, 6_160_300, 10_000_000_000)
    text = "b,61602.01,0.09122\nb,61600,1\na,61603,100"

    assert checksum(book, BTCUSDT) == hashlib.sha256(text.encode()).hexdigest()


def test_cleared_book_is_empty_and_keeps_its_limit() -> None:
    book = new_book(1)
    set_level(book, BUY, 1, 1)
    set_level(book, BUY, 2, 1)
    clear(book)
    set_level(book, BUY, 3, 1)

    assert levels(book, BUY) == [(3, 1)]
    assert is_whole(book)
