"""The benchmark of the histogram, run short: its names, and the error that is promised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shm.histogram import SUB_COUNT

ROOT = Path(__file__).parents[2]


@pytest.mark.multiprocess
@pytest.mark.slow
def test_short_run_keeps_the_error_and_names_what_it_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workers.cli", "bench", "histogram", "--short", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    result = json.loads(done.stdout.splitlines()[-1])

    for name in ("tickring", "tickring_from_python"):
        assert 0 < result["subjects"][name]["error"] <= 1 / (2 * SUB_COUNT)
        assert list(result["subjects"][name]["record_ns"]) == ["p50", "p90", "p99", "p99_9", "max"]
    assert "turn 1 tickring" in done.stderr
    assert result["machine"]["cpu"]
