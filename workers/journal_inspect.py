"""workers room: reads journal files from outside: where they end, what they hold, what is damaged.

Two depths. `find_end` goes by the headers and proves only the last frame: what a recorder needs
after a crash, and `journal ls`. `verify_ring` proves every checksum and every sequence.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.frames import (
    HEADER_BYTES,
    Buffer,
    Frame,
    Origin,
    Verdict,
    inspect,
    last_frame,
    place_fault,
    ring_code,
    rows_of,
    sequence_fault,
)
from engine.records import ROW_BYTES
from workers.journal import SegmentFile, segment_files


class End(NamedTuple):
    """The place behind the last whole frame of a file."""

    path: Path
    offset: int
    next_sequence: int
    size_bytes: int
    fault: str  # of damage at `offset`; empty for a file that is whole, or torn there

    @property
    def place(self) -> str:
        """The place as messages name it."""
        return f"file={self.path} offset={self.offset}"

    @property
    def torn_bytes(self) -> int:
        """Bytes of a frame that was never finished."""
        return 0 if self.fault else self.size_bytes - self.offset


class RingReport(NamedTuple):
    """What a ring's journal holds."""

    generation: int
    ring: str
    files: int
    frames: int  # 0 when they were not counted
    first: int
    next_sequence: int
    size_bytes: int
    torn_bytes: int  # at the very end: the recorder is writing, or was killed
    first_ns: int  # epoch, of the first frame; 0 when there is none
    last_ns: int
    faults: tuple[str, ...]

    @property
    def records(self) -> int:
        """Records between first and next."""
        return self.next_sequence - self.first


@contextmanager
def mapped(path: Path) -> Iterator[Buffer]:
    """Maps a file for reading; an empty one is an empty buffer."""
    size = path.stat().st_size
    if size == 0:
        yield b""
        return
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
    with content, memoryview(content) as view:
        yield view


def find_end(file: SegmentFile, origin: Origin) -> End:
    """Answers where a file ends. Frames before the last are taken by their headers."""
    with mapped(file.path) as view:
        offset, records = 0, 0
        if len(view) >= HEADER_BYTES:
            index, records = last_frame(np.frombuffer(view, np.int64, len(view) // 8))
            offset = 8 * index
        frames = _Walk(view, origin, offset, file.first + records)
        for _ in frames:
            pass
        return End(file.path, frames.offset, frames.next_sequence, len(view), frames.fault)


class _Walk:
    """Goes from frame to frame until the end, a torn frame, or damage."""

    def __init__(self, view: Buffer, origin: Origin, offset: int, next_sequence: int) -> None:
        self._view, self._origin = view, origin
        self.offset, self.next_sequence = offset, next_sequence
        self.fault = ""

    def __iter__(self) -> Iterator[tuple[int, Frame]]:
        """Yields offset and frame of each whole frame at its right place."""
        while True:
            finding = inspect(self._view, self.offset)
            frame = finding.frame
            if frame is not None:
                self.fault = place_fault(frame, self._origin, first=self.next_sequence)
            if finding.verdict == Verdict.DAMAGED:
                self.fault = finding.fault
            if self.fault or frame is None or finding.verdict != Verdict.WHOLE:
                return
            yield self.offset, frame
            self.next_sequence = frame.next_sequence
            self.offset += frame.size_bytes


def list_ring(folder: Path, ring: str) -> RingReport:
    """Answers what a ring's journal holds, by the headers and the last frame of each file."""
    return _report(folder, ring, is_deep=False)


def verify_ring(folder: Path, ring: str) -> RingReport:
    """Answers what a ring's journal holds and every fault found by reading all of it."""
    return _report(folder, ring, is_deep=True)


def _report(folder: Path, ring: str, *, is_deep: bool) -> RingReport:
    origin = Origin(ring_code(ring), int(folder.name), ROW_BYTES)
    files = segment_files(folder / ring)
    frames, size, torn, faults = 0, 0, 0, []
    expected = first = files[0].first if files else 0
    for file in files:
        if file.first != expected:
            faults.append(f"files must follow each other: file={file.path} expected={expected}")
        torn_before = torn
        if is_deep:
            end, count, found = _verify_file(file, origin)
            frames += count
            faults += found
        else:
            end = find_end(file, origin)
        if end.fault:
            faults.append(f"{end.fault}: {end.place}")
        if torn_before:
            faults.append(f"only the last file may end inside a frame: file={file.path} follows")
        expected, torn = end.next_sequence, end.torn_bytes
        size += end.size_bytes
    times = _times(files)
    return RingReport(
        origin.generation, ring, len(files), frames, first, expected, size, torn, *times,
        tuple(faults),
    )  # fmt: skip


def _verify_file(file: SegmentFile, origin: Origin) -> tuple[End, int, list[str]]:
    faults = []
    count = 0
    with mapped(file.path) as view:
        frames = _Walk(view, origin, 0, file.first)
        for offset, frame in frames:
            count += 1
            fault = sequence_fault(frame, rows_of(view, offset, frame))
            if fault:
                faults.append(f"{fault}: file={file.path} offset={offset}")
        end = End(file.path, frames.offset, frames.next_sequence, len(view), frames.fault)
    return end, count, faults


def _times(files: list[SegmentFile]) -> tuple[int, int]:
    """Answers when the first and the last frame were written, ns since 1970, 0 when unknown."""
    found: list[int] = []
    for file in (*files[:1], *files[-1:]):
        with mapped(file.path) as view:
            index = 0
            if file == files[-1] and found and len(view) >= HEADER_BYTES:
                index, _ = last_frame(np.frombuffer(view, np.int64, len(view) // 8))
            frame = inspect(view, 8 * index).frame
            found.append(frame.moment.epoch_ns if frame is not None else 0)
    return (found[0], found[1]) if found else (0, 0)
