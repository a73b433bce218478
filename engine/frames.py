"""engine room: journal frames, the unit in which records go to disk and come back.

A frame is one batch of consecutive records of one ring behind a header of 64 bytes. A journal file
is frames, one after another, and nothing else; all integers are little-endian:

    offset  size  field
    0       8     magic            "TRFRAME1"
    8       2     version          of this header, 1
    10      2     row_bytes        size of a record
    12      4     ring             crc32 of the ring's name
    16      8     generation       the run
    24      8     first            sequence of the first record
    32      4     records          in this frame, 1 .. RECORDS_MAX
    36      4     reserved         0
    40      8     written_ns       CLOCK_REALTIME when the frame was made
    48      8     clock_ns         CLOCK_MONOTONIC at the same moment
    56      4     payload_crc32    of the records
    60      4     header_crc32     of bytes 0 .. 59
    64      ...   records * row_bytes bytes, the records

The header has a checksum of its own because of one question that must never be answered wrongly:
did the writer die inside this frame, or did somebody change it? A writer that is killed leaves a
*prefix* of a frame; a host that loses power may also leave zeros. So bytes that end before a proved
header says they should, and zeros up to the end, are TORN; all else that fails a check is DAMAGED.
A length that lies cannot make damage look torn, since the header's checksum covers the length.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from shm.jit import jit
from shm.segment import Words

MAGIC = int.from_bytes(b"TRFRAME1", "little")
VERSION = 1
HEADER_BYTES = 64
RECORDS_MAX = 4_096  # bounds a frame, so that readers can bound their buffers
_HEADER = struct.Struct("<QHHIqqIIqqI")
_CRC = struct.Struct("<I")
_CRC_AT = HEADER_BYTES - _CRC.size
_MAGIC_BYTES = MAGIC.to_bytes(8, "little")

Buffer = bytes | bytearray | memoryview


class Origin(NamedTuple):
    """Whose records a journal holds."""

    ring: int  # see ring_code
    generation: int
    row_bytes: int


class Moment(NamedTuple):
    """One instant on both clocks."""

    epoch_ns: int
    monotonic_ns: int


class Frame(NamedTuple):
    """A header that was read and proved by its checksum."""

    origin: Origin
    first: int
    records: int
    moment: Moment
    payload_crc: int

    @property
    def next_sequence(self) -> int:
        """The sequence behind the last record."""
        return self.first + self.records

    @property
    def size_bytes(self) -> int:
        """Header and records."""
        return HEADER_BYTES + self.records * self.origin.row_bytes


class Verdict(IntEnum):
    """What lies at a place in a journal file."""

    WHOLE = 0  # a frame, proved by both checksums
    END = 1  # nothing: the file ends here
    TORN = 2  # the beginning of a frame whose rest was never written
    DAMAGED = 3  # bytes that no writer wrote


class Finding(NamedTuple):
    """A verdict; `frame` when the header was proved, `fault` when something does not hold."""

    verdict: Verdict
    frame: Frame | None
    fault: str


def ring_code(ring: str) -> int:
    """Answers the number that stands for a ring's name in its frames."""
    return zlib.crc32(ring.encode())


def encode_header(
    header: bytearray, origin: Origin, *, first: int, rows: Words, moment: Moment
) -> None:
    """Fills `header` (HEADER_BYTES) for these rows.

    Args:
        header: written in place.
        origin: whose records.
        first: sequence of rows[0].
        rows: (n, row_bytes / 8) int64, contiguous, 1 <= n <= RECORDS_MAX; only read.
        moment: now.
    """
    assert 0 < len(rows) <= RECORDS_MAX, "a frame holds at least one record and is bounded"
    assert rows.nbytes == len(rows) * origin.row_bytes, "rows have the size that the ring declares"
    _HEADER.pack_into(
        header, 0, MAGIC, VERSION, origin.row_bytes, origin.ring, origin.generation, first,
        len(rows), 0, moment.epoch_ns, moment.monotonic_ns, zlib.crc32(rows.data),
    )  # fmt: skip
    _CRC.pack_into(header, _CRC_AT, zlib.crc32(memoryview(header)[:_CRC_AT]))


def encode(origin: Origin, *, first: int, rows: Words, moment: Moment) -> bytes:
    """Answers a whole frame; see encode_header."""
    header = bytearray(HEADER_BYTES)
    encode_header(header, origin, first=first, rows=rows, moment=moment)
    return bytes(header) + rows.tobytes()


def inspect_header(buffer: Buffer, offset: int) -> Finding:
    """Says what begins at `offset`, by the header alone: WHOLE here means the header is proved.

    `buffer` must reach to the end of the file, or at least HEADER_BYTES beyond `offset`; what is
    shorter counts as torn.
    """
    if offset >= len(buffer):
        return Finding(Verdict.END, None, "")
    head = bytes(memoryview(buffer)[offset : offset + HEADER_BYTES])
    if not any(head) and not any(memoryview(buffer)[offset:]):
        return Finding(Verdict.TORN, None, "frame must not be zeros")
    if not _MAGIC_BYTES.startswith(head[:8]):
        return _damaged(f"frame must begin with its magic: found={head[:8].hex()}")
    if len(head) < HEADER_BYTES:
        return Finding(Verdict.TORN, None, f"frame header must be whole: bytes={len(head)}")
    return _read_header(head)


def _read_header(head: bytes) -> Finding:
    if zlib.crc32(head[:_CRC_AT]) != _CRC.unpack_from(head, _CRC_AT)[0]:
        return _damaged("frame header must match its checksum")
    _, version, row_bytes, ring, generation, first, records, _, epoch, clock, crc = (
        _HEADER.unpack_from(head)
    )
    if version != VERSION:
        return _damaged(f"frame version must be known: version={version} known={VERSION}")
    if not 0 < records <= RECORDS_MAX or row_bytes % 8 or row_bytes == 0 or first < 0:
        return _damaged(f"frame must hold records: records={records} row_bytes={row_bytes}")
    origin = Origin(ring, generation, row_bytes)
    return Finding(Verdict.WHOLE, Frame(origin, first, records, Moment(epoch, clock), crc), "")


def inspect(buffer: Buffer, offset: int) -> Finding:
    """Says what begins at `offset` of `buffer`, which ends where the file ends.

    Returns:
        WHOLE with the frame when header and records match their checksums; END at the end; TORN
        (with the frame when its header is whole); DAMAGED with the fault.
    """
    finding = inspect_header(buffer, offset)
    frame = finding.frame
    if frame is None:
        return finding
    if len(buffer) - offset < frame.size_bytes:
        fault = f"frame must be whole: bytes={len(buffer) - offset} needed={frame.size_bytes}"
        return Finding(Verdict.TORN, frame, fault)
    start = offset + HEADER_BYTES
    records = memoryview(buffer)[start : offset + frame.size_bytes]
    if zlib.crc32(records) != frame.payload_crc:
        return Finding(Verdict.DAMAGED, frame, "frame records must match their checksum")
    return finding


def rows_of(buffer: Buffer, offset: int, frame: Frame) -> Words:
    """Views the records of the frame at `offset`, (records, row_bytes / 8) int64.

    Lifetime: as long as `buffer` keeps its bytes.
    """
    words = frame.origin.row_bytes // 8
    start = offset + HEADER_BYTES
    return np.frombuffer(buffer, np.int64, frame.records * words, start).reshape(-1, words)


@jit
def skip_frames(words: Words, sequence: int) -> int:
    """Answers the index of the first frame that holds `sequence` or a later one.

    Goes by the headers and proves nothing; stops at what does not look like a frame.

    Args:
        words: (n,) int64 of a journal file, beginning with a frame.
        sequence: of the first record wanted.

    Returns:
        An index into `words`, at most one frame beyond its end.
    """
    index = 0
    while index + HEADER_BYTES // 8 <= len(words) and words[index] == MAGIC:
        records = words[index + 4] & 0xFFFF_FFFF
        if words[index + 3] + records > sequence:
            break
        index += HEADER_BYTES // 8 + records * (((words[index + 1] >> 16) & 0xFFFF) // 8)
    return index


@jit
def last_frame(words: Words) -> tuple[int, int]:
    """Answers the index of the last frame that begins in `words` and the records before it.

    Goes by the headers like skip_frames; 0 and 0 when there is no frame.
    """
    index, before, last, records = 0, 0, 0, 0
    while index + HEADER_BYTES // 8 <= len(words) and words[index] == MAGIC:
        last = index
        before += records
        records = words[index + 4] & 0xFFFF_FFFF
        index += HEADER_BYTES // 8 + records * (((words[index + 1] >> 16) & 0xFFFF) // 8)
    return last, before


def place_fault(frame: Frame, origin: Origin, *, first: int) -> str:
    """Says what is wrong with a proved frame at this place in this journal, empty when nothing is.

    Args:
        frame: as found.
        origin: what the journal holds.
        first: the sequence expected next.
    """
    if frame.origin != origin:
        return f"frame must belong to this journal: expected={origin} found={frame.origin}"
    if frame.first != first:
        return f"sequences must follow each other: expected={first} found={frame.first}"
    return ""


def sequence_fault(frame: Frame, rows: Words) -> str:
    """Says which record does not carry its own sequence in word 0, empty when all do."""
    wrong = np.flatnonzero(rows[:, 0] != np.arange(frame.first, frame.next_sequence))
    if len(wrong) == 0:
        return ""
    sequence = frame.first + int(wrong[0])
    found = int(rows[wrong[0], 0])
    return f"record must carry its own sequence: expected={sequence} found={found}"


def _damaged(fault: str) -> Finding:
    return Finding(Verdict.DAMAGED, None, fault)
