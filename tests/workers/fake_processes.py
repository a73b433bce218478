"""Worker processes that are none: a test says when they are READY, beat and die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from config.settings import EngineSettings, Settings
from engine.control import CONTROL_WORDS, PHASE
from tests.workers.observed_run import small_settings
from workers import board as boards
from workers.agent import Phase
from workers.board import WorkerState
from workers.memory import plan_run
from workers.process import WorkerProcess
from workers.supervisor import Supervisor

ANY_PID = 1 << 30  # more than any kernel gives


class FakeProcess:
    """What multiprocessing answers for a child."""

    def __init__(self, pid: int, name: str) -> None:
        self.pid, self.name = pid, name
        self.exitcode: int | None = None
        self.is_killable = True
        self.sentinel, self._end = os.pipe()

    def start(self) -> None:
        """Runs."""

    def die(self, code: int) -> None:
        """Ends with an exit code, or by a signal when it is negative."""
        if self.exitcode is None:
            self.exitcode = code
            os.close(self._end)

    def kill(self) -> None:
        """Is killed."""
        if self.is_killable:
            self.die(-signal.SIGKILL)

    def join(self) -> None:
        """Is waited for."""
        self.die(-signal.SIGKILL)

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self.sentinel)


class FakeContext:
    """Starts fakes; `processes` holds every one that was started, by worker."""

    def __init__(self) -> None:
        self.processes: dict[str, list[FakeProcess]] = {}
        self.on_start: Callable[[], None] = lambda: None
        self._pids = count(ANY_PID)

    def Process(self, *, target: object, args: tuple[Any, ...], daemon: bool) -> FakeProcess:  # noqa: N802 - as multiprocessing names it
        """Makes a process of a worker."""
        del target, daemon
        self.on_start()
        process = FakeProcess(next(self._pids), args[1])
        self.processes.setdefault(args[1], []).append(process)
        return process


class Clock:
    """CLOCK_MONOTONIC, which a test can move on."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def __call__(self) -> int:
        return time.monotonic_ns() + self.ahead_ns

    def pass_ms(self, milliseconds: int) -> None:
        """Lets time pass."""
        self.ahead_ns += milliseconds * 1_000_000


class Crew:
    """A supervisor over fakes."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.context, self.clock = FakeContext(), Clock()
        self.said: list[str] = []
        self.supervisor = Supervisor(
            plan_run(settings, folder),
            self.context,  # type: ignore[arg-type]  # a fake
            self.clock,
        )
        self.supervisor.notices.speak_with(self.said.append)
        self.board = self.supervisor.memory.board()
        self.is_docile = False  # live workers are READY, beat, and are done with every phase
        self.supervisor.poll_with(self._live)

    def worker(self, name: str) -> WorkerProcess:
        """Answers the supervisor's side of a worker."""
        return next(one for one in self.supervisor.workers if one.worker.name == name)

    def process(self, name: str) -> FakeProcess:
        """Answers the process that a worker has or had last."""
        return self.context.processes[name][-1]

    def state(self, name: str) -> WorkerState:
        """Answers what the board says."""
        return self.worker(name).state

    def make_ready(self, name: str) -> None:
        """Does what a worker does once its agents are open."""
        index = self.worker(name).index
        self.board.row(index)[boards.HEARTBEAT_NS] = self.clock()
        self.board.set(index, boards.PHASE_DONE, 0)
        self.board.set(index, boards.READY_PID, self.process(name).pid)

    def beat(self, name: str) -> None:
        """Shows a sign of life and is done with the phase in force; leaves when it must."""
        index, control = self.worker(name).index, self.supervisor.memory.control()
        phase = Phase(int(control[:CONTROL_WORDS][PHASE]))
        self.board.row(index)[boards.HEARTBEAT_NS] = self.clock()
        self.board.set(index, boards.PHASE_DONE, phase)
        if phase == Phase.EXIT:
            self.process(name).die(0)

    def _live(self) -> None:
        if not self.is_docile:
            return
        for name, processes in self.context.processes.items():
            if processes[-1].exitcode is None:
                is_new = self.state(name) == WorkerState.STARTING
                (self.make_ready if is_new else self.beat)(name)

    def start(self) -> None:
        """Starts, with every worker READY at once and doing as it should from then on."""
        self.is_docile = True
        assert self.supervisor.start()

    def turn_until_back(self, name: str) -> None:
        """Turns until a worker that died has a process again."""
        before = len(self.context.processes[name])
        while len(self.context.processes[name]) == before:
            self.supervisor.turn()


def crew_settings(name: str, **engine: Any) -> Settings:
    """Settings of three workers, with values of `[engine]`."""
    return small_settings(name, engine=EngineSettings(name=name, **engine))


@contextmanager
def crew(settings: Settings, folder: Path) -> Iterator[Crew]:
    """Gives a crew and removes its memory."""
    made = Crew(settings, folder)
    try:
        yield made
    finally:
        made.is_docile = False
        for processes in made.context.processes.values():
            for process in processes:
                process.is_killable = True
        made.supervisor.close()


def with_nice(settings: Settings, name: str, nice: int) -> Settings:
    """Answers the settings with one worker on background priority."""
    workers = tuple(
        msgspec.structs.replace(worker, nice=nice) if worker.name == name else worker
        for worker in settings.workers
    )
    return msgspec.structs.replace(settings, workers=workers)
