"""workers room: starts the workers in order, keeps them alive, and stops them in order.

The main loop reads aloud: wait for something, watch every worker, answer control requests, move the
stop on. Signal handlers only set a flag.

A stop passes through phases (workers/agent.py): order flow first, then open orders, then sockets,
then the journal, then what reads it, then the logs. The next phase begins when every worker is done
with the last one, or when its time is over.
"""

from __future__ import annotations

import multiprocessing.connection
import signal
import socket
import time
from collections.abc import Callable

from config import topology
from config.limits import limit_words
from engine.control import CANCEL_ALL, PHASE, SUPERVISOR_HALT, set_word
from shm.latest import Latest
from shm.segment import Segment
from workers.agent import Phase
from workers.agents import start_rank
from workers.board import WorkerState
from workers.context import Memory, Run
from workers.memory import create_all, remove_all
from workers.process import WorkerProcess, warm_context

TICK_S = 0.02
EXIT_S_MAX = 3.0
MAXIMUM_START_S = 600.0


class StartError(RuntimeError):
    """A worker could not be started; the message says which and why."""


class Supervisor:
    """One engine run, from shared memory to its removal."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._segments: list[Segment] = create_all(run)
        self.memory = Memory(run)
        self.memory.log_levels().set_all(run.settings)
        self.logger = self.memory.logger(topology.SUPERVISOR)
        self._control = self.memory.control()
        self._is_stop_asked = False
        self._has_limits = False
        board, context = self.memory.board(), warm_context()
        self.workers = [
            WorkerProcess(run, worker, index, board, context)
            for index, worker in enumerate(topology.workers(run.settings))
        ]
        self._polled: list[Callable[[], None]] = []
        self._waited: list[socket.socket] = []
        set_word(self._control, PHASE, Phase.RUN)

    def ask_stop(self, *_: object) -> None:
        """Asks for an ordered stop. Called by: signal handlers and anybody in this process."""
        self._is_stop_asked = True

    @property
    def is_stop_asked(self) -> bool:
        """Whether somebody asked for a stop."""
        return self._is_stop_asked

    def poll_with(self, poll: Callable[[], None], *readable: socket.socket) -> None:
        """Calls `poll` in every turn of the main loop, and sooner when `readable` has news."""
        self._polled.append(poll)
        self._waited.extend(readable)

    def handle_signals(self) -> None:
        """Makes SIGTERM, SIGHUP and SIGINT ask for an ordered stop."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.ask_stop)

    def start(self, told: Callable[[str], None] = lambda _: None) -> None:
        """Starts all workers by rank; each rank is READY before the next is spawned.

        Raises:
            StartError: when a worker gives up before it was READY.
        """
        ranked = sorted(self.workers, key=_rank)
        for rank in sorted({_rank(worker) for worker in ranked}):
            group = [worker for worker in ranked if _rank(worker) == rank]
            for worker in group:
                worker.spawn()
            self._await_ready(group, told)
            if self._is_stop_asked:
                return

    def _await_ready(self, group: list[WorkerProcess], told: Callable[[str], None]) -> None:
        waiting = set(range(len(group)))
        deadline = time.monotonic() + MAXIMUM_START_S
        while waiting and not self._is_stop_asked:
            self.turn()
            for place in sorted(waiting):
                worker = group[place]
                if worker.state == WorkerState.READY:
                    waiting.discard(place)
                    told(worker.worker.name)
                if worker.state == WorkerState.FAILED or time.monotonic() > deadline:
                    raise StartError(self._why(worker))

    def _why(self, worker: WorkerProcess) -> str:
        errors = self.memory.stats(worker.worker.name).errors()
        text = errors[-1].text if errors else "no error was left behind"
        return f"worker must become READY: worker={worker.worker.name}; {text}"

    def turn(self) -> None:
        """Runs the main loop once; waits at most TICK_S for news."""
        sentinels = [w.sentinel for w in self.workers if w.sentinel is not None]
        multiprocessing.connection.wait([*sentinels, *self._waited], timeout=TICK_S)
        now_ns = time.monotonic_ns()
        for worker in self.workers:
            event = worker.watch(now_ns)
            if event:
                self._tell(worker, event)
        if not self._has_limits:
            self._publish_limits()
        for poll in self._polled:
            poll()

    def _tell(self, worker: WorkerProcess, event: str) -> None:
        name = worker.worker.name
        if event == "ready":
            self.logger.info("worker is ready", worker=name, restarts=worker.restarts)
        else:
            self.logger.warning(
                "worker is not well", worker=name, what=event, restarts=worker.restarts
            )
        if worker.state == WorkerState.FAILED:
            self.halt(CANCEL_ALL, f"worker {name} {event}")

    def _publish_limits(self) -> None:
        """Publishes the risk limits as soon as the venue has told the grids they are counted in."""
        instruments = self.memory.instruments()
        if instruments:
            self._has_limits = True  # also when they do not fit: that is said once, by raising
            cell = self.memory.segment("limits")
            values = limit_words(self.run.settings, instruments)
            Latest(cell.words(0, 1 + len(values))).write(values)
            self.logger.info("limits are loaded", instruments=len(instruments))

    def halt(self, level: int, reason: str) -> None:
        """Stops order flow until an operator resumes; 0 as level resumes."""
        set_word(self._control, SUPERVISOR_HALT, level)
        if level:
            self.logger.critical("trading is halted", level=level, reason=reason)
        else:
            self.logger.warning("trading is resumed", reason=reason)

    def stop(self, told: Callable[[str], None] = lambda _: None) -> None:
        """Stops in order and waits for every worker's end."""
        for phase in list(Phase)[1:-1]:
            told(phase.name.lower())
            set_word(self._control, PHASE, phase)
            self._await_phase(phase)
        for worker in self.workers:
            worker.expect_exit()
        set_word(self._control, PHASE, Phase.EXIT)
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if self._await_exit(number):
                break

    def _await_phase(self, phase: Phase) -> None:
        deadline = time.monotonic() + self.run.settings.engine.drain_s_max
        late = [""]
        while time.monotonic() < deadline:
            self.turn()
            late = [w.worker.name for w in self.workers if w.phase_done < phase]
            if not late:
                return
        self.logger.error("stop phase took too long", phase=phase.name, workers=",".join(late))

    def _await_exit(self, number: signal.Signals | None) -> bool:
        deadline = time.monotonic() + EXIT_S_MAX
        if number is not None:
            for worker in self.workers:
                worker.send(number)
        while time.monotonic() < deadline:
            self.turn()
            if all(worker.is_gone for worker in self.workers):
                return True
        return False

    def close(self) -> None:
        """Removes all shared memory of the run; whoever still lives then is killed."""
        for worker in self.workers:
            worker.kill()
        self.memory.close()
        remove_all(self._segments)


def _rank(worker: WorkerProcess) -> int:
    return min(start_rank(agent) for agent in worker.worker.agents)
