"""The benchmark of the loggers, run short: its names are a contract, and ours loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PERCENTILES = ["p50", "p90", "p99", "p99_9", "max"]


@pytest.fixture(scope="module")
def ended() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", "bench", "log", "--short", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(ended: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.multiprocess
@pytest.mark.slow
class TestShortRun:
    def test_every_installed_logger_took_part_and_lost_nothing(self, result: Any) -> None:
        subjects = result["subjects"]

        assert {"tickring", "stdlib_file", "stdlib_queue"} <= set(subjects)
        assert ("loguru" in subjects) == (find_spec("loguru") is not None)
        assert {name: figures["lost"] for name, figures in subjects.items()} == dict.fromkeys(
            subjects, 0
        )
        assert all(figures["records_per_s"] > 0 for figures in subjects.values())

    def test_names_of_the_last_line_are_those_others_read(self, result: Any) -> None:
        ours = result["subjects"]["tickring"]

        assert list(ours["caller_ns"]) == PERCENTILES
        assert list(ours["compiled_caller_ns"]) == PERCENTILES
        assert list(result["floor_ns"]) == PERCENTILES
        assert set(result["ratio_to"]) == set(result["subjects"]) - {"tickring"}
        assert {"cpu", "kernel", "pinned_to", "clock_ns"} <= set(result["machine"])

    def test_percentiles_ascend(self, result: Any) -> None:
        for figures in result["subjects"].values():
            costs = list(figures["caller_ns"].values())
            assert costs == sorted(costs)
            assert costs[0] > 0

    def test_topology_and_every_turn_are_shown(
        self, ended: subprocess.CompletedProcess[str], result: Any
    ) -> None:
        assert "ring of 512-byte rows" in ended.stderr
        for name in result["subjects"]:
            assert f"turn 1 {name}" in ended.stderr
