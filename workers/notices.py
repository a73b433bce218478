"""workers room: what the supervisor tells: its log, and from a warning up whoever watches the run.

Whatever a worker recorded as an error (shm/stats.py) is told as well, each distinct one once: the
person at the terminal need not know where the log lies to learn that a database is away.
"""

from __future__ import annotations

from collections.abc import Callable

from config.topology import workers
from workers.context import Memory
from workers.log import Logger
from workers.logmask import mask_text
from workers.status import HALT_NAMES

LOOK_NS = 500_000_000


def level_text(level: int) -> str:
    """Answers a halt level in words."""
    return HALT_NAMES[min(max(level, 0), len(HALT_NAMES) - 1)]  # the highest known


class Notices:
    """The supervisor's voice."""

    def __init__(self, memory: Memory, logger: Logger) -> None:
        self._logger = logger
        self._say: Callable[[str], None] = lambda _: None
        names = (worker.name for worker in workers(memory.run.settings))
        self._stats = {name: memory.stats(name) for name in names}
        self._told: set[tuple[str, str]] = set()
        self._look_ns = 0

    def speak_with(self, say: Callable[[str], None]) -> None:
        """Says warnings and worse with `say`, in one line each."""
        self._say = say

    def info(self, event: str, /, **fields: object) -> None:
        """Logs what is as it should be."""
        self._logger.info(event, **fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Logs and says what works but should be looked at."""
        self._logger.warning(event, **fields)
        self._tell("warning", event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Logs and says that something was lost."""
        self._logger.error(event, **fields)
        self._tell("error", event, fields)

    def critical(self, event: str, /, **fields: object) -> None:
        """Logs and says why trading halts."""
        self._logger.critical(event, **fields)
        self._tell("critical", event, fields)

    def _tell(self, level: str, event: str, fields: dict[str, object]) -> None:
        shown = " ".join(f"{name}={value}" for name, value in fields.items())
        self._say(mask_text(f"{level}: {event}: {shown}"))

    def last_error(self, worker: str) -> str:
        """Answers what a worker recorded last, nothing when it recorded no error."""
        errors = self._stats[worker].errors()
        return max(errors, key=lambda error: error.last_ns).text if errors else ""

    def look(self, now_ns: int) -> None:
        """Says what workers have recorded since. Called by: the supervisor, in every turn."""
        if now_ns < self._look_ns:
            return
        self._look_ns = now_ns + LOOK_NS
        for worker, stats in self._stats.items():
            for error in stats.errors():
                if (worker, error.text) not in self._told:
                    self._told.add((worker, error.text))
                    self._tell(
                        "error", "worker recorded an error", {"worker": worker, "error": error.text}
                    )
