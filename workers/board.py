"""workers room: the board, where supervisor and workers tell each other how things stand.

Segment `board`, WORKERS_MAX rows of 64 words. Each row has a supervisor's half and a worker's half,
on cache lines of their own:

    word     field           writer
    0        pid             supervisor
    1        core            supervisor: configured core, -1 for any
    2        state           supervisor: WorkerState
    3        restarts        supervisor
    4        started_ns      supervisor: CLOCK_MONOTONIC of the last spawn
    5        exit_code       supervisor: of the last exit
    8..11    name            supervisor: 32 ASCII bytes
    16       ready_pid       worker: its pid once it is READY, stored last, with release
    17       heartbeat_ns    worker: CLOCK_MONOTONIC of its last sign of life
    18       phase_done      worker: the last stop phase that all its agents are done with
    19       core_found      worker: the core it is really pinned to, -1 when to several
    20       faults          worker: bits of what could not be set, see workers/pinning.py
    21       cycles          worker: duty cycles, to tell spinning from waiting
    22       busy_cycles     worker: duty cycles with work
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from shm.jit import jit, load_acquire, store_release
from shm.segment import Segment, Words, fingerprint

WORKERS_MAX, ROW_WORDS = 32, 64
BODY_BYTES = WORKERS_MAX * ROW_WORDS * 8
LAYOUT = fingerprint("board", 1, WORKERS_MAX, ROW_WORDS)
PID, CORE, STATE, RESTARTS, STARTED_NS, EXIT_CODE = range(6)
NAME, NAME_WORDS = 8, 4
READY_PID, HEARTBEAT_NS, PHASE_DONE, CORE_FOUND, FAULTS, CYCLES, BUSY_CYCLES = range(16, 23)


class WorkerState(IntEnum):
    """What the supervisor holds of a worker."""

    STOPPED = 0
    STARTING = 1
    READY = 2
    BACKOFF = 3
    STOPPING = 4
    FAILED = 5  # gave up: configuration error or restart budget spent


class WorkerRow(NamedTuple):
    """A copy of one row."""

    name: str
    pid: int
    core: int
    state: WorkerState
    restarts: int
    heartbeat_ns: int
    core_found: int
    faults: int
    exit_code: int
    cycles: int
    busy_cycles: int


@jit
def _store(row: Words, index: int, value: int) -> None:
    # Pairs with _load: a supervisor that sees READY or a phase sees what was done for it.
    store_release(row, index, value)


@jit
def _load(row: Words, index: int) -> int:
    # Pairs with _store.
    return load_acquire(row, index)


class Board:
    """Handle over the whole board."""

    def __init__(self, segment: Segment) -> None:
        self._rows = segment.rows(0, WORKERS_MAX, ROW_WORDS)

    def row(self, index: int) -> Words:
        """Views row `index`, (ROW_WORDS,) int64."""
        view: Words = self._rows[index]
        return view

    def name(self, index: int, text: str) -> None:
        """Names a row. Called by: the supervisor before start."""
        raw = text.encode("ascii").ljust(8 * NAME_WORDS, b"\0")
        self._rows[index, NAME : NAME + NAME_WORDS] = np.frombuffer(raw, np.int64)

    def set(self, index: int, field: int, value: int) -> None:
        """Stores a field. Called by: the field's writer."""
        _store(self.row(index), field, value)

    def get(self, index: int, field: int) -> int:
        """Answers a field."""
        return _load(self.row(index), field)

    def rows(self) -> list[WorkerRow]:
        """Answers a copy of every named row. Called by: any process."""
        return [self._copy(index) for index in range(WORKERS_MAX) if self._rows[index, NAME]]

    def _copy(self, index: int) -> WorkerRow:
        row = self.row(index)
        raw = row[NAME : NAME + NAME_WORDS].tobytes().rstrip(b"\0")
        return WorkerRow(
            name=raw.decode("ascii"),
            pid=int(row[PID]),
            core=int(row[CORE]),
            state=WorkerState(int(row[STATE])),
            restarts=int(row[RESTARTS]),
            heartbeat_ns=int(row[HEARTBEAT_NS]),
            core_found=int(row[CORE_FOUND]),
            faults=int(row[FAULTS]),
            exit_code=int(row[EXIT_CODE]),
            cycles=int(row[CYCLES]),
            busy_cycles=int(row[BUSY_CYCLES]),
        )
