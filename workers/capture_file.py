"""workers room: a compressed recording as it is written: whole lines, and readable at any instant.

Every flush appends one gzip member of whole lines with one system call. Members in a row are an
ordinary gzip file, so what a killed process leaves is a whole recording up to its last flush. While
it grows its name ends in `.part`; the end syncs it and takes that away in one step.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

PART = ".part"
MEMBER_BYTES_MAX = 1 << 20  # of lines; more are flushed before their time
_LEVEL = 6


class RecordingFile:
    """One file, mode 0600. Called by: one thread.

    Attributes:
        path: what it is called at the end.
        size_bytes: compressed, as far as flushed.
        lines_n: lines added.
    """

    def __init__(self, path: Path) -> None:
        """Makes the file; raises FileExistsError when it or its finished form is there."""
        if path.exists():
            raise FileExistsError(f"a recording must not be there yet: file={path}")
        self.path, self.size_bytes, self.lines_n = path, 0, 0
        self._part = path.with_name(path.name + PART)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._part, flags, 0o600)
        self._lines: list[bytes] = []
        self._waiting_bytes = 0

    def add(self, time_ns: int, body: bytes) -> None:
        """Appends one line; raises OSError when a flush of its own fails."""
        line = b"%d %b\n" % (time_ns, body)
        self._lines.append(line)
        self._waiting_bytes += len(line)
        self.lines_n += 1
        if self._waiting_bytes >= MEMBER_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Hands everything added to the kernel, as one gzip member.

        Raises:
            OSError: the disk is full or broken; what was flushed before stays whole.
        """
        if not self._lines:
            return
        member = memoryview(gzip.compress(b"".join(self._lines), _LEVEL, mtime=0))
        done = 0
        try:
            while done < len(member):
                done += os.write(self._file, member[done:])
        except OSError:
            os.ftruncate(self._file, self.size_bytes)
            raise
        self.size_bytes += done
        self._lines.clear()
        self._waiting_bytes = 0

    def finish(self) -> None:
        """Flushes, syncs and gives the file its name. Raises OSError."""
        try:
            self.flush()
            os.fsync(self._file)
        finally:
            os.close(self._file)
        self._part.rename(self.path)
