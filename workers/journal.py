"""workers room: the journal's folders and facts, and `Tail`, which follows it as it grows.

    data_dir/journal/GENERATION/generation.json        the run: version, clock offset, symbols
                                /instruments.json      the grids, once the venue has told them
                                /RING/ring.json        record size and layout
                                /RING/FIRST.journal    frames (engine/frames.py), FIRST in 20 digits

A file is named by the sequence of its first record, so a reader that stands behind the last whole
frame of a file knows the name of the next one; where that name exists, this file is complete.
Folders are 0700 and files 0600. Everything needed to read a run lies in its folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from engine.frames import (
    HEADER_BYTES,
    RECORDS_MAX,
    Frame,
    Origin,
    Verdict,
    inspect,
    place_fault,
    ring_code,
    rows_of,
    skip_frames,
)
from engine.instruments import Instrument
from engine.records import ROW_BYTES, ROW_WORDS
from shm.segment import Words

T = TypeVar("T")

SUFFIX = ".journal"
GENERATION_FILE, INSTRUMENTS_FILE, RING_FILE = "generation.json", "instruments.json", "ring.json"
# Twice the largest frame: one is whole in the buffer wherever the read began.
BUFFER_BYTES = 2 * (HEADER_BYTES + RECORDS_MAX * ROW_BYTES)
NOTHING: Words = np.empty((0, ROW_WORDS), np.int64)
# Damage is believed when it is read again: a recorder that has just started may have replaced a
# torn frame while we read it.
READS_MAX = 3


class JournalError(OSError):
    """A journal cannot be read or written; the message says which file, where and what."""


class GenerationFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader must know about a run that no record says."""

    generation: int
    engine: str
    version: str  # of tickring
    journal_id: str  # random; tells two runs of the same number apart
    started_ns: int  # epoch
    clock_offset_ns: int  # add to CLOCK_MONOTONIC for epoch; one for the whole run
    symbols: tuple[str, ...]


class RingFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the frames of one ring hold."""

    ring: str
    generation: int
    row_bytes: int
    kinds: dict[str, tuple[int, list[tuple[str, str, int]]]]  # number; field, type, offset
    version: str


class SegmentFile(NamedTuple):
    """One journal file."""

    first: int
    path: Path


def generation_folder(data_dir: Path, generation: int) -> Path:
    """Answers where a run's journal lies."""
    return data_dir / "journal" / f"{generation:08d}"


def generations(data_dir: Path) -> list[int]:
    """Answers the runs that have a journal, oldest first."""
    folder = data_dir / "journal"
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit() and p.is_dir())


def rings_of(folder: Path) -> list[str]:
    """Answers the rings journaled in a run's folder, sorted."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if (path / RING_FILE).is_file())


def segment_path(ring_folder: Path, first: int) -> Path:
    """Answers the path of the journal file that begins with sequence `first`."""
    return ring_folder / f"{first:020d}{SUFFIX}"


def segment_files(ring_folder: Path) -> list[SegmentFile]:
    """Answers a ring's journal files in order."""
    if not ring_folder.is_dir():
        return []
    found = (p for p in ring_folder.iterdir() if p.suffix == SUFFIX and p.stem.isdigit())
    return sorted(SegmentFile(int(path.stem), path) for path in found)


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents, each for its owner only."""
    for part in (*reversed(folder.parents), folder):
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)


def write_facts(path: Path, facts: object) -> None:
    """Replaces a JSON file as a whole, mode 0600."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor carries the mode
        file.write(msgspec.json.format(msgspec.json.encode(facts), indent=1))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read(path: Path, decoder: msgspec.json.Decoder[T]) -> T | None:
    try:
        return decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise JournalError(f"journal facts must be readable: file={path} error={error}") from None


def read_generation(folder: Path) -> GenerationFacts | None:
    """Answers the facts of a run, None while there are none; raises JournalError on nonsense."""
    return _read(folder / GENERATION_FILE, msgspec.json.Decoder(GenerationFacts))


def read_instruments(folder: Path) -> tuple[Instrument, ...]:
    """Answers the instruments of a run, none before the venue told them."""
    decoder = msgspec.json.Decoder(tuple[Instrument, ...])
    return _read(folder / INSTRUMENTS_FILE, decoder) or ()


class Tail:
    """Follows one ring's journal of one run while it is being written, or afterwards.

    Owns one descriptor and one buffer; no two threads may use it at once. Never returns a record
    of a frame that is not proved by its checksums.
    """

    def __init__(self, folder: Path, ring: str, next_sequence: int) -> None:
        """Does no input or output yet.

        Args:
            folder: of the run, see `generation_folder`.
            ring: name.
            next_sequence: of the first record wanted.
        """
        self.ring = ring
        self.generation = int(folder.name)
        self._folder = folder / ring
        self._code = ring_code(ring)
        self._buffer = bytearray(BUFFER_BYTES)
        self._rest = NOTHING  # read, not yet returned
        self._ahead = next_sequence  # the sequence behind the rest
        self._file = -1
        self._path = self._folder
        self._offset = 0
        self._damage = ""  # what is wrong with the bytes at our place

    @property
    def next_sequence(self) -> int:
        """The sequence of the record that `read` returns next."""
        return self._ahead - len(self._rest)

    def read(self, records_max: int) -> Words:
        """Answers a copy of the next records, (n, 16) int64, n <= records_max, empty when none.

        Raises:
            JournalError: the bytes at the next place are damaged, or the journal no longer holds
                the next sequence.
        """
        parts: list[Words] = []
        wanted = records_max
        while wanted > 0 and (len(self._rest) > 0 or self._fill(is_first=not parts)):
            parts.append(self._rest[:wanted])
            self._rest = self._rest[wanted:]
            wanted -= len(parts[-1])
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else NOTHING

    def close(self) -> None:
        """Gives the descriptor back; `read` would open it again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _fill(self, *, is_first: bool) -> bool:
        """Reads whole frames into the rest, from this file or the next; says whether it did.

        Damage is raised when it is the first thing found: what lies before it is returned first.
        """
        while self._file >= 0 or self._roll_over():
            frames: list[Words] = []
            for _ in range(READS_MAX):
                size = os.preadv(self._file, [self._buffer], self._offset)
                frames = self._frames(memoryview(self._buffer)[:size])
                if frames or not self._damage:
                    break
            if frames:
                self._rest = np.concatenate(frames)
                return True
            if not self._roll_over():
                break
        if self._damage and is_first:
            raise JournalError(self._damage)
        return False

    def _frames(self, view: memoryview) -> list[Words]:
        """Answers the records of every whole frame in `view` that we still want; moves behind them.

        Lifetime: the records lie in the buffer.
        """
        self._damage = ""
        place = self._skip(view)
        found: list[Words] = []
        while place < len(view):
            finding = inspect(view, place)
            frame = finding.frame
            fault = finding.fault or (self._fault(frame) if frame is not None else "")
            if fault or frame is None:
                if finding.verdict != Verdict.TORN:
                    self._damage = f"{fault}: file={self._path} offset={self._offset + place}"
                break
            found.append(rows_of(view, place, frame)[self._ahead - frame.first :])
            self._ahead = frame.next_sequence
            place += frame.size_bytes
        self._offset += place
        return found

    def _skip(self, view: memoryview) -> int:
        """Answers where in `view` the first frame begins that does not end before our place."""
        if len(view) < HEADER_BYTES:
            return 0
        return 8 * skip_frames(np.frombuffer(view, np.int64, len(view) // 8), self._ahead)

    def _fault(self, frame: Frame) -> str:
        # Only the first frame after opening may begin before our place, never behind it.
        expected = Origin(self._code, self.generation, ROW_BYTES)
        return place_fault(frame, expected, first=min(frame.first, self._ahead))

    def _roll_over(self) -> bool:
        """Opens the file that holds our place when it is another one than the open one."""
        following = segment_path(self._folder, self._ahead)
        if self._file >= 0:
            if following == self._path or not following.exists():
                return False
        else:
            holding = self._holding()
            if holding is None:
                return False
            following = holding
        self.close()
        self._file = os.open(following, os.O_RDONLY | os.O_CLOEXEC)
        self._path, self._offset, self._damage = following, 0, ""
        return True

    def _holding(self) -> Path | None:
        files = segment_files(self._folder)
        holding = [entry for entry in files if entry.first <= self._ahead]
        if files and not holding:
            raise JournalError(
                f"journal must still hold the sequence: folder={self._folder}"
                f" wanted={self._ahead} first={files[0].first}"
            )
        return holding[-1].path if holding else None


def tails(folder: Path) -> Iterator[Tail]:
    """Answers a Tail at the beginning of every ring of a run."""
    for ring in rings_of(folder):
        yield Tail(folder, ring, 0)
