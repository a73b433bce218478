"""engine room: an order book by level in one int64 array, for ingest and for strategies alike.

A book holds absolute quantities on integer ticks. engine/book_side.py has how a side lies.

    word 0          version     odd while a run is being applied: the steps of shm/latest.py
    word 1          update_id   of the last applied frame
    word 2          levels_max  a side
    word 3, 4       count       of bid levels, of ask levels
    word 5, 6       dropped     bid, ask levels given up at the limit since the last snapshot
    word 7, 8       chunks      in the directory of bids, of asks
    word 9, 10      used        chunks that ever were in it since it was empty
    word 11, 12     free        the last chunk given back, 0 for none
    word 16 ..      the sides

At the limit the level farthest from the touch gives way and is counted: the touch stays right, and
`is_whole` says that the far end is not. Nothing here allocates; the array is the caller's.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal

import numpy as np

from engine.book_side import (
    BOOK_HEADER_WORDS,
    COUNT,
    DROPPED,
    LEVELS_LIMIT,
    WIDTH,
    best_place,
    copy_side,
    plain_chunks_of,
    plain_words_of,
    set_key,
    word_of,
    worse_place,
)
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
from shm.jit import inlined, jit
from shm.latest import is_unchanged, version_of
from shm.segment import Words

LEVELS_MAX = 16_384  # a side; the largest spot snapshot has 5,000
UPDATE_ID = 1
COUNT_BIDS, COUNT_ASKS, DROPPED_BIDS, DROPPED_ASKS = COUNT, COUNT + 1, DROPPED, DROPPED + 1
READ_TRIES_MAX = 100_000
_BUY = int(Side.BUY)
_ANEW = (DEPTH_SNAPSHOT | DEPTH_FIRST) << 16


def book_words(levels_max: int = LEVELS_MAX) -> int:
    """Answers the length of a book's array."""
    return plain_words_of(plain_chunks_of(levels_max))


def new_book(levels_max: int = LEVELS_MAX) -> Words:
    """Answers an empty book in memory of its own."""
    book = np.zeros(book_words(levels_max), np.int64)
    book[LEVELS_LIMIT] = levels_max
    return book


@jit
def clear(book: Words) -> None:
    """Empties both sides; levels_max and version stay."""
    book[UPDATE_ID] = 0
    for word in range(COUNT, BOOK_HEADER_WORDS):
        book[word] = 0


@inlined
def set_level(book: Words, side: int, ticks: int, lots: int) -> None:
    """Sets the quantity at one price; 0 lots removes the level, also one that is not there."""
    set_key(book, side, ticks if side == _BUY else -ticks, lots)


@inlined
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
def copy_book(book: Words, out: Words) -> bool:
    """Copies a book that another process writes; False when it never held still.

    A writer that was killed inside leaves the version odd; its successor empties the book.
    """
    for _ in range(READ_TRIES_MAX):
        version = version_of(book)
        if version & 1 == 0:
            for word in range(BOOK_HEADER_WORDS):
                out[word] = book[word]
            for side in (1, 2):
                copy_side(book, side, out)
            if is_unchanged(book, version):
                return True
    return False


@jit
def level_count(book: Words, side: int) -> int:
    """Answers how many levels a side has."""
    return book[COUNT_BIDS - 1 + side]  # type: ignore[no-any-return]


@inlined
def ticks_at(book: Words, side: int, place: int) -> int:
    """Answers the price of the level at a place that `best_place` or `worse_place` answered."""
    key = book[word_of(book, side, place)]
    return key if side == _BUY else -key  # type: ignore[no-any-return]


@inlined
def lots_at(book: Words, side: int, place: int) -> int:
    """Answers the quantity of the level at a place that `best_place` or `worse_place` answered."""
    return book[word_of(book, side, place) + WIDTH]  # type: ignore[no-any-return]


@jit
def _place(book: Words, side: int, depth: int) -> int:
    """Answers the place of the level `depth` behind the best, -1 when there is none."""
    if depth >= level_count(book, side):
        return -1
    place = best_place(book, side)
    while depth > place % WIDTH:
        depth -= place % WIDTH + 1
        place = worse_place(book, side, place - place % WIDTH)
    return place - depth


@jit
def level_ticks(book: Words, side: int, depth: int) -> int:
    """Answers the price of the level `depth` behind the best, itself 0; 0 when there is none.

    Who reads one level after another goes from place to place instead: `worse_place`.
    """
    place = _place(book, side, depth)
    return ticks_at(book, side, place) if place >= 0 else 0


@jit
def level_lots(book: Words, side: int, depth: int) -> int:
    """Answers the quantity of the level `depth` behind the best, 0 when there is none."""
    place = _place(book, side, depth)
    return lots_at(book, side, place) if place >= 0 else 0


@jit
def is_crossed(book: Words) -> bool:
    """Says whether the best bid is not below the best ask; an empty side crosses nothing."""
    bid, ask = best_place(book, 1), best_place(book, 2)
    return bid >= 0 and ask >= 0 and ticks_at(book, 1, bid) >= ticks_at(book, 2, ask)


@jit
def is_whole(book: Words) -> bool:
    """Says whether no level was given up at the limit."""
    return book[DROPPED_BIDS] == 0 and book[DROPPED_ASKS] == 0  # type: ignore[no-any-return]


def levels(book: Words, side: int) -> list[tuple[int, int]]:
    """Answers (ticks, lots) of every level of a side, best first."""
    out = np.zeros((level_count(book, side), 2), np.int64)
    _list(book, side, out)
    return [(ticks, lots) for ticks, lots in out.tolist()]


@jit
def _list(book: Words, side: int, out: Words) -> None:
    place = best_place(book, side)
    for row in out:
        row[0], row[1] = ticks_at(book, side, place), lots_at(book, side, place)
        place = worse_place(book, side, place)


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
