"""A real recording through real sockets: nothing of it may be missing or different."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Starter

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


def _expected(folder: Path, name: str) -> dict[str, Any]:
    for line in (folder / "expected.jsonl").read_text().splitlines():
        document: dict[str, Any] = json.loads(line)
        if document["files"] == [name]:
            return document
    raise AssertionError(f"a recording has its expectations: {name}")


def _assert_equal(summary: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    messages: dict[str, int] = {}
    for one in expected:
        for stream, count in one["counts"].items():
            messages[stream] = messages.get(stream, 0) + count
        symbol = next(iter(one["counts"])).partition("@")[0].upper()
        book, trades = summary["books"][symbol], summary["trades"][symbol]
        final = one["final_book"]
        assert (book["u"], [book["bids"], book["asks"]]) == (final["u"], final["levels"])
        assert book["sha256"] == final["sha256_of_lines_side_price_qty"]
        assert {key: trades[key] for key in ("n", "base", "quote")} == {
            key: one["trades"][key] for key in ("n", "base", "quote")
        }
    assert summary["messages"] == messages
    assert summary["lost"] == 0
    assert sum(summary["stored"].values()) == summary["journal_records"]


SPOT = ("spot_btcusdt_20240808.gz", "spot_ethusdt_20240808.gz")
USDM = ("usdm_btcusdt_20240718.gz", "usdm_btcusdt_20230404.dat.gz")


@pytest.mark.parametrize("name", [*SPOT, *USDM])
def test_every_message_of_a_recording_arrives(start: Starter, recordings: Path, name: str) -> None:
    engine = start("--capture", str(recordings / name), "--speed", "max")

    _assert_equal(engine.summary(), [_expected(recordings, name)])


@pytest.mark.parametrize("names", [SPOT, USDM])
def test_every_message_of_a_recording_arrives_in_its_own_rhythm(
    start: Starter, recordings: Path, names: tuple[str, ...]
) -> None:
    """Two engines beside each other, since each of them mostly waits."""
    engines = [start("--capture", str(recordings / name), "--speed", "20") for name in names]

    for engine, name in zip(engines, names, strict=True):
        _assert_equal(engine.summary(), [_expected(recordings, name)])


def test_two_recordings_play_as_one_session(start: Starter, recordings: Path) -> None:
    engine = start("--capture", *(str(recordings / name) for name in SPOT), "--speed", "max")

    _assert_equal(engine.summary(), [_expected(recordings, name) for name in SPOT])


@pytest.mark.parametrize("lost", [0, 3_300])
def test_a_lost_depth_frame_is_noticed_and_the_final_book_is_right(
    start: Starter, recordings: Path, tmp_path: Path, lost: int
) -> None:
    name, stream = "spot_ethusdt_20240808.gz", "ethusdt@depth@100ms"
    script = tmp_path / "faults.toml"
    script.write_text(f'[[faults]]\nkind = "drop"\nstream = "{stream}"\nindex = {lost}\n')
    summary = start(
        "--capture", str(recordings / name), "--speed", "200", "--faults", str(script)
    ).summary()

    expected = _expected(recordings, name)
    expected["counts"][stream] -= 1
    syncs = 2 if lost else 1  # what is lost before the snapshot was not needed
    expected["counts"]["REST depth snapshot"] = syncs
    _assert_equal(summary, [expected])
    told = 2 * syncs  # STALE, then SYNCED; at the end it may have fallen silent
    assert summary["stored"]["book_states"] in {told, told + 1}


def test_a_lost_depth_frame_of_usdm_is_noticed_and_the_book_goes_on_to_the_end(
    start: Starter, recordings: Path, tmp_path: Path
) -> None:
    """A snapshot there has 1,000 levels a side: farther ones are unknown until they change."""
    name = "usdm_btcusdt_20240718.gz"
    script = tmp_path / "faults.toml"
    script.write_text('[[faults]]\nkind = "drop"\nstream = "*@depth@0ms"\nindex = 1500\n')
    summary = start(
        "--capture", str(recordings / name), "--speed", "200", "--faults", str(script)
    ).summary()

    final, book = _expected(recordings, name)["final_book"], summary["books"]["BTCUSDT"]
    assert book["u"] == final["u"]
    assert 1_000 <= book["bids"] <= final["levels"][0]
    assert 1_000 <= book["asks"] <= final["levels"][1]
    assert summary["messages"]["REST depth snapshot"] == 2
    assert summary["stored"]["book_states"] in {4, 5}  # at the end it may have fallen silent
    assert summary["lost"] == 0


@pytest.mark.parametrize(
    ("name", "stream", "index"),
    [
        ("spot_ethusdt_20240808.gz", "*@trade", 2_500),
        ("usdm_btcusdt_20240718.gz", "*@depth@0ms", 1_234),
    ],
)
def test_renewal_in_the_middle_of_a_recording_loses_and_repeats_nothing(
    start: Starter, recordings: Path, tmp_path: Path, name: str, stream: str, index: int
) -> None:
    script = tmp_path / "faults.toml"
    script.write_text(
        f'[[faults]]\nkind = "shutdown"\nstream = "{stream}"\nindex = {index}\nconnection = 0\n'
        "lead_s = 2.0\n"
    )
    summary = start(
        "--capture", str(recordings / name), "--speed", "60", "--faults", str(script)
    ).summary()

    expected = _expected(recordings, name)
    counts = expected["counts"]
    symbol = next(iter(counts)).partition("@")[0]
    trades = summary["trades"][symbol.upper()]
    assert {key: trades[key] for key in ("n", "base", "quote")} == {
        key: expected["trades"][key] for key in ("n", "base", "quote")
    }
    assert summary["stored"]["quotes"] == counts[f"{symbol}@bookTicker"]
    assert summary["books"][symbol.upper()]["u"] == expected["final_book"]["u"]
    sha256 = expected["final_book"]["sha256_of_lines_side_price_qty"]
    assert summary["books"][symbol.upper()]["sha256"] == sha256
    assert summary["messages"]["REST depth snapshot"] == 1  # so no book was ever stale
    assert summary["lost"] == 0
