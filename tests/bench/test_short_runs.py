"""Benchmarks run short: they work, and the names of their last line are those that others read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PERCENTILES = {"p50", "p90", "p99", "p99_9", "max"}
HOPS = [
    "written_to_read", "read_to_record", "record_to_intent", "intent_to_order", "order_to_sent",
    "sent_to_seen",
]  # fmt: skip

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


def short_run(name: str) -> Any:
    """Runs a benchmark as a user would; answers its last line."""
    ended = subprocess.run(
        [sys.executable, "-m", "workers.cli", "bench", name, "--short", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "+--" in ended.stderr or "==" in ended.stderr, "the topology is drawn"
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.cores(2)
def test_tick_to_order_stands_beside_the_asyncio_engine() -> None:
    result = short_run("tick-to-order")

    assert set(result["ratio_to_asyncio"]) == {"p50", "p99", "p99_9"}
    assert min(result["ratio_to_asyncio"].values()) > 0
    for engine in ("tickring_ns", "asyncio_ns"):
        assert set(result[engine]) == {"count", "missed", *PERCENTILES}
        assert result[engine]["count"] + result[engine]["missed"] == 500
    assert list(result["hops_ns"]) == HOPS
    assert result["hops_ns"]["order_to_sent"]["count"] > 0
    assert {"cpu", "kernel", "pinned_to", "clock_ns"} <= set(result["machine"])


@pytest.mark.cores(2)
def test_every_idle_strategy_stands_beside_a_bare_futex() -> None:
    subjects = short_run("wake")["subjects"]

    assert list(subjects) == ["futex_alone", "spin", "yield", "backoff", "park"]
    for name, figures in subjects.items():
        assert set(figures["wake_ns"]) == PERCENTILES
        assert ("idle_cpu_percent" in figures) == (name != "futex_alone")


def test_an_idle_engine_is_counted_process_by_process() -> None:
    subjects = short_run("engine-idle")["subjects"]

    assert list(subjects) == ["park", "backoff"]
    for figures in subjects.values():
        names = ["supervisor", "trader", "exchange", "recorder", "store", "logs", "monitor"]
        assert list(figures["by_process"]) == names
        engine = sum(figures["by_process"].values()) - figures["by_process"]["exchange"]
        assert engine == pytest.approx(figures["cpu_percent"], abs=0.01)
