"""What a summary reads of books and trade sums, in exact decimals."""

from __future__ import annotations

from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.book import DROPPED_BIDS, LEVELS_MAX, UPDATE_ID, set_level
from engine.book_side import LEVELS_LIMIT
from engine.codec_layout import SUM_COPY, SUM_FIRST, SUMS_WORDS, TOP_VALUES
from engine.records import Side
from shm.latest import begin_change, end_change, write_latest
from tests.workers.observed_run import observed_run, small_settings, tell_instruments
from workers.books import (
    TOPS_PLAN,
    books_of,
    books_plan,
    copy_sums,
    decimal_text,
    read_books,
    read_trades,
    top_ticks,
    tops_of,
)


@given(
    values=st.lists(st.decimals(0, 10**12, allow_nan=False, places=8), min_size=1, max_size=30),
    places=st.integers(0, 8),
)
def test_sums_are_written_as_decimal_writes_them(values: list[Decimal], places: int) -> None:
    with localcontext() as context:
        context.prec = 60
        texts = [f"{value:.{places}f}" for value in values]
        total = sum((Decimal(text) for text in texts), Decimal(0))
        units = int(total.scaleb(12))

        assert decimal_text(units, 12, places) == f"{total:f}"


def test_a_sum_of_nothing_is_zero() -> None:
    assert decimal_text(0, 8, 0) == "0"


def test_sums_of_a_writer_between_two_copies_are_whole() -> None:
    sums, out = np.zeros(SUMS_WORDS, np.int64), np.zeros(SUM_COPY, np.int64)
    sums[SUM_FIRST : SUM_FIRST + SUM_COPY] = 7
    sums[SUM_FIRST + SUM_COPY : SUM_FIRST + 2 * SUM_COPY] = 9

    copy_sums(sums, out)
    before = out.tolist()
    sums[0] = 1
    copy_sums(sums, out)

    assert (before, out.tolist()) == ([7] * SUM_COPY, [9] * SUM_COPY)


def test_books_and_trades_are_read_by_symbol(segment_prefix: str, tmp_path: Path) -> None:
    settings = small_settings(segment_prefix)
    plan = books_plan(settings, "ingest.0")
    with observed_run(settings, tmp_path, plan, TOPS_PLAN) as memory:
        books, sums = books_of(memory.segment("books.0"), 2)
        books[:, LEVELS_LIMIT] = LEVELS_MAX
        set_level(books[1], int(Side.BUY), 100, 5)
        books[1, UPDATE_ID] = 77
        sums[1, SUM_FIRST : SUM_FIRST + SUM_COPY] = (2, 150_000, 1_000, 0, 5, 7, 0, 0)
        write_latest(tops_of(memory.segment("tops"))[1], np.array([100, 5, 101, 6, 1, 1]))

        assert (read_books(memory), read_trades(memory)) == ({}, {})
        tell_instruments(memory)

        found = read_books(memory)
        assert set(found) == {"BTCUSDT", "ETHUSDT"}
        assert {key: found["ETHUSDT"][key] for key in ("u", "bids", "asks")} == {
            "u": 77,
            "bids": 1,
            "asks": 0,
        }
        assert "dropped" not in found["ETHUSDT"]
        assert read_trades(memory) == {
            "BTCUSDT": {"n": 0, "base": "0", "quote": "0"},
            "ETHUSDT": {"n": 2, "base": "1.50000", "quote": "0.0001000"},
        }
        assert (top_ticks(memory, 0), top_ticks(memory, 1)) == ((0, 0), (100, 101))


def test_book_that_gave_levels_up_says_so_and_one_in_change_is_left_out(
    segment_prefix: str, tmp_path: Path
) -> None:
    settings = small_settings(segment_prefix)
    with observed_run(settings, tmp_path, books_plan(settings, "ingest.0")) as memory:
        tell_instruments(memory)
        books, _ = books_of(memory.segment("books.0"), 2)
        books[:, LEVELS_LIMIT] = LEVELS_MAX
        books[0, DROPPED_BIDS] = 3
        begin_change(books[1])

        assert read_books(memory)["BTCUSDT"]["dropped"] == 3
        assert "ETHUSDT" not in read_books(memory)
        end_change(books[1])
        assert "ETHUSDT" in read_books(memory)


@pytest.mark.parametrize("word", range(TOP_VALUES))
def test_every_word_of_a_top_has_its_place(segment_prefix: str, tmp_path: Path, word: int) -> None:
    settings = small_settings(segment_prefix)
    with observed_run(settings, tmp_path, TOPS_PLAN) as memory:
        values = np.zeros(TOP_VALUES, np.int64)
        values[word] = 9
        write_latest(tops_of(memory.segment("tops"))[0], values)

        assert top_ticks(memory, 0) == (9 if word == 0 else 0, 9 if word == 2 else 0)
