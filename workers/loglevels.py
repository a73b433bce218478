"""workers room: the log level of every worker as a word that may change while it runs.

Segment `loglevels`, words of int64, one a log ring in the order of the plan: the lowest level that
this worker writes (10 debug, 20 info, 30 warning, 40 error, 50 critical). One writer, the
supervisor; the words share cache lines because they almost never change.
"""

from __future__ import annotations

from typing import Final

from config import topology
from config.settings import Settings
from engine.eventcodes import CRITICAL, DEBUG, ERROR, INFO, WARNING
from shm.jit import jit, store_release
from shm.segment import Words, fingerprint
from workers.agent import SegmentPlan

SEGMENT: Final = "loglevels"
WORDS: Final = 128
LAYOUT: Final = fingerprint("loglevels", 1, WORDS)
LEVELS: Final[dict[str, int]] = {
    "debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL,
}  # fmt: skip
NAMES: Final[dict[int, str]] = {number: name for name, number in LEVELS.items()}


@jit
def set_level(words: Words, index: int, level: int) -> None:
    """Stores one level. Called by: the supervisor."""
    # Pairs with is_logged in workers/logrows.py: nothing else hangs on the level.
    store_release(words, index, level)


def segment_plan() -> SegmentPlan:
    """Answers the segment that the supervisor makes before start."""
    return SegmentPlan(SEGMENT, WORDS * 8, LAYOUT)


def worker_names(settings: Settings) -> tuple[str, ...]:
    """Names every process with a log ring, in the order of their words."""
    return (*(worker.name for worker in topology.workers(settings)), topology.SUPERVISOR)


def level_number(name: str) -> int:
    """Answers the number of a level's name; raises ValueError for any other text."""
    if name not in LEVELS:
        raise ValueError(f"a log level must be one of {', '.join(LEVELS)}: level={name}")
    return LEVELS[name]


def level_name(level: int) -> str:
    """Answers the name of the highest level that is not above `level`."""
    return NAMES[max((known for known in NAMES if known <= level), default=DEBUG)]


class LogLevels:
    """The words of the segment by worker name. Called by: the supervisor; anyone may read."""

    def __init__(self, words: Words, settings: Settings) -> None:
        self._words = words
        self._index = {name: index for index, name in enumerate(worker_names(settings))}

    def word(self, worker: str) -> Words:
        """Views the level word of a worker, (1,) int64, for its Logger."""
        index = self._place(worker)
        return self._words[index : index + 1]

    def level(self, worker: str) -> str:
        """Answers a worker's level by name."""
        return level_name(int(self._words[self._place(worker)]))

    def set(self, worker: str, level: str) -> None:
        """Sets a worker's level; raises ValueError when there is no such worker or level."""
        set_level(self._words, self._place(worker), level_number(level))

    def set_all(self, settings: Settings) -> None:
        """Sets the levels of the configuration. Called by: the supervisor before start."""
        for worker in self._index:
            self.set(worker, settings.log.levels.get(worker, settings.log.level))

    def _place(self, worker: str) -> int:
        if worker not in self._index:
            known = ", ".join(self._index)
            raise ValueError(f"a log level needs a worker that runs: worker={worker} known={known}")
        return self._index[worker]
