"""shm room: a cell that holds the last value of something: one writer, any number of readers.

A sequence lock over int64 words. The version is odd while the writer is inside; a reader that saw
an odd version, or two different ones around its copy, tries again.

    word 0        version    writer: even and 2 or more when a value is there
    word 1 ..     value      writer

A writer that died inside leaves an odd version: nobody reads the torn value, and the next value of
its successor makes the version even again.

Source: the seqlock of Linux; memory order after Boehm, "Can seqlocks get along with programming
language memory models?" (MSPC 2012): fences around plain data.
"""

from __future__ import annotations

import numpy as np

from shm.jit import (
    fence_acquire,
    fence_release,
    jit,
    load_acquire,
    pause,
    store_release,
    yield_cpu,
)
from shm.segment import Words

READ_TRIES_MAX = 1_000_000
_TRIES_BEFORE_YIELD = 1_024  # the writer may wait for this very core


@jit
def write_latest(cell: Words, values: Words) -> None:
    """Replaces the value; len(values) <= len(cell) - 1. Called by: the cell's one writer."""
    version = cell[0] | 1
    cell[0] = version
    # Pairs with fence_acquire in read_latest: who sees any new word also sees the odd version.
    fence_release()
    for index in range(len(values)):
        cell[1 + index] = values[index]
    # Pairs with load_acquire in read_latest: who sees the even version sees every word.
    store_release(cell, 0, version + 1)


@jit
def read_latest(cell: Words, out: Words) -> int:
    """Copies a whole value into `out`; answers its version, 0 when there is none.

    There is none before the first write, and while a writer stays inside for READ_TRIES_MAX tries:
    it died there. What `out` holds then is not a value.
    """
    for tries in range(1, READ_TRIES_MAX + 1):
        # Pairs with store_release in write_latest.
        before = load_acquire(cell, 0)
        if before == 0:
            return 0
        for index in range(len(out)):
            out[index] = cell[1 + index]
        # Pairs with fence_release in write_latest.
        fence_acquire()
        if before & 1 == 0 and cell[0] == before:
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
        return self._whole.copy()
