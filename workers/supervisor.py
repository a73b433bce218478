"""workers room: starts the workers in order, keeps them alive, and stops them in order.

The main loop reads aloud: wait for something, watch every worker, answer control requests, move the
stop on. Signal handlers only set a flag.

A stop passes through phases (workers/agent.py): order flow first, then open orders, then sockets,
then the journal, then what reads it, then the logs. The next phase begins when every worker is done
with the last one, or when its time is over.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext

from config import topology
from config.limits import limit_words
from engine.control import CANCEL_ALL, NO_NEW, OPERATOR_HALT, PHASE, SUPERVISOR_HALT, set_word
from shm.latest import Latest
from shm.segment import Segment
from workers.agent import Phase
from workers.agents import start_rank
from workers.board import WorkerState
from workers.context import Memory, Run
from workers.memory import create_all, remove_all
from workers.notices import Notices, level_text
from workers.pinning import describe
from workers.process import WorkerProcess
from workers.spawner import Spawner, warm_context
from workers.stopsignals import NUDGE, STOP_SIGNALS

TICK_S = 0.02
CALM_TICK_S = 0.25  # while every worker is well; an end or a request is heard at once all the same
PAUSE_SHARE = 0.5  # of heartbeat_ms_max: a longer turn means that this process stood still
EXIT_S_MAX = 3.0


class StartError(RuntimeError):
    """A worker could not be started; the message says which and why.

    Attributes:
        is_configuration: what is wrong stands in the configuration; another try is no use.
    """

    def __init__(self, text: str, *, is_configuration: bool) -> None:
        super().__init__(text)
        self.is_configuration = is_configuration


class Supervisor:
    """One engine run, from shared memory to its removal.

    Args:
        run: what to run.
        context: how processes are started; without one this process becomes a supervisor for
            good, with a forkserver, and hears the signals that ask for the end.
        clock: answers CLOCK_MONOTONIC, ns.
    """

    def __init__(
        self,
        run: Run,
        context: ForkServerContext | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._is_stop_asked = False
        if context is None:
            self._hear_signals()  # before there is anything that an end would leave behind
        self.run = run
        self._clock = clock
        self._segments: list[Segment] = create_all(run)
        self.memory = Memory(run)
        self.memory.log_levels().set_all(run.settings)
        self.notices = Notices(self.memory, self.memory.logger(topology.SUPERVISOR))
        self._stats = self.memory.stats(topology.SUPERVISOR)
        self._control = self.memory.control()
        self._has_limits = False
        self._is_started = self._is_calm = False
        self._operator_level = 0
        self._pause_ns = int(PAUSE_SHARE * run.settings.engine.heartbeat_ms_max * 1_000_000)
        # Far below what counts as a pause, or every calm turn would excuse every silence.
        self._calm_tick_s = max(TICK_S, min(CALM_TICK_S, self._pause_ns / 4e9))
        self._turn_ns = 0
        self._paused_ns = 0  # how long this process stood still
        self.halt_reason = ""
        self.forced: list[str] = []  # stop phases that took too long
        board = self.memory.board()
        self._spawner = Spawner(context or warm_context(), clock)
        self.workers = [
            WorkerProcess(run, worker, index, board, self._spawner)
            for index, worker in enumerate(topology.workers(run.settings))
        ]
        self._polled: list[Callable[[], None]] = []
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
        for one in readable:
            self._spawner.wake_for(one)

    def _hear_signals(self) -> None:
        """Makes SIGTERM, SIGHUP and SIGINT ask for an ordered stop."""
        for number in STOP_SIGNALS:
            signal.signal(number, self.ask_stop)

    def start(self, told: Callable[[str], None] = lambda _: None) -> bool:
        """Starts all workers by rank; each rank is READY before the next is spawned.

        Returns:
            Whether all are READY; not when a stop was asked for meanwhile.

        Raises:
            StartError: a worker died before it was READY, or was not READY in time.
        """
        if not topology.takes_orders(self.run.settings):
            self.halt(NO_NEW, "the venue takes no orders, this engine only listens")
        ranked = sorted(self.workers, key=_rank)
        for rank in sorted({_rank(worker) for worker in ranked}):
            group = [worker for worker in ranked if _rank(worker) == rank]
            for worker in group:
                worker.spawn()
            self._turn_ns = self._clock()  # the forkserver may have been loading until now
            self._await_ready(group, told)
            if self._is_stop_asked:
                return False
        self._is_started = True
        self._tell_refused()
        return True

    def _await_ready(self, group: list[WorkerProcess], told: Callable[[str], None]) -> None:
        waiting = list(group)
        while waiting and not self._is_stop_asked:
            self.turn()
            for worker in [worker for worker in waiting if worker.was_ready]:
                waiting.remove(worker)
                told(worker.worker.name)
            for worker in self.workers:
                if worker.state == WorkerState.FAILED:
                    raise StartError(self._why(worker), is_configuration=worker.is_refused)

    def _why(self, worker: WorkerProcess) -> str:
        name = worker.worker.name
        error = self.notices.last_error(name) or "no error was left behind"
        return f"worker must become READY: worker={name} {worker.last_event}; {error}"

    def _tell_refused(self) -> None:
        """Says once what the host did not give to a worker."""
        for row in self.memory.board().rows():
            if row.faults:
                refused = ", ".join(describe(row.faults))
                self.notices.warning("host refused a setting", worker=row.name, refused=refused)

    def turn(self) -> None:
        """Runs the main loop once; waits at most TICK_S for news, when all is well CALM_TICK_S."""
        self._spawner.wait(self._calm_tick_s if self._is_calm else TICK_S)
        now_ns = self._clock()
        self._note_pause(now_ns)
        for worker in self.workers:
            event = worker.watch(now_ns)
            if event:
                self._tell(worker, event)
        if not self._has_limits:
            self._publish_limits()
        self._watch_operator()
        self.notices.look(now_ns)
        for poll in self._polled:
            poll()
        is_on = self._is_started and not self._is_stop_asked
        self._is_calm = is_on and all(w.state == WorkerState.READY for w in self.workers)

    def _note_pause(self, now_ns: int) -> None:
        """Moves every deadline when this process stood still: so did the workers, no doubt.

        A virtual machine that is stopped and a laptop that sleeps look like silence otherwise.
        """
        gap_ns = now_ns - self._turn_ns if self._turn_ns else 0
        self._turn_ns = now_ns
        if gap_ns > self._pause_ns:
            self._paused_ns += gap_ns
            for worker in self.workers:
                worker.excuse(gap_ns, now_ns)
            self.notices.warning("supervisor stood still", ms=gap_ns // 1_000_000)

    def _awake_s(self) -> float:
        """Answers a clock that stands still while this process does."""
        return (self._clock() - self._paused_ns) / 1e9

    def _tell(self, worker: WorkerProcess, event: str) -> None:
        name = worker.worker.name
        fields = {"worker": name, "what": event, "restarts": worker.restarts}
        if event == "ready":
            self.notices.info("worker is ready", worker=name, restarts=worker.restarts)
        elif self._is_started or worker.was_ready:
            self.notices.warning("worker is not well", **fields)
        if worker.state == WorkerState.FAILED and self._is_started:
            # Among the errors, so that the status page shows the reason as well.
            self._stats.error(f"a worker must not be given up: worker={name} {event}")
            self.halt(CANCEL_ALL, f"worker {name} {event}")

    def _publish_limits(self) -> None:
        """Publishes the risk limits as soon as the venue has told the grids they are counted in."""
        instruments = self.memory.instruments()
        if instruments:
            self._has_limits = True  # also when they do not fit: that is said once, by raising
            cell = self.memory.segment("limits")
            values = limit_words(self.run.settings, instruments)
            Latest(cell.words(0, 1 + len(values))).write(values)
            self.notices.info("limits are loaded", instruments=len(instruments))

    def _watch_operator(self) -> None:
        """Says what an operator did to the kill switch past this process."""
        level = int(self._control[OPERATOR_HALT])
        if level != self._operator_level:
            self._operator_level = level
            event = "operator halts trading" if level else "operator lets trading go on"
            self.notices.warning(event, level=level_text(level))

    def halt(self, level: int, reason: str) -> None:
        """Stops order flow until an operator resumes; 0 as level resumes."""
        set_word(self._control, SUPERVISOR_HALT, level)
        self.halt_reason = reason if level else ""
        if level:
            self.notices.critical("trading is halted", level=level_text(level), reason=reason)
        else:
            self.notices.warning("trading is resumed", reason=reason)

    def stop(self, told: Callable[[str], None] = lambda _: None) -> None:
        """Stops in order and waits for every worker's end.

        Called by: whoever made this supervisor, once; also after a start that failed.
        """
        for worker in self.workers:
            worker.give_up_start()
        for phase in list(Phase)[1:-1]:
            told(phase.name.lower())
            self._set_phase(phase)
            self._await_phase(phase)
        for worker in self.workers:
            worker.expect_exit()
        self._set_phase(Phase.EXIT)
        if not any(self._await_exit(number) for number in (None, signal.SIGTERM, signal.SIGKILL)):
            self.notices.error("workers do not end", workers=",".join(self._living()))

    def _set_phase(self, phase: Phase) -> None:
        """Moves the phase on and wakes whoever sleeps over it."""
        set_word(self._control, PHASE, phase)
        for worker in self.workers:
            worker.send(NUDGE)

    def _await_phase(self, phase: Phase) -> None:
        deadline_s = self._awake_s() + self.run.settings.engine.drain_s_max
        late = [""]
        while self._awake_s() < deadline_s:
            self.turn()
            late = [w.worker.name for w in self.workers if w.phase_done < phase]
            if not late:
                return
        self._note_forced(phase, late)

    def _note_forced(self, phase: Phase, late: list[str]) -> None:
        self.forced.append(phase.name)
        self.notices.error("stop phase took too long", phase=phase.name, workers=",".join(late))

    def _await_exit(self, number: signal.Signals | None) -> bool:
        """Waits until every worker has left, with a signal if given; says whether all have."""
        deadline_s = self._awake_s() + EXIT_S_MAX
        if number == signal.SIGTERM:
            self._note_forced(Phase.EXIT, self._living())
        if number is not None:
            for worker in self.workers:
                worker.send(number)
        while self._awake_s() < deadline_s:
            self.turn()
            if not self._living():
                return True
        return False

    def _living(self) -> list[str]:
        return [worker.worker.name for worker in self.workers if not worker.is_gone]

    def close(self) -> None:
        """Removes all shared memory of the run; whoever still lives then is killed."""
        for worker in self.workers:
            worker.kill()
        self._spawner.close()
        self.memory.close()
        remove_all(self._segments)


def _rank(worker: WorkerProcess) -> int:
    return min(start_rank(agent) for agent in worker.worker.agents)
