"""Sides of many chunks against a dictionary, through splits, packing and the limit."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable

import numpy as np
import pytest

from engine.book import book_words, copy_book, levels, new_book, set_level
from engine.book_side import (
    BOOK_HEADER_WORDS,
    CHUNKS,
    COUNT,
    FREE,
    LEVELS_LIMIT,
    USED,
    WIDTH,
    chunks_of,
    keys_at,
    size_at,
)
from engine.records import Side
from shm.segment import Words

BUY, SELL = int(Side.BUY), int(Side.SELL)
STEPS = 6_000
Prices = Callable[[np.random.Generator, int], int]
SHAPES: dict[str, Prices] = {
    "anywhere": lambda chance, _: int(chance.integers(1, 3_000)),
    "ever worse": lambda chance, step: 10_000 - step + int(chance.integers(0, 40)),
    "ever better": lambda chance, step: 1 + step + int(chance.integers(0, 40)),
    "near the touch": lambda chance, _: 5_000 - int(chance.exponential(60)),
}


def check(book: Words, side: int, model: dict[int, int]) -> None:
    """The side has what the model has, and its directory is sound."""
    assert levels(book, side) == sorted(model.items(), reverse=side == BUY)
    chunks, used = int(book[CHUNKS + side - 1]), int(book[USED + side - 1])
    sizes = [int(book[size_at(book, side, at)]) for at in range(chunks)]
    assert len({int(keys_at(book, side, at)) for at in range(chunks)}) == chunks
    assert chunks <= used <= chunks_of(int(book[LEVELS_LIMIT]))
    assert sum(sizes) == book[COUNT + side - 1] == len(model)
    assert all(0 < size <= WIDTH for size in sizes)


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_side_holds_what_a_dictionary_holds(shape: str, side: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    book = new_book(STEPS)
    model: dict[int, int] = {}
    for step in range(STEPS):
        ticks = SHAPES[shape](chance, step)
        lots = int(chance.integers(0, 2 + 3 * (step % 700 < 350)))  # it grows, then shrinks
        set_level(book, side, ticks, lots)
        model[ticks] = lots
        if not lots:
            del model[ticks]
        if step % 300 == 0:
            check(book, side, model)
    check(book, side, model)


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize("limit", [1, 2, WIDTH, WIDTH + 1, 100])
def test_side_at_its_limit_gives_up_the_farthest_level(limit: int, side: int) -> None:
    chance = np.random.default_rng(limit)
    book = new_book(limit)
    model: dict[int, int] = {}
    for step in range(STEPS):
        ticks, lots = int(chance.integers(1, 4 * limit)), int(chance.integers(0, 5))
        set_level(book, side, ticks, lots)
        model[ticks] = lots
        if not lots:
            del model[ticks]
        if len(model) > limit:
            del model[(min if side == BUY else max)(model)]
        if step % 300 == 0:
            check(book, side, model)
    check(book, side, model)


def test_chunks_that_have_become_almost_empty_are_put_together_when_there_is_no_other() -> None:
    limit = 400
    book = new_book(limit)
    model: dict[int, int] = {}
    packed = 0

    def put(ticks: int, lots: int) -> bool:
        """Says whether neighbours were put together for it."""
        is_used_up = book[USED] == chunks_of(limit) and book[FREE] == 0
        chunks = int(book[CHUNKS])
        set_level(book, BUY, ticks, lots)
        model[ticks] = lots
        if not lots:
            del model[ticks]
        return bool(is_used_up and lots and book[CHUNKS] < chunks)

    for ticks in range(limit):
        put(ticks, 1)  # one behind the other: every chunk is left behind half full
    for ticks in range(limit):
        if ticks % (WIDTH // 2):
            put(ticks, 0)
    check(book, BUY, model)
    for ticks in range(limit, 2 * limit - len(model)):
        packed += put(ticks, 2)

    check(book, BUY, model)
    assert packed > 0, "the book has never run out of chunks: the test shows nothing"


def test_copy_has_every_level_of_a_book_of_many_chunks() -> None:
    book, out = new_book(1_000), new_book(1_000)
    for ticks in range(1, 901):
        set_level(book, BUY, ticks, ticks)
        set_level(book, SELL, 1_000 + ticks, ticks)
    for ticks in range(1, 901, 3):
        set_level(book, BUY, ticks, 0)

    assert copy_book(book, out)
    for side in (BUY, SELL):
        assert levels(out, side) == levels(book, side)


def test_a_book_that_was_emptied_begins_anew() -> None:
    book = new_book(200)
    for ticks in range(1, 150):
        set_level(book, BUY, ticks, 1)
    for ticks in range(1, 150):
        set_level(book, BUY, ticks, 0)

    assert (levels(book, BUY), book[CHUNKS]) == ([], 0)
    set_level(book, BUY, 7, 1)
    assert levels(book, BUY) == [(7, 1)]
    assert len(book) > BOOK_HEADER_WORDS


def test_a_full_book_is_read_up_to_its_last_word_and_no_further() -> None:
    """What lies behind the book here may not be touched: a child that does is killed."""
    pid = os.fork()
    if pid == 0:
        try:
            _take_levels_out_of_the_last_chunk(_guarded(book_words(64)))
            os._exit(0)
        finally:
            os._exit(1)

    assert os.waitpid(pid, 0)[1] == 0


def _guarded(words: int) -> Words:
    """Answers zeros that end where a page begins that nobody may read."""
    pages = -(-8 * words // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.int64)
    end = pages * mmap.PAGESIZE // 8
    nobody = ctypes.c_void_p(whole.ctypes.data + pages * mmap.PAGESIZE)
    assert ctypes.CDLL(None).mprotect(nobody, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    return whole[end - words : end]


def _take_levels_out_of_the_last_chunk(book: Words) -> None:
    limit = 64
    book[LEVELS_LIMIT] = limit
    for start in (0, 1):  # one behind the other leaves half full chunks, which then thin out
        for ticks in range(start * limit, start * limit + limit - int(book[COUNT + SELL - 1])):
            set_level(book, SELL, 1_000 - ticks, 1)
        for ticks in range(limit):
            if ticks % (WIDTH // 2):
                set_level(book, SELL, 1_000 - ticks, 0)
    assert book[USED + SELL - 1] == chunks_of(limit), "every chunk has been in use"
    for ticks, _ in levels(book, SELL):
        set_level(book, SELL, ticks, 0)
