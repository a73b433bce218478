"""workers room: the only loop there is: work, idle, heartbeat, phases, exit.

A worker's process hosts one or more agents and steps them in order. Without sockets it is a plain
loop with an idle strategy. With sockets it is a callback on uvloop that schedules itself: the loop
reads what has arrived, then every agent of the process gets its cycle, so the path from frame to
order waits for no wake-up and crosses no process. How eagerly the callback comes back is the idle
strategy:

    spin, yield   at once, for ever (yield gives the core away each time)
    backoff       at once while there was work lately, else when a socket has news or after 1 ms
    park          when a socket or a ring has news (workers/parker.py), or to show a sign of life
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import uvloop

from config import topology
from config.settings import WorkerSettings
from engine.control import EXIT_REQUEST, PHASE
from shm import park
from shm.handles import Consumer
from shm.jit import now_ns, yield_cpu
from workers import board as boards
from workers import pinning
from workers.agent import Agent, LoopAgent, Phase
from workers.agents import build
from workers.chain import Chain, StagedAgent
from workers.context import AgentContext, Memory, Run
from workers.log import Logger, bridge
from workers.parker import Parker
from workers.stopsignals import NUDGE, Signals

HEARTBEAT_NS = 1_000_000
HOT_NS = 2_000_000  # backoff stays hot this long after the last work
NAP_S = 0.001
PARK_NS_MAX = 500_000_000  # of a worker that parks; a change of phase wakes it (NUDGE)
EXIT_CLEAN, EXIT_CRASH, EXIT_CONFIG = 0, 1, 78


class Duty:
    """One worker's duty cycle and what it owes the supervisor.

    Agents with a stage run in one compiled call a cycle (workers/chain.py) and are looked after at
    every heartbeat; all others do their work in every cycle.
    """

    def __init__(self, memory: Memory, index: int, agents: list[Agent], logger: Logger) -> None:
        self._board, self._index = memory.board(), index
        self._row = self._board.row(index).data
        self._control = memory.control()
        self._agents = agents
        self._pending = list(agents)
        self._phase = Phase.RUN
        self._logger = logger
        self._beat_ns = 0
        self._cycles, self._busy = self._row[boards.CYCLES], self._row[boards.BUSY_CYCLES]
        self._chain = Chain(())
        self._staged: Sequence[Agent] = ()
        self._plain: Sequence[Agent] = agents
        self.is_over = False

    def bind(self) -> None:
        """Strings the stages of the agents together. Called by: the runner, when all are open."""
        staged = [agent for agent in self._agents if isinstance(agent, StagedAgent)]
        self._chain = Chain([agent.stage() for agent in staged])
        self._staged = staged
        self._plain = [agent for agent in self._agents if not isinstance(agent, StagedAgent)]

    def cycle(self) -> int:
        """Steps every agent once; answers the work count."""
        chain = self._chain
        work = chain.run()
        for agent in self._plain:
            work += agent.do_work()
        self._cycles += 1
        if work:
            self._busy += 1
        now = chain.clock_ns
        if now >= self._beat_ns:
            self._beat_ns = now + HEARTBEAT_NS
            for agent in self._staged:
                work += agent.do_work()
            self.beat(now)
        return work

    def show_life(self, now: int) -> None:
        """Shows a sign of life. Called by: the runner while agents start; `beat` afterwards."""
        self._row[boards.HEARTBEAT_NS] = now
        self._row[boards.CYCLES], self._row[boards.BUSY_CYCLES] = self._cycles, self._busy
        self._logger.flush()

    @property
    def is_end_asked(self) -> bool:
        """Says whether every worker is to leave, also one that has not started yet."""
        return bool(self._control[PHASE] == Phase.EXIT or self._control[EXIT_REQUEST])

    def beat(self, now: int) -> None:
        """Shows a sign of life and looks at the phase; agents hear of it once they have started."""
        self.show_life(now)
        phase = Phase(max(int(self._control[PHASE]), Phase.RUN))
        if phase != self._phase:
            self._phase = phase
            self._pending = list(self._agents)
        if phase > Phase.RUN:
            self._pending = [agent for agent in self._pending if not agent.on_phase(phase)]
            if not self._pending:
                self._board.set(self._index, boards.PHASE_DONE, phase)
        if self.is_end_asked:
            self.is_over = True

    def ready(self) -> None:
        """Declares the worker READY."""
        self._row[boards.HEARTBEAT_NS] = time.monotonic_ns()
        self._row[boards.PHASE_DONE] = 0  # of the process before us
        self._board.set(self._index, boards.READY_PID, os.getpid())
        self._logger.info("worker ready", pid=os.getpid(), agents=len(self._agents))


def run_plain(duty: Duty, idle: park.IdleStrategy, signals: Signals) -> None:
    """Loops agents that have no sockets until the end is asked for."""
    duty.bind()
    duty.ready()
    while not (duty.is_over or signals.is_asked):
        idle.idle(duty.cycle())


class LoopRunner:
    """Steps agents from inside an event loop."""

    def __init__(
        self,
        duty: Duty,
        idle: str,
        signals: Signals,
        consumers: Sequence[Consumer] = (),
        park_ns_max: int = PARK_NS_MAX,
        linger_us: int = 0,
    ) -> None:
        self._linger_s = linger_us / 1e6
        self._duty, self._idle, self._signals = duty, idle, signals
        self._consumers, self._park_ns_max = consumers, park_ns_max
        self._parker: Parker | None = None
        self._is_spinning = idle == "spin"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False
        self._is_soon = False
        self._work_ns = 0

    def wake(self) -> None:
        """Steps the agents as soon as the loop has read its sockets; none before all are open."""
        if self._is_open and not self._is_soon and self._loop is not None:
            self._is_soon = True
            self._loop.call_soon(self._cycle)

    def _cycle(self) -> None:
        self._is_soon = False
        assert self._loop is not None, "the loop runs"
        assert self._done is not None, "the loop runs"
        try:
            work = self._duty.cycle()
        except Exception as error:  # noqa: BLE001 - handed to run(), which ends the worker
            if not self._done.done():
                self._done.set_exception(error)
            return
        if self._duty.is_over or self._signals.is_asked:
            if not self._done.done():
                self._done.set_result(None)
            return
        self._next(work)

    def _next(self, work: int) -> None:
        assert self._loop is not None, "the loop runs"
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._linger_s and park.is_little(work):
            self._timer = self._loop.call_later(self._linger_s, self.wake)
        elif self._is_spinning or self._is_hot(work):
            self.wake()
        elif self._parker is not None:
            self._parker.sleep()
        else:
            nap_s = self._park_ns_max / 1e9 if self._idle == "park" else NAP_S
            self._timer = self._loop.call_later(nap_s, self.wake)

    def _is_hot(self, work: int) -> bool:
        if self._idle == "yield":
            yield_cpu()
            return True
        if self._idle == "park":
            return work > 0
        now = now_ns()
        if work:
            self._work_ns = now
        return now - self._work_ns < HOT_NS

    async def run(self, agents: Sequence[LoopAgent]) -> None:
        """Opens the agents in order, declares READY, steps until the end, closes in reverse."""
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        if not await self._open(agents):
            return
        self._is_open = True
        self._loop.add_signal_handler(NUDGE, self.wake)
        if self._consumers:
            self._parker = Parker(self._consumers, self._loop, self.wake, self._park_ns_max)
        self._duty.bind()
        self._duty.ready()
        self.wake()
        try:
            await self._done
        finally:
            self._is_open = False
            if self._parker is not None:
                self._parker.close()
            for agent in reversed(agents):
                await agent.close()

    async def _open(self, agents: Sequence[LoopAgent]) -> bool:
        """Opens the agents; answers False when the end was asked for before all were open."""
        opening = asyncio.ensure_future(self._open_in_order(agents))
        while not opening.done() and not self._duty.is_end_asked:
            self._duty.show_life(now_ns())
            await asyncio.wait({opening}, timeout=NAP_S)
        if not opening.done():
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await opening
            return False
        opening.result()
        return True

    async def _open_in_order(self, agents: Sequence[LoopAgent]) -> None:
        for agent in agents:
            await agent.open()


def _settings(run: Run, name: str) -> WorkerSettings:
    return next(worker for worker in topology.workers(run.settings) if worker.name == name)


def run_worker(run: Run, name: str, index: int) -> None:
    """Is a worker's whole life. Called by: the forkserver's child, as its target."""
    signals = Signals()
    worker = _settings(run, name)
    faults = pinning.die_with_parent() | pinning.apply(worker)
    memory = Memory(run)
    row = memory.board().row(index)
    row[boards.FAULTS], row[boards.CORE_FOUND] = faults, pinning.core_found()
    signals.watch(memory.control())
    logger = memory.logger(name)
    bridge(logger)
    code = EXIT_CRASH
    try:
        _live(memory, worker, index, logger, signals)
        code = EXIT_CLEAN
    except Exception as error:  # noqa: BLE001 - the last line of defence: say it and die
        if getattr(error, "is_configuration", False):
            code = EXIT_CONFIG  # what a user must mend is said once, never restart-looped
        _report(memory, name, logger, error)
    finally:
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _report(memory: Memory, name: str, logger: Logger, error: Exception) -> None:
    text = f"{type(error).__name__}: {error}"
    memory.stats(name).error(text)
    logger.error("worker died", error=text, where=_where(error))


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))


def _live(
    memory: Memory, worker: WorkerSettings, index: int, logger: Logger, signals: Signals
) -> None:
    contexts = [AgentContext(memory, worker.name, agent, logger) for agent in worker.agents]
    agents, duty = _begin(memory, index, contexts, logger)
    loop_agents = [agent for agent in agents if isinstance(agent, LoopAgent)]
    consumers, park_ns_max = _consumers(memory, worker), _park_ns_max(memory)
    try:
        if loop_agents:
            runner = LoopRunner(
                duty, worker.idle, signals, consumers, park_ns_max, worker.linger_us
            )
            for context in contexts:
                context.wake = runner.wake
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
                loop.run(runner.run(loop_agents))
        else:
            idle = park.strategy(worker.idle, consumers, park_ns_max)
            if worker.linger_us:
                idle = park.Linger(idle, worker.linger_us * 1_000)
            run_plain(duty, idle, signals)
    finally:
        for agent in reversed(agents):
            agent.on_close()


def _begin(
    memory: Memory, index: int, contexts: list[AgentContext], logger: Logger
) -> tuple[list[Agent], Duty]:
    """Makes and starts the agents; nothing outside this host can fail here."""
    try:
        agents = [build(context) for context in contexts]
        duty = Duty(memory, index, agents, logger)
        for agent in agents:
            duty.show_life(now_ns())
            agent.on_start()
    except ValueError as error:
        error.is_configuration = True  # type: ignore[attr-defined]  # a strategy's name, a limit
        raise
    return agents, duty


def _park_ns_max(memory: Memory) -> int:
    """Answers how long a worker may sleep without a sign of life."""
    heartbeat_ns = memory.run.settings.engine.heartbeat_ms_max * 1_000_000
    return min(PARK_NS_MAX, heartbeat_ns // 4)


def _consumers(memory: Memory, worker: WorkerSettings) -> list[Consumer]:
    """Answers every ring end of a worker's agents to park on, none for one that does not park."""
    if worker.idle != "park":
        return []
    return [
        memory.consumer(plan.name, agent)
        for plan in memory.ring_plans
        for agent in worker.agents
        if agent in plan.readers
    ]
