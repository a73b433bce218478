"""workers room: what the journal holds and the database does not: runs in order, rings in turn.

Runs that ended are read first, oldest first, each to its end; then the current run as it grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from engine.instruments import Instrument
from workers.journal import (
    GenerationFacts,
    JournalError,
    Tail,
    generation_folder,
    generations,
    read_generation,
    read_instruments,
    rings_of,
)
from workers.tables import Part

DAMAGED_TURNS = 100  # a ring that cannot be read is tried again in every so many turns


class RunBacklog:
    """The part of one run's journal that is not stored yet."""

    def __init__(self, folder: Path, facts: GenerationFacts, rings: list[str]) -> None:
        self.facts = facts
        self.rings = rings
        self.faults: dict[str, str] = {}  # ring -> why it cannot be read
        self._folder = folder
        self._tails: list[Tail] = []
        self._turn = 0

    def seek(self, positions: Mapping[tuple[int, str], int]) -> None:
        """Goes to where the database is. Positions of other runs may be among them."""
        self.close()
        run = self.facts.generation
        self._tails = [
            Tail(self._folder, ring, positions.get((run, ring), 0)) for ring in self.rings
        ]

    def instruments(self) -> tuple[Instrument, ...]:
        """Answers the run's instruments, none before the venue told them."""
        return read_instruments(self._folder)

    def has_new_rings(self) -> bool:
        """Says whether the recorder has begun rings that were not there."""
        return rings_of(self._folder) != self.rings

    def read(self, records_max: int, ends: Mapping[str, int] | None = None) -> list[Part]:
        """Answers the next records, at most one part a ring, beginning with another ring each time.

        A ring whose journal is damaged is left out and named in `faults`.

        Args:
            records_max: of all parts together.
            ends: of a run that grows: per ring the sequence that is published next. A ring that
                has nothing further is not looked at on disk.
        """
        parts: list[Part] = []
        self._turn += 1
        for index in range(len(self._tails)):
            tail = self._tails[(index + self._turn) % len(self._tails)]
            if ends is not None and tail.next_sequence >= ends.get(tail.ring, 1 << 62):
                continue
            part = self._read(tail, records_max) if records_max > 0 else None
            if part is not None:
                parts.append(part)
                records_max -= len(part.rows)
        return parts

    def close(self) -> None:
        """Closes the files."""
        for tail in self._tails:
            tail.close()
        self._tails = []

    def _read(self, tail: Tail, records_max: int) -> Part | None:
        if tail.ring in self.faults and self._turn % DAMAGED_TURNS:
            return None
        first = tail.next_sequence
        try:
            rows = tail.read(records_max)
        except JournalError as error:
            self.faults[tail.ring] = str(error)
            return None
        if len(rows) == 0:
            return None
        self.faults.pop(tail.ring, None)
        facts = self.facts
        return Part(facts.generation, tail.ring, facts.clock_offset_ns, first, rows)


def unfinished(data_dir: Path, current: int, finished: AbstractSet[int]) -> list[int]:
    """Answers the runs to store, oldest first: up to `current`, without those finished."""
    return [run for run in generations(data_dir) if run not in finished and run <= current]


def open_run(data_dir: Path, generation: int) -> RunBacklog | None:
    """Answers a run's backlog, None while its recorder has not begun. Raises JournalError."""
    folder = generation_folder(data_dir, generation)
    facts = read_generation(folder)
    rings = rings_of(folder)
    return RunBacklog(folder, facts, rings) if facts is not None and rings else None
