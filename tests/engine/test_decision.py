"""Commits that survive any damage to one slot, and outputs that are written once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.decision import (
    DECISIONS,
    DIGEST,
    OUTPUT_CAPACITY,
    OUTPUT_CLAIMED,
    OUTPUT_DIVERGED,
    OUTPUT_NEXT,
    OUTPUT_PUBLISHED,
    OUTPUT_ROWS,
    OUTPUTS_WORDS,
    PROGRESS_WORDS,
    STEP_DIGEST,
    finish_row,
    next_row,
    read_commit,
    slot_words,
    write_commit,
)
from engine.records import PUBLISH_NS, ROW_WORDS, SEQUENCE, STEP
from shm.segment import Words

STATE_WORDS = 37


def committed(times: int) -> Words:
    """Answers two slots after commits whose progress and state are filled with their number."""
    slots = np.zeros(2 * slot_words(STATE_WORDS), np.int64)
    for number in range(1, times + 1):
        progress = np.full(PROGRESS_WORDS, number, np.int64)
        write_commit(slots, progress, np.full(STATE_WORDS, number, np.int64))
    return slots


def found(slots: Words) -> tuple[int, int, int]:
    """Answers version, and the one value of progress and of state."""
    progress, state = np.zeros(PROGRESS_WORDS, np.int64), np.zeros(STATE_WORDS, np.int64)
    version = read_commit(slots, progress, state)
    assert 1 == len(set(progress)) == len(set(state))
    return version, int(progress[0]), int(state[0])


class TestCommit:
    def test_no_commit_is_version_zero(self) -> None:
        assert (0, 0, 0) == found(committed(0))

    @pytest.mark.parametrize("times", [1, 2, 3, 8])
    def test_the_newest_counts(self, times: int) -> None:
        assert (times, times, times) == found(committed(times))

    @given(
        word=st.integers(0, 1 + PROGRESS_WORDS + STATE_WORDS),
        change=st.integers(-(2**62), 2**62).filter(bool),
        times=st.integers(2, 5),
    )
    def test_any_damaged_word_falls_back_to_the_commit_before(
        self, word: int, change: int, times: int
    ) -> None:
        slots = committed(times)
        slots[(times & 1) * slot_words(STATE_WORDS) + word] ^= change

        assert (times - 1,) * 3 == found(slots)

    def test_a_slot_under_way_does_not_count(self) -> None:
        """As after a kill inside write_commit: version zero, half of the words new."""
        slots = committed(4)
        slots[0], slots[2:30] = 0, 99

        assert (3, 3, 3) == found(slots)


def outputs_over(rows: Words, *, published: int = -1, next_sequence: int = 0) -> Words:
    outputs = np.zeros(OUTPUTS_WORDS, np.int64)
    outputs[OUTPUT_ROWS], outputs[OUTPUT_CAPACITY] = rows.ctypes.data, len(rows)
    outputs[OUTPUT_PUBLISHED], outputs[OUTPUT_NEXT] = published, next_sequence
    return outputs


def write(outputs: Words, value: int) -> None:
    row = next_row(outputs, DECISIONS)
    row[5] = value
    finish_row(outputs, DECISIONS, row)


class TestOutputs:
    def test_records_wrap_around_the_ring_and_begin_empty(self) -> None:
        rows = np.full((4, ROW_WORDS), 7, np.int64)
        outputs = outputs_over(rows)
        for value in range(6):
            write(outputs, value)

        assert [4, 5, 2, 3] == list(rows[:, SEQUENCE]) == list(rows[:, 5])
        assert not rows[:, 6:].any()

    def test_what_was_published_is_compared_and_not_written(self) -> None:
        rows = np.zeros((8, ROW_WORDS), np.int64)
        first = outputs_over(rows)
        for value in range(4):
            write(first, value)
        rows[:, PUBLISH_NS] = 99  # stamped later, no part of a decision
        again = outputs_over(rows, published=2)
        again[OUTPUT_CLAIMED] = 3
        for value in (0, 1, 5, 3):
            write(again, value)

        assert 1 == again[OUTPUT_DIVERGED]
        assert [0, 1, 2, 3] == list(rows[:4, 5])
        assert [99, 99, 99, 0] == list(rows[:4, PUBLISH_NS])

    def test_the_digest_tells_different_records_apart(self) -> None:
        digests = set()
        for values in ((1, 2), (2, 1), (1, 3), (0, 0)):
            rows = np.zeros((8, ROW_WORDS), np.int64)
            outputs = outputs_over(rows)
            for value in values:
                write(outputs, value)
            digests.add(int(outputs[DIGEST]))

        assert 4 == len(digests)


def test_the_digest_has_its_word_in_the_step_record() -> None:
    fields = STEP.fields
    assert fields is not None
    assert 8 * STEP_DIGEST == fields["state_hash"][1]
