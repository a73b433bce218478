"""The real handlers of control requests, over real shared memory, without an engine run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.control import CANCEL_ALL, NO_NEW, OPERATOR_HALT, SUPERVISOR_HALT, TRADE, set_word
from tests.workers.monitored import PLANS, mark
from tests.workers.observed_run import observed_run, small_settings
from workers import board
from workers.board import WorkerState
from workers.commands import handlers
from workers.context import Memory


class Engine:
    """A supervisor's words without its processes."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.is_stop_asked = False
        self._handlers = handlers(self)

    def halt(self, level: int, _reason: str) -> None:
        set_word(self.memory.control(), SUPERVISOR_HALT, level)

    def ask_stop(self) -> None:
        self.is_stop_asked = True

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        return self._handlers[command]({"command": command, **fields})

    @property
    def level(self) -> int:
        return int(self.memory.control()[SUPERVISOR_HALT])


@pytest.fixture
def engine(segment_prefix: str, tmp_path: Path) -> Iterator[Engine]:
    with observed_run(small_settings(segment_prefix), tmp_path, *PLANS) as memory:
        mark(memory)
        yield Engine(memory)


def fail(engine: Engine, index: int) -> None:
    engine.memory.board().set(index, board.STATE, WorkerState.FAILED)


@pytest.mark.parametrize(("fields", "level"), [({}, 1), ({"level": 1}, 1), ({"level": 2}, 2)])
def test_halt_stores_the_level(engine: Engine, fields: dict[str, Any], level: int) -> None:
    assert engine.ask("halt", **fields) == {"halt": level}
    assert engine.level == level
    assert engine.ask("status")["halt"] == level


def test_halt_never_lowers_what_the_supervisor_holds(engine: Engine) -> None:
    engine.halt(CANCEL_ALL, "a worker died")

    assert engine.ask("halt", level=NO_NEW) == {"halt": CANCEL_ALL}
    assert engine.level == CANCEL_ALL


@pytest.mark.parametrize(
    "level", [7, 3, 0, -1, "1", 1.0, True, None, [], {}, 10**30, float("nan"), "x" * 3_000]
)
def test_a_level_that_is_none_is_refused_and_changes_nothing(engine: Engine, level: Any) -> None:
    with pytest.raises(ValueError, match="level must be 1, no new orders, or 2") as refusal:
        engine.ask("halt", level=level)

    assert len(str(refusal.value)) < 200
    assert engine.level == TRADE
    assert engine.ask("status")["halt_text"] == "trading"


@pytest.mark.parametrize(("word", "text"), [(7, "cancel all"), (-3, "trading")])
def test_status_survives_a_word_that_means_nothing(engine: Engine, word: int, text: str) -> None:
    set_word(engine.memory.control(), OPERATOR_HALT, word)

    assert engine.ask("status")["halt_text"] == text


def test_resume_takes_the_supervisors_halt_back_and_leaves_the_operators(engine: Engine) -> None:
    engine.halt(CANCEL_ALL, "a worker died")
    set_word(engine.memory.control(), OPERATOR_HALT, NO_NEW)

    assert engine.ask("resume") == {"halt": NO_NEW}
    assert engine.level == TRADE


def test_resume_is_refused_while_a_worker_is_given_up(engine: Engine) -> None:
    engine.halt(CANCEL_ALL, "a worker died")
    fail(engine, 1)
    with pytest.raises(ValueError, match="failed=keeper;"):
        engine.ask("resume")
    fail(engine, 2)
    with pytest.raises(ValueError, match="failed=keeper,watcher;"):
        engine.ask("resume")

    assert engine.level == CANCEL_ALL


def test_log_level_reaches_the_worker(engine: Engine) -> None:
    assert engine.ask("log-level", worker="keeper", level="error") == {
        "worker": "keeper", "level": "error",
    }  # fmt: skip
    assert engine.memory.log_levels().level("keeper") == "error"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "worker must be given as text: worker=None"),
        ({"worker": "keeper"}, "level must be given as text"),
        ({"worker": ["keeper"], "level": "error"}, "worker must be given as text"),
        ({"worker": "keeper", "level": {"a": 1}}, "level must be given as text"),
        ({"worker": "nobody", "level": "error"}, "worker=nobody"),
        ({"worker": "keeper", "level": "loud"}, "level=loud"),
    ],
)
def test_a_log_level_that_makes_no_sense_is_refused(
    engine: Engine, fields: dict[str, Any], line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        engine.ask("log-level", **fields)


def test_stop_asks_for_an_ordered_end(engine: Engine) -> None:
    assert engine.ask("stop") == {"stopping": True}
    assert engine.is_stop_asked


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    command=st.sampled_from(["status", "halt", "resume", "log-level"]),
    fields=st.fixed_dictionaries({}, optional=dict.fromkeys(("level", "worker", "more"), JSON)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_request_is_done_or_refused(
    engine: Engine, command: str, fields: dict[str, Any]
) -> None:
    """What is done can be said as JSON; what is refused is a ValueError, which is a reply."""
    try:
        reply = engine.ask(command, **fields)
    except ValueError:
        reply = {}

    assert isinstance(json.dumps(reply), str)
    assert 0 <= engine.level <= CANCEL_ALL
