"""shm room: the observing end of a ring: copies records, may be lapped, and knows when it was.

The writer never waits for an observing reader, so a record can be overwritten while it is copied.
Each copy is therefore checked after it was taken: the writer announces what it may be writing
(`claimed`) before it writes. A copy that fails the check is thrown away, the reader goes on with
the oldest record that is still whole, and what lies between is counted.
"""

from __future__ import annotations

import numpy as np

from shm.handles import Handle
from shm.jit import jit, store_release
from shm.ring import (
    CAPACITY,
    KIND,
    OBSERVING,
    OVERRUN_COUNT,
    READER_BASE,
    READER_WORDS,
    RELEASED,
    is_intact,
    oldest_intact,
    poll,
)
from shm.segment import Segment, Words

RECORDS_MAX = 256
_TRIES = 2  # per wanted record: a copy that was lapped counts as one


@jit
def observe(control: Words, rows: Words, reader: int, out: Words) -> int:
    """Copies the next whole records into `out`; answers how many, in order, gaps counted.

    Args:
        control: control words of the ring.
        rows: (capacity, row_words) of the ring.
        reader: the observing reader's place.
        out: (n, row_words), filled from the front.

    Called by: the observer that owns `reader`.
    """
    base = READER_BASE + READER_WORDS * reader
    cursor = poll(control, reader)
    sequence = control[base + RELEASED] + 1
    count, overrun = 0, 0
    for _ in range(_TRIES * len(out)):
        if count == len(out) or sequence > cursor:
            break
        place = sequence & (control[CAPACITY] - 1)
        for word in range(out.shape[1]):
            out[count, word] = rows[place, word]
        if is_intact(control, sequence):
            count += 1
            sequence += 1
        else:
            oldest = oldest_intact(control)
            overrun += oldest - sequence
            sequence = oldest
    control[base + OVERRUN_COUNT] += overrun
    store_release(control, base + RELEASED, sequence - 1)  # for those who read the lag
    return count


class Observer(Handle):
    """One observing reader of a ring: never holds the writer up, may lose records, never sees torn.

    `take` copies records in order. When the writer has lapped it, it jumps to the oldest record
    that is still whole and adds what it missed to `overrun_count`: records taken and records
    overrun together are all there were. A new process that takes over goes on behind the last
    record that was taken.
    """

    def __init__(self, segment: Segment, reader: int, records_max: int = RECORDS_MAX) -> None:
        super().__init__(segment)
        self.reader = reader
        self._base = READER_BASE + READER_WORDS * reader
        assert self.control[self._base + KIND] == OBSERVING, "the reader was declared observing"
        self._out: Words = np.zeros((records_max, self.row_words), np.int64)

    @property
    def overrun_count(self) -> int:
        """Records lost by being lapped since the ring was made."""
        return int(self.control[self._base + OVERRUN_COUNT])

    @property
    def lag(self) -> int:
        """Published records that were neither taken nor overrun yet."""
        return self.cursor - int(self.control[self._base + RELEASED])

    def take(self) -> Words:
        """Copies the next whole records, (n, row_words), n <= records_max, n = 0 for none.

        Lifetime: until the next `take`.
        """
        count = observe(self.control, self.rows, self.reader, self._out)
        return self._out[:count]
