"""engine room: an order book by level in one int64 array, for ingest and for strategies alike.

A book holds absolute quantities on integer ticks. Each side is a sorted array with the best level
at its END, because most changes happen near the touch and then move few neighbours. Asks are kept
with their ticks negated, so that both sides ascend and one piece of code serves both.

    word 0               version     odd while a run is being applied (a sequence lock for readers)
    word 1               update_id   of the last applied frame
    word 2               levels_max  a side
    word 3, 4            count       of bid levels, of ask levels
    word 5, 6            dropped     bid, ask levels given up at the limit since the last snapshot
    word 16 ..           bid keys, bid lots, ask keys, ask lots, levels_max words each

At the limit the level farthest from the touch gives way and is counted: the touch stays right, and
`is_whole` says that the far end is not. Nothing here allocates; the array is the caller's.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal

import numpy as np

from engine.instruments import Instrument
from engine.records import (
    DEPTH_FIRST,
    DEPTH_SNAPSHOT,
    LAST_ID,
    LEVEL_0,
    LEVELS_SIDE,
    TAG,
    Side,
    part,
)
from shm.jit import fence_acquire, fence_release, jit, load_acquire, store_release
from shm.segment import Words

LEVELS_MAX = 16_384  # a side; the largest spot snapshot has 5,000
VERSION, UPDATE_ID, LEVELS_LIMIT, COUNT_BIDS, COUNT_ASKS, DROPPED_BIDS, DROPPED_ASKS = range(7)
BOOK_HEADER_WORDS = 16
READ_TRIES_MAX = 100_000
_NEAR = 8  # levels looked at one by one before halving; most changes lie within
_ONE = np.uint64(1)
_BUY = int(Side.BUY)
_ANEW = (DEPTH_SNAPSHOT | DEPTH_FIRST) << 16


def book_words(levels_max: int = LEVELS_MAX) -> int:
    """Answers the length of a book's array."""
    return BOOK_HEADER_WORDS + 4 * levels_max


def new_book(levels_max: int = LEVELS_MAX) -> Words:
    """Answers an empty book in memory of its own."""
    book = np.zeros(book_words(levels_max), np.int64)
    book[LEVELS_LIMIT] = levels_max
    return book


@jit
def clear(book: Words) -> None:
    """Empties both sides; levels_max and version stay."""
    for word in (UPDATE_ID, COUNT_BIDS, COUNT_ASKS, DROPPED_BIDS, DROPPED_ASKS):
        book[word] = 0


@jit
def _base(book: Words, side: int) -> int:
    return BOOK_HEADER_WORDS + 2 * (side - 1) * book[LEVELS_LIMIT]  # type: ignore[no-any-return]


@jit
def _place(book: Words, base: int, count: int, key: int) -> int:
    """Answers the index of the first key >= `key`, or `count`.

    The last few keys are looked at one by one; the rest is halved without a branch that a processor
    would have to guess.
    """
    first, index = np.uint64(base), np.uint64(count)
    lowest = np.uint64(max(0, count - _NEAR))
    while index > lowest:
        if book[first + index - _ONE] < key:
            return int(np.int64(index))
        index -= _ONE
    low, length = np.uint64(0), index
    while length > _ONE:
        half = length >> _ONE
        low = low + half if book[first + low + half - _ONE] < key else low
        length -= half
    if length == _ONE and book[first + low] < key:
        low += _ONE
    return int(np.int64(low))


@jit
def _close(book: Words, first: int, last: int) -> None:
    """Moves the words behind `first`, up to `last`, one place down.

    Places are unsigned here: compiled code then needs no check for indices from the end, and moves
    several words at once.
    """
    place, stop = np.uint64(first), np.uint64(last)
    while place < stop:
        book[place] = book[place + _ONE]
        place += _ONE


@jit
def _open(book: Words, first: int, last: int) -> None:
    """Moves the words from `first` on, before `last`, one place up; see `_close`."""
    place, stop = np.uint64(last), np.uint64(first)
    while place > stop:
        book[place] = book[place - _ONE]
        place -= _ONE


@jit
def set_level(book: Words, side: int, ticks: int, lots: int) -> None:
    """Sets the quantity at one price; 0 lots removes the level, also one that is not there."""
    limit = book[LEVELS_LIMIT]
    base = _base(book, side)
    count = book[COUNT_BIDS - 1 + side]
    key = ticks if side == _BUY else -ticks
    place = _place(book, base, count, key)
    if place < count and book[base + place] == key:
        if lots != 0:
            book[base + limit + place] = lots
        else:
            _close(book, base + place, base + count - 1)
            _close(book, base + limit + place, base + limit + count - 1)
            book[COUNT_BIDS - 1 + side] = count - 1
    elif lots != 0:
        _insert(book, side, place, key, lots)


@jit
def _insert(book: Words, side: int, place: int, key: int, lots: int) -> None:
    limit = book[LEVELS_LIMIT]
    base = _base(book, side)
    count = book[COUNT_BIDS - 1 + side]
    if count < limit:
        _open(book, base + place, base + count)
        _open(book, base + limit + place, base + limit + count)
        book[COUNT_BIDS - 1 + side] = count + 1
    else:
        book[DROPPED_BIDS - 1 + side] += 1
        if place == 0:
            return
        place -= 1
        _close(book, base, base + place)
        _close(book, base + limit, base + limit + place)
    book[base + place] = key
    book[base + limit + place] = lots


@jit
def apply_row(book: Words, row: Words) -> None:
    """Applies one DEPTH record, (16,) int64; the first of a snapshot empties the book first.

    Called by: whoever owns the book, for every DEPTH record of its instrument, in ring order.
    """
    if row[TAG] & _ANEW == _ANEW:
        clear(book)
    side = part(row[LEVELS_SIDE], 1)
    for level in range(part(row[LEVELS_SIDE], 0)):
        set_level(book, side, row[LEVEL_0 + 2 * level], row[LEVEL_0 + 2 * level + 1])
    book[UPDATE_ID] = row[LAST_ID]


@jit
def begin(book: Words) -> None:
    """Tells readers of a shared book that it is about to change. Called by: its one writer."""
    book[VERSION] |= 1
    # Pairs with fence_acquire in copy_book: who sees any new word also sees the odd version.
    fence_release()


@jit
def end(book: Words) -> None:
    """Tells readers of a shared book that it is whole again. Called by: its one writer."""
    # Pairs with load_acquire in copy_book: who sees the even version sees every word.
    store_release(book, VERSION, book[VERSION] + 1)


@jit
def copy_book(book: Words, out: Words) -> bool:
    """Copies a book that another process writes; False when it never held still.

    A writer that was killed inside leaves the version odd; its successor empties the book.
    """
    for _ in range(READ_TRIES_MAX):
        # Pairs with store_release in end.
        version = load_acquire(book, VERSION)
        if version & 1 == 0:
            for index in range(len(out)):
                out[index] = book[index]
            # Pairs with fence_release in begin.
            fence_acquire()
            if book[VERSION] == version:
                return True
    return False


@jit
def level_count(book: Words, side: int) -> int:
    """Answers how many levels a side has."""
    return book[COUNT_BIDS - 1 + side]  # type: ignore[no-any-return]


@jit
def level_ticks(book: Words, side: int, depth: int) -> int:
    """Answers the price of the level `depth` behind the best, itself 0; 0 when there is none."""
    count = book[COUNT_BIDS - 1 + side]
    if depth >= count:
        return 0
    key = book[_base(book, side) + count - 1 - depth]
    return key if side == _BUY else -key  # type: ignore[no-any-return]


@jit
def level_lots(book: Words, side: int, depth: int) -> int:
    """Answers the quantity of the level `depth` behind the best, 0 when there is none."""
    count = book[COUNT_BIDS - 1 + side]
    if depth >= count:
        return 0
    return book[_base(book, side) + book[LEVELS_LIMIT] + count - 1 - depth]  # type: ignore[no-any-return]


@jit
def is_crossed(book: Words) -> bool:
    """Says whether the best bid is not below the best ask; an empty side crosses nothing."""
    bid, ask = level_ticks(book, 1, 0), level_ticks(book, 2, 0)
    return level_count(book, 1) > 0 and level_count(book, 2) > 0 and bid >= ask


@jit
def is_whole(book: Words) -> bool:
    """Says whether no level was given up at the limit."""
    return book[DROPPED_BIDS] == 0 and book[DROPPED_ASKS] == 0  # type: ignore[no-any-return]


def levels(book: Words, side: int) -> list[tuple[int, int]]:
    """Answers (ticks, lots) of every level of a side, best first."""
    limit, count = int(book[LEVELS_LIMIT]), level_count(book, side)
    base = BOOK_HEADER_WORDS + 2 * (side - 1) * limit
    keys = book[base : base + count][::-1] * (1 if side == Side.BUY else -1)
    lots = book[base + limit : base + limit + count][::-1]
    return list(zip(keys.tolist(), lots.tolist(), strict=True))


def plain(value: Decimal) -> str:
    """Writes a decimal without trailing zeros and without an exponent."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def checksum(book: Words, instrument: Instrument) -> str:
    """Answers the SHA-256 of the lines `side,price,quantity`: bids, then asks, each best first.

    `side` is b or a; lines are joined by one newline; decimals as `plain` writes them.
    """
    lines = [
        f"{letter},{plain(instrument.price(ticks))},{plain(instrument.quantity(lots))}"
        for letter, side in (("b", Side.BUY), ("a", Side.SELL))
        for ticks, lots in levels(book, side)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
