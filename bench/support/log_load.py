"""Bench: one logger under load: what a call costs its caller, and how many a second get through.

Run as a process: python -m bench.support.log_load SUBJECT FOLDER CALLER_CORE OTHER_CORE MESSAGES
It leaves `caller.npy` in the folder, and `compiled.npy` where a logger has such a call, and prints
one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from shm.segment import Words

BURST = 512  # messages without a pause
BACKLOG_MAX = 2_600  # messages under way before a burst, more than half of our ring of 4,096
WARM = 2_000
WAIT_S, DRAIN_S_MAX = 0.0005, 60.0
SUBJECTS = {
    "tickring": "bench.support.log_tickring:Tickring",
    "floor": "bench.support.log_load:Floor",
    "stdlib_file": "bench.rivals.log_stdlib:StandardFile",
    "stdlib_queue": "bench.rivals.log_stdlib:StandardQueue",
    "picologging_file": "bench.rivals.log_picologging:PicologgingFile",
    "picologging_queue": "bench.rivals.log_picologging:PicologgingQueue",
    "loguru": "bench.rivals.log_loguru:Loguru",
    "structlog_orjson": "bench.rivals.log_structlog:Structlog",
}
Means = npt.NDArray[np.float64]
_pause = threading.Event()


class Place(NamedTuple):
    """Where a logger under load lives.

    Attributes:
        folder: for its files, its own.
        caller_core: of the thread that logs, pinned already; -1 for not.
        other_core: for whatever else it starts; -1 for anywhere.
    """

    folder: Path
    caller_core: int
    other_core: int


class Subject(Protocol):
    """A logger; every message is `order sent` with a text, an integer and a float."""

    def log(self, number: int) -> None:
        """Logs one message."""

    def backlog(self) -> int:
        """Answers how many messages are not written yet; 0 where the caller writes them itself."""

    def close(self) -> None:
        """Ends the logger with everything written."""

    def lines(self) -> int:
        """Answers how many messages its files hold. Called by: after `close`."""


class CompiledSubject(Subject, Protocol):
    """A logger that compiled code may call too."""

    def compiled_ns(self, calls: int) -> Means:
        """Logs from compiled code; answers the mean ns of a call in each batch."""


class Floor:
    """No logger: what is measured of a call that does nothing."""

    def __init__(self, place: Place) -> None:
        del place
        self._count = 0

    def log(self, number: int) -> None:
        """Does nothing."""

    def backlog(self) -> int:
        """Answers 0."""
        return 0

    def close(self) -> None:
        """Does nothing."""

    def lines(self) -> int:
        """Answers that nothing is missing."""
        return -1


def pin(thread: int, core: int) -> None:
    """Pins a thread (0: this one) to a core, unless that is -1."""
    if core >= 0:
        os.sched_setaffinity(thread, {core})


def await_backlog(subject: Subject, count_max: int) -> None:
    """Waits until no more than `count_max` messages are under way."""
    deadline_ns = time.monotonic_ns() + int(DRAIN_S_MAX * 1e9)
    while subject.backlog() > count_max:
        if time.monotonic_ns() > deadline_ns:
            raise RuntimeError(f"a logger must write what it took: backlog={subject.backlog()}")
        _pause.wait(WAIT_S)


def caller_ns(subject: Subject, messages: int) -> Words:
    """Answers what each call took, (messages,) int64 ns, one reading of the clock included."""
    took = np.zeros(messages, np.int64)
    clock, log = time.perf_counter_ns, subject.log
    for first in range(0, messages, BURST):
        await_backlog(subject, BACKLOG_MAX)
        for number in range(first, min(first + BURST, messages)):
            before = clock()
            log(number)
            took[number] = clock() - before
    await_backlog(subject, 0)
    return took


def records_per_s(subject: Subject, messages: int) -> float:
    """Answers how many messages a second get from the first call into the file, none lost."""
    log = subject.log
    start_ns = time.perf_counter_ns()
    for first in range(0, messages, BURST):
        await_backlog(subject, BACKLOG_MAX)
        for number in range(first, min(first + BURST, messages)):
            log(number)
    await_backlog(subject, 0)
    return messages * 1e9 / (time.perf_counter_ns() - start_ns)


def measure(name: str, place: Place, messages: int) -> dict[str, float]:
    """Puts one logger under load; answers its rate and what it lost, leaves the times in files."""
    module, _, attribute = SUBJECTS[name].partition(":")
    subject: Subject = getattr(import_module(module), attribute)(place)
    warm = min(messages, WARM)
    caller_ns(subject, warm)  # the first calls of anything are slow
    np.save(place.folder / "caller.npy", caller_ns(subject, messages))
    rate = records_per_s(subject, messages)
    compiled: Callable[[int], Means] | None = getattr(subject, "compiled_ns", None)
    if compiled is not None:
        np.save(place.folder / "compiled.npy", compiled(messages))
    subject.close()
    found = subject.lines()
    return {"records_per_s": rate, "lost": 0 if found < 0 else warm + 2 * messages - found}


def main() -> None:
    """Measures; see the module."""
    name, folder, *numbers = sys.argv[1:]
    caller_core, other_core, messages = map(int, numbers)
    pin(0, caller_core)
    place = Place(Path(folder), caller_core, other_core)
    print(json.dumps(measure(name, place, messages)), flush=True)


if __name__ == "__main__":
    main()
