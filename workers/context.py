"""workers room: what an agent is given: its settings and the shared memory it may touch.

Names of segments, who reads which ring at which place, and which memory belongs to whom all follow
from the configuration, so any process can attach without asking another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from config.settings import Settings
from config.topology import RingPlan, rings
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX, Instrument, from_words
from shm import segment
from shm.handles import Consumer, Producer
from shm.latest import Latest
from shm.ring import CONTROL_WORDS
from shm.ring import attach as attach_ring
from shm.segment import Segment, Words
from shm.stats import LAYOUT as STATS_LAYOUT
from shm.stats import Stats
from workers.agent import SegmentPlan
from workers.board import LAYOUT as BOARD_LAYOUT
from workers.board import Board
from workers.log import Logger
from workers.loglevels import WORDS as LEVEL_WORDS
from workers.loglevels import LogLevels


class Run(NamedTuple):
    """One run of one engine: enough for any process to find its memory and files."""

    settings: Settings
    data_dir: Path
    generation: int
    plans: tuple[SegmentPlan, ...]

    @property
    def prefix(self) -> str:
        """What every segment of this engine begins with."""
        return segment_prefix(self.settings, self.data_dir)


def segment_prefix(settings: Settings, data_dir: Path) -> str:
    """Answers `tickring.NAME-HASH.`: one name and data folder, one engine at a time."""
    digest = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:6]
    return f"tickring.{settings.engine.name}-{digest}."


class Memory:
    """Attaches the segments of a run by their short names and keeps them until `close`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._rings = {plan.name: plan for plan in rings(run.settings)}
        self._plans = {plan.name: plan for plan in run.plans}
        self._open: dict[str, Segment] = {}

    @property
    def ring_plans(self) -> tuple[RingPlan, ...]:
        """Every ring of the run, in the order of the data path."""
        return tuple(self._rings.values())

    def segment(self, name: str) -> Segment:
        """Attaches a segment that is no ring; raises KeyError for one that nobody planned."""
        if name not in self._open:
            self._open[name] = segment.attach(self.run.prefix + name, self._layout(name))
        return self._open[name]

    def _layout(self, name: str) -> int:
        if name.startswith("stats."):
            return STATS_LAYOUT
        return BOARD_LAYOUT if name == "board" else self._plans[name].layout

    def ring(self, name: str) -> Segment:
        """Attaches a ring's segment; raises KeyError for one that nobody planned."""
        if name not in self._open:
            plan = self._rings[name]
            self._open[name] = attach_ring(
                self.run.prefix + name, capacity=plan.capacity, row_bytes=plan.row_bytes
            )
        return self._open[name]

    def stats(self, worker: str) -> Stats:
        """Answers the numbers of a worker, for reading or, in that worker, for writing."""
        return Stats(self.segment(f"stats.{worker}"))

    def board(self) -> Board:
        """Answers the board."""
        return Board(self.segment("board"))

    def control(self) -> Words:
        """Answers the control words, see engine/control.py."""
        return self.segment("control").words(0, 64)

    def log_levels(self) -> LogLevels:
        """Answers the words that say what each worker logs."""
        return LogLevels(self.segment("loglevels").words(0, LEVEL_WORDS), self.run.settings)

    def logger(self, worker: str) -> Logger:
        """Answers the logger of a process. Called by: that process, once."""
        level = self.log_levels().word(worker)
        return Logger(self.producer(f"log.{worker}"), worker, level)

    def observe(self, name: str) -> Words:
        """Answers the control words of a ring, for cursors and lags."""
        return self.ring(name).words(0, CONTROL_WORDS)

    def producer(self, name: str) -> Producer:
        """Answers the writing end of a ring. Called by: its one writer."""
        return Producer(self.ring(name))

    def consumer(self, name: str, reader: str) -> Consumer:
        """Answers the end of a ring that belongs to the agent `reader`."""
        return Consumer(self.ring(name), self._rings[name].readers.index(reader))

    def instruments(self) -> tuple[Instrument, ...]:
        """Answers the instruments in index order, none before the venue has told them."""
        cell = self.segment("instruments").words(0, 1 + INSTRUMENTS_MAX * INSTRUMENT_WORDS)
        words = Latest(cell).find()
        if words is None:
            return ()
        table = words.reshape(INSTRUMENTS_MAX, INSTRUMENT_WORDS)
        symbols = self.run.settings.market.symbols
        return tuple(from_words(index, table[index]) for index in range(len(symbols)))

    def close(self) -> None:
        """Drops every mapping."""
        for opened in self._open.values():
            opened.close()
        self._open.clear()


class AgentContext:
    """What one agent in one worker is given."""

    def __init__(self, memory: Memory, worker: str, agent: str, logger: Logger) -> None:
        self.memory = memory
        self.worker = worker
        self.agent = agent
        self.logger = logger
        self.settings = memory.run.settings
        self.data_dir = memory.run.data_dir
        self.generation = memory.run.generation
        self.stats = memory.stats(worker)
        self.board = memory.board()
        # Socket callbacks call this so that a waiting runner steps its agents at once.
        self.wake: Callable[[], None] = lambda: None

    def producer(self, name: str) -> Producer:
        """Answers the writing end of a ring of this agent."""
        return self.memory.producer(name)

    def consumer(self, name: str) -> Consumer:
        """Answers this agent's reading end of a ring."""
        return self.memory.consumer(name, self.agent)

    def observe(self, name: str) -> Words:
        """Answers the control words of any ring."""
        return self.memory.observe(name)

    def segment(self, name: str) -> Segment:
        """Attaches a segment by its short name."""
        return self.memory.segment(name)

    def control(self) -> Words:
        """Answers the control words: halt levels and the phase."""
        return self.memory.control()

    def instruments(self) -> tuple[Instrument, ...]:
        """Answers the instruments in index order, none before the venue has told them."""
        return self.memory.instruments()


@contextmanager
def opened(run: Run) -> Iterator[Memory]:
    """Opens a run's memory for a tool and closes it again."""
    memory = Memory(run)
    try:
        yield memory
    finally:
        memory.close()
