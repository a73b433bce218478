"""shm room: a cell that holds the last value of something: one writer, any number of readers.

A sequence lock over int64 words. The version is odd while the writer is inside; a reader that saw
an odd version, or two different ones around its copy, tries again.

    word 0        version    writer: even and 2 or more when a value is there
    word 1 ..     value      writer

A writer that died inside leaves an odd version: nobody reads the torn value, and the next value of
its successor makes the version even again.

Whoever writes or copies more than a few words in a row takes the steps one by one:

    writer                        reader
    begin_change(cell)            version = version_of(cell), tried again while it is odd
      any words behind word 0       any words behind word 0
    end_change(cell)              is_unchanged(cell, version), else all of it once more

What a reader must find whole even behind a writer that died has two copies, of which `version & 1`
is the valid one. The writer begins with `begin_other`, writes the other copy alone, and makes it
the valid one by `end_change`; the reader's steps are the same, and no version makes it wait.

Source: the seqlock of Linux; memory order after Boehm, "Can seqlocks get along with programming
language memory models?" (MSPC 2012): fences around plain data. Two copies: the latch of Linux
(`seqcount_latch_t`).
"""

from __future__ import annotations

import numpy as np

from shm.jit import (
    fence_acquire,
    fence_release,
    inlined,
    jit,
    load_acquire,
    pause,
    store_release,
    yield_cpu,
)
from shm.segment import Words

READ_TRIES_MAX = 1_000_000
_TRIES_BEFORE_YIELD = 1_024  # the writer may wait for this very core


@inlined
def begin_change(cell: Words) -> None:
    """Says that words are about to change. Called by: the cell's one writer."""
    cell[0] |= 1
    # Pairs with fence_acquire in is_unchanged: who sees any new word also sees the odd version.
    fence_release()


@inlined
def begin_other(_cell: Words) -> None:
    """Parts what follows from what made the present copy valid. Called by: the one writer."""
    # Pairs with fence_acquire in is_unchanged: who sees any word of the change to come also sees
    # the version that the last one ended with.
    fence_release()


@inlined
def end_change(cell: Words) -> None:
    """Says that all words are there. Called by: the cell's one writer."""
    # Pairs with load_acquire in version_of: who sees this version sees every word.
    store_release(cell, 0, cell[0] + 1)


@inlined
def version_of(cell: Words) -> int:
    """Answers the version ahead of a copy. Called by: any reader."""
    # Pairs with store_release in end_change.
    return load_acquire(cell, 0)


@inlined
def is_unchanged(cell: Words, version: int) -> bool:
    """Says whether all that was read since `version_of` is of that version. By: any reader."""
    # Pairs with fence_release in begin_change and begin_other.
    fence_acquire()
    return cell[0] == version  # type: ignore[no-any-return]


@jit
def write_latest(cell: Words, values: Words) -> None:
    """Replaces the value; len(values) <= len(cell) - 1. Called by: the cell's one writer."""
    begin_change(cell)
    for index in range(len(values)):
        cell[1 + index] = values[index]
    end_change(cell)


@jit
def read_latest(cell: Words, out: Words) -> int:
    """Copies a whole value into `out`; answers its version, 0 when there is none.

    There is none before the first write, and while a writer stays inside for READ_TRIES_MAX tries:
    it died there. What `out` holds then is not a value.
    """
    for tries in range(1, READ_TRIES_MAX + 1):
        before = version_of(cell)
        if before == 0:
            return 0
        for index in range(len(out)):
            out[index] = cell[1 + index]
        if before & 1 == 0 and is_unchanged(cell, before):
            return before
        if tries % _TRIES_BEFORE_YIELD:
            pause()
        else:
            yield_cpu()
    return 0


class Latest:
    """Handle of one cell over `words` of shared memory, value size len(words) - 1."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self._scratch = np.zeros(len(words) - 1, np.int64)
        self._whole = np.zeros(len(words) - 1, np.int64)
        self._has_whole = False

    @property
    def version(self) -> int:
        """Even and 2 or more when a value is there, else 0 or odd."""
        return int(self.words[0])

    def write(self, values: Words) -> None:
        """Replaces the value, or its first len(values) words. Called by: the one writer."""
        assert len(values) < len(self.words), "the value fits into the cell"
        write_latest(self.words, np.ascontiguousarray(values, np.int64))

    def read(self) -> Words:
        """Answers a copy of the value; all zero when there is none yet.

        When a writer died inside, it is the last whole value that this handle has read.
        """
        if read_latest(self.words, self._scratch) != 0:
            self._whole, self._scratch = self._scratch, self._whole
            self._has_whole = True
        return self._whole.copy()

    def find(self) -> Words | None:
        """Answers as `read` does, None instead of a value that nobody has written.

        To look at `version` beside `read` is not the same: the first value may come in between.
        """
        value = self.read()
        return value if self._has_whole else None
