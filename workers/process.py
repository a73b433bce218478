"""workers room: one worker's process as the supervisor sees it: spawn, watch, reap, restart.

Processes come from a warm forkserver (workers/spawner.py). A worker that was READY once is started
again when it dies; one that never was has failed to start, and is not tried again.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from multiprocessing.process import BaseProcess

from config.settings import EngineSettings, WorkerSettings
from workers import board as boards
from workers.agent import Phase
from workers.board import Board, WorkerState
from workers.context import Run
from workers.patience import silence_ns_max
from workers.runner import EXIT_CLEAN, EXIT_CONFIG
from workers.spawner import Spawner


class WorkerProcess:
    """Keeps one worker alive within its restart budget."""

    def __init__(
        self, run: Run, worker: WorkerSettings, index: int, board: Board, spawner: Spawner
    ) -> None:
        self.worker = worker
        self.index = index
        self._run, self._board, self._spawner = run, board, spawner
        self._limits: EngineSettings = run.settings.engine
        self._process: BaseProcess | None = None
        self._silence_ns_max = silence_ns_max(worker, self._limits)
        self._spawned_ns = 0
        self._respawn_ns = 0
        self._excused_ns = 0  # part of the silence that is not the worker's fault
        self._excused_at = 0
        self._fault = ""  # why it was killed
        self._has_ended = False
        self._deaths: deque[int] = deque(maxlen=self._limits.restarts_max + 1)
        self.restarts = 0
        self.was_ready = False
        self.is_refused = False  # its configuration is wrong
        self.last_event = ""
        board.name(index, worker.name)
        board.set(index, boards.CORE, worker.core)

    @property
    def state(self) -> WorkerState:
        """What the board says."""
        return WorkerState(self._board.get(self.index, boards.STATE))

    def _set_state(self, state: WorkerState) -> None:
        self._board.set(self.index, boards.STATE, state)

    @property
    def phase_done(self) -> int:
        """The last stop phase that the worker is done with; a stopped one is done with all."""
        if self.state in {WorkerState.FAILED, WorkerState.STOPPED}:
            return Phase.EXIT
        is_ready = self.state in {WorkerState.READY, WorkerState.STOPPING}
        return self._board.get(self.index, boards.PHASE_DONE) if is_ready else 0

    def spawn(self) -> None:
        """Starts the process."""
        self._fault, self._has_ended = "", False
        self._process = process = self._spawner.start(
            self.note_end, self._run, self.worker.name, self.index
        )
        self._set_state(WorkerState.STARTING)
        self._spawned_ns = self._spawner.clock()  # the forkserver may have been loading
        self._board.set(self.index, boards.PID, process.pid or 0)
        self._board.set(self.index, boards.STARTED_NS, self._spawned_ns)

    def note_end(self) -> None:
        """Notes that the process has ended. Called by: the spawner."""
        self._has_ended = True

    def excuse(self, gap_ns: int, now_ns: int) -> None:
        """Moves the time for a sign of life, and that for being READY, by `gap_ns`.

        Called by: the supervisor, when it did not run itself for so long until `now_ns`.
        """
        self._excused_ns += gap_ns
        self._excused_at = now_ns
        self._spawned_ns += gap_ns

    def watch(self, now_ns: int) -> str:
        """Moves the state on; answers an event worth telling, or nothing."""
        event = self._watch(now_ns)
        self.last_event = event or self.last_event
        return event

    def _watch(self, now_ns: int) -> str:
        process = self._process
        if process is None:
            if self.state == WorkerState.BACKOFF and now_ns >= self._respawn_ns:
                self.spawn()
            return ""
        if self._has_ended and process.exitcode is not None:
            return self._reap(process, process.exitcode, now_ns)
        if self.state == WorkerState.STARTING:
            return self._watch_start(process, now_ns)
        age_ns = self._silence_ns(now_ns)
        if age_ns > self._silence_ns_max:
            return self._kill_once(f"silent for {age_ns // 1_000_000} ms, killed")
        return ""

    def _silence_ns(self, now_ns: int) -> int:
        beat_ns = self._board.get(self.index, boards.HEARTBEAT_NS)
        if beat_ns >= self._excused_at:
            self._excused_ns = 0
        return now_ns - beat_ns - self._excused_ns

    def _watch_start(self, process: BaseProcess, now_ns: int) -> str:
        if self._board.get(self.index, boards.READY_PID) == process.pid:
            self._set_state(WorkerState.READY)
            self.was_ready = True
            return "ready"
        if now_ns - self._spawned_ns > self._limits.ready_s_max * 1e9:
            return self._kill_once(f"not READY within {self._limits.ready_s_max:g} s, killed")
        return ""

    def _kill_once(self, event: str) -> str:
        """Kills the process; answers the event once, however long the kernel takes."""
        assert self._process is not None, "a killed worker runs"
        if self._fault:
            return ""
        self._fault = event
        self._process.kill()
        return event

    def _reap(self, process: BaseProcess, code: int, now_ns: int) -> str:
        self._forget(process)
        self._board.set(self.index, boards.EXIT_CODE, code)
        if self.state == WorkerState.STOPPING:
            self._set_state(WorkerState.STOPPED)
            is_clean = code == EXIT_CLEAN or not self.was_ready
            return "" if is_clean else f"left with {exit_text(code)}"
        if code == EXIT_CONFIG:
            self.is_refused = True
            return self._fail("stopped: its configuration is wrong")
        if not self.was_ready:
            return self._fail(self._fault or f"died ({exit_text(code)}) before it was READY")
        return self._back_off(code, now_ns)

    def _fail(self, event: str) -> str:
        self._set_state(WorkerState.FAILED)
        return event

    def _back_off(self, code: int, now_ns: int) -> str:
        window_ns = int(self._limits.restart_window_s * 1e9)
        self._deaths.append(now_ns)
        recent = sum(1 for death in self._deaths if now_ns - death < window_ns)
        if recent > self._limits.restarts_max:
            window_s = self._limits.restart_window_s
            return self._fail(f"died {recent} times in {window_s:.0f} s, given up")
        delay_ms = min(
            self._limits.restart_backoff_ms << min(recent - 1, 16),
            self._limits.restart_backoff_ms_max,
        )
        self._respawn_ns = now_ns + delay_ms * 1_000_000
        self._set_state(WorkerState.BACKOFF)
        self.restarts += 1
        self._board.set(self.index, boards.RESTARTS, self.restarts)
        return f"died ({exit_text(code)}), back in {delay_ms} ms"

    def _forget(self, process: BaseProcess) -> None:
        self._spawner.forget(process)
        self._process = None

    def give_up_start(self) -> None:
        """Ends a process that was never READY: it has taken part in nothing that must be ended."""
        if not self.was_ready and self._process is not None:
            self._set_state(WorkerState.STOPPING)
            self._process.kill()

    def expect_exit(self) -> None:
        """From now on the end of the process is no accident; one that had failed stays so."""
        if self.state != WorkerState.FAILED:
            is_gone = self._process is None
            self._set_state(WorkerState.STOPPED if is_gone else WorkerState.STOPPING)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process while it lives."""
        if self._process is not None and self._process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(self._process.pid or 0, number)

    def kill(self) -> None:
        """Ends the process at once and waits for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._forget(self._process)

    @property
    def is_gone(self) -> bool:
        """Says whether there is no process."""
        return self._process is None


def exit_text(code: int) -> str:
    """Answers an exit code in words: a signal's name or the number."""
    return signal.Signals(-code).name if code < 0 else f"exit {code}"
