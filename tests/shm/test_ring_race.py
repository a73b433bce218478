"""The ring between real processes: millions of records at full speed, kill -9 at random moments.

Ten times as many of both with HYPOTHESIS_PROFILE=deep.

Allowed outcomes, whatever the interleaving:

    gating reader     every sequence once, in order, whole; after its death its successor may read
                      once more what it had read but not released, and leaves nothing out
    observing reader  sequences that only rise, every one whole; taken + overrun = all there were
    writer killed     the cursor stays where it was or is one publish further; its successor goes on
                      behind it; rows that were claimed or half written are never seen
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from shm import ring, segment
from shm.handles import Consumer, Handle
from shm.observer import Observer
from shm.ring import CAPACITY, GATING, OBSERVING
from shm.segment import Segment, Words
from tests.shm import loops
from tests.shm.conftest import LAYOUT
from tests.shm.loops import (
    BATCH_MAX,
    CHECKSUM,
    FAULTS,
    LAST,
    NEXT,
    RECORDS,
    ROW_WORDS,
    RUN_WORDS,
    SEED,
    STOP,
)
from tests.shm.processes import DEPTH, Children, await_until, is_past, nap

pytestmark = [pytest.mark.race, pytest.mark.multiprocess]

KINDS = (GATING, GATING, OBSERVING)
OBSERVER = 2
RECORDS_TOTAL = 20_000_000 * DEPTH
CAPACITY_RECORDS = 256
FOR_EVER = 1 << 62
KILLS = 500 * DEPTH


@pytest.fixture
def made(segment_prefix: str) -> Iterator[Segment]:
    """A ring that wraps around thousands of times in a test."""
    built = ring.create(
        f"{segment_prefix}-ring", 1,
        capacity=CAPACITY_RECORDS, row_bytes=64, kinds=KINDS, parkable=False,
    )  # fmt: skip
    yield built
    built.unlink()
    built.close()


def run_of(scratch: Segment, place: int, last: int, batch_max: int) -> Words:
    """Sets up the words of one process's run."""
    run = scratch.words(place * RUN_WORDS * 8, RUN_WORDS)
    run[:] = 0
    run[LAST], run[BATCH_MAX], run[SEED] = last, batch_max, place + 1
    return run


def live(made: Segment, scratch: Segment, reader: int, run: Words, what: str) -> None:
    """Is the life of a process: attaches by name like a stranger, then runs one loop."""
    attached = ring.attach(made.name, capacity=CAPACITY_RECORDS, row_bytes=64)
    shared = segment.attach(scratch.name, LAYOUT)
    place = (run.ctypes.data - scratch.words(0, 1).ctypes.data) // 8
    mine = shared.words(8 * place, len(run))
    ports = Handle(attached).port(reader).reshape(1, 4)
    getattr(loops, what)(ports, mine)


def gate(control: Words, reader: int, *, is_gating: bool) -> None:
    """Declares a reader gating or not, before anybody runs."""
    control[ring.READER_BASE + ring.READER_WORDS * reader + ring.KIND] = (
        GATING if is_gating else ring.UNUSED
    )


def checksum_of(records: int) -> int:
    """Answers the sum of the last words of the first `records` records, as 64 bits show it."""
    total = records * (records - 1) // 2 * loops.FACTOR + (ROW_WORDS - 1) * records
    return (total + (1 << 63)) % (1 << 64) - (1 << 63)


@pytest.mark.parametrize("batch_max", [1, 64])
def test_two_gating_readers_each_see_every_record_once_in_order_and_whole(
    made: Segment, scratch: Segment, children: Children, batch_max: int
) -> None:
    last = RECORDS_TOTAL // 2 - 1
    runs = [run_of(scratch, place, last, batch_max) for place in range(3)]
    pids = [
        children.start(live, made, scratch, reader, runs[reader], "read_run") for reader in (0, 1)
    ]
    pids.append(children.start(live, made, scratch, 0, runs[2], "write_run"))

    assert [children.join(pid) for pid in pids] == [0, 0, 0]
    for run in runs[:2]:
        assert run[[RECORDS, FAULTS]].tolist() == [last + 1, 0]
        assert run[CHECKSUM] == checksum_of(last + 1)


def test_an_observing_reader_never_sees_a_torn_record_and_accounts_for_all(
    made: Segment, scratch: Segment, children: Children
) -> None:
    """Nothing gates: the writer laps the reader thousands of times."""
    last = 2 * RECORDS_TOTAL - 1
    for reader in (0, 1):
        gate(made.words(0, ring.CONTROL_WORDS), reader, is_gating=False)
    observed, written = run_of(scratch, 0, last, 64), run_of(scratch, 1, last, 32)
    reader = children.start(live, made, scratch, OBSERVER, observed, "observe_run")
    writer = children.start(live, made, scratch, 0, written, "write_run")

    assert [children.join(writer), children.join(reader)] == [0, 0]
    assert observed[FAULTS] == 0
    assert observed[RECORDS] + Observer(made, OBSERVER).overrun_count == last + 1


def test_records_stay_whole_when_writers_are_killed_at_random(
    made: Segment, scratch: Segment, children: Children
) -> None:
    """Many writers die inside; readers of both kinds run on through all of it."""
    random = np.random.default_rng(7)
    gate(made.words(0, ring.CONTROL_WORDS), 1, is_gating=False)
    read, observed = run_of(scratch, 0, FOR_EVER, 64), run_of(scratch, 1, FOR_EVER, 64)
    readers = [
        children.start(live, made, scratch, 0, read, "read_run"),
        children.start(live, made, scratch, OBSERVER, observed, "observe_run"),
    ]
    handle = Handle(made)
    for kill in range(KILLS):
        written = run_of(scratch, 2, FOR_EVER, batch_max=1 + kill % CAPACITY_RECORDS)
        writer = children.start(live, made, scratch, 0, written, "write_run")
        await_until(is_past(handle.cursor, lambda: handle.cursor), "the next one goes on")
        nap(random.random() * 0.002)

        assert children.kill(writer) == -9
    read[STOP] = observed[STOP] = 1

    assert [children.join(pid) for pid in readers] == [0, 0]
    assert [read[FAULTS], observed[FAULTS]] == [0, 0]
    assert read[RECORDS] == handle.cursor + 1
    assert read[CHECKSUM] == checksum_of(handle.cursor + 1)
    assert observed[RECORDS] + Observer(made, OBSERVER).overrun_count == handle.cursor + 1


def test_no_record_is_left_out_when_readers_are_killed_at_random(
    made: Segment, scratch: Segment, children: Children
) -> None:
    """Each reader goes on behind what the dead one released; what it had not may come twice."""
    random = np.random.default_rng(11)
    gate(made.words(0, ring.CONTROL_WORDS), 1, is_gating=False)
    read, written = run_of(scratch, 0, FOR_EVER, 16), run_of(scratch, 1, FOR_EVER, 8)
    writer = children.start(live, made, scratch, 0, written, "write_run")
    consumer = Consumer(made, 0)
    for _ in range(KILLS):
        reader = children.start(live, made, scratch, 0, read, "read_run")
        await_until(is_past(consumer.released, lambda: consumer.released), "the next one goes on")
        nap(random.random() * 0.002)

        assert children.kill(reader) == -9
    children.kill(writer)
    read[STOP] = 1
    last_reader = children.start(live, made, scratch, 0, read, "read_run")

    assert children.join(last_reader) == 0
    assert (read[FAULTS], read[NEXT] - 1, consumer.lag) == (0, consumer.cursor, 0)


def test_a_ring_whose_processes_all_died_is_attached_and_used_again(
    made: Segment, scratch: Segment, children: Children
) -> None:
    runs = [run_of(scratch, place, FOR_EVER, 8) for place in range(3)]
    pids = [
        children.start(live, made, scratch, 0, runs[0], "read_run"),
        children.start(live, made, scratch, 1, runs[1], "read_run"),
        children.start(live, made, scratch, 0, runs[2], "write_run"),
    ]
    handle = Handle(made)
    await_until(lambda: handle.cursor > 10 * CAPACITY_RECORDS, "records flow")
    for pid in pids:
        children.kill(pid)
    last = handle.cursor + 1_000
    left_at = [int(run[NEXT]) for run in runs]
    again = [run_of(scratch, place, last, 8) for place in range(3)]
    for run, place in zip(again, left_at, strict=True):
        run[NEXT] = place
    pids = [
        children.start(live, made, scratch, reader, again[reader], "read_run") for reader in (0, 1)
    ]
    pids.append(children.start(live, made, scratch, 0, again[2], "write_run"))

    assert [children.join(pid) for pid in pids] == [0, 0, 0]
    assert [int(run[FAULTS]) for run in again[:2]] == [0, 0]
    assert [Consumer(made, reader).released for reader in (0, 1)] == [last, last]
    assert handle.control[CAPACITY] == CAPACITY_RECORDS
