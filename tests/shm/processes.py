"""Real processes for tests: forked, watched, and never left behind.

A test forks from the interpreter that has everything compiled, so a process costs a millisecond.
The child attaches by name like any worker, and dies with the test's own process.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, Self

from shm.jit import now_ns

P = ParamSpec("P")
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
DEPTH = 10 if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else 1  # of races and kills
DEADLINE_NS = DEPTH * 120_000_000_000  # far beyond any load: it ends a hang, it measures nothing


def nap(seconds: float) -> None:
    """Gives the core away for about this long; never a way to wait for another process."""
    select.select([], [], [], seconds)


def await_until(condition: Callable[[], bool], what: str) -> None:
    """Waits until a condition holds; fails the test when it does not within the deadline."""
    until_ns = now_ns() + DEADLINE_NS
    while not condition():
        assert now_ns() < until_ns, f"must happen in time: {what}"
        nap(0.000_05)


def is_past(before: int, number: Callable[[], int]) -> Callable[[], bool]:
    """Answers a condition: a number has gone beyond what it was."""
    return lambda: number() > before


def _fork() -> int:
    with warnings.catch_warnings():
        # 3.12 warns about numpy's idle threads, which no child uses.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


class Children:
    """The processes of one test; what still runs at its end is killed and reaped."""

    def __init__(self) -> None:
        self._living: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:  # fmt: skip
        for pid in tuple(self._living):
            self.kill(pid)

    def start(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> int:
        """Runs a function in a process of its own; an exception there is exit status 1."""
        parent = os.getpid()
        pid = _fork()
        if pid == 0:
            _live(parent, lambda: function(*args, **kwargs))
        self._living.add(pid)
        return pid

    def join(self, pid: int) -> int:
        """Waits for a process; answers its exit status, negative for a signal."""
        pidfd = os.pidfd_open(pid)
        try:
            ended, _, _ = select.select([pidfd], [], [], DEADLINE_NS / 1e9)
        finally:
            os.close(pidfd)
        assert ended, f"process must end in time: pid={pid}"
        return self.reap(pid)

    def reap(self, pid: int) -> int:
        """Takes the exit status of a process that has ended or is about to."""
        self._living.discard(pid)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def signal(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal without reaping: the process may stay as a zombie."""
        os.kill(pid, number)

    def kill(self, pid: int) -> int:
        """Kills and reaps a process."""
        self.signal(pid)
        return self.reap(pid)


def _live(parent: int, body: Callable[[], None]) -> None:
    status = 1
    try:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, int(signal.SIGKILL))
        if os.getppid() == parent:
            body()
            status = 0
    except BaseException:  # noqa: BLE001 - a child must never come back into pytest
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
