"""Reading recordings: what they tell, and one clear line for what is wrong with them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from workers.exchange.capture import (
    CaptureError,
    read_lines,
    scan,
)

NS = 1_700_000_000_000_000_000
TOP = (
    '{"stream":"abcusdt@bookTicker","data":{"u":%d,"s":"ABCUSDT","b":"10.50000000",'
    '"B":"3.00000000","a":"10.70000000","A":"4.50000000"}}'
)
DEPTH = (
    '{"stream":"abcusdt@depth@100ms","data":{"e":"depthUpdate","E":1,"s":"ABCUSDT","U":11,"u":%d,'
    '"b":[["10.50000000","0.00000000"]],"a":[["10.80000000","2.50000000"]]}}'
)
SNAPSHOT = '{"lastUpdateId":10,"bids":[["10.50000000","3.0"]],"asks":[["10.70000000","4.5"]]}'


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_scan_tells_streams_symbols_grid_and_snapshot(tmp_path: Path) -> None:
    lines = (f"{NS} {SNAPSHOT}", f"{NS + 1} {TOP % 11}", f"{NS + 2} {DEPTH % 12}")
    path = write(tmp_path / "a", *lines)
    found = scan([path])

    assert found.streams == {"abcusdt@bookTicker": 1, "abcusdt@depth@100ms": 1}
    assert found.lines_n == 3
    symbol = found.symbols["ABCUSDT"]
    assert symbol.grid == (10_000_000, 10_000_000)
    assert symbol.snapshot == SNAPSHOT.encode()


def test_gzip_and_plain_text_read_alike(tmp_path: Path) -> None:
    plain = write(tmp_path / "a", f"{NS} {TOP % 1}")
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))

    assert list(read_lines([packed])) == list(read_lines([plain]))


@pytest.mark.parametrize("divisor", [1, 1_000, 1_000_000], ids=["ns", "us", "ms"])
def test_the_unit_of_local_time_is_detected(tmp_path: Path, divisor: int) -> None:
    path = write(tmp_path / "a", f"{NS // divisor} {TOP % 1}")

    assert [line.time_ns for line in read_lines([path])] == [NS]


def test_files_are_merged_by_time(tmp_path: Path) -> None:
    first = write(tmp_path / "a", f"{NS} {TOP % 1}", f"{NS + 20} {TOP % 3}")
    second = write(tmp_path / "b", f"{(NS + 10_000) // 1_000} {TOP % 4}", "")
    third = write(tmp_path / "c", f"{NS + 10} {TOP % 2}")
    ids = [line.frame.data.u for line in read_lines([first, second, third]) if line.frame.data]

    assert ids == [1, 2, 3, 4]


def test_a_line_keeps_its_bytes_and_its_payload(tmp_path: Path) -> None:
    body = '{"stream":"abcusdt@trade","data":{"s":"ABCUSDT" , "x":{"data":1}}}'
    (line,) = read_lines([write(tmp_path / "a", f"{NS} {body}")])

    assert line.body == body.encode()
    assert line.payload() == b'{"s":"ABCUSDT" , "x":{"data":1}}'


def test_depth_frames_without_a_snapshot_are_refused_with_file_and_symbol(tmp_path: Path) -> None:
    path = write(tmp_path / "a", f"{NS} {TOP % 11}", f"{NS + 1} {DEPTH % 12}")

    with pytest.raises(CaptureError, match=r"no line with lastUpdateId.* file=.*/a symbol=ABCUSDT"):
        scan([path])


def test_a_snapshot_in_another_file_of_the_session_is_enough(tmp_path: Path) -> None:
    first = write(tmp_path / "a", f"{NS} {SNAPSHOT}", f"{NS + 1} {DEPTH % 12}")
    second = write(tmp_path / "b", f"{NS + 2} {DEPTH % 13}")

    assert scan([first, second]).streams == {"abcusdt@depth@100ms": 2}


def test_a_recording_without_depth_needs_no_snapshot(tmp_path: Path) -> None:
    trade = '{"stream":"abcusdt@trade","data":{"e":"trade","s":"ABCUSDT","p":"1.5","q":"2"}}'
    path = write(tmp_path / "a", f"{NS} {TOP % 11}", f"{NS + 1} {trade}")

    assert scan([path]).lines_n == 2


def test_the_head_of_a_real_recording_needs_its_snapshot_line(
    recordings: Path, tmp_path: Path
) -> None:
    with gzip.open(recordings / "spot_btcusdt_20240808.gz", "rt") as file:
        head = [next(file) for _ in range(200)]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.write_text("".join(head))
    cut.write_text("".join(line for line in head if "lastUpdateId" not in line))

    assert scan([whole]).lines_n == 200
    with pytest.raises(CaptureError, match="symbol=BTCUSDT"):
        scan([cut])


GARBLED = [
    ("", "a recording must have lines: file="),
    ("hello", "a line must be a local time, a space and JSON: file=.* line=1"),
    (f"{NS}", "a line must be a local time, a space and JSON: file=.* line=1"),
    (f"-5 {TOP % 1}", "a line must be a local time, a space and JSON"),
    (f"{NS} {{", "a line must hold a JSON frame or snapshot: file=.* line=1"),
    (f"{NS} []", "a line must hold a JSON frame or snapshot"),
    (f"{NS} {{}}", "a frame must name its stream and its symbol: file=.* line=1"),
    (f'{NS} {{"stream":"x","data":{{}}}}', "a frame must name its stream and its symbol"),
    (f"{NS} {SNAPSHOT}", "a recording must have stream frames: file="),
    (f"{NS} {TOP % 1}\n{NS - 1} {TOP % 2}", "local time must not go back: file=.* line=2"),
    (
        f"{NS} {TOP % 1}\n{NS} " + TOP.replace("10.5", "ten") % 2,
        "a decimal must be digits with at most one point: text='ten0000000': file=.* line=2",
    ),
]


@pytest.mark.parametrize(("text", "message"), GARBLED)
def test_a_garbled_recording_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a"
    path.write_text(text)

    with pytest.raises(CaptureError, match=message) as refusal:
        scan([path])
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"a recording must be readable: .* no such file"):
        scan([tmp_path / "nowhere"])


def test_a_cut_gzip_file_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    lines = "".join(f"{NS + number} {TOP % number}\n" for number in range(500))
    path.write_bytes(gzip.compress(lines.encode())[:-50])

    with pytest.raises(CaptureError, match=r"gzip data must be whole: file=.* line="):
        scan([path])


def test_bytes_after_gzip_data_are_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(f"{NS} {TOP % 1}\n".encode()) + b"rubbish")

    with pytest.raises(CaptureError, match="gzip data must be whole"):
        scan([path])
