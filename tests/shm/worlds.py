"""Small worlds of rings: a writer, readers of both kinds, and what they promise about records.

A record has two words, its sequence and `PAYLOAD` more, so a reader can tell what it was handed:

    stale        the words of an older record, or of none
    overwritten  the words of a newer record
    torn         words that do not belong together
"""

from __future__ import annotations

import os
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.shm.modelcheck import Finished, Report, Turn
from tests.shm.shipped import Lazy, Mutation, Rows, Scratch, Shared, Words
from tests.shm.weakmemory import Fault, Place

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"  # whether larger worlds are explored, too
PAYLOAD = 100
ROW_WORDS = 2


def cases(mutations: Sequence[Mutation], *slow: str) -> list[Any]:
    """Answers mutations as parameters named after them; those of the `slow` worlds are marked."""
    return [
        pytest.param(
            mutation,
            id=mutation.name.replace(" ", "-"),
            marks=[pytest.mark.slow] if mutation.world in slow else [],
        )
        for mutation in mutations
    ]


def told(report: Report, mutation: Mutation) -> str:
    """Prints what a mutation led to (shown by -rP and -s); answers the kind of the fault."""
    sys.stdout.write(f"{mutation.name}: {report}\n")
    return report.kind


class Mapping:
    """Stands for mapped shared memory, header included."""

    def __init__(self, shared: Shared, name: str, size: int) -> None:
        self.buf = shared.words(name, size // 8)
        self.size = 8 * len(self.buf)


@dataclass
class Ring:
    """A ring made by the shipped `create`, its words shared between the threads of a world."""

    shared: Shared
    modules: Any  # of shm, over that shared memory
    kinds: tuple[int, ...]
    capacity: int = 2
    writer: int = 0  # its thread
    first_reader: int = 1  # the thread of reader 0
    is_parkable: bool = False
    is_raced: bool = True  # whether rows may be read while they are written; else they must not
    name: str = "ring"

    def __post_init__(self) -> None:
        """Makes the segment and declares which words change, by whom, for whom."""
        stand_in(self.shared, self.modules)
        self.ring = self.modules.ring
        self.segment = self.ring.create(
            self.name, 1,
            capacity=self.capacity, row_bytes=8 * ROW_WORDS, kinds=self.kinds,
            parkable=self.is_parkable,
        )  # fmt: skip
        words = self.ring.CONTROL_WORDS
        self.control: Words = self.segment.words(0, words)
        self.rows: Rows = self.segment.rows(8 * words, self.capacity, ROW_WORDS)
        self._share_writer(tuple(self.first_reader + reader for reader in range(len(self.kinds))))
        for reader, kind in enumerate(self.kinds):
            self._share_reader(reader, (self.writer,) if kind == self.ring.GATING else ())

    def _share_writer(self, readers: tuple[int, ...]) -> None:
        ring, writer = self.ring, self.writer
        self._share(self.control, ring.CURSOR, Place("cursor", writer, readers))
        self._share(self.control, ring.CLAIMED, Place("claimed", writer, readers))
        self._share(self.control, ring.GATING_CACHED, Place("gating_cached", writer))
        self.shared.forget(self.control, ring.FULL_COUNT)
        for row in range(self.capacity):
            for word in range(ROW_WORDS):
                place = Place(f"row[{row}][{word}]", writer, readers, is_raced=self.is_raced)
                self._share(self.rows[row], word, place)

    def _share_reader(self, reader: int, others: tuple[int, ...]) -> None:
        """Nobody reads what an observing reader has released; of a gating one its writer does."""
        base = self.ring.READER_BASE + self.ring.READER_WORDS * reader
        for index, name, readers in (
            (self.ring.RELEASED, "released", others),
            (self.ring.PARKED, "parked", others),
            (self.ring.CURSOR_CACHED, "cursor_cached", ()),
            (self.ring.OVERRUN_COUNT, "overrun_count", ()),
        ):
            place = Place(f"{name}[{reader}]", self.first_reader + reader, readers)
            self._share(self.control, base + index, place)

    def _share(self, words: Words, index: int, place: Place) -> None:
        name = place.name if self.name == "ring" else f"{self.name} {place.name}"
        self.shared.share(words, index, place._replace(name=name))

    def writing(self, last: int) -> Turn:
        """Answers a writer's turn: claims, fills in place and publishes `batch` records at most."""

        def write(batch: int) -> Hashable:
            count = min(batch, last - self.control[self.ring.CURSOR])
            first = self.ring.claim(self.control, count)
            if first < 0:
                return batch
            for sequence in range(first, first + count):
                row = self.rows[sequence & (self.capacity - 1)]
                for word in range(ROW_WORDS):
                    row[word] = sequence + PAYLOAD * word
            self.ring.publish(self.control, first + count - 1)
            return Finished() if first + count - 1 == last else batch

        return write

    def appending(self, last: int, grant_max: int = 1) -> Turn:
        """Answers a Python agent's turn: appends one record, knows what it was granted."""
        producer = self.modules.handles.Producer(self.segment)
        producer._grant_max = grant_max

        def append(granted: int) -> Hashable:
            producer._granted = granted
            sequence = producer.append([-1, producer.cursor + 1 + PAYLOAD])
            return Finished() if sequence == last else producer._granted

        return append

    def appending_rows(self, last: int) -> Turn:
        """Answers a Python agent's turn: appends up to `batch` records at once."""
        producer = self.modules.handles.Producer(self.segment)

        def append(batch: int) -> Hashable:
            first = producer.cursor + 1
            sequences = range(first, min(first + batch - 1, last) + 1)
            rows = np.array([[-1, sequence + PAYLOAD] for sequence in sequences], np.int64)
            return Finished() if producer.append_rows(rows) == last else batch

        return append

    def reading(self, reader: int, last: int, batch: int = 2) -> Turn:
        """Answers a gating reader's turn: polls, reads in place, releases, then looks at it."""
        control, ring = self.control, self.ring

        def read(_: None) -> Hashable:
            before = ring.released(control, reader)
            upto = min(ring.poll(control, reader), before + batch)
            if upto == before:
                return None
            places = [place % self.capacity for place in range(before + 1, upto + 1)]
            taken = read_in_place([self.rows[place] for place in places])
            ring.release(control, reader, upto)
            for sequence, row in enumerate(taken, before + 1):
                check(row, sequence)
            return Finished() if upto == last else None

        return read

    def consuming(self, reader: int, last: int, batch: int = 2) -> Turn:
        """Answers a Python agent's turn: the same through a handle."""
        consumer = self.modules.handles.Consumer(self.segment, reader)

        def consume(_: None) -> Hashable:
            before = consumer.released
            taken = read_in_place(consumer.poll(batch))
            if taken:
                consumer.release(before + len(taken))
            for sequence, row in enumerate(taken, before + 1):
                check(row, sequence)
            return Finished() if before + len(taken) == last else None

        return consume

    def taking(self, reader: int, last: int) -> Turn:
        """Answers a Python agent's turn: copies one record, knows the cursor it has seen."""
        consumer = self.modules.handles.Consumer(self.segment, reader)

        def take(seen: int) -> Hashable:
            consumer._seen = seen
            before = consumer.released
            record = consumer.take()
            is_over = record is not None and check(record, before + 1) == last
            return Finished() if is_over else int(consumer._seen)

        return take

    def observing(self, reader: int, last: int, batch: int = 1) -> Turn:
        """Answers an observer's turn: copies, and ends when no record is left to take or to miss.

        Its result is what it took.
        """
        control, ring = self.control, self.ring
        base = ring.READER_BASE + ring.READER_WORDS * reader

        def observe(taken: tuple[int, ...]) -> Hashable:
            out = Scratch(batch, ROW_WORDS)
            count = self.modules.observer.observe(control, self.rows, reader, out)
            for row in out.rows[:count]:
                sequence = check(row)
                if taken and sequence <= taken[-1]:
                    raise Fault("order", f"record {sequence} after record {taken[-1]}")
                taken = (*taken, sequence)
            if control[base + ring.RELEASED] < last:
                return taken
            if len(taken) + control[base + ring.OVERRUN_COUNT] != last + 1:
                raise Fault("lost", f"taken {taken}, the rest is not counted as overrun")
            return Finished(taken)

        return observe


def read_in_place(rows: Sequence[Words]) -> list[list[int | Lazy]]:
    """Loads every word of some rows; nobody needs the values yet."""
    return list(map(Words.copy, rows))


def check(row: Sequence[Any], expected: int | None = None) -> int:
    """Proves a record whole and the expected one; answers its sequence."""
    values = [int(word) for word in row]
    found = {value - PAYLOAD * word for word, value in enumerate(values)}
    expected = values[0] if expected is None else expected
    if found == {expected} and expected >= 0:
        return expected
    kind = "torn" if len(found) > 1 else "stale" if max(found) < expected else "overwritten"
    raise Fault(kind, f"record {expected} reads as {values}")


def stand_in(shared: Shared, modules: Any) -> None:
    """Gives the shipped segment module mappings of modelled memory, and rings small rows."""

    def mapping(name: str, *, create: bool, size: int = 0) -> Mapping:
        return Mapping(shared, name, size)

    def ndarray(shape: tuple[int], _dtype: Any, buffer: Words, offset: int = 0) -> Words:
        return buffer[offset // 8 : offset // 8 + shape[0]]

    modules.segment._Untracked = mapping
    modules.segment.np = SimpleNamespace(ndarray=ndarray, int64=int)
    modules.segment.process_start = lambda pid: 7 * bool(pid)
    modules.ring.LINE_BYTES = 8 * ROW_WORDS
