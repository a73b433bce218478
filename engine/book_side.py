"""engine room: one side of an order book, in chunks, so that no change moves more than one chunk.

A side is a B+ tree of two levels (Bayer and McCreight, "Organization and maintenance of large
ordered indices", 1972). Its leaves are chunks of up to WIDTH levels, keys ascending; the directory
above them has the chunks in the same order, the best one at its END. A key is the price in ticks,
negated for asks, so that both sides ascend and one piece of code serves both. Recorded books have
1,000 to 2,500 levels a side and changes all over them: in one array a change moves 160 to 600
levels. Which of its four ways a change goes (set, put in, take out, nothing) a processor cannot
guess, so all of them are one and the same move within a chunk.

    chunk       WIDTH keys, then their WIDTH lots; a free one: the number of the next + 1, 0: none
    directory   chunks_max words each: lowest key that may lie in a chunk, number of the chunk
    sizes       chunks_max words: levels of each chunk, by its number

    word 16 ..   bid chunks, ask chunks, bid directory and sizes, ask directory and sizes

When chunks run out, neighbours that fit into one are put together; `chunks_of` has enough of them
for that always to help. A side of zeros is an empty side. Nothing here allocates.
"""

from __future__ import annotations

import numpy as np

from shm.jit import inlined, jit
from shm.segment import Words
from shm.vectors import BLOCK, count_below, move_in

# Words of a book, see engine/book.py; those of bids and of asks lie side by side.
LEVELS_LIMIT = 2
COUNT, DROPPED, CHUNKS, USED, FREE = 3, 5, 7, 9, 11
BOOK_HEADER_WORDS = 16

WIDTH = BLOCK  # levels of a chunk: all its keys are compared at once, all its levels moved at once
CHUNK_WORDS = 2 * WIDTH
LOWEST = -(1 << 63)  # what may lie in the first chunk has no bound
_HALF = WIDTH // 2
_DIRECTORY_WORDS = 3  # of a chunk: lowest key, number, size
_ZERO, _ONE, _BLOCK = np.uint64(0), np.uint64(1), np.uint64(BLOCK)


@inlined
def chunks_of(levels_max: int) -> int:
    """Answers how many chunks a side has for so many levels: one for 8 of them.

    A few less would do: of neighbours that `_pack` leaves apart any two have 17 levels or more.
    """
    return (levels_max >> 3) + 4


@inlined
def side_words(levels_max: int) -> int:
    """Answers the length of a side."""
    return chunks_of(levels_max) * (CHUNK_WORDS + _DIRECTORY_WORDS)


@inlined
def keys_at(book: Words, side: int, chunk: int) -> int:
    """Answers where the keys of a chunk begin; its lots lie WIDTH words behind."""
    first = (side - 1) * chunks_of(book[LEVELS_LIMIT])
    return BOOK_HEADER_WORDS + (first + chunk) * CHUNK_WORDS


@inlined
def lows_at(book: Words, side: int) -> int:
    """Answers where the lowest keys of the directory begin."""
    chunks = chunks_of(book[LEVELS_LIMIT])
    before = 2 * CHUNK_WORDS + (side - 1) * _DIRECTORY_WORDS
    return BOOK_HEADER_WORDS + before * chunks


@inlined
def order_at(book: Words, side: int) -> int:
    """Answers where the chunk numbers of the directory begin."""
    return lows_at(book, side) + chunks_of(book[LEVELS_LIMIT])


@inlined
def sizes_at(book: Words, side: int) -> int:
    """Answers where the sizes of the chunks begin."""
    return lows_at(book, side) + 2 * chunks_of(book[LEVELS_LIMIT])


@inlined
def _of(side: int, word: int) -> int:
    """Answers the header word of a side."""
    return word + side - 1


@inlined
def _find(book: Words, side: int, key: int) -> int:
    """Answers the place in the directory of the chunk that has `key` or would have it.

    The directory is halved until a block is left, without a branch that a processor would have to
    guess.
    """
    first, length = np.uint64(lows_at(book, side)), np.uint64(book[_of(side, CHUNKS)])
    low = _ZERO
    while length > _BLOCK:
        half = length >> _ONE
        low = low + half if book[first + low + half] <= key else low
        length -= half
    at = int(np.int64(low))
    return at - 1 + count_below(book, lows_at(book, side) + at, int(np.int64(length)), key + 1)


@inlined
def move_down(book: Words, first: int, last: int) -> None:
    """Moves the words behind `first`, up to `last`, one place down.

    Places are unsigned here: compiled code then needs no check for indices from the end, and moves
    several words at once.
    """
    place, stop = np.uint64(first), np.uint64(last)
    while place < stop:
        book[place] = book[place + _ONE]
        place += _ONE


@inlined
def move_up(book: Words, first: int, last: int) -> None:
    """Moves the words from `first` on, before `last`, one place up; see `move_down`."""
    place, stop = np.uint64(last), np.uint64(first)
    while place > stop:
        book[place] = book[place - _ONE]
        place -= _ONE


@inlined
def set_key(book: Words, side: int, key: int, lots: int) -> None:
    """Sets the quantity at a key; 0 lots removes it, also one that is not there."""
    if book[_of(side, CHUNKS)] == 0:
        if lots != 0:
            _add(book, side, key, lots)
        return
    at = _find(book, side, key)
    chunk = book[order_at(book, side) + at]
    keys = keys_at(book, side, chunk)
    size = book[sizes_at(book, side) + chunk]
    place = count_below(book, keys, size, key)
    is_there = (place < size) & (book[keys + place] == key)
    step = int(is_there) - int(lots != 0)  # 1 takes a level out, -1 puts one in
    is_tight = (size == WIDTH) | (book[_of(side, COUNT)] == book[LEVELS_LIMIT])
    if is_tight & (step < 0):
        _add(book, side, key, lots)
    else:
        _change(book, side, chunk, (place, step, place if lots != 0 else WIDTH), key, lots)
        if size == step:
            _give_back(book, side, at)


@inlined
def _change(
    book: Words, side: int, chunk: int, move: tuple[int, int, int], key: int, lots: int
) -> None:
    """Changes a chunk that has room: `move` is place, step and new place, see `move_in`."""
    place, step, new = move
    keys = keys_at(book, side, chunk)
    move_in(book, keys, place, step, new, key)
    move_in(book, keys + WIDTH, place, step, new, lots)
    book[sizes_at(book, side) + chunk] -= step
    book[_of(side, COUNT)] -= step


@jit
def _add(book: Words, side: int, key: int, lots: int) -> None:
    """Puts a level in that is not there yet, whatever must make room for it."""
    if book[_of(side, COUNT)] == book[LEVELS_LIMIT]:
        book[_of(side, DROPPED)] += 1
        if book[_of(side, CHUNKS)] == 0:
            return
        if key < book[keys_at(book, side, book[order_at(book, side)])]:
            return
        _drop_farthest(book, side)
    if book[_of(side, CHUNKS)] == 0:
        _take(book, side, 0, LOWEST)
    at = _find(book, side, key)
    if book[sizes_at(book, side) + book[order_at(book, side) + at]] == WIDTH:
        if not _has_free(book, side):
            _pack(book, side)
            at = _find(book, side, key)
        _split(book, side, at)
        at = _find(book, side, key)
    chunk = book[order_at(book, side) + at]
    size = book[sizes_at(book, side) + chunk]
    place = count_below(book, keys_at(book, side, chunk), size, key)
    _change(book, side, chunk, (place, -1, place), key, lots)


@inlined
def _drop_farthest(book: Words, side: int) -> None:
    chunk = book[order_at(book, side)]
    _change(book, side, chunk, (0, 1, WIDTH), 0, 0)
    if book[sizes_at(book, side) + chunk] == 0:
        _give_back(book, side, 0)


@inlined
def _has_free(book: Words, side: int) -> bool:
    is_unused = book[_of(side, USED)] < chunks_of(book[LEVELS_LIMIT])
    return is_unused or book[_of(side, FREE)] != 0  # type: ignore[no-any-return]


@jit
def _take(book: Words, side: int, at: int, low: int) -> int:
    """Puts an empty chunk for keys from `low` on into the directory at `at`; answers its number."""
    chunk = book[_of(side, FREE)] - 1
    if chunk >= 0:
        book[_of(side, FREE)] = book[keys_at(book, side, chunk)]
    else:
        chunk = book[_of(side, USED)]
        book[_of(side, USED)] += 1
    chunks = book[_of(side, CHUNKS)]
    book[sizes_at(book, side) + chunk] = 0
    for table, value in ((lows_at(book, side), low), (order_at(book, side), chunk)):
        move_up(book, table + at, table + chunks)
        book[table + at] = value
    book[_of(side, CHUNKS)] = chunks + 1
    return chunk  # type: ignore[no-any-return]


@jit
def _give_back(book: Words, side: int, at: int) -> None:
    """Takes the chunk at `at` out of the directory."""
    chunks = book[_of(side, CHUNKS)] - 1
    chunk = book[order_at(book, side) + at]
    move_down(book, lows_at(book, side) + at, lows_at(book, side) + chunks)
    move_down(book, order_at(book, side) + at, order_at(book, side) + chunks)
    book[lows_at(book, side)] = LOWEST
    book[keys_at(book, side, chunk)] = book[_of(side, FREE)]
    book[_of(side, FREE)] = chunk + 1
    book[_of(side, CHUNKS)] = chunks


@jit
def _shift(book: Words, side: int, source: int, first: int, target: int) -> None:
    """Moves the levels of chunk `source` from `first` on behind those of chunk `target`."""
    sizes = sizes_at(book, side)
    old, new = keys_at(book, side, source), keys_at(book, side, target)
    for place in range(first, book[sizes + source]):
        size = book[sizes + target]
        for part in (0, WIDTH):
            book[new + part + size] = book[old + part + place]
        book[sizes + target] = size + 1
    book[sizes + source] = first


@jit
def _split(book: Words, side: int, at: int) -> None:
    """Moves the upper half of the full chunk at `at` into one behind it; there is a free one."""
    chunk = book[order_at(book, side) + at]
    low = book[keys_at(book, side, chunk) + _HALF]
    _shift(book, side, chunk, _HALF, _take(book, side, at + 1, low))


@jit
def _pack(book: Words, side: int) -> None:
    """Puts together neighbours that fit into one chunk."""
    order, sizes = order_at(book, side), sizes_at(book, side)
    at = 0
    while at + 1 < book[_of(side, CHUNKS)]:
        chunk, other = book[order + at], book[order + at + 1]
        if book[sizes + chunk] + book[sizes + other] <= WIDTH:
            _shift(book, side, other, 0, chunk)
            _give_back(book, side, at + 1)
        else:
            at += 1


@inlined
def best_place(book: Words, side: int) -> int:
    """Answers the place of a side's best level, -1 when it has none.

    A place is directory place * WIDTH + place in the chunk; it holds until the side changes.
    """
    return _last_place(book, side, book[_of(side, CHUNKS)] - 1)


@inlined
def worse_place(book: Words, side: int, place: int) -> int:
    """Answers the place of the next worse level, -1 when there is none."""
    if place % WIDTH != 0:
        return place - 1
    return _last_place(book, side, place // WIDTH - 1)


@inlined
def _last_place(book: Words, side: int, at: int) -> int:
    if at < 0:
        return -1
    chunk = book[order_at(book, side) + at]
    return at * WIDTH + book[sizes_at(book, side) + chunk] - 1  # type: ignore[no-any-return]


@inlined
def word_of(book: Words, side: int, place: int) -> int:
    """Answers the word of the key at a place; the lots lie WIDTH words behind."""
    chunk = book[order_at(book, side) + place // WIDTH]
    return keys_at(book, side, chunk) + place % WIDTH


@inlined
def copy_side(book: Words, side: int, out: Words) -> None:
    """Copies what is in use of a side to a book whose header is copied already."""
    used, chunks = out[_of(side, USED)], out[_of(side, CHUNKS)]
    _copy(book, keys_at(out, side, 0), used * CHUNK_WORDS, out)
    _copy(book, sizes_at(out, side), used, out)
    _copy(book, lows_at(out, side), chunks, out)
    _copy(book, order_at(out, side), chunks, out)


@inlined
def _copy(book: Words, first: int, count: int, out: Words) -> None:
    place, stop = np.uint64(first), np.uint64(first + count)
    while place < stop:
        out[place] = book[place]
        place += _ONE
