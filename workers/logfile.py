"""workers room: the rotating file of JSON lines that the collector writes.

`tickring.jsonl` is the newest, `tickring.jsonl.1` the one before it, and so on. Each write is one
system call of whole lines, so another process that reads along sees no half line, and a collector
that dies leaves none that its next life would not cut off.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

FILE_NAME: Final = "tickring.jsonl"
FOLDER_NAME: Final = "logs"
RESUME_BYTES_MAX: Final = 8 * 1024 * 1024  # of the newest files, read at start
_CHUNK: Final = 64 * 1024


class _Place(msgspec.Struct):
    """What tells a line apart from all others."""

    worker: str
    run: int
    sequence: int


_decode = msgspec.json.Decoder(_Place).decode


def log_path(data_dir: Path) -> Path:
    """Answers where the newest log file of an engine lies."""
    return data_dir / FOLDER_NAME / FILE_NAME


def rotated(path: Path, number: int) -> Path:
    """Answers the name of the file `number` rotations ago; 0 is the newest."""
    return path.with_name(f"{path.name}.{number}") if number else path


def existing(path: Path, files_max: int) -> list[Path]:
    """Answers the log files there are, newest first."""
    names = (rotated(path, number) for number in range(files_max))
    return [name for name in names if name.exists()]


class RotatingFile:
    """Appends whole lines; the newest file stays below its limit, old ones fall off the end."""

    def __init__(self, path: Path, *, bytes_max: int, files_max: int) -> None:
        """Opens the newest file, mode 0600, and cuts off a half line that a killed process left.

        Raises:
            OSError: when the folder or the file cannot be made.
        """
        self.path = path
        self._bytes_max = bytes_max
        self._files_max = max(1, files_max)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = self._open()
        self._size = self._mend()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        os.fchmod(descriptor, 0o600)
        return descriptor

    def _mend(self) -> int:
        """Cuts a half line off the end; answers the size that is left."""
        size = end = os.fstat(self._file).st_size
        while end > 0:
            start = max(0, end - _CHUNK)
            place = os.pread(self._file, end - start, start).rfind(b"\n")
            if place >= 0:
                end = start + place + 1
                break
            end = start
        if end != size:
            os.ftruncate(self._file, end)
        return end

    def write(self, lines: bytes) -> None:
        """Appends lines, each ending in a newline; starts a new file where the limit is reached.

        Raises:
            OSError: the disk is full or broken; then none of the lines is in the newest file,
                except those already in full files.
        """
        rest = memoryview(lines)
        while rest:
            part = self._part(rest)
            if self._size > 0 and self._size + len(part) > self._bytes_max:
                self._rotate()
                continue
            self._append(part)
            rest = rest[len(part) :]

    def _part(self, rest: memoryview) -> memoryview:
        """Answers as many of the first lines as one file takes, at least one."""
        room = self._bytes_max - self._size
        if len(rest) <= room:
            return rest
        raw = bytes(rest[: max(room, 0)])
        end = raw.rfind(b"\n") + 1
        if end == 0:
            end = bytes(rest).find(b"\n") + 1
        return rest[:end]

    def _append(self, part: memoryview) -> None:
        done = 0
        try:
            while done < len(part):
                done += os.write(self._file, part[done:])
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += done

    def _rotate(self) -> None:
        os.close(self._file)
        for number in range(self._files_max - 1, 0, -1):
            older = rotated(self.path, number - 1)
            if older.exists():
                older.replace(rotated(self.path, number))
        if self._files_max == 1:
            self.path.unlink()
        self._file = self._open()
        self._size = self._mend()

    def last_sequences(self, run: int) -> dict[str, int]:
        """Answers, by worker, the highest sequence of this run that the newest files hold."""
        found: dict[str, int] = {}
        left = RESUME_BYTES_MAX
        for path in existing(self.path, 2):
            text = _tail(path, left)
            left -= len(text)
            for line in text.splitlines():
                place = _place(line)
                if place is not None and place.run == run:
                    found[place.worker] = max(found.get(place.worker, -1), place.sequence)
        return found

    def close(self) -> None:
        """Closes the newest file."""
        os.close(self._file)


def _place(line: bytes) -> _Place | None:
    try:
        return _decode(line)
    except msgspec.DecodeError:
        return None


def _tail(path: Path, bytes_max: int) -> bytes:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - bytes_max))
        return file.read()
