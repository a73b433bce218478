"""Latest cells: whole values only, between processes and over the death of writers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import segment
from shm.latest import Latest, read_latest, write_latest
from shm.segment import Segment, Words
from tests.shm import loops
from tests.shm.conftest import LAYOUT
from tests.shm.loops import BATCH_MAX, FAULTS, LAST, RECORDS, RUN_WORDS, STOP
from tests.shm.processes import Children, await_until, is_past, nap

CELL_AT, CELL_WORDS = 8_192, 129  # bytes into the scratch segment; version and 128 equal words


def run_of(shared: Segment, place: int) -> Words:
    return shared.words(place * RUN_WORDS * 8, RUN_WORDS)


def live(scratch: Segment, place: int, what: str) -> None:
    """Is the life of a process: attaches by name, then runs one loop."""
    shared = segment.attach(scratch.name, LAYOUT)
    getattr(loops, what)(shared.words(CELL_AT, CELL_WORDS), run_of(shared, place))


def set_run(scratch: Segment, place: int) -> Words:
    run = run_of(scratch, place)
    run[:] = 0
    run[LAST], run[BATCH_MAX] = 1 << 62, 1
    return run


def test_there_is_no_value_before_the_first_write() -> None:
    cell = Latest(np.zeros(4, np.int64))

    assert (cell.version, cell.read().tolist()) == (0, [0, 0, 0])
    assert read_latest(cell.words, np.ones(3, np.int64)) == 0


@given(st.lists(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=5, max_size=5)))
def test_read_answers_the_last_value_and_the_version_counts_writes(
    values: list[list[int]],
) -> None:
    cell = Latest(np.zeros(6, np.int64))
    for value in values:
        cell.write(np.array(value, np.int64))

    assert cell.read().tolist() == (values[-1] if values else [0] * 5)
    assert cell.version == 2 * len(values)


def test_a_shorter_value_replaces_the_first_words_and_a_longer_one_is_refused() -> None:
    cell = Latest(np.zeros(4, np.int64))
    cell.write(np.array([1, 2, 3]))
    cell.write(np.array([9]))

    assert cell.read().tolist() == [9, 2, 3]
    with pytest.raises(AssertionError, match="the value fits into the cell"):
        cell.write(np.zeros(4, np.int64))


def test_a_copy_does_not_change_with_the_cell() -> None:
    cell = Latest(np.zeros(2, np.int64))
    cell.write(np.array([1]))
    before = cell.read()
    cell.write(np.array([2]))

    assert (before.tolist(), cell.read().tolist()) == ([1], [2])


@pytest.fixture
def torn() -> Latest:
    """A cell whose writer died inside its second write: odd version, half of each value."""
    cell = Latest(np.zeros(5, np.int64))
    cell.write(np.array([1, 1, 1, 1]))
    cell.read()
    cell.words[0] |= 1
    cell.words[1:3] = 2
    return cell


def test_a_torn_value_is_never_read_and_the_last_whole_one_stays(torn: Latest) -> None:
    out = np.zeros(4, np.int64)

    assert read_latest(torn.words, out) == 0
    assert torn.read().tolist() == [1, 1, 1, 1]
    assert Latest(torn.words).read().tolist() == [0, 0, 0, 0]


def test_a_value_of_zeros_is_told_from_none(torn: Latest) -> None:
    cell = Latest(np.zeros(3, np.int64))
    before = cell.find()
    cell.write(np.zeros(2, np.int64))
    found, left = cell.find(), torn.find()

    assert before is None
    assert found is not None
    assert found.tolist() == [0, 0]
    assert left is not None
    assert left.tolist() == [1, 1, 1, 1]
    assert Latest(torn.words).find() is None


def test_the_next_writer_mends_what_a_dead_one_left(torn: Latest) -> None:
    before = torn.version
    Latest(torn.words).write(np.array([3, 3, 3, 3]))

    assert before == 3
    assert torn.version == 4
    assert torn.read().tolist() == [3, 3, 3, 3]


def test_writing_takes_the_version_through_odd_to_even() -> None:
    words = np.zeros(3, np.int64)
    for version in (2, 4, 6):
        write_latest(words, np.zeros(2, np.int64))

        assert words[0] == version


@pytest.mark.race
@pytest.mark.multiprocess
def test_no_torn_value_is_seen_while_writers_run_and_are_killed(
    scratch: Segment, children: Children
) -> None:
    """Allowed: any whole value, never an older one than before. A killed writer's is skipped."""
    random, kills, odd = np.random.default_rng(5), 60, 0
    read = set_run(scratch, 0)
    cell = Latest(scratch.words(CELL_AT, CELL_WORDS))
    reader = children.start(live, scratch, 0, "read_cells")
    for _ in range(kills):
        set_run(scratch, 1)
        before = cell.version
        writer = children.start(live, scratch, 1, "write_cells")
        await_until(is_past(before + 2, lambda: cell.version), "the next writer goes on")
        nap(random.random() * 0.002)

        assert children.kill(writer) == -9
        odd += cell.version & 1
    write_latest(cell.words, np.full(CELL_WORDS - 1, 1 << 61))
    read[STOP] = 1

    assert children.join(reader) == 0
    assert (read[FAULTS], cell.version & 1) == (0, 0)
    assert read[RECORDS] > 0
    assert set(cell.read().tolist()) == {1 << 61}
    assert odd > 0, "some of so many writers died inside; else this test proves nothing"
