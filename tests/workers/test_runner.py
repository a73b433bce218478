"""A worker's duty cycle: staged agents in one compiled call, all others one by one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from engine.control import CONTROL_WORDS, EXIT_REQUEST, PHASE, set_word
from shm import segment
from shm.jit import stage, words_at
from workers import board as boards
from workers.agent import Agent, Phase
from workers.board import Board
from workers.chain import Stage
from workers.runner import Duty, Signals, run_plain


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
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        run_plain(duty, _Busy(), Signals())
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)

    assert agent.steps >= 1
    assert desk.word(boards.READY_PID) == os.getpid()


class _Busy:
    """An idle strategy that never waits."""

    def idle(self, work: int) -> None: ...
