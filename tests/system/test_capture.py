"""`tickring capture` as a user runs it: recorded, killed, and played back by a whole engine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.engine.scratch_feed import recorded
from tests.system.conftest import Starter
from workers.capture_facts import facts_of
from workers.exchange.capture import read_lines

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "workers.cli", "capture"]

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


def _final_book(path: Path) -> tuple[int, str]:
    """Answers the last id and the hash of the book that a recording ends with, exactly."""
    sides: dict[str, dict[Decimal, Decimal]] = {"b": {}, "a": {}}
    last = 0
    frames = [json.loads(body) for body in recorded(path)]
    [snapshot] = [frame for frame in frames if "lastUpdateId" in frame]
    last = snapshot["lastUpdateId"]
    changes = [frame["data"] for frame in frames if "@depth" in frame.get("stream", "")]
    later = [change for change in changes if change["u"] > last]
    for bids, asks in [(snapshot["bids"], snapshot["asks"]), *((c["b"], c["a"]) for c in later)]:
        for side, levels in (("b", bids), ("a", asks)):
            for price, quantity in levels:
                sides[side][Decimal(price)] = Decimal(quantity)
    lines = [
        f"{side},{price.normalize():f},{quantity.normalize():f}"
        for side, is_reversed in (("b", True), ("a", False))
        for price, quantity in sorted(sides[side].items(), reverse=is_reversed)
        if quantity
    ]
    last = later[-1]["u"] if later else last
    return last, hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_what_was_captured_plays_back_with_equal_counts_and_book(
    start: Starter, tmp_path: Path, market: str
) -> None:
    file = tmp_path / "btc.gz"
    done = subprocess.run(
        [*COMMAND, "--market", market, "--for", "3s", "--out", str(file), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    captured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert captured["dropped"] == 0
    assert captured["silent_streams"] == []
    assert captured["market"] == market
    assert facts_of(file).is_good

    summary = start("--capture", str(file), "--speed", "max").summary()

    messages = captured["messages"] | {"REST depth snapshot": 1}
    assert summary["messages"] == messages
    last, sha256 = _final_book(file)
    book = summary["books"]["BTCUSDT"]
    assert (book["u"], book["sha256"]) == (last, sha256)
    assert summary["lost"] == 0


def test_a_killed_capture_leaves_a_recording_that_reads_to_its_last_flush(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--out", str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as process:
        sizes: set[int] = set()
        while len(sizes - {0}) < 3:  # three flushes
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                raise AssertionError("a capture must go on until it is told to end")
            sizes |= {part.stat().st_size for part in tmp_path.glob("*.part")}
        process.kill()
    [part] = tmp_path.iterdir()
    facts = facts_of(part)

    assert part.suffix == ".part"
    assert process.returncode == -signal.SIGKILL
    assert facts.is_good, facts.problems
    assert len(list(read_lines([part]))) == facts.lines > 0


def test_ctrl_c_finishes_every_symbol_in_order(tmp_path: Path) -> None:
    words = ["--symbols", "BTCUSDT,ETHUSDT", "--streams", "bookTicker,depth@100ms", "--json"]
    with subprocess.Popen(
        [*COMMAND, *words, "--out", str(tmp_path)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        while len([p for p in tmp_path.glob("*.part") if p.stat().st_size]) < 2:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                raise AssertionError("a capture must go on until it is told to end")
        process.send_signal(signal.SIGINT)
        result = json.loads(process.communicate()[0].splitlines()[-1])

    assert process.returncode == 0
    assert {file["symbol"] for file in result["files"]} == {"BTCUSDT", "ETHUSDT"}
    assert all(facts_of(Path(file["path"])).is_good for file in result["files"])
    assert sum(file["lines"] for file in result["files"]) == result["frames"] + result["snapshots"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "a.gz", "--symbols", "BTCUSDT,ETHUSDT"], "one file must be of one symbol"),
        (["--market", "coinm"], "a market must be one of spot, usdm"),
        (["--market", "ccxt:kraken"], "a capture must be of frames as the venue sends them"),
        (["inspect", "nowhere.gz"], "a recording must be readable: file=nowhere.gz"),
    ],
)
def test_a_mistake_is_one_line_and_no_traceback(
    tmp_path: Path, options: list[str], message: str
) -> None:
    done = subprocess.run(
        [*COMMAND, *options], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip

    assert done.returncode in {1, 2}
    assert message in done.stderr
    assert "Traceback" not in done.stderr
