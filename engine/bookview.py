"""engine room: what a strategy asks of a book, in compiled code, on the book's own array.

Nothing here copies or allocates: each function walks the levels where they lie
(engine/book.py), the best first. `side` is the side of the book that is read: 1 bids, 2 asks. Who
wants to buy reads the asks. Prices are ticks, quantities lots; a share is in parts per million and
is rounded down, as everywhere here.

A strategy that wants more than the touch keeps a book in its state and applies every DEPTH record:

    book = book_in(state, 0, 500)  # state_words = book_words(500)
    if kind_of(row) == DEPTH:
        apply_row(book, row)
    elif kind_of(row) == QUOTE and imbalance_of_levels_ppm(book, 10) > parameters[0]:
        ...

Whether that book may be trusted, BOOK_STATE and `is_tradable` say, as for everybody.

Called by: whoever owns the book; a reader of a shared one copies it first (`copy_book`).
"""

from __future__ import annotations

from engine.book import (
    level_count,
    level_lots,
    level_ticks,
    lots_at,
    ticks_at,
)
from engine.book_side import (
    LEVELS_LIMIT,
    best_place,
    chunks_of,
    words_of,
    worse_place,
)
from engine.records import Side
from shm.jit import jit
from shm.segment import Words

PPM = 1_000_000
_PPM_MAX = (1 << 63) // PPM - 1  # the largest number that PPM times is still one word
_BUY, _SELL = int(Side.BUY), int(Side.SELL)


@jit
def book_in(state: Words, first: int, levels_max: int) -> Words:
    """Views `book_words(levels_max)` words of a strategy's state, zero at first, as its book."""
    book = state[first : first + words_of(chunks_of(levels_max))]
    book[LEVELS_LIMIT] = levels_max
    return book


@jit
def share_ppm(some: int, whole: int) -> int:
    """Answers some / whole in parts per million, rounded down; 0 when `whole` is not positive.

    Beyond 9 * 10**12 both lose their lowest bits: the answer is then off by 1 at most.
    """
    if whole <= 0:
        return 0
    while abs(some) > _PPM_MAX or whole > _PPM_MAX:
        some, whole = some >> 1, whole >> 1
    return some * PPM // whole


@jit
def lots_of_levels(book: Words, side: int, depth: int) -> int:
    """Answers the quantity of the best `depth` levels together."""
    total, place = 0, best_place(book, side)
    while place >= 0 and depth > 0:
        total += lots_at(book, side, place)
        place = worse_place(book, side, place)
        depth -= 1
    return total


@jit
def lots_to_price(book: Words, side: int, ticks: int) -> int:
    """Answers the quantity that stands at `ticks` or better."""
    total, place = 0, best_place(book, side)
    while place >= 0:
        price = ticks_at(book, side, place)
        if price < ticks if side == _BUY else price > ticks:
            break
        total += lots_at(book, side, place)
        place = worse_place(book, side, place)
    return total


@jit
def price_of_lots(book: Words, side: int, lots: int) -> int:
    """Answers the price of the level at which the best ones together have `lots`.

    It is the worst price that an order of that size would trade at; 0 when the side has less, or
    `lots` is not positive.
    """
    if lots <= 0:
        return 0
    total, place = 0, best_place(book, side)
    while place >= 0:
        total += lots_at(book, side, place)
        if total >= lots:
            return ticks_at(book, side, place)
        place = worse_place(book, side, place)
    return 0


@jit
def slip_of_lots(book: Words, side: int, lots: int) -> int:
    """Answers what `lots` would cost beyond the best price: ticks times lots; -1: there are less.

    Divided by `lots` it is the mean distance of the fills from the touch. Only the distance is
    multiplied, so it stays in a word where the whole value would not.
    """
    left, slip = lots, 0
    best, place = level_ticks(book, side, 0), best_place(book, side)
    while place >= 0 and left > 0:
        taken = min(left, lots_at(book, side, place))
        slip += taken * abs(ticks_at(book, side, place) - best)
        left -= taken
        place = worse_place(book, side, place)
    return slip if left <= 0 else -1


@jit
def imbalance_of_levels_ppm(book: Words, depth: int) -> int:
    """Answers (bid - ask) / (bid + ask) of the quantities of the best `depth` levels, in ppm."""
    bid, ask = lots_of_levels(book, _BUY, depth), lots_of_levels(book, _SELL, depth)
    return share_ppm(bid - ask, bid + ask)


@jit
def micro_price_e6(book: Words) -> int:
    """Answers the micro-price in ticks times 10**6, rounded down; 0 while a side is empty.

    The mid weighted by the quantities at the touch, each by the other side's: many bids beside few
    asks put it near the ask, which will give way first (Stoikov, "The micro-price", 2018, the first
    approximation).
    """
    if level_count(book, _BUY) == 0 or level_count(book, _SELL) == 0:
        return 0
    bid, ask = level_ticks(book, _BUY, 0), level_ticks(book, _SELL, 0)
    bid_lots, ask_lots = level_lots(book, _BUY, 0), level_lots(book, _SELL, 0)
    return bid * PPM + (ask - bid) * share_ppm(bid_lots, bid_lots + ask_lots)
