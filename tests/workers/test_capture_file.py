"""A recording's file: private, named at the end, and whole lines at every instant."""

from __future__ import annotations

import gzip
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.capture_file import MEMBER_BYTES_MAX, RecordingFile


def lines(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).splitlines()


def test_what_was_flushed_reads_whole_before_the_file_is_finished(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "a.gz")
    part = tmp_path / "a.gz.part"
    for number in range(3):
        file.add(number, b"{}")
        file.flush()

        assert lines(part) == [b"%d {}" % n for n in range(number + 1)]
    file.add(3, b"lost if killed")

    assert len(lines(part)) == 3
    assert stat.S_IMODE(part.stat().st_mode) == 0o600
    file.finish()
    assert lines(tmp_path / "a.gz")[3] == b"3 lost if killed"
    assert not part.exists()


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "a.gz")
    with pytest.raises(FileExistsError):
        RecordingFile(tmp_path / "a.gz")
    file.finish()
    with pytest.raises(FileExistsError, match="must not be there yet"):
        RecordingFile(tmp_path / "a.gz")


def test_lines_in_waiting_are_bounded(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "a.gz")
    file.add(1, b"x" * MEMBER_BYTES_MAX)

    assert file.size_bytes == (tmp_path / "a.gz.part").stat().st_size > 0
    file.finish()


@given(st.lists(st.tuples(st.integers(0, 1 << 62), st.binary(max_size=50), st.booleans())))
def test_every_line_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, given_lines: list[tuple[int, bytes, bool]]
) -> None:
    path = tmp_path_factory.mktemp("recording") / "a.gz"
    file = RecordingFile(path)
    for time_ns, body, is_flushed in given_lines:
        file.add(time_ns, body)
        if is_flushed:
            file.flush()
    file.finish()
    packed = path.read_bytes()

    want = b"".join(b"%d %b\n" % (time_ns, body) for time_ns, body, _ in given_lines)
    assert (gzip.decompress(packed) if packed else b"") == want
