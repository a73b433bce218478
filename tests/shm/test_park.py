"""Waiting: every idle strategy ends and wakes for work; nobody sleeps over a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from shm import park, ring
from shm.handles import Consumer, Producer
from shm.jit import now_ns, yield_cpu
from shm.park import (
    FULL_WORK,
    HELD_NS_MAX,
    WAITERS_MAX,
    YIELD_NS,
    Backoff,
    IdleStrategy,
    Linger,
    Park,
)
from shm.ring import GATING, PARKED, READER_BASE
from shm.segment import Segment
from tests.shm.processes import Children, await_until, nap

STRATEGIES = ("spin", "yield", "backoff", "park")
# So long that a reader who is still there has been woken, not timed out.
FAR_NS = 100_000_000_000
SOON_NS = 2_000_000
ROUNDS = 5_000

MakeRing = Callable[..., Segment]


@pytest.fixture
def make_ring(segment_prefix: str) -> Iterator[MakeRing]:
    with ExitStack() as made:

        def make(number: int = 0, *, parkable: bool = True) -> Segment:
            built = ring.create(
                f"{segment_prefix}-{number}", 1,
                capacity=64, row_bytes=64, kinds=(GATING,), parkable=parkable,
            )  # fmt: skip
            made.callback(built.unlink)
            return built

        yield make


def attach(name: str) -> Segment:
    return ring.attach(name, capacity=64, row_bytes=64)


def parked(consumer: Consumer) -> int:
    return int(consumer.control[READER_BASE + PARKED])


def publish_when_parked(name: str, count: int) -> None:
    """Is a writer that waits for its reader to sleep before each record."""
    producer, consumer = Producer(attach(name)), Consumer(attach(name), 0)
    for sequence in range(count):
        await_until(lambda: parked(consumer) == 1 and consumer.lag == 0, "the reader parks")
        nap(0.001)  # most often it sleeps by now; either way it must wake
        assert producer.append(np.zeros(8, np.int64)) == sequence


def publish_now_and_then(name: str, count: int) -> None:
    """Is a writer that pauses for random times around what a strategy's turns take."""
    producer, random = Producer(attach(name)), np.random.default_rng(count)
    while producer.cursor < count - 1:
        nap(random.random() * 0.002)
        producer.append(np.zeros(8, np.int64))


def take(consumer: Consumer) -> int:
    """Reads and releases what is there; answers how many."""
    rows = consumer.poll(8)
    if len(rows):
        consumer.release(int(rows[-1, 0]))
    return len(rows)


def read_all(consumers: list[Consumer], idle: IdleStrategy, count: int) -> None:
    """Runs duty cycles until every ring's `count` records were read, none by a timeout."""
    while any(consumer.released < count - 1 for consumer in consumers):
        began_ns = now_ns()
        idle.idle(sum(take(consumer) for consumer in consumers))

        assert now_ns() - began_ns < FAR_NS, "a reader is woken, not timed out"


def slept_ns(idle: IdleStrategy, work_count: int = 0) -> int:
    began_ns = now_ns()
    idle.idle(work_count)
    return now_ns() - began_ns


class Counting:
    """An idle strategy that notes what it was told, and does not wait."""

    def __init__(self) -> None:
        self.works: list[int] = []

    def idle(self, work_count: int) -> None:
        self.works.append(work_count)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_ends_with_work_and_without(make_ring: MakeRing, name: str) -> None:
    idle = park.strategy(name, [Consumer(make_ring(), 0)])
    for work_count in (0, 1, 0, 0, 5, 0):
        idle.idle(work_count)


@pytest.mark.multiprocess
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_lets_every_record_of_another_process_through(
    make_ring: MakeRing, children: Children, name: str
) -> None:
    made = make_ring()
    consumer = Consumer(made, 0)
    writer = children.start(publish_now_and_then, made.name, 60)
    read_all([consumer], park.strategy(name, [consumer]), 60)

    assert children.join(writer) == 0


@pytest.mark.multiprocess
@pytest.mark.parametrize("rings", [1, 3])
@pytest.mark.parametrize("waitv", [True, False])
def test_a_parked_reader_is_woken_by_a_writer_of_another_process(
    make_ring: MakeRing, children: Children, monkeypatch: pytest.MonkeyPatch,
    rings: int, *, waitv: bool,
) -> None:  # fmt: skip
    """Without futex_waitv, as on older kernels and behind some containers' filters, as well."""
    if waitv and not park.has_waitv():
        pytest.skip("this kernel has no futex_waitv")
    monkeypatch.setattr(park, "has_waitv", lambda: waitv)
    made = [make_ring(number) for number in range(rings)]
    consumers = [Consumer(one, 0) for one in made]
    writers = [children.start(publish_when_parked, one.name, 20) for one in made]
    read_all(consumers, Park(consumers, park_ns_max=FAR_NS), 20)

    assert [children.join(pid) for pid in writers] == [0] * rings
    assert [parked(consumer) for consumer in consumers] == [0] * rings


def play(mine: Segment, other: Segment, seed: int) -> None:
    """Answers each record with one of its own after a random moment; sleeps in between."""
    producer, consumer = Producer(mine), Consumer(other, 0)
    idle, random = Park([consumer], park_ns_max=FAR_NS), np.random.default_rng(seed)
    delays_ns = random.integers(0, 60_000, ROUNDS).tolist()
    for round_number in range(ROUNDS):
        until_ns = now_ns() + delays_ns[round_number]
        while now_ns() < until_ns:
            yield_cpu()
        producer.append(np.zeros(8, np.int64))
        read_all([consumer], idle, round_number + 1)


def play_attached(mine: str, other: str, seed: int) -> None:
    play(attach(mine), attach(other), seed)


@pytest.mark.race
@pytest.mark.multiprocess
def test_no_wake_up_is_lost_over_many_random_moments(
    make_ring: MakeRing, children: Children
) -> None:
    """Allowed: the reader sees the new cursor, or the writer sees the flag. Never neither."""
    there, back = make_ring(0), make_ring(1)
    other = children.start(play_attached, back.name, there.name, 1)
    play(there, back, 2)

    assert children.join(other) == 0


@pytest.mark.parametrize("rings", [0, 1, 3])
@pytest.mark.parametrize("waitv", [True, False])
def test_park_wakes_by_itself_when_nothing_comes(
    make_ring: MakeRing, monkeypatch: pytest.MonkeyPatch, rings: int, *, waitv: bool
) -> None:
    monkeypatch.setattr(park, "has_waitv", lambda: waitv)
    idle = Park([Consumer(make_ring(number), 0) for number in range(rings)], SOON_NS)
    expected = SOON_NS if waitv or rings < 2 else park.FALLBACK_NS_MAX

    assert slept_ns(idle) >= expected


def test_park_does_not_sleep_over_a_record_that_was_not_looked_at(make_ring: MakeRing) -> None:
    made = make_ring()
    idle = Park([Consumer(made, 0)], park_ns_max=FAR_NS)
    Producer(made).append(np.zeros(8, np.int64))

    assert slept_ns(idle) < FAR_NS


def test_park_sleeps_a_little_over_records_that_cannot_be_released_yet(
    make_ring: MakeRing,
) -> None:
    """Its disk or the ring behind it is slow: it must look after that, but not spin on it."""
    made = make_ring()
    consumer = Consumer(made, 0)
    idle = Park([consumer], park_ns_max=FAR_NS)
    Producer(made).append(np.zeros(8, np.int64))
    consumer.poll(8)

    assert HELD_NS_MAX <= slept_ns(idle) < FAR_NS


def test_a_new_reader_lowers_the_flag_of_one_that_died_asleep(
    make_ring: MakeRing, children: Children
) -> None:
    made = make_ring()
    consumer = Consumer(made, 0)
    asleep = children.start(lambda: Park([consumer], park_ns_max=FAR_NS).idle(0))
    await_until(lambda: parked(consumer) == 1, "the reader parks")
    children.kill(asleep)
    raised = parked(consumer)
    idle = Park([consumer], park_ns_max=FAR_NS)

    assert (raised, parked(consumer)) == (1, 0)
    Producer(made).append(np.zeros(8, np.int64))
    read_all([consumer], idle, 1)


def test_a_ring_whose_writer_wakes_nobody_is_not_parked_on(make_ring: MakeRing) -> None:
    made = make_ring(parkable=False)

    with pytest.raises(ValueError, match=f"made parkable: rings=.*{made.name}"):
        Park([Consumer(made, 0)])


def test_more_rings_than_the_kernel_waits_for_are_one_clear_error(make_ring: MakeRing) -> None:
    consumer = Consumer(make_ring(), 0)
    Park([consumer] * WAITERS_MAX)

    with pytest.raises(ValueError, match=f"rings={WAITERS_MAX + 1} max={WAITERS_MAX}"):
        Park([consumer] * (WAITERS_MAX + 1))


def test_backoff_sleeps_when_there_was_nothing_for_long_and_not_after_work() -> None:
    idle = Backoff()
    idle.idle(0)  # it counts from here
    until_ns = now_ns() + YIELD_NS
    while now_ns() < until_ns:
        idle.idle(0)
    sleeps = [slept_ns(idle) for _ in range(3)]
    idle.idle(1)
    idle.idle(0)

    assert all(
        slept >= least for slept, least in zip(sleeps, (10_000, 20_000, 40_000), strict=True)
    )
    assert idle._sleep_ns == 10_000


def test_linger_sleeps_after_a_little_work_only() -> None:
    inside = Counting()
    idle = Linger(inside, SOON_NS)
    little_ns = slept_ns(idle, 1)
    hasty = Linger(inside, FAR_NS)  # a sleep so long that the test would not end
    hasty.idle(0)
    hasty.idle(FULL_WORK)

    assert little_ns >= SOON_NS
    assert inside.works == [1, 0, FULL_WORK]


def test_an_unknown_strategy_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match="must be spin, yield, backoff or park: idle=doze"):
        park.strategy("doze", ())
