"""The stages of a process run in one compiled call, in the order of the data path."""

from __future__ import annotations

import time

import numpy as np
import pytest

from shm.jit import jit, stage, words_at
from workers.chain import STAGES_MAX, Chain, Stage, StagedAgent

VALUE, LEFT = range(2)


@stage
def add_one(address: int) -> int:
    """Adds one to the value while any is left; answers 1 then."""
    words = words_at(address, 2)
    if words[LEFT] == 0:
        return 0
    words[LEFT] -= 1
    words[VALUE] += 1
    return 1


@stage
def double(address: int) -> int:
    """Doubles the value and says it was work."""
    words_at(address, 2)[VALUE] *= 2
    return 1


@jit
def no_stage(address: int, other: int) -> int:
    return address + other


def _words(value: int, left: int) -> np.ndarray:
    return np.array([value, left], np.int64)


def test_a_stage_sees_in_the_same_run_what_the_one_before_it_did() -> None:
    words = _words(3, 1)
    at = int(words.ctypes.data)
    chain = Chain([Stage(add_one, at, None), Stage(double, at, None)])

    assert chain.run() == 2
    assert words[VALUE] == 8


def test_what_a_stage_left_over_is_done_at_once_and_the_last_stage_first() -> None:
    words, calls = _words(0, 1), []
    at = int(words.ctypes.data)
    chain = Chain([
        Stage(add_one, at, lambda: calls.append("first")),
        Stage(double, at, lambda: calls.append("second")),
    ])  # fmt: skip
    chain.run()

    assert calls == ["second", "first"]


def test_nothing_is_left_over_by_a_stage_without_work() -> None:
    words, calls = _words(0, 0), []
    chain = Chain([Stage(add_one, int(words.ctypes.data), lambda: calls.append("done"))])

    assert chain.run() == 0
    assert calls == []


def test_every_run_takes_the_time() -> None:
    chain = Chain(())
    before_ns = time.monotonic_ns()
    chain.run()

    assert before_ns <= chain.clock_ns <= time.monotonic_ns()


def test_only_a_stage_can_be_strung_into_a_chain() -> None:
    no_stage(1, 2)
    with pytest.raises(TypeError, match=r"must be compiled with shm\.jit\.stage"):
        Chain([Stage(no_stage, 0, None)])  # type: ignore[arg-type]  # that is the point


def test_a_chain_holds_as_many_stages_as_it_says() -> None:
    words = _words(0, STAGES_MAX)
    chain = Chain([Stage(add_one, int(words.ctypes.data), None)] * STAGES_MAX)

    assert chain.run() == STAGES_MAX


def test_an_agent_without_a_stage_is_no_staged_agent() -> None:
    class Plain:
        role_name = "plain"

    class Staged(Plain):
        def stage(self) -> Stage:
            return Stage(double, 0, None)

    assert not isinstance(Plain(), StagedAgent)
    assert isinstance(Staged(), StagedAgent)
