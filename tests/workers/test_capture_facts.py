"""What `tickring capture inspect` says, of real recordings and of damaged ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.engine.scratch_feed import depth_frame, quote_frame, trade_frame
from workers.capture_facts import MALFORMED_MAX, Facts, facts_of
from workers.capture_inspect import inspect

NS = 1_723_161_255_000_000_000
SNAPSHOTS = {
    "spot_btcusdt_20240808.gz": 8,
    "spot_ethusdt_20240808.gz": 6,
    "usdm_btcusdt_20240718.gz": 14,
    "usdm_btcusdt_20230404.dat.gz": 17,
}


def facts(folder: Path, *bodies: bytes) -> Facts:
    path = folder / "recording"
    path.write_bytes(b"".join(b"%d %b\n" % (NS + n, body) for n, body in enumerate(bodies)))
    return facts_of(path)


def usdm(first: int, last: int, before: int) -> bytes:
    return depth_frame(first, last, [], []).replace(b'"b":', b'"pu":%d,"b":' % before)


@pytest.mark.parametrize("name", list(SNAPSHOTS))
def test_real_recordings_show_the_facts_that_are_known_of_them(recordings: Path, name: str) -> None:
    texts = (recordings / "expected.jsonl").read_text().splitlines()
    want = next(json.loads(text) for text in texts if json.loads(text)["files"] == [name])
    found = facts_of(recordings / name)

    counts = {stream: one.count for stream, one in found.streams.items()}
    want["counts"].pop("REST depth snapshot", None)
    assert counts == want["counts"]
    assert found.market == name.partition("_")[0]
    assert found.snapshots == [SNAPSHOTS[name]]
    assert (found.gaps, found.time_back, found.malformed, found.problems) == (0, 0, 0, [])
    assert found.lines == want["lines"]
    assert found.local_unit == ("us" if "2023" in name else "ns")
    assert found.event_unit == "ms"
    skew = found.skew_ms()["p50"]
    assert -30 < skew < 30 if "2023" in name else -1600 < skew < -1200


def test_spot_differences_continue_at_the_next_id(tmp_path: Path) -> None:
    found = facts(
        tmp_path,
        depth_frame(1, 4, [], []),
        depth_frame(5, 5, [], []),
        depth_frame(7, 9, [], []),
        depth_frame(10, 11, [], []),
    )

    assert (found.market, found.gaps) == ("spot", 1)
    assert found.streams["btcusdt@depth@100ms"].gap_lines == [3]


def test_usdm_differences_continue_by_pu(tmp_path: Path) -> None:
    found = facts(tmp_path, usdm(1, 4, 0), usdm(9, 12, 4), usdm(13, 20, 11), usdm(30, 31, 20))

    assert (found.market, found.gaps) == ("usdm", 1)
    assert found.streams["btcusdt@depth@100ms"].gap_lines == [3]


def test_missing_trades_and_quotes_that_go_back_are_gaps(tmp_path: Path) -> None:
    trades = [trade_frame(number, "1.00", "1.0") for number in (7, 8, 10)]
    found = facts(tmp_path, *trades, quote_frame(5), quote_frame(5), quote_frame(9))

    gaps = {name: one.gaps for name, one in found.streams.items()}
    assert gaps == {"btcusdt@trade": 1, "btcusdt@bookTicker": 1}


def test_bad_lines_are_told_one_by_one_up_to_a_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = facts(tmp_path, quote_frame(1), *[b"[] no JSON"] * (MALFORMED_MAX + 5), quote_frame(2))

    assert found.malformed == MALFORMED_MAX + 5
    assert len(found.problems) == MALFORMED_MAX
    assert "recording line=2: " in found.problems[0]
    assert found.streams["btcusdt@bookTicker"].count == 2
    assert inspect([found.path], None, as_json=True) == 1
    said = capsys.readouterr()
    assert "5 more bad lines" in said.err
    assert json.loads(said.out)["files"][0]["malformed"] == MALFORMED_MAX + 5


def test_time_that_goes_back_and_a_torn_end_are_told(tmp_path: Path) -> None:
    line = b"%d %b\n"
    text = line % (NS, quote_frame(1)) + line % (NS - 1, quote_frame(2))
    packed = gzip.compress(text)
    path = tmp_path / "torn.gz"
    path.write_bytes(packed + gzip.compress(line % (NS, quote_frame(3)))[:-9])
    found = facts_of(path)

    assert found.time_back == 1
    assert found.streams["btcusdt@bookTicker"].count >= 2
    assert any("gzip data must be whole" in problem for problem in found.problems)
    assert not found.is_good


def test_a_torn_end_hides_no_bad_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = b"%d []\n" % NS * (MALFORMED_MAX + 5)
    path = tmp_path / "torn.gz"
    path.write_bytes(gzip.compress(bad) + gzip.compress(b"1 []\n")[:-9])

    assert inspect([path], None, as_json=True) == 1
    assert "gzip data must be whole" in (said := capsys.readouterr().err)
    hidden = facts_of(path).malformed - MALFORMED_MAX
    assert f"{hidden} more bad lines" in said


def test_longest_silences_come_first(tmp_path: Path) -> None:
    path = tmp_path / "quiet"
    times = (0, 1, 4, 6)
    path.write_bytes(b"".join(b"%d %b\n" % (NS + t * 10**9, quote_frame(t + 1)) for t in times))

    assert facts_of(path).streams["btcusdt@bookTicker"].silences_s() == [3.0, 2.0, 1.0]


def test_a_picture_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    found = facts(tmp_path, quote_frame(1), trade_frame(1, "1.00", "1.0"))
    picture = tmp_path / "picture.png"

    assert inspect([found.path], picture, as_json=False) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "gaps 0" in capsys.readouterr().out
