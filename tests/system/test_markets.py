"""Whole engines in other markets: USD-M with paper orders, and one that only listens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.conftest import Starter
from tests.system.profiles import demo

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

STREAMS = ("bookTicker", "aggTrade", "depth@100ms", "markPrice@1s")
USDM = f"""
[market]
symbols = ["BTCUSDT"]
streams = {json.dumps(STREAMS)}
[venue]
kind = "binance-usdm"
"""


@contextmanager
def exchange(folder: Path) -> Iterator[dict[str, str]]:
    """The built-in exchange as a process of its own, a USD-M market; yields its addresses."""
    config = folder / "exchange.toml"
    config.write_text(demo("venue", more=USDM))
    command = [sys.executable, "-m", "workers.cli", "exchange", "--config", str(config), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def test_usdm_on_the_built_in_exchange_trades_and_keeps_mark_prices(start: Starter) -> None:
    summary = start("--for", "6s", config=demo("usdm", more=USDM)).summary()

    assert set(summary["messages"]) == {
        "REST depth snapshot",
        *(f"btcusdt@{stream}" for stream in STREAMS),
    }
    assert summary["stored"]["marks"] == summary["messages"]["btcusdt@markPrice@1s"] > 0
    assert summary["stored"]["orders"] > 0
    assert summary["stored"]["book_states"] == 2
    assert sum(summary["stored"].values()) == summary["journal_records"]
    assert summary["lost"] == 0


def test_engine_whose_venue_takes_no_orders_only_listens(start: Starter, tmp_path: Path) -> None:
    with exchange(tmp_path) as venue:
        addresses = f'rest_url = "{venue["rest_url"]}"\nstream_url = "{venue["stream_url"]}"\n'
        only = f"{USDM}{addresses}[exchange]\nenabled = false\n"
        summary = start("--for", "6s", config=demo("listener", more=only)).summary()

    assert summary["messages"]["btcusdt@bookTicker"] > 0
    assert summary["stored"]["quotes"] == summary["messages"]["btcusdt@bookTicker"]
    assert summary["stored"]["orders"] == summary["fills"] == 0
    assert summary["stored"]["signals"] > 0
    assert "execution" not in summary["workers"]
    assert summary["lost"] == 0


def test_venue_that_shakes_hands_and_never_sends_a_frame_is_refused(
    start: Starter, tmp_path: Path
) -> None:
    script = tmp_path / "faults.toml"
    script.write_text('[[faults]]\nkind = "mute"\n')
    more = "[venue]\nfirst_frame_s_max = 1.0\n"
    engine = start("--for", "8s", "--faults", str(script), config=demo("mute", more=more))
    code, _ = engine.ended()

    assert code == 1
    assert "the venue must send a first frame within 1 s" in engine.stderr()
