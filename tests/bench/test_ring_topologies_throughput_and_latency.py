"""The benchmark of the ring, run short: its names are a contract, and what it read was right.

A run that reads a wrong word ends with an error, so a figure is a proof of the words behind it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.rivals.disruptor import why_not as why_no_disruptor
from bench.rivals.ring_reference import compiler
from bench.rivals.ring_rivals import RIVALS, why_not
from bench.support import ring_runs, ring_topologies
from bench.support.ring_topologies import TOPOLOGIES

ROOT = Path(__file__).parents[2]
PERCENTILES = ["p50", "p90", "p99", "p99_9", "max"]


class Ended:
    """A short run: what it said, what it answered, what it left."""

    def __init__(self, picture: Path) -> None:
        words = [sys.executable, "-m", "workers.cli", "bench", "ring", "--short", "--json"]
        words += ["--crowded", *(["--plot", str(picture)] if find_spec("matplotlib") else [])]
        process = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        out, self.said = process.communicate()
        assert process.returncode == 0, self.said
        self.result = json.loads(out.splitlines()[-1])
        prefix = f"tickring-bench-{process.pid}-"
        self.left = [path.name for path in Path("/dev/shm").iterdir() if prefix in path.name]
        self.picture = picture


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return Ended(tmp_path_factory.mktemp("ring") / "ring.png")


@pytest.fixture(scope="module")
def result(ended: Ended) -> Any:
    return ended.result


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.cores(2)
class TestShortRun:
    def test_names_of_the_last_line_are_those_others_read(self, result: Any) -> None:
        for subject in result["subjects"].values():
            assert list(subject["round_trip_ns"]) == PERCENTILES
            assert {"throughput", "round_trip"} <= set(subject["ratio_to_c"])
            assert subject["throughput_per_s"] > 0
            assert subject["throughput_batch64_per_s"] > 0
        assert {"cpu", "kernel", "pinned_to", "governor", "clock_ns", "steal_ticks"} <= set(
            result["machine"]
        )

    def test_ours_and_the_reference_took_part(self, result: Any) -> None:
        assert {"tickring", "tickring_python"} <= set(result["subjects"])
        assert ("c_reference" in result["subjects"]) == bool(compiler())

    def test_a_ratio_is_to_c_and_to_nothing_where_there_is_no_c(self, result: Any) -> None:
        expected = 1.0 if compiler() else None
        subject = result["subjects"].get("c_reference", result["subjects"]["tickring"])

        assert subject["ratio_to_c"]["throughput"] == expected
        assert subject["ratio_to_c"]["round_trip"] == expected

    def test_every_rival_took_part_or_has_a_reason_not_to(self, result: Any) -> None:
        lacking = {rival.name for rival in RIVALS if why_not(rival)}
        lacking |= {"disruptor"} if why_no_disruptor() else set()
        lacking |= set() if compiler() else {"c_reference"}

        assert set(result["skipped"]) == lacking
        assert set(result["subjects"]) >= {rival.name for rival in RIVALS} - lacking

    def test_percentiles_ascend(self, result: Any) -> None:
        for subject in result["subjects"].values():
            times_ns = list(subject["round_trip_ns"].values())
            assert times_ns == sorted(times_ns)
            assert times_ns[0] > 0

    def test_topologies_that_lack_cores_are_marked(self, result: Any) -> None:
        has = len(os.sched_getaffinity(0))
        for topology in TOPOLOGIES:
            figures = result["topologies"][topology.name]
            assert figures["throughput_per_s"] > 0
            assert ("crowded" in figures) == (topology.agents > has)

    def test_latency_is_shown_under_rising_load(self, result: Any) -> None:
        for curve in result["load_curve"].values():
            loads = [point["load"] for point in curve]
            assert loads == sorted(loads)
            assert all(point["p50"] > 0 for point in curve)

    def test_topologies_every_run_and_every_reason_are_shown(
        self, ended: Ended, result: Any
    ) -> None:
        assert "pipeline of three steps" in ended.said
        for name in result["subjects"]:
            assert f"run 1 {name}" in ended.said
        for name, reason in result["skipped"].items():
            assert f"left out: {name}: {reason}" in ended.said

    def test_picture_is_drawn(self, ended: Ended) -> None:
        pytest.importorskip("matplotlib", reason="extra [bench] is not installed")

        assert ended.picture.read_bytes().startswith(b"\x89PNG")

    def test_nothing_is_left_in_shared_memory(self, ended: Ended) -> None:
        assert ended.left == []


def test_a_topology_is_refused_where_its_cores_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    loops = ring_runs.tickring_loops()

    found = [ring_topologies.measure(one, loops, 1, is_crowded=False) for one in TOPOLOGIES]

    assert found == [
        {"refused": f"needs {one.agents} cores, this process may use 2"} for one in TOPOLOGIES
    ]
