"""engine room: one side of an order book, in chunks, so that no change moves more than one chunk.

A side is a B+ tree of two levels (Bayer and McCreight, "Organization and maintenance of large
ordered indices", 1972). Its leaves are chunks of up to WIDTH levels, keys ascending; the directory
above them has the chunks in the same order, the best one at its END. A key is the price in ticks,
negated for asks, so that both sides ascend and one piece of code serves both. Recorded books have
1,000 to 2,500 levels a side and changes all over them: in one array a change moves 160 to 600
levels. Which of its four ways a change goes (set, put in, take out, nothing) a processor cannot
guess, so all of them are one and the same move within a chunk.

    word 16 ..   bid directory, ask directory, bid chunks, ask chunks, spare

    directory    three tables of chunks_max words: the lowest key that may lie in a chunk, the word
                 its keys begin at, how many levels it has
    chunk        WIDTH keys, then their WIDTH lots; a chunk given back: the one before it, or 0
    spare        words behind the last chunk: a move within it looks at the word beside it

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
_DIRECTORY_TABLES = 3
_WORDS_A_CHUNK = CHUNK_WORDS + _DIRECTORY_TABLES
_SPARE_WORDS = 8  # a cache line: books lie one behind the other
_ZERO, _ONE, _BLOCK = np.uint64(0), np.uint64(1), np.uint64(BLOCK)


def plain_chunks_of(levels_max: int) -> int:
    """Answers how many chunks a side has for so many levels: one for 8 of them.

    A few less would do: of neighbours that `_pack` leaves apart any two have 17 levels or more.
    This one is for Python, which then need not compile it.
    """
    return (levels_max >> 3) + 4


def plain_words_of(chunks: int) -> int:
    """Answers the length of a book whose sides have so many chunks each; for Python."""
    return BOOK_HEADER_WORDS + 2 * chunks * _WORDS_A_CHUNK + _SPARE_WORDS


chunks_of = inlined(plain_chunks_of)
words_of = inlined(plain_words_of)


@inlined
def lows_at(book: Words, side: int) -> int:
    """Answers where the lowest keys of the directory begin; the other two tables lie behind."""
    return BOOK_HEADER_WORDS + (side - 1) * _DIRECTORY_TABLES * chunks_of(book[LEVELS_LIMIT])


@inlined
def keys_at(book: Words, side: int, at: int) -> int:
    """Answers where the keys of the chunk at `at` begin; its lots lie WIDTH words behind."""
    return book[lows_at(book, side) + chunks_of(book[LEVELS_LIMIT]) + at]  # type: ignore[no-any-return]


@inlined
def size_at(book: Words, side: int, at: int) -> int:
    """Answers the word that says how many levels the chunk at `at` has."""
    return lows_at(book, side) + 2 * chunks_of(book[LEVELS_LIMIT]) + at


@inlined
def _unused(book: Words, side: int) -> int:
    """Answers where the next chunk that was never used lies."""
    chunks = chunks_of(book[LEVELS_LIMIT])
    before = 2 * _DIRECTORY_TABLES * chunks + (side - 1) * chunks * CHUNK_WORDS
    return BOOK_HEADER_WORDS + before + book[_of(side, USED)] * CHUNK_WORDS  # type: ignore[no-any-return]


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
    keys, size = keys_at(book, side, at), book[size_at(book, side, at)]
    place = count_below(book, keys, size, key)
    is_there = (place < size) & (book[keys + place] == key)
    step = int(is_there) - int(lots != 0)  # 1 takes a level out, -1 puts one in
    is_tight = (size == WIDTH) | (book[_of(side, COUNT)] == book[LEVELS_LIMIT])
    if is_tight & (step < 0):
        _add(book, side, key, lots)
    else:
        _change(book, side, at, (place, step, place if lots != 0 else WIDTH), key, lots)
        if size == step:
            _give_back(book, side, at)


@inlined
def _change(
    book: Words, side: int, at: int, move: tuple[int, int, int], key: int, lots: int
) -> None:
    """Changes the chunk at `at`, which has room: `move` is place, step and new, see `move_in`."""
    place, step, new = move
    keys = keys_at(book, side, at)
    move_in(book, keys, place, step, new, key)
    move_in(book, keys + WIDTH, place, step, new, lots)
    book[size_at(book, side, at)] -= step
    book[_of(side, COUNT)] -= step


@jit
def _add(book: Words, side: int, key: int, lots: int) -> None:
    """Puts a level in that is not there yet, whatever must make room for it."""
    if book[_of(side, COUNT)] == book[LEVELS_LIMIT]:
        book[_of(side, DROPPED)] += 1
        if book[_of(side, CHUNKS)] == 0 or key < book[keys_at(book, side, 0)]:
            return
        _change(book, side, 0, (0, 1, WIDTH), 0, 0)
        if book[size_at(book, side, 0)] == 0:
            _give_back(book, side, 0)
    if book[_of(side, CHUNKS)] == 0:
        _take(book, side, 0, LOWEST)
    at = _find(book, side, key)
    if book[size_at(book, side, at)] == WIDTH:
        if not _has_free(book, side):
            _pack(book, side)
        _split(book, side, _find(book, side, key))
        at = _find(book, side, key)
    place = count_below(book, keys_at(book, side, at), book[size_at(book, side, at)], key)
    _change(book, side, at, (place, -1, place), key, lots)


@inlined
def _has_free(book: Words, side: int) -> bool:
    is_unused = book[_of(side, USED)] < chunks_of(book[LEVELS_LIMIT])
    return is_unused or book[_of(side, FREE)] != 0  # type: ignore[no-any-return]


@jit
def _take(book: Words, side: int, at: int, low: int) -> None:
    """Puts a free chunk, which there is, into the directory at `at` for keys from `low` on."""
    keys = book[_of(side, FREE)]
    if keys != 0:
        book[_of(side, FREE)] = book[keys]
    else:
        keys = _unused(book, side)
        book[_of(side, USED)] += 1
    chunks, table = book[_of(side, CHUNKS)], lows_at(book, side)
    for value in (low, keys, 0):
        move_up(book, table + at, table + chunks)
        book[table + at] = value
        table += chunks_of(book[LEVELS_LIMIT])
    book[_of(side, CHUNKS)] = chunks + 1


@jit
def _give_back(book: Words, side: int, at: int) -> None:
    """Takes the chunk at `at` out of the directory."""
    chunks, table = book[_of(side, CHUNKS)] - 1, lows_at(book, side)
    keys = keys_at(book, side, at)
    for _ in range(_DIRECTORY_TABLES):
        move_down(book, table + at, table + chunks)
        table += chunks_of(book[LEVELS_LIMIT])
    book[lows_at(book, side)] = LOWEST
    book[keys], book[_of(side, FREE)] = book[_of(side, FREE)], keys
    book[_of(side, CHUNKS)] = chunks


@jit
def _shift(book: Words, side: int, source: int, first: int, target: int) -> None:
    """Moves the levels of the chunk at `source` from `first` on behind those at `target`."""
    old, new = size_at(book, side, source), size_at(book, side, target)
    count = book[old] - first
    for part in (0, WIDTH):
        from_word = keys_at(book, side, source) + part + first
        to_word = keys_at(book, side, target) + part + book[new]
        for place in range(count):
            book[to_word + place] = book[from_word + place]
    book[old] -= count
    book[new] += count


@jit
def _split(book: Words, side: int, at: int) -> None:
    """Moves the upper half of the full chunk at `at` into one behind it; there is a free one."""
    _take(book, side, at + 1, book[keys_at(book, side, at) + _HALF])
    _shift(book, side, at, _HALF, at + 1)


@jit
def _pack(book: Words, side: int) -> None:
    """Puts together neighbours that fit into one chunk."""
    at = 0
    while at + 1 < book[_of(side, CHUNKS)]:
        if book[size_at(book, side, at)] + book[size_at(book, side, at + 1)] <= WIDTH:
            _shift(book, side, at + 1, 0, at)
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
    return at * WIDTH + book[size_at(book, side, at)] - 1 if at >= 0 else -1


@inlined
def word_of(book: Words, side: int, place: int) -> int:
    """Answers the word of the key at a place; the lots lie WIDTH words behind."""
    return keys_at(book, side, place // WIDTH) + place % WIDTH


@inlined
def copy_side(book: Words, side: int, out: Words) -> None:
    """Copies what is in use of a side to a book whose header is copied already."""
    used, table = out[_of(side, USED)] * CHUNK_WORDS, lows_at(out, side)
    for _ in range(_DIRECTORY_TABLES):
        _copy(book, table, out[_of(side, CHUNKS)], out)
        table += chunks_of(out[LEVELS_LIMIT])
    _copy(book, _unused(out, side) - used, used, out)


@inlined
def _copy(book: Words, first: int, count: int, out: Words) -> None:
    place, stop = np.uint64(first), np.uint64(first + count)
    while place < stop:
        out[place] = book[place]
        place += _ONE
