"""workers room: appends one ring's records to journal files, and finds its place after a crash.

A record goes from shared memory to the kernel in one `writev` of the frame's header and the rows in
place: no copy, no allocation a record. Bytes handed to the kernel survive kill -9 of this process;
a flush (workers/journal_flush.py) makes them survive the host.

A write may stop half-way when the disk is full. The rest of that same frame is then written by the
next call, so the file is always a row of whole frames with at most one unfinished at its end, and
nothing is ever cut while a reader may look.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from engine.frames import (
    HEADER_BYTES,
    RECORDS_MAX,
    Moment,
    Origin,
    encode_header,
)
from shm.segment import Words
from workers.journal import JournalError, SegmentFile, make_folder, segment_files, segment_path
from workers.journal_inspect import find_end


class Recovery(NamedTuple):
    """What a writer found on taking its place."""

    next_sequence: int  # behind the last whole frame
    torn_bytes: int  # cut off, of a frame that was never finished
    fault: str  # damage that was left as it is, empty when there is none


class RingWriter:
    """The one writer of a ring's journal in one run. Called by: the recorder only."""

    def __init__(self, folder: Path, origin: Origin, segment_bytes_max: int) -> None:
        """Does no input or output yet.

        Args:
            folder: of the ring.
            origin: what its frames carry.
            segment_bytes_max: a file that would grow beyond is followed by a new one.
        """
        self.folder = folder
        self.next_sequence = 0
        self.file = -1
        self.is_file_new = False  # its name is not durable yet
        self.retired: list[int] = []  # descriptors of complete files, to flush and close
        self._origin = origin
        self._bytes_max = segment_bytes_max
        self._size = 0
        self._header = bytearray(HEADER_BYTES)
        self._records = 0  # of the frame under way, 0: none
        self._sent = 0  # bytes of it that are written

    def recover(self, first: int) -> Recovery:
        """Opens the journal behind its last whole frame, or begins it at `first`.

        Args:
            first: the sequence that the ring still holds and nobody wrote, for an empty journal.

        Raises:
            OSError: the folder cannot be written, or another process writes it.
        """
        make_folder(self.folder)
        files = segment_files(self.folder)
        if not files:
            self.next_sequence = first
            self._begin()
            return Recovery(first, 0, "")
        end = find_end(files[-1], self._origin)
        self.next_sequence = end.next_sequence
        if end.fault:
            self._step_over(files[-1])
            return Recovery(end.next_sequence, 0, f"{end.fault}: {end.place}")
        self._open(files[-1].path)
        torn = os.fstat(self.file).st_size - end.offset
        if torn:
            os.ftruncate(self.file, end.offset)
        self._size = end.offset
        return Recovery(end.next_sequence, torn, "")

    def skip_to(self, sequence: int) -> None:
        """Goes on at a later sequence in a new file: what lies between is lost. Called once."""
        assert sequence > self.next_sequence, "a journal goes forward only"
        self.next_sequence = sequence
        self._begin()

    def append(self, rows: Words, moment: Moment) -> int:
        """Writes rows, or the rest of the frame that a failed call began; answers records written.

        Args:
            rows: (n, row_bytes / 8) int64, contiguous, from `next_sequence` on; after a failure
                the same records again, more of them allowed.
            moment: now.

        Raises:
            OSError: the disk took nothing or a part; call again with the same records.
        """
        if self._records == 0:
            self._frame(rows[:RECORDS_MAX], moment)
        records = self._records
        body = rows[:records].data.cast("B")
        total = HEADER_BYTES + len(body)
        while self._sent < total:
            self._sent += os.writev(self.file, self._left(body))
        self._size += total
        self._records = self._sent = 0
        self.next_sequence += records
        return records

    def close(self) -> None:
        """Closes every file."""
        for descriptor in (self.file, *self.retired):
            if descriptor >= 0:
                os.close(descriptor)
        self.file = -1
        self.retired.clear()

    def _frame(self, rows: Words, moment: Moment) -> None:
        if self._size and self._size + HEADER_BYTES + rows.nbytes > self._bytes_max:
            self._begin()
        first = self.next_sequence
        encode_header(self._header, self._origin, first=first, rows=rows, moment=moment)
        self._records = len(rows)

    def _left(self, body: memoryview) -> list[memoryview]:
        if self._sent < HEADER_BYTES:
            return [memoryview(self._header)[self._sent :], body]
        return [body[self._sent - HEADER_BYTES :]]

    def _begin(self) -> None:
        """Opens a new file for `next_sequence`; the old one is left to the flusher."""
        previous = self.file
        self._open(segment_path(self.folder, self.next_sequence))
        self._size = 0
        self.is_file_new = True
        if previous >= 0:
            self.retired.append(previous)

    def _open(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise JournalError(
                f"journal must have one writer: file={path}; wait for the other recorder to end"
            ) from None
        self.file = descriptor

    def _step_over(self, damaged: SegmentFile) -> None:
        """Leaves a damaged file as evidence and goes on in a new one."""
        if damaged.first == self.next_sequence:
            damaged.path.rename(damaged.path.with_suffix(".damaged"))
        self._begin()
