"""workers room: what an agent is. The runner drives it; it does not know where it runs."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, Protocol, runtime_checkable


class Phase(IntEnum):
    """How far a stop has come; the supervisor moves on when every agent is done with a phase."""

    RUN = 1
    QUIET = 2  # no more intents
    CANCEL = 3  # open orders are cancelled and their end is awaited
    CLOSE = 4  # sockets are drained and closed
    JOURNAL = 5  # the recorder empties the rings
    STORE = 6  # store and bus catch up with the journal
    LOGS = 7  # the collector empties the log rings
    EXIT = 8  # everybody leaves


class SegmentPlan(NamedTuple):
    """A segment that an agent owns; the supervisor makes it before start."""

    name: str
    body_bytes: int
    layout: int


class Agent(Protocol):
    """One moving part: stepped by a test, sharing a process, or alone on a core."""

    role_name: str

    def on_start(self) -> None:
        """Attaches memory and warms compiled functions; the worker is READY afterwards."""

    def do_work(self) -> int:
        """Runs one bounded duty cycle that never blocks; answers the work count, 0 when idle."""

    def on_phase(self, phase: Phase) -> bool:
        """Says whether the agent is done with `phase`; asked again until it is."""

    def on_close(self) -> None:
        """Gives back what on_start took."""


@runtime_checkable
class LoopAgent(Protocol):
    """An agent with sockets: it also wants the worker's event loop."""

    async def open(self) -> None:
        """Connects or serves; the worker is READY when this returned."""

    async def close(self) -> None:
        """Closes what `open` opened."""
