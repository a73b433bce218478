"""workers room: prints the collected log files for people and for scripts, and follows them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import BinaryIO, Final

import msgspec

from workers.logfile import existing, log_path
from workers.loglevels import LEVELS, level_number
from workers.loglines import console_text, decode_line

POLL_S: Final = 0.1
FILES_MAX: Final = 1_000  # rotated files that are looked for


class Reader:
    """Reads whole lines of all log files, oldest first, and goes on where they grow or rotate."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._inode = 0
        self._rest = b""

    def read(self) -> Iterator[bytes]:
        """Yields the lines that are new since the last call."""
        if self._file is not None:
            yield from self._lines(self._file)
        for path in self._newer():
            self._open(path)
            assert self._file is not None, "the file was opened"
            yield from self._lines(self._file)

    def _newer(self) -> list[Path]:
        """Answers the files behind the open one, oldest first."""
        found: list[Path] = []
        for path in existing(self._path, FILES_MAX):
            if self._file is not None and path.stat().st_ino == self._inode:
                break
            found.insert(0, path)
        return found

    def _open(self, path: Path) -> None:
        self.close()
        self._file = path.open("rb")
        self._inode = path.stat().st_ino
        self._rest = b""

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        for line in file:
            self._rest += line
            if self._rest.endswith(b"\n"):
                whole, self._rest = self._rest, b""
                yield whole[:-1]

    def close(self) -> None:
        """Closes the open file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def shown(raw: bytes, worker: str, level_min: int, *, as_json: bool, colour: bool) -> str | None:
    """Answers a line as it is printed, None when it is not wanted."""
    try:
        line = decode_line(raw)
    except msgspec.DecodeError:
        return None if worker else raw.decode(errors="backslashreplace")
    if (worker and line.worker != worker) or LEVELS.get(line.level, 0) < level_min:
        return None
    return raw.decode() if as_json else console_text(line, colour=colour)


def tail(data_dir: Path, worker: str, level: str, follow: bool, as_json: bool) -> None:  # noqa: FBT001 - the command line's own order
    """Prints the log of an engine.

    Args:
        data_dir: of the engine.
        worker: only this worker's lines; "" for all.
        level: only from this level up.
        follow: go on until interrupted.
        as_json: print the lines as they are in the file.

    Raises:
        ValueError: when there is no such level.
        FileNotFoundError: when the engine has no log yet and `follow` is off.
    """
    level_min = level_number(level)
    path = log_path(data_dir)
    if not follow and not path.exists():
        raise FileNotFoundError(f"an engine that ran must have left a log: file={path}")
    reader, pause = Reader(path), Event()
    colour = sys.stdout.isatty()
    try:
        while True:
            for raw in reader.read():
                text = shown(raw, worker, level_min, as_json=as_json, colour=colour)
                if text is not None:
                    sys.stdout.write(text + "\n")
            sys.stdout.flush()
            if not follow:
                break
            pause.wait(POLL_S)
    except KeyboardInterrupt:
        pass
    finally:
        reader.close()
