"""The two faces of a ring behind one set of words, so that one suite proves both.

Python: the methods of Producer, Consumer and Observer. Compiled: the functions behind them, called
from compiled code that binds its rings by their ports, as the decision loops do.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from shm.handles import Consumer, Producer
from shm.observer import Observer
from shm.segment import Segment, Words
from tests.shm import loops
from tests.shm.loops import ROW_WORDS

OBSERVED_MAX = 3  # records that an observer of these tests takes at once


class Face(Protocol):
    """One writer, and the readers of a ring by their places."""

    def __init__(self, segment: Segment) -> None:
        """Takes the writing end over."""

    def claim(self, count: int) -> int:
        """Answers the first writable sequence or INSUFFICIENT_CAPACITY."""

    def fill(self, first: int, count: int) -> None:
        """Writes records in place."""

    def publish(self, sequence: int) -> None:
        """Makes records visible."""

    def poll(self, reader: int, records_max: int) -> list[int]:
        """Reads without releasing; answers the sequences of whole records."""

    def release(self, reader: int, sequence: int) -> None:
        """Gives records back."""

    def take(self, reader: int) -> list[int]:
        """Takes records as an observing reader; answers the sequences of whole records."""


def whole(rows: Words) -> list[int]:
    """Answers the sequences of records, after proving each of them whole."""
    for row in rows:
        assert loops.is_whole(row, row[0]), f"record must be whole: row={row}"
    return [int(sequence) for sequence in rows[:, 0]]


class PythonFace:
    """The handles' methods."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._producer = Producer(segment)
        self._consumers: dict[int, Consumer] = {}
        self._observers: dict[int, Observer] = {}

    def claim(self, count: int) -> int:
        return self._producer.claim(count)

    def fill(self, first: int, count: int) -> None:
        for sequence in range(first, first + count):
            self._producer.row(sequence)[:] = [
                loops.word_of(sequence, word) for word in range(ROW_WORDS)
            ]

    def publish(self, sequence: int) -> None:
        self._producer.publish(sequence)

    def _consumer(self, reader: int) -> Consumer:
        return self._consumers.setdefault(reader, Consumer(self._segment, reader))

    def poll(self, reader: int, records_max: int) -> list[int]:
        """Polls once, and once more where the first answer ended at the ring's end."""
        consumer = self._consumer(reader)
        found = whole(consumer.poll(records_max))
        before = consumer.released
        if found and len(found) < records_max:
            consumer.release(found[-1])
            found += whole(consumer.poll(records_max - len(found)))
            consumer.release(before)  # nobody wrote meanwhile
        return found

    def release(self, reader: int, sequence: int) -> None:
        self._consumer(reader).release(sequence)

    def take(self, reader: int) -> list[int]:
        observer = self._observers.setdefault(
            reader, Observer(self._segment, reader, records_max=OBSERVED_MAX)
        )
        return whole(observer.take())


class CompiledFace:
    """Compiled functions over ports."""

    def __init__(self, segment: Segment) -> None:
        self._producer = Producer(segment)
        self._ports = np.stack([self._producer.port(reader) for reader in range(16)])

    def claim(self, count: int) -> int:
        return loops.claim_at(self._ports, count)

    def fill(self, first: int, count: int) -> None:
        loops.fill_at(self._ports, first, count)

    def publish(self, sequence: int) -> None:
        loops.publish_at(self._ports, sequence)

    def poll(self, reader: int, records_max: int) -> list[int]:
        out = np.zeros((records_max, ROW_WORDS), np.int64)
        return whole(out[: loops.poll_at(self._ports, reader, out)])

    def release(self, reader: int, sequence: int) -> None:
        loops.release_at(self._ports, reader, sequence)

    def take(self, reader: int) -> list[int]:
        out = np.zeros((OBSERVED_MAX, ROW_WORDS), np.int64)
        return whole(out[: loops.observe_at(self._ports, reader, out)])
