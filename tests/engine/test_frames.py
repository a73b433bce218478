"""Journal frames: what was written comes back; torn and damaged are never confused."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.frames import (
    HEADER_BYTES,
    RECORDS_MAX,
    Frame,
    Moment,
    Origin,
    Verdict,
    encode,
    encode_header,
    inspect,
    inspect_header,
    place_fault,
    ring_code,
    rows_of,
    sequence_fault,
)
from shm.segment import Words

MOMENT = Moment(1_700_000_000_123_456_789, 42_000_000_001)


def make_rows(count: int, *, first: int = 0, words: int = 16, seed: int = 1) -> Words:
    rows = np.random.default_rng(seed).integers(-(2**62), 2**62, (count, words))
    rows[:, 0] = np.arange(first, first + count)
    return rows


@given(
    count=st.integers(1, 40),
    first=st.integers(0, 2**62),
    generation=st.integers(1, 2**40),
    words=st.sampled_from([8, 16, 64]),
    seed=st.integers(0, 2**32 - 1),
    before=st.integers(0, 9),
)
def test_frame_round_trips(
    count: int, first: int, generation: int, words: int, seed: int, before: int
) -> None:
    origin = Origin(ring_code("market.0"), generation, words * 8)
    rows = make_rows(count, first=first, words=words, seed=seed)
    buffer = b"x" * before + encode(origin, first=first, rows=rows, moment=MOMENT)

    finding = inspect(buffer, before)

    assert finding.verdict == Verdict.WHOLE
    frame = finding.frame
    assert frame is not None
    assert (frame.origin, frame.first, frame.records, frame.moment) == (
        origin,
        first,
        count,
        MOMENT,
    )
    assert before + frame.size_bytes == len(buffer)
    assert np.array_equal(rows_of(buffer, before, frame), rows)
    assert sequence_fault(frame, rows_of(buffer, before, frame)) == ""
    assert inspect(buffer, len(buffer)).verdict == Verdict.END


ORIGIN = Origin(ring_code("orders"), 3, 128)
TWO = make_rows(3, first=7)
FRAME = encode(ORIGIN, first=7, rows=TWO, moment=MOMENT)


def test_frame_cut_at_every_byte_is_torn() -> None:
    verdicts = {inspect(FRAME[:cut], 0).verdict for cut in range(1, len(FRAME))}

    assert verdicts == {Verdict.TORN}


def test_zeros_up_to_the_end_are_torn() -> None:
    buffer = FRAME + bytes(500)

    assert inspect(buffer, len(FRAME)).verdict == Verdict.TORN


def test_zeros_before_something_else_are_damage() -> None:
    buffer = bytes(500) + FRAME

    assert inspect(buffer, 0).verdict == Verdict.DAMAGED


def test_every_flipped_bit_is_damage() -> None:
    for place in range(len(FRAME)):
        for bit in range(8):
            wrong = bytearray(FRAME)
            wrong[place] ^= 1 << bit

            assert inspect(wrong, 0).verdict == Verdict.DAMAGED, (place, bit)


@given(place=st.integers(0, len(FRAME) - 1), cut=st.integers(HEADER_BYTES, len(FRAME) - 1))
def test_flipped_header_bit_is_damage_even_in_a_torn_frame(place: int, cut: int) -> None:
    wrong = bytearray(FRAME[:cut])
    place %= HEADER_BYTES
    wrong[place] ^= 4

    assert inspect(wrong, 0).verdict == Verdict.DAMAGED


def test_header_alone_tells_the_size_of_a_frame_whose_records_are_not_read() -> None:
    finding = inspect_header(FRAME[:HEADER_BYTES], 0)

    assert finding.verdict == Verdict.WHOLE
    assert finding.frame is not None
    assert finding.frame.size_bytes == len(FRAME)


def frame_of(buffer: bytes) -> Frame:
    frame = inspect(buffer, 0).frame
    assert frame is not None
    return frame


def test_frame_of_another_ring_or_place_is_named() -> None:
    frame = frame_of(FRAME)

    assert place_fault(frame, ORIGIN, first=7) == ""
    assert "sequences must follow" in place_fault(frame, ORIGIN, first=8)
    assert "belong to this journal" in place_fault(
        frame, ORIGIN._replace(ring=ring_code("reports")), first=7
    )


def test_record_with_a_foreign_sequence_is_named() -> None:
    rows = TWO.copy()
    rows[1, 0] = 99
    buffer = encode(ORIGIN, first=7, rows=rows, moment=MOMENT)

    fault = sequence_fault(frame_of(buffer), rows)

    assert fault == "record must carry its own sequence: expected=8 found=99"


def test_unknown_version_is_named() -> None:
    header = bytearray(HEADER_BYTES)
    encode_header(header, ORIGIN, first=7, rows=TWO, moment=MOMENT)
    struct.pack_into("<H", header, 8, 2)
    struct.pack_into("<I", header, 60, zlib.crc32(header[:60]))

    assert "version=2 known=1" in inspect(header, 0).fault


@pytest.mark.parametrize("count", [0, RECORDS_MAX + 1])
def test_frame_refuses_no_records_and_too_many(count: int) -> None:
    with pytest.raises(AssertionError):
        encode(ORIGIN, first=0, rows=np.zeros((count, 16), np.int64), moment=MOMENT)
