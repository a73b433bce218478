"""The rotating file of log lines: limits, modes, and what a killed writer leaves."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from workers.logfile import RotatingFile, existing, log_path


class TestRotatingFile:
    def test_files_stay_below_their_limits_and_are_private(self, tmp_path: Path) -> None:
        path = log_path(tmp_path)
        file = RotatingFile(path, bytes_max=1_000, files_max=3)
        for number in range(100):
            file.write(b"".join(b"%060d\n" % (number * 10 + part) for part in range(10)))
        file.close()

        files = existing(path, 100)
        numbers = [int(line) for one in reversed(files) for line in one.read_bytes().split()]
        assert len(files) == 3
        assert all(one.stat().st_size <= 1_000 for one in files)
        assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert numbers == list(range(numbers[0], 1_000))

    def test_line_larger_than_a_file_gets_one_of_its_own(self, tmp_path: Path) -> None:
        path = log_path(tmp_path)
        file = RotatingFile(path, bytes_max=10, files_max=4)
        file.write(b"a\n" + b"b" * 50 + b"\nc\n")
        file.close()

        assert [one.read_bytes() for one in existing(path, 9)] == [
            b"c\n",
            b"b" * 50 + b"\n",
            b"a\n",
        ]

    def test_half_line_of_a_killed_writer_is_cut_off(self, tmp_path: Path) -> None:
        path = log_path(tmp_path)
        path.parent.mkdir()
        path.write_bytes(b"whole\nhal")
        file = RotatingFile(path, bytes_max=1_000, files_max=2)
        file.write(b"next\n")
        file.close()

        assert path.read_bytes() == b"whole\nnext\n"

    def test_one_file_only_starts_over(self, tmp_path: Path) -> None:
        path = log_path(tmp_path)
        file = RotatingFile(path, bytes_max=4, files_max=1)
        file.write(b"aaa\nbbb\n")
        file.close()

        assert [one.read_bytes() for one in existing(path, 9)] == [b"bbb\n"]

    def test_symbolic_link_is_refused(self, tmp_path: Path) -> None:
        path = log_path(tmp_path)
        path.parent.mkdir()
        path.symlink_to(tmp_path / "elsewhere")

        with pytest.raises(OSError, match="symbolic"):
            RotatingFile(path, bytes_max=4, files_max=1)
