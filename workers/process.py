"""workers room: one worker's process as the supervisor sees it: spawn, watch, reap, restart.

Processes come from a warm forkserver: a process that has imported and compiled everything and only
forks. A dead worker is back in tens of milliseconds; a cold start would take seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from config.settings import EngineSettings, WorkerSettings
from workers import board as boards
from workers.agent import Phase
from workers.board import Board, WorkerState
from workers.context import Run
from workers.runner import EXIT_CONFIG, run_worker

COLD_PATIENCE = 10  # times heartbeat_ms_max, for workers on background priority


def warm_context() -> ForkServerContext:
    """Answers the multiprocessing context whose server has everything loaded."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a threaded process must not be forked
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workers.preload"])
    return context


class WorkerProcess:
    """Keeps one worker alive within its restart budget."""

    def __init__(
        self, run: Run, worker: WorkerSettings, index: int, board: Board, context: ForkServerContext
    ) -> None:
        self.worker = worker
        self.index = index
        self._run, self._board, self._context = run, board, context
        self._limits: EngineSettings = run.settings.engine
        self._process: BaseProcess | None = None
        # A worker that gives way to all others may wait long for a core without being ill.
        patience = COLD_PATIENCE if worker.nice > 0 or worker.scheduler == "idle" else 1
        self._silence_ns_max = self._limits.heartbeat_ms_max * patience * 1_000_000
        self._spawned_ns = 0
        self._respawn_ns = 0
        self._is_killed = False
        self._deaths: deque[int] = deque(maxlen=self._limits.restarts_max + 1)
        self.restarts = 0
        board.name(index, worker.name)
        board.set(index, boards.CORE, worker.core)

    @property
    def state(self) -> WorkerState:
        """What the board says."""
        return WorkerState(self._board.get(self.index, boards.STATE))

    def _set_state(self, state: WorkerState) -> None:
        self._board.set(self.index, boards.STATE, state)

    @property
    def sentinel(self) -> int | None:
        """A descriptor that becomes readable when the process ends."""
        return self._process.sentinel if self._process is not None else None

    @property
    def phase_done(self) -> int:
        """The last stop phase that the worker is done with; a stopped one is done with all."""
        if self.state in {WorkerState.FAILED, WorkerState.STOPPED}:
            return Phase.EXIT
        is_ready = self.state in {WorkerState.READY, WorkerState.STOPPING}
        return self._board.get(self.index, boards.PHASE_DONE) if is_ready else 0

    def spawn(self) -> None:
        """Starts the process."""
        process = self._context.Process(
            target=run_worker, args=(self._run, self.worker.name, self.index), daemon=False
        )
        process.start()
        self._process = process
        self._is_killed = False
        self._set_state(WorkerState.STARTING)
        self._spawned_ns = time.monotonic_ns()
        self._board.set(self.index, boards.PID, process.pid or 0)
        self._board.set(self.index, boards.STARTED_NS, self._spawned_ns)

    def watch(self, now_ns: int) -> str:
        """Moves the state on; answers an event worth telling, or nothing."""
        process = self._process
        if process is None:
            if self.state == WorkerState.BACKOFF and now_ns >= self._respawn_ns:
                self.spawn()
            return ""
        if process.exitcode is not None:
            return self._reap(process.exitcode, now_ns)
        if self.state == WorkerState.STARTING:
            return self._watch_start(process, now_ns)
        age_ns = now_ns - self._board.get(self.index, boards.HEARTBEAT_NS)
        if age_ns > self._silence_ns_max:
            return self._kill_once(f"silent for {age_ns // 1_000_000} ms, killed")
        return ""

    def _watch_start(self, process: BaseProcess, now_ns: int) -> str:
        if self._board.get(self.index, boards.READY_PID) == process.pid:
            self._set_state(WorkerState.READY)
            return "ready"
        if now_ns - self._spawned_ns > self._limits.ready_s_max * 1e9:
            return self._kill_once(f"not ready within {self._limits.ready_s_max} s, killed")
        return ""

    def _kill_once(self, event: str) -> str:
        """Kills the process; answers the event once, however long the kernel takes."""
        assert self._process is not None, "a killed worker runs"
        if self._is_killed:
            return ""
        self._is_killed = True
        self._process.kill()
        return event

    def _reap(self, code: int, now_ns: int) -> str:
        assert self._process is not None, "a reaped worker has run"
        self._process.close()
        self._process = None
        self._board.set(self.index, boards.EXIT_CODE, code)
        if self.state == WorkerState.STOPPING:
            self._set_state(WorkerState.STOPPED)
            return ""
        if code == EXIT_CONFIG:
            self._set_state(WorkerState.FAILED)
            return "stopped: its configuration is wrong, see its last log line"
        window_ns = int(self._limits.restart_window_s * 1e9)
        self._deaths.append(now_ns)
        recent = sum(1 for death in self._deaths if now_ns - death < window_ns)
        if recent > self._limits.restarts_max:
            self._set_state(WorkerState.FAILED)
            return f"died {recent} times in {self._limits.restart_window_s:.0f} s, given up"
        delay_ms = min(
            self._limits.restart_backoff_ms << min(recent - 1, 16),
            self._limits.restart_backoff_ms_max,
        )
        self._respawn_ns = now_ns + delay_ms * 1_000_000
        self._set_state(WorkerState.BACKOFF)
        self.restarts += 1
        self._board.set(self.index, boards.RESTARTS, self.restarts)
        return f"died ({exit_text(code)}), back in {delay_ms} ms"

    def expect_exit(self) -> None:
        """From now on the end of the process is no accident."""
        if self._process is None:
            self._set_state(WorkerState.STOPPED)
        elif self.state != WorkerState.FAILED:
            self._set_state(WorkerState.STOPPING)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process while it lives."""
        if self._process is not None and self._process.exitcode is None:
            os.kill(self._process.pid or 0, number)

    def kill(self) -> None:
        """Ends the process at once and waits for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    @property
    def is_gone(self) -> bool:
        """Says whether there is no process."""
        return self._process is None


def exit_text(code: int) -> str:
    """Answers an exit code in words: a signal's name or the number."""
    return signal.Signals(-code).name if code < 0 else f"exit {code}"
