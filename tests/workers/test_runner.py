"""A worker's duty cycle: staged agents in one compiled call, all others one by one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.control import CONTROL_WORDS, EXIT_REQUEST, PHASE, set_word
from shm import segment
from shm.jit import now_ns, stage, words_at
from tests.workers.observed_run import agent_context, small_settings
from workers import board as boards
from workers import runner
from workers.agent import Agent, Phase
from workers.board import Board
from workers.chain import Stage
from workers.context import Memory
from workers.memory import create_all, plan_run, remove_all
from workers.runner import Duty, LoopRunner, run_plain
from workers.stopsignals import Signals


@stage
def count_calls(address: int) -> int:
    """Counts calls in word 0; answers word 1 as its work."""
    words = words_at(address, 2)
    words[0] += 1
    return int(words[1])


class Plain:
    """An agent that is stepped in Python."""

    role_name = "plain"

    def __init__(self) -> None:
        self.steps = 0
        self.phases: list[Phase] = []
        self.is_willing = True

    def on_start(self) -> None: ...

    def do_work(self) -> int:
        self.steps += 1
        return 0

    def on_phase(self, phase: Phase) -> bool:
        self.phases.append(phase)
        return self.is_willing

    def on_close(self) -> None: ...


class Staged(Plain):
    """An agent whose inner loop is compiled."""

    def __init__(self, work: int = 0) -> None:
        super().__init__()
        self.words = np.array([0, work], np.int64)
        self.leftovers = 0

    def stage(self) -> Stage:
        return Stage(count_calls, int(self.words.ctypes.data), self._after)

    def _after(self) -> None:
        self.leftovers += 1


class Silent:
    """A logger that nothing is said to."""

    def flush(self) -> None: ...

    def info(self, _event: str, **_values: object) -> None: ...


class Desk:
    """A board and control words, as a worker's memory offers them."""

    def __init__(self, prefix: str) -> None:
        self.made = segment.create(prefix + "board", boards.BODY_BYTES, boards.LAYOUT, 1)
        self.made.set_ready()
        self.words = np.zeros(CONTROL_WORDS, np.int64)
        self.board().name(0, "worker")

    def board(self) -> Board:
        return Board(self.made)

    def control(self) -> np.ndarray:
        return self.words

    def word(self, place: int) -> int:
        return self.board().get(0, place)


@pytest.fixture
def desk(segment_prefix: str) -> Iterator[Desk]:
    made = Desk(segment_prefix)
    yield made
    made.made.unlink()


def _duty(desk: Desk, *agents: Agent) -> Duty:
    duty = Duty(desk, 0, list(agents), Silent())  # type: ignore[arg-type]  # fakes of both
    duty.bind()
    return duty


def test_a_cycle_runs_every_stage_and_every_plain_agent_once(desk: Desk) -> None:
    staged, plain = Staged(work=2), Plain()
    duty = _duty(desk, staged, plain)
    work = [duty.cycle() for _ in range(3)]

    assert work == [2, 2, 2]
    assert (staged.words[0], staged.leftovers, plain.steps) == (3, 3, 3)


def test_a_staged_agent_is_looked_after_at_heartbeats_only(desk: Desk) -> None:
    staged = Staged()
    duty = _duty(desk, staged)
    duty.cycle()
    duty._beat_ns = 1 << 62
    for _ in range(100):
        duty.cycle()

    assert (staged.words[0], staged.steps) == (101, 1)


def test_an_agent_has_no_stage_before_all_agents_are_open(desk: Desk) -> None:
    staged = Staged()
    duty = Duty(desk, 0, [staged], Silent())  # type: ignore[arg-type]  # fakes of both
    duty.cycle()

    assert (staged.words[0], staged.steps) == (0, 1)


def test_cycles_of_a_worker_before_are_counted_on(desk: Desk) -> None:
    for _ in range(2):
        duty = _duty(desk, Staged(work=1))
        duty.cycle()
        duty.beat(1)

    assert (desk.word(boards.CYCLES), desk.word(boards.BUSY_CYCLES)) == (2, 2)


def test_a_phase_is_done_when_every_agent_is(desk: Desk) -> None:
    willing, other = Plain(), Staged()
    other.is_willing = False
    duty = _duty(desk, willing, other)
    set_word(desk.words, PHASE, Phase.QUIET)
    duty.beat(1)
    early = desk.word(boards.PHASE_DONE)
    other.is_willing = True
    duty.beat(2)

    assert (early, desk.word(boards.PHASE_DONE)) == (0, Phase.QUIET)
    assert (willing.phases, other.phases) == ([Phase.QUIET], [Phase.QUIET] * 2)


@pytest.mark.parametrize(("place", "value"), [(PHASE, Phase.EXIT), (EXIT_REQUEST, 1)])
def test_the_loop_ends_when_the_end_is_asked_for(desk: Desk, place: int, value: int) -> None:
    class Ending(Plain):
        def do_work(self) -> int:
            set_word(desk.words, place, value)
            return super().do_work()

    agent = Ending()
    duty = Duty(desk, 0, [agent], Silent())  # type: ignore[arg-type]  # fakes of both
    run_plain(duty, _Busy(), _NoSignals())

    assert agent.steps >= 1
    assert desk.word(boards.READY_PID) == os.getpid()


class Opening(Plain):
    """An agent with sockets that notes what it hears, and when."""

    def __init__(self, steps: int = 3) -> None:
        super().__init__()
        self.steps_to_open = steps
        self.heard_early: list[Phase] = []
        self.is_closed = False

    async def open(self) -> None:
        for _ in range(self.steps_to_open):
            await asyncio.sleep(2 * runner.NAP_S)
        self.heard_early = list(self.phases)

    async def close(self) -> None:
        self.is_closed = True


def test_agents_hear_of_a_phase_once_all_are_open(desk: Desk) -> None:
    """A worker that comes back during a stop: its agents cannot answer before they have begun."""

    class Ending(Opening):
        def on_phase(self, phase: Phase) -> bool:
            set_word(desk.words, PHASE, Phase.EXIT)
            return super().on_phase(phase)

    agent = Ending()
    set_word(desk.words, PHASE, Phase.CANCEL)
    duty = Duty(desk, 0, [agent], Silent())  # type: ignore[arg-type]  # fakes of both
    asyncio.run(LoopRunner(duty, "backoff", _NoSignals()).run([agent]))

    assert agent.heard_early == []
    assert agent.phases[0] == Phase.CANCEL
    assert agent.is_closed
    assert desk.word(boards.HEARTBEAT_NS) > 0


def test_a_loop_lingers_after_a_little_work(desk: Desk) -> None:
    times_ns: list[int] = []

    class Working(Plain):
        def do_work(self) -> int:
            times_ns.append(now_ns())
            if len(times_ns) == 5:
                set_word(desk.words, PHASE, Phase.EXIT)
            return 1

    duty = Duty(desk, 0, [Working()], Silent())  # type: ignore[arg-type]  # fakes of both
    asyncio.run(LoopRunner(duty, "spin", _NoSignals(), linger_us=5_000).run([]))

    # libuv's clock counts whole milliseconds.
    assert np.diff(times_ns).min() >= 4_000_000


def test_a_worker_that_cannot_open_leaves_when_the_end_is_asked_for(desk: Desk) -> None:
    agent = Opening(steps=1_000_000_000)
    set_word(desk.words, PHASE, Phase.EXIT)
    duty = Duty(desk, 0, [agent], Silent())  # type: ignore[arg-type]  # fakes of both
    asyncio.run(LoopRunner(duty, "backoff", _NoSignals()).run([agent]))

    assert desk.word(boards.READY_PID) == 0
    assert agent.phases == []


def test_what_keeps_an_agent_from_opening_ends_the_worker(desk: Desk) -> None:
    class Failing(Opening):
        async def open(self) -> None:
            await super().open()
            raise ConnectionError("the venue must be reachable")

    agent = Failing()
    duty = Duty(desk, 0, [agent], Silent())  # type: ignore[arg-type]  # fakes of both
    with pytest.raises(ConnectionError, match="venue"):
        asyncio.run(LoopRunner(duty, "backoff", _NoSignals()).run([agent]))


def test_deciding_agents_start_while_a_stop_is_under_way(
    segment_prefix: str, tmp_path: Path
) -> None:
    run = plan_run(small_settings(segment_prefix), tmp_path)
    made = create_all(run)
    memory = Memory(run)
    try:
        set_word(memory.control(), PHASE, Phase.CANCEL)
        contexts = [agent_context(memory, "trader", agent) for agent in ("signal", "risk")]
        agents, duty = runner._begin(memory, 0, contexts, contexts[0].logger)
        duty.bind()
        duty.beat(1)
        done = memory.board().get(0, boards.PHASE_DONE)
        for agent in agents:
            agent.on_close()
    finally:
        memory.close()
        remove_all(made)

    assert done == Phase.CANCEL


class _NoSignals(Signals):
    """Signals that leave this process's handlers alone."""

    def __init__(self) -> None:
        self.is_asked = False


class _Busy:
    """An idle strategy that never waits."""

    def idle(self, work: int) -> None: ...
