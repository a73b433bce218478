"""Bench: runs of two Python ends over any channel: records a second and round trips.

A channel is made before its processes are forked and opened in each of them. Its ends are the
rival's own callables, called straight from these loops: a wrapper would cost as much as some of
them do. Two kinds exist: those that block, and those that try and answer something false (push) or
None (pop) when they could not.
"""

from __future__ import annotations

import itertools
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.support import crew
from bench.support.crew import Gate
from shm.segment import Words

RECORD_BYTES = 64
RECORD = bytes(range(RECORD_BYTES))
BATCH = 64
WARM = 64  # records before the clock starts: both ends have met, their code is loaded
HEAD = 16
START_NS, END_NS = range(2)

Push = Callable[[Any], Any]
Pop = Callable[[], Any]
Move = Callable[[], int]  # moves some records in one call; answers how many


@dataclass(frozen=True)
class Channel:
    """One direction between two processes; each end is opened in the process that uses it.

    close: leaves nothing behind; called by who made it, after the processes have ended.
    """

    writer: Callable[[], Push]
    reader: Callable[[], Pop]
    close: Callable[[], None]
    is_trying: bool
    batch_writer: Callable[[], Move] | None = None  # 64 at a time
    batch_reader: Callable[[], Move] | None = None  # what has come, at most 64
    record: Any = RECORD
    size: Callable[[Any], int] = len  # bytes of what `reader` answers


Make = Callable[[], Channel]


def _push_all(channel: Channel, push: Push, count: int) -> None:
    record = channel.record
    if channel.is_trying:
        for _ in itertools.repeat(None, count):
            while not push(record):
                pass
    else:
        for _ in itertools.repeat(None, count):
            push(record)


def _pop_all(channel: Channel, pop: Pop, count: int) -> None:
    record: Any = None
    if channel.is_trying:
        for _ in itertools.repeat(None, count):
            while (record := pop()) is None:
                pass
    else:
        for _ in itertools.repeat(None, count):
            record = pop()
    assert channel.size(record) == RECORD_BYTES, "a record must come whole"


def _move_all(move: Move, count: int) -> None:
    moved = 0
    while moved < count:
        moved += move()


def _write(channel: Channel, push: Push | None, move: Move | None, count: int) -> None:
    if move is not None:
        _move_all(move, count)
    elif push is not None:
        _push_all(channel, push, count)


def _read(channel: Channel, pop: Pop | None, move: Move | None, count: int) -> None:
    if move is not None:
        _move_all(move, count)
    elif pop is not None:
        _pop_all(channel, pop, count)


def _linger(gate: Gate) -> None:
    """Keeps this end alive until the other has all: some channels end with their writer."""
    while gate.words[END_NS] == 0:
        select.select([], [], [], 0.000_1)


def throughput(make: Make, count: int, cores: Sequence[int], *, is_batched: bool) -> float:
    """Answers records a second from one writer to one reader, who takes all there is if it can."""
    channel = make()

    def write(gate: Gate) -> None:
        move = channel.batch_writer() if is_batched and channel.batch_writer else None
        push = channel.writer() if move is None else None
        _write(channel, push, move, WARM)
        gate.wait()
        gate.words[START_NS] = time.perf_counter_ns()
        _write(channel, push, move, count)
        _linger(gate)

    def read(gate: Gate) -> None:
        move = channel.batch_reader() if channel.batch_reader else None
        pop = channel.reader() if move is None else None
        _read(channel, pop, move, WARM)
        gate.wait()
        _read(channel, pop, move, count)
        gate.words[END_NS] = time.perf_counter_ns()

    try:
        words = crew.run([write, read], cores, HEAD)
    finally:
        channel.close()
    return count * 1e9 / float(words[END_NS] - words[START_NS])


def _ping(channel: Channel, push: Push, pop: Pop, count: int) -> list[int]:
    """Answers the time after each round trip, and before the first."""
    record, clock = channel.record, time.perf_counter_ns
    times_ns = [clock()]
    if channel.is_trying:
        for _ in itertools.repeat(None, count):
            while not push(record):
                pass
            while pop() is None:
                pass
            times_ns.append(clock())
    else:
        for _ in itertools.repeat(None, count):
            push(record)
            pop()
            times_ns.append(clock())
    return times_ns


def _pong(channel: Channel, push: Push, pop: Pop, count: int) -> None:
    record = channel.record
    if channel.is_trying:
        for _ in itertools.repeat(None, count):
            while pop() is None:
                pass
            while not push(record):
                pass
    else:
        for _ in itertools.repeat(None, count):
            pop()
            push(record)


def round_trips(make: Make, count: int, cores: Sequence[int]) -> Words:
    """Answers ns of `count` round trips over two channels."""
    there, back = make(), make()

    def ping(gate: Gate) -> None:
        push, pop = there.writer(), back.reader()
        _ping(there, push, pop, WARM)
        gate.wait()
        times_ns = _ping(there, push, pop, count)
        gate.words[HEAD:] = np.diff(np.array(times_ns, np.int64))
        gate.words[END_NS] = times_ns[-1]

    def pong(gate: Gate) -> None:
        pop, push = there.reader(), back.writer()
        _pong(back, push, pop, WARM)
        gate.wait()
        _pong(back, push, pop, count)
        _linger(gate)

    try:
        return crew.run([ping, pong], cores, HEAD + count)[HEAD:]
    finally:
        there.close()
        back.close()
