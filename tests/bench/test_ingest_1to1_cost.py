"""The benchmark of ingest, run short: every reader takes all, and the names others read stay."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.support.ingest_load import SYMBOL, WARM_PART, depths, quotes
from tests.bench.test_short_runs import short_run
from workers.capture_plan import stream_of_frame

ROOT = Path(__file__).parents[2]


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.cores(2)
def test_ingest_stands_beside_both_rivals() -> None:
    result = short_run("ingest")

    for ratios in (result["ratios"], result["depth_ratios"]):
        assert list(ratios) == ["websockets_json", "picows_msgspec"]
        assert min(ratios.values()) > 0
    for reader in ("tickring", "websockets_json", "picows_msgspec"):
        for unit in ("message", "level"):
            assert min(result[f"{reader}_ns"][unit].values()) > 0
    assert list(result["windows_ms"]) == ["0", "1", "5", "10"]
    for figures in result["windows_ms"].values():
        latencies = list(figures["latency_ns"].values())
        assert latencies == sorted(latencies)
        assert latencies[0] > 0
        assert figures["rate_per_s"] > 0
    assert {"cpu", "kernel", "pinned_to", "clock_ns"} <= set(result["machine"])


def test_a_load_that_cannot_be_counted_is_refused_with_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.ingest_1to1_cost", "--quotes", "77"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "--quotes must be a multiple of 500: given=77" in done.stderr


def test_frames_of_a_load_are_whole_and_counted() -> None:
    for load, stream, per_message in ((quotes(500), "bookTicker", 1), (depths(500), "", 40)):
        count, wire = 0, b"".join(load.wire)
        while wire:
            assert wire[0] == 0x81
            short = wire[1]
            size = int.from_bytes(wire[2:4], "big") if short == 126 else short
            at = 4 if short == 126 else 2
            payload, wire = wire[at : at + size], wire[at + size :]
            assert stream_of_frame(payload) == (SYMBOL, stream or "depth@100ms")
            assert json.loads(payload)["data"]["s"] == SYMBOL
            count += 1

        assert (count, load.warm, load.units) == (500, 500 // WARM_PART, 500 * per_message)
