"""The processes of a benchmark: pinned, started together, and none outlives a run that fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.support import crew
from bench.support.crew import Gate

pytestmark = pytest.mark.multiprocess


def test_members_share_their_words_and_know_their_places() -> None:
    def member(gate: Gate) -> None:
        gate.wait()
        gate.words[gate.place] = 10 + gate.place

    assert crew.run([member, member], (-1, -1), 2).tolist() == [10, 11]


def test_nobody_goes_before_all_are_ready() -> None:
    """Each member shows that it is ready before it waits, and looks at all others after."""

    def member(gate: Gate) -> None:
        gate.words[gate.place] = 1
        gate.wait()
        gate.words[3 + gate.place] = gate.words[:3].sum()

    assert crew.run([member] * 3, (-1,) * 3, 6)[3:].tolist() == [3, 3, 3]


def test_a_member_runs_on_its_core() -> None:
    core = max(os.sched_getaffinity(0))

    def member(gate: Gate) -> None:
        gate.words[0] = len(os.sched_getaffinity(0))
        gate.words[1] = min(os.sched_getaffinity(0))

    assert crew.run([member], (core,), 2).tolist() == [1, core]


def test_a_member_that_fails_ends_the_run_and_all_others(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    note = tmp_path / "pid"

    def wait(gate: Gate) -> None:
        (tmp_path / "new").write_text(str(os.getpid()))
        (tmp_path / "new").rename(note)
        gate.wait()  # for one that never comes

    def fail(_gate: Gate) -> None:
        while not note.exists():
            os.sched_yield()
        raise ValueError("the reason is shown")

    with pytest.raises(RuntimeError, match="exit_status=1"):
        crew.run([wait, fail], (-1, -1), 1)

    assert "the reason is shown" in capfd.readouterr().err
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
