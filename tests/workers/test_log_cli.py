"""The reader of the log files, and lines for people."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from workers import log_cli
from workers.logfile import RotatingFile, log_path
from workers.loglines import Line, console_text, decode_line


class TestTail:
    def write(self, tmp_path: Path, *lines: Line) -> RotatingFile:
        file = RotatingFile(log_path(tmp_path), bytes_max=400, files_max=99)
        for line in lines:
            file.write(msgspec.json.encode(line) + b"\n")
        return file

    def line(self, number: int, worker: str = "trader", level: str = "info") -> Line:
        text = "2025-01-01T09:15:00.123456789Z"
        return Line(text, level, worker, 1, 1, number, "step", {"number": number})

    def test_lines_of_all_files_are_printed_oldest_first(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.write(tmp_path, *(self.line(number) for number in range(20))).close()
        log_cli.tail(tmp_path, "", "debug", follow=False, as_json=True)

        printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["sequence"] for line in printed] == list(range(20))

    def test_worker_and_level_choose_lines(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.write(
            tmp_path, self.line(1), self.line(2, "keeper", "error"), self.line(3, level="error")
        ).close()
        log_cli.tail(tmp_path, "trader", "warning", follow=False, as_json=False)

        assert capsys.readouterr().out == "09:15:00.123456 error    trader       step number=3\n"

    def test_reader_follows_through_any_number_of_rotations(self, tmp_path: Path) -> None:
        file = self.write(tmp_path, self.line(0))
        reader = log_cli.Reader(log_path(tmp_path))
        seen = [decode_line(raw).sequence for raw in reader.read()]
        for number in range(1, 12):
            file.write(msgspec.json.encode(self.line(number)) + b"\n")
        seen += [decode_line(raw).sequence for raw in reader.read()]
        file.write(msgspec.json.encode(self.line(12)) + b"\n")
        seen += [decode_line(raw).sequence for raw in reader.read()]
        file.close()
        reader.close()

        assert seen == list(range(13))

    def test_unknown_level_is_one_clear_line(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="a log level must be one of debug, info"):
            log_cli.tail(tmp_path, "", "loud", follow=False, as_json=False)

    def test_missing_log_is_one_clear_line(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="must have left a log"):
            log_cli.tail(tmp_path, "", "info", follow=False, as_json=False)


class TestConsoleText:
    def test_text_cannot_steer_the_terminal(self) -> None:
        line = Line(
            "2025-01-01T09:15:00.123456789Z", "info", "t", 1, 1, 0, "a\x1b[2J",
            {"b\n": "c\x1b]0;d\x07", "e": ["f\r"]},
        )  # fmt: skip

        text = console_text(line, colour=False)
        assert text.isprintable()
