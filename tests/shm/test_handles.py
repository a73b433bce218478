"""The two ends of a ring for Python: one record at a time, a batch in a call, against a deque."""

from __future__ import annotations

import secrets
import struct
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import handles, ring
from shm.handles import Consumer, Producer
from shm.observer import Observer
from shm.ring import CLAIMED, FULL_COUNT, GATING, GRANT_MAX, INSUFFICIENT_CAPACITY, OBSERVING
from shm.segment import Segment
from tests.shm.processes import Children, await_until

ROW_WORDS = 8
ROW = struct.Struct("8q")
CAPACITY = 8


def make(name: str, capacity: int = CAPACITY, *, parkable: bool = False) -> Segment:
    kinds = (GATING, OBSERVING)
    return ring.create(name, 1, capacity=capacity, row_bytes=64, kinds=kinds, parkable=parkable)


@pytest.fixture(params=[False, True], ids=["plain", "parkable"])
def made(segment_prefix: str, request: pytest.FixtureRequest) -> Iterator[Segment]:
    built = make(f"{segment_prefix}-ring", parkable=request.param)
    yield built
    built.unlink()
    built.close()


@pytest.fixture(params=[True, False], ids=["strong-order", "weak-order"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of publishing and polling, whatever this machine would choose."""
    if request.param and not handles.HAS_STRONG_ORDER:
        pytest.skip("this machine keeps no order of its own")
    monkeypatch.setattr(handles, "HAS_STRONG_ORDER", request.param)


def record(value: int) -> np.ndarray:
    return np.full(ROW_WORDS, value, np.int64)


def words(row: bytes | None) -> tuple[int, ...]:
    assert row is not None, "there is a record"
    return ROW.unpack(row)


@pytest.mark.usefixtures("machine")
def test_records_come_out_as_they_went_in_stamped_with_their_sequence(made: Segment) -> None:
    producer, consumer = Producer(made), Consumer(made, 0)
    for turn in range(3 * CAPACITY):
        assert producer.append(record(turn).data if turn % 2 else record(turn)) == turn
        assert words(consumer.take()) == (turn, *(turn,) * 7)

    assert consumer.take() is None


@pytest.mark.usefixtures("machine")
def test_a_batch_goes_in_whole_or_not_at_all(made: Segment) -> None:
    producer, consumer = Producer(made), Consumer(made, 0)
    table = np.arange(5 * ROW_WORDS, dtype=np.int64).reshape(5, ROW_WORDS)
    answers = [producer.append_rows(table), producer.append_rows(table)]
    rows = consumer.poll(CAPACITY)

    assert answers == [4, INSUFFICIENT_CAPACITY]
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert rows[:, 1:].tolist() == table[:, 1:].tolist()
    assert producer.append_rows(table[:0]) == INSUFFICIENT_CAPACITY


def test_a_batch_of_another_width_is_refused(made: Segment) -> None:
    with pytest.raises(AssertionError, match="rows of this ring"):
        Producer(made).append_rows(np.zeros((2, ROW_WORDS - 1), np.int64))


def test_sequences_are_claimed_ahead_but_never_past_the_slowest_reader(made: Segment) -> None:
    producer, consumer = Producer(made), Consumer(made, 0)
    answers = [producer.append(record(1)) for _ in range(CAPACITY + 2)]
    consumer.take()

    assert answers == [*range(CAPACITY), INSUFFICIENT_CAPACITY, INSUFFICIENT_CAPACITY]
    assert producer.control[FULL_COUNT] == 2
    assert [producer.append(record(1)), producer.append(record(1))] == [CAPACITY, -1]
    assert producer.control[CLAIMED] == CAPACITY


def test_what_was_claimed_ahead_costs_an_observer_no_more_than_a_quarter_of_the_ring(
    segment_prefix: str,
) -> None:
    capacity = 4 * GRANT_MAX
    built = make(f"{segment_prefix}-wide", capacity)
    producer, consumer, observer = Producer(built), Consumer(built, 0), Observer(built, 1)
    for _ in range(capacity + 1):
        producer.append(record(1))
        consumer.take()
    seen = len(observer.take())
    lost = observer.overrun_count
    built.unlink()

    assert seen + lost == capacity + 1
    assert seen >= capacity - GRANT_MAX


def test_an_append_goes_on_behind_what_compiled_code_has_published(made: Segment) -> None:
    producer = Producer(made)
    producer.append(record(1))
    first = ring.claim(producer.control, 2)
    ring.publish(producer.control, first + 1)

    assert (first, producer.append(record(1)), producer.cursor) == (1, 3, 3)


@given(st.lists(st.one_of(st.just("take"), st.just("append"), st.integers(0, 6)), max_size=60))
def test_both_ends_agree_with_a_deque(steps: list[str | int]) -> None:
    built = make(f"test-handles-{secrets.token_hex(4)}")
    producer, consumer, model = Producer(built), Consumer(built, 0), deque[int]()
    value = 0
    try:
        for step in steps:
            if step == "take":
                row = consumer.take()
                assert (None if row is None else words(row)[1]) == (
                    model.popleft() if model else None
                )
            else:
                count = 1 if step == "append" else int(step)
                rows = np.repeat(np.arange(value, value + count), ROW_WORDS)
                table = rows.reshape(count, ROW_WORDS).astype(np.int64)
                answer = (
                    producer.append(table[0]) if step == "append" else producer.append_rows(table)
                )
                if 0 < count <= CAPACITY - len(model):
                    assert answer == value + count - 1
                    model.extend(range(value, value + count))
                    value += count
                else:
                    assert answer == INSUFFICIENT_CAPACITY
            assert consumer.lag == len(model)
    finally:
        built.unlink()
        built.close()


def _write(name: str, total: int) -> None:
    producer = Producer(ring.attach(name, capacity=CAPACITY, row_bytes=64))
    view = record(0).data
    done = 0
    while done < total:
        for word in range(1, ROW_WORDS):
            view[word] = done * word
        done += producer.append(view) >= 0


@pytest.mark.race
@pytest.mark.multiprocess
def test_records_of_another_process_are_whole_and_in_order(
    made: Segment, children: Children
) -> None:
    total = 200_000
    writer = children.start(_write, made.name, total)
    consumer = Consumer(made, 0)
    faults, count = 0, 0
    take: Callable[[], bytes | None] = consumer.take
    while count < total:
        row = take()
        if row is not None:
            faults += ROW.unpack(row) != (count, *(count * word for word in range(1, 8)))
            count += 1

    await_until(lambda: consumer.lag == 0, "nothing more comes")
    assert (children.join(writer), faults, consumer.take()) == (0, 0, None)
