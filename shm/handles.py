"""shm room: the two ends of a ring for Python: a producer, and gating readers.

Single records go through memoryviews over the ring, batches through one compiled call
(shm/ring.py): a call into compiled code costs a Python caller as much as a dozen stores. What an
observing reader does is in shm/observer.py.
"""

from __future__ import annotations

import os

import numpy as np

from shm.ring import (
    CAPACITY,
    CONTROL_WORDS,
    CURSOR,
    CURSOR_CACHED,
    GATING,
    GRANT_MAX,
    INSUFFICIENT_CAPACITY,
    KIND,
    PARKABLE,
    READER_BASE,
    READER_WORDS,
    RELEASED,
    ROW_WORDS,
    append_rows,
    claim,
    grant,
    poll,
    publish,
    release,
)
from shm.segment import Segment, Words

# x86-64 keeps every store behind the loads and stores before it, and every load before those behind
# it, and the interpreter moves an aligned word in one piece. So there its own store through a
# memoryview publishes, and its own load polls, at a fifth of the cost of a compiled call. No other
# machine promises that: there the compiled functions do it.
HAS_STRONG_ORDER = os.uname().machine == "x86_64"


class Handle:
    """What both ends share: the control words and the rows, as arrays over shared memory."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.control: Words = segment.words(0, CONTROL_WORDS)
        self.capacity = int(self.control[CAPACITY])
        self.row_words = int(self.control[ROW_WORDS])
        self.rows: Words = segment.rows(CONTROL_WORDS * 8, self.capacity, self.row_words)
        self._words, self._line = self.control.data, self.rows.reshape(-1).data
        self._mask = self.capacity - 1

    @property
    def cursor(self) -> int:
        """The highest published sequence, -1 when there is none."""
        sequence: int = self._words[CURSOR]
        return sequence

    def row(self, sequence: int) -> Words:
        """Views the record `sequence` in place, (row_words,) int64."""
        view: Words = self.rows[sequence & self._mask]
        return view

    def port(self, reader: int = 0) -> Words:
        """Answers this end as (PORT_WORDS,) for compiled code: see port_control, port_rows."""
        return np.array(
            [self.control.ctypes.data, self.rows.ctypes.data, self.capacity, reader], np.int64
        )


class Producer(Handle):
    """The one writer of a ring. A new process that takes over goes on behind the cursor."""

    def __init__(self, segment: Segment) -> None:
        super().__init__(segment)
        self._port = self.port()
        self._port_at = int(self._port.ctypes.data)
        self._granted = self.cursor
        self._grant_max = max(1, min(GRANT_MAX, self.capacity // 4))
        self._is_plain = HAS_STRONG_ORDER and not self.control[PARKABLE]

    def claim(self, count: int = 1) -> int:
        """Answers the first of `count` writable sequences, or INSUFFICIENT_CAPACITY."""
        return claim(self.control, count)

    def publish(self, sequence: int) -> None:
        """Makes every record up to `sequence` visible."""
        publish(self.control, sequence)

    def append(self, record: Words | memoryview[int]) -> int:
        """Copies one record in, stamped and published; answers its sequence or -1.

        Args:
            record: (n,) int64, n <= row_words; an array, or faster, its `data`. Word 0 is replaced
                by the sequence, what the record does not fill is 0.
        """
        sequence: int = self._words[CURSOR] + 1
        if sequence > self._granted and not self._grant():
            return INSUFFICIENT_CAPACITY
        words = self._line
        start = (sequence & self._mask) * self.row_words
        try:
            words[start : start + self.row_words] = record  # type: ignore[assignment]  # a buffer
        except ValueError:  # another length, or no buffer of int64
            self._fill(self.row(sequence), np.asarray(record))
        words[start] = sequence
        if self._is_plain:
            # Pairs with poll in shm/ring.py and _poll here: a release store, see HAS_STRONG_ORDER.
            self._words[CURSOR] = sequence
        else:
            publish(self.control, sequence)
        return sequence

    def append_rows(self, records: Words) -> int:
        """Copies records in, (n, row_words) int64, stamped and published at once.

        Returns:
            the last sequence, or -1 when there is no room for all of them: then none is in.
        """
        assert records.shape[1:] == (self.row_words,), "records are rows of this ring"
        return append_rows(self._port_at, records)

    def _grant(self) -> bool:
        """Asks for the next sequences; says whether there is one."""
        self._granted = grant(self.control, self._grant_max)
        return self._granted >= 0

    @staticmethod
    def _fill(row: Words, record: Words) -> None:
        row[: len(record)] = record
        row[len(record) :] = 0  # what the record does not fill is of a lap ago


class Consumer(Handle):
    """One gating reader of a ring, at its own place `reader` in the control words.

    A new process that takes over goes on behind the last released sequence.
    """

    def __init__(self, segment: Segment, reader: int) -> None:
        super().__init__(segment)
        self.reader = reader
        self._released_at = READER_BASE + READER_WORDS * reader + RELEASED
        self._seen = -1  # the cursor when it was last looked at
        kind = self.control[READER_BASE + READER_WORDS * reader + KIND]
        assert kind == GATING, "the reader was declared gating when the ring was made"

    @property
    def released(self) -> int:
        """The last sequence this reader gave back, -1 at first."""
        sequence: int = self._words[self._released_at]
        return sequence

    @property
    def lag(self) -> int:
        """Published records that this reader has not released."""
        return self.cursor - self.released

    def poll(self, records_max: int) -> Words:
        """Views the next records in place, (n, row_words), n <= records_max, up to the ring's end.

        Lifetime: until they are released; copy what must outlive that.
        """
        first: int = self._words[self._released_at] + 1
        count = min(self._poll() - first + 1, records_max)
        start = first & self._mask
        return self.rows[start : start + min(count, self.capacity - start)]

    def take(self) -> bytes | None:
        """Copies the next record, row_words int64 as they lie, and gives it back; None: none."""
        words, at = self._words, self._released_at
        sequence: int = words[at] + 1
        if sequence > self._seen:
            self._seen = self._poll()
            if sequence > self._seen:
                return None
        start = (sequence & self._mask) * self.row_words
        record = self._line[start : start + self.row_words].tobytes()
        # `release` again, without the call: it would be a fifth of what a record costs.
        if HAS_STRONG_ORDER:
            words[at] = sequence  # pairs with slowest_gating in shm/ring.py: a release store
        else:
            release(self.control, self.reader, sequence)
        return record

    def release(self, sequence: int) -> None:
        """Gives every record up to `sequence` back to the producer."""
        if HAS_STRONG_ORDER:
            # Pairs with slowest_gating in shm/ring.py: a release store.
            self._words[self._released_at] = sequence
        else:
            release(self.control, self.reader, sequence)

    def _poll(self) -> int:
        if not HAS_STRONG_ORDER:
            return poll(self.control, self.reader)
        words = self._words
        # Pairs with publish in shm/ring.py and append here: an acquire load.
        cursor: int = words[CURSOR]
        words[self._released_at + CURSOR_CACHED] = cursor
        return cursor
