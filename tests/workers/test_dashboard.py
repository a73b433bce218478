"""What the live view must not let anybody overlook."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from engine.control import CANCEL_ALL, NO_NEW, OPERATOR_HALT, SUPERVISOR_HALT, set_word
from tests.workers.monitored import PLANS, mark
from tests.workers.observed_run import observed_run, small_settings, tell_instruments
from workers.context import Memory
from workers.dashboard import Dashboard, alarms


@pytest.fixture
def memory(segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    with observed_run(small_settings(segment_prefix), tmp_path, *PLANS) as memory:
        tell_instruments(memory)
        mark(memory)
        yield memory


@pytest.mark.parametrize(
    ("word", "level", "reason", "line"),
    [
        (SUPERVISOR_HALT, CANCEL_ALL, "worker a died", "HALTED: cancel all: worker a died"),
        (SUPERVISOR_HALT, NO_NEW, "", "HALTED: no new orders: operator"),
        (OPERATOR_HALT, NO_NEW, "", "HALTED: no new orders: operator"),
    ],
)
def test_a_halt_is_told_with_its_reason(
    memory: Memory, word: int, level: int, reason: str, line: str
) -> None:
    set_word(memory.control(), word, level)

    assert alarms(memory, reason) == [line]


def test_a_database_that_is_away_is_told_with_what_waits(memory: Memory) -> None:
    connected = memory.stats("keeper").gauge("store_connected")
    memory.stats("keeper").gauge("store_lag_records").set(1_234)
    away = alarms(memory, "")
    connected.set(1)

    assert away == ["STORE IS AWAY: 1,234 records wait in the journal"]
    assert alarms(memory, "") == []


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_view_shows_alarms(memory: Memory, is_terminal: bool) -> None:  # noqa: FBT001
    text = StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=200)
    with Dashboard(memory, console, "tickring", lambda: "worker [a] died") as dashboard:
        set_word(memory.control(), SUPERVISOR_HALT, CANCEL_ALL)
        dashboard._last_s -= 3_600
        dashboard.poll()

    assert "HALTED: cancel all: worker [a] died" in text.getvalue()
