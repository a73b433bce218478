"""The ring against a model, through both of its faces, and its rules one by one."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shm import ring
from shm.handles import Consumer, Producer
from shm.observer import Observer
from shm.ring import (
    CAPACITY,
    FULL_COUNT,
    GATING,
    INSUFFICIENT_CAPACITY,
    OBSERVING,
    READERS_MAX,
)
from shm.segment import Segment, SegmentError
from tests.shm.faces import OBSERVED_MAX, CompiledFace, Face, PythonFace

FACES = [pytest.param(PythonFace, id="python"), pytest.param(CompiledFace, id="compiled")]
KINDS = (GATING, OBSERVING, GATING)
GATING_READERS = (0, 2)
OBSERVER = 1


class RingMachine(RuleBasedStateMachine):
    """A ring, its writer, two gating readers and an observing one, against plain Python lists."""

    face_type: type[Face]

    @initialize(capacity=st.sampled_from([2, 4, 8]), parkable=st.booleans())
    def make(self, capacity: int, *, parkable: bool) -> None:
        self.capacity = capacity
        self.segment = ring.create(
            f"test-model-{secrets.token_hex(6)}", 1,
            capacity=capacity, row_bytes=64, kinds=KINDS, parkable=parkable,
        )  # fmt: skip
        self.segment.unlink()
        self.handle = Producer(self.segment)
        self.face = self.face_type(self.segment)
        self.published = 0  # records; the next sequence
        self.claimed = -1  # the highest sequence that anybody may have touched
        self.refused = 0
        # What each gating reader has not released yet.
        self.held: dict[int, deque[int]] = {reader: deque() for reader in GATING_READERS}
        self.taken, self.overrun = 0, 0  # by the observer

    def room(self) -> int:
        return self.capacity - max(len(held) for held in self.held.values())

    @rule(count=st.integers(1, 10))
    def claim(self, count: int) -> None:
        """Claiming twice answers twice the same: nothing is taken by asking."""
        expected = self.published if count <= self.room() else INSUFFICIENT_CAPACITY
        answers = [self.face.claim(count), self.face.claim(count)]

        assert answers == [expected, expected]
        if expected >= 0:
            self.claimed = max(self.claimed, self.published + count - 1)
        else:
            self.refused += 2

    @rule(count=st.integers(1, 8), written=st.integers(0, 8))
    def die_while_writing(self, count: int, written: int) -> None:
        """A writer claims, writes some rows, and is gone; another one takes over."""
        if self.face.claim(count) >= 0:
            self.claimed = max(self.claimed, self.published + count - 1)
            for sequence in range(self.published, self.published + min(count, written)):
                self.handle.row(sequence)[:] = -7
        else:
            self.refused += 1
        self.face = self.face_type(self.segment)

    @rule(count=st.integers(1, 8))
    def write_and_publish(self, count: int) -> None:
        if count <= self.room():
            self.publish(count)

    @rule(count=st.integers(1, 20))
    def lap_the_observer(self, count: int) -> None:
        """The gating readers keep up with the writer, one record at a time."""
        self.release_all()
        for _ in range(count):
            self.publish(1)
            self.release_all()

    def publish(self, count: int) -> None:
        first = self.face.claim(count)
        self.face.fill(first, count)
        self.face.publish(first + count - 1)

        assert first == self.published
        self.published += count
        self.claimed = max(self.claimed, self.published - 1)
        for held in self.held.values():
            held.extend(range(first, first + count))

    def release_all(self) -> None:
        for reader, held in self.held.items():
            if held:
                self.face.release(reader, held[-1])
                held.clear()

    @rule(reader=st.sampled_from(GATING_READERS), records_max=st.integers(1, 9))
    def poll(self, reader: int, records_max: int) -> None:
        assert self.face.poll(reader, records_max) == list(self.held[reader])[:records_max]

    @precondition(lambda self: any(self.held.values()))
    @rule(reader=st.sampled_from(GATING_READERS), count=st.integers(1, 8))
    def release(self, reader: int, count: int) -> None:
        held = self.held[reader]
        released = [held.popleft() for _ in range(min(count, len(held)))]
        if released:
            self.face.release(reader, released[-1])

    @rule()
    def take(self) -> None:
        """The observer copies what is still whole and counts the rest."""
        oldest = max(0, self.claimed - self.capacity + 1)
        lost = max(0, oldest - self.taken - self.overrun)
        first = self.taken + self.overrun + lost
        tries = 2 * OBSERVED_MAX - (lost > 0)
        expected = list(range(first, self.published))[: min(OBSERVED_MAX, tries)]
        if self.taken + self.overrun == self.published:
            lost, expected = 0, []  # it looks at nothing, so it notices nothing

        assert self.face.take(OBSERVER) == expected
        self.taken += len(expected)
        self.overrun += lost

    @invariant()
    def the_handles_agree_with_the_model(self) -> None:
        if not hasattr(self, "segment"):
            return
        lags = [Consumer(self.segment, reader).lag for reader in GATING_READERS]
        observer = Observer(self.segment, OBSERVER)

        assert self.handle.cursor == self.published - 1
        assert lags == [len(self.held[reader]) for reader in GATING_READERS]
        assert int(self.handle.control[FULL_COUNT]) == self.refused
        assert observer.overrun_count == self.overrun
        assert observer.lag == self.published - self.taken - self.overrun

    def teardown(self) -> None:
        if hasattr(self, "segment"):
            self.segment.close()


class PythonRingMachine(RingMachine):
    face_type: type[Face] = PythonFace


class CompiledRingMachine(RingMachine):
    face_type: type[Face] = CompiledFace


TestPythonRing = PythonRingMachine.TestCase
TestCompiledRing = CompiledRingMachine.TestCase


@pytest.fixture
def made(segment_prefix: str) -> Iterator[Segment]:
    segment = ring.create(
        f"{segment_prefix}-ring", 1, capacity=4, row_bytes=64, kinds=KINDS, parkable=False
    )
    yield segment
    segment.unlink()
    segment.close()


def publish(face: Face, count: int) -> int:
    first = face.claim(count)
    face.fill(first, count)
    face.publish(first + count - 1)
    return first


@pytest.mark.parametrize("face_type", FACES)
def test_claim_fails_when_the_slowest_gating_reader_is_a_lap_behind(
    made: Segment, face_type: type[Face]
) -> None:
    face = face_type(made)
    publish(face, 4)
    face.release(0, 3)
    refused = face.claim(1)
    face.release(2, 0)

    assert refused == INSUFFICIENT_CAPACITY
    assert (face.claim(1), face.claim(2)) == (4, INSUFFICIENT_CAPACITY)
    assert made.words(0, 512)[FULL_COUNT] == 2


@pytest.mark.parametrize("face_type", FACES)
def test_an_observing_reader_never_holds_the_writer_up(
    made: Segment, face_type: type[Face]
) -> None:
    face = face_type(made)
    for lap in range(3):
        publish(face, 4)
        face.release(0, 4 * lap + 3)
        face.release(2, 4 * lap + 3)

    assert face.claim(4) == 12


@pytest.mark.parametrize("face_type", FACES)
def test_claiming_more_than_the_capacity_is_always_refused(
    made: Segment, face_type: type[Face]
) -> None:
    assert face_type(made).claim(5) == INSUFFICIENT_CAPACITY


@pytest.mark.parametrize("face_type", FACES)
def test_a_new_writer_goes_on_behind_the_cursor(made: Segment, face_type: type[Face]) -> None:
    publish(face_type(made), 2)
    half_done = face_type(made)
    half_done.fill(half_done.claim(2), 1)
    after = face_type(made)
    publish(after, 1)

    assert after.poll(0, 9) == [0, 1, 2]


@pytest.mark.parametrize("face_type", FACES)
def test_a_lapped_observer_counts_and_goes_on_with_the_oldest_whole_record(
    made: Segment, face_type: type[Face]
) -> None:
    face = face_type(made)
    for lap in range(3):
        publish(face, 4)
        face.release(0, 4 * lap + 3)
        face.release(2, 4 * lap + 3)

    assert face.take(OBSERVER) + face.take(OBSERVER) == [8, 9, 10, 11]
    assert Observer(made, OBSERVER).overrun_count == 8
    assert Observer(made, OBSERVER).lag == 0


def test_a_row_is_not_intact_from_the_moment_its_place_is_claimed_again(made: Segment) -> None:
    producer = Producer(made)
    publish(PythonFace(made), 4)
    before = ring.is_intact(producer.control, 0)
    for reader in GATING_READERS:
        Consumer(made, reader).release(0)
    producer.claim(1)

    assert (before, ring.is_intact(producer.control, 0)) == (True, False)
    assert ring.is_intact(producer.control, 1)
    assert ring.oldest_intact(producer.control) == 1


def test_a_smaller_claim_does_not_make_rows_of_a_larger_one_look_intact(made: Segment) -> None:
    """A writer that claimed four rows may have begun all of them when it died."""
    producer = Producer(made)
    publish(PythonFace(made), 4)
    for reader in GATING_READERS:
        Consumer(made, reader).release(3)
    producer.claim(4)
    producer.row(7)[:] = -7
    Producer(made).claim(1)

    assert not ring.is_intact(producer.control, 3)
    assert len(Observer(made, OBSERVER).take()) == 0


def test_an_observer_that_takes_over_goes_on_behind_the_last_one(made: Segment) -> None:
    publish(PythonFace(made), 4)
    first = Observer(made, OBSERVER, records_max=3).take()[:, 0].tolist()

    assert first == [0, 1, 2]
    assert Observer(made, OBSERVER).take()[:, 0].tolist() == [3]


def test_a_gating_reader_that_takes_over_gets_what_was_not_released(made: Segment) -> None:
    publish(PythonFace(made), 3)
    dead = Consumer(made, 0)
    dead.poll(9)
    dead.release(0)

    assert Consumer(made, 0).poll(9)[:, 0].tolist() == [1, 2]


def test_append_stamps_the_sequence_and_clears_what_the_record_does_not_fill(
    made: Segment,
) -> None:
    producer = Producer(made)
    producer.row(0)[:] = 9
    sequence = producer.append(np.array([5, 6, 7], np.int64))

    assert sequence == 0
    assert producer.row(0).tolist() == [0, 6, 7, 0, 0, 0, 0, 0]


def test_append_answers_insufficient_capacity_when_the_ring_is_full(made: Segment) -> None:
    producer = Producer(made)
    answers = [producer.append(np.zeros(8, np.int64)) for _ in range(5)]

    assert answers == [0, 1, 2, 3, INSUFFICIENT_CAPACITY]


@pytest.mark.parametrize(
    ("reader", "handle"), [(OBSERVER, Consumer), (0, Observer), (3, Consumer), (3, Observer)]
)
def test_a_reader_must_be_of_the_kind_it_was_declared(
    made: Segment, reader: int, handle: type[Consumer | Observer]
) -> None:
    with pytest.raises(AssertionError, match="the reader was declared"):
        handle(made, reader)


@pytest.mark.parametrize("capacity", [-4, 0, 1, 3, 1_000])
def test_capacity_must_be_a_power_of_two(segment_prefix: str, capacity: int) -> None:
    with pytest.raises(ValueError, match=f"power of two: ring={segment_prefix} .*={capacity}"):
        ring.create(segment_prefix, 1, capacity=capacity, row_bytes=64, kinds=(), parkable=False)


@pytest.mark.parametrize(
    ("row_bytes", "readers"), [(0, 1), (63, 1), (96, 1), (64, READERS_MAX + 1)]
)
def test_rows_are_whole_lines_and_readers_few(
    segment_prefix: str, row_bytes: int, readers: int
) -> None:
    with pytest.raises(ValueError, match=f"row_bytes={row_bytes} readers={readers}"):
        ring.create(
            segment_prefix, 1,
            capacity=4, row_bytes=row_bytes, kinds=(GATING,) * readers, parkable=False,
        )  # fmt: skip


def test_a_ring_of_another_shape_is_not_attached(made: Segment) -> None:
    attached = ring.attach(made.name, capacity=4, row_bytes=64)
    found = int(attached.words(0, 64)[CAPACITY])
    attached.close()

    assert found == 4
    for capacity, row_bytes in [(8, 64), (4, 128)]:
        with pytest.raises(SegmentError, match="segment layout differs"):
            ring.attach(made.name, capacity=capacity, row_bytes=row_bytes)


def test_ports_bind_many_rings_in_one_array(made: Segment) -> None:
    producer = Producer(made)
    ports = np.stack([producer.port(), producer.port(2)])
    publish(PythonFace(made), 1)

    assert ports[:, 3].tolist() == [0, 2]
    assert np.array_equal(ring.port_rows(ports, 1, 8), producer.rows)
    assert np.array_equal(ring.port_control(ports, 1), producer.control)
    assert ring.port_bytes(ports, 1, 64).tobytes() == producer.rows.tobytes()
