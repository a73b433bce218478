"""Bench: the ring as plain Python code uses it: the methods of Producer and Consumer, no @jit.

Once as a channel between two processes, beside the rivals, and once in one process, where nothing
but the calls is paid for: nanoseconds a record to publish and to read, one at a time and 64.
"""

from __future__ import annotations

import functools
import os
import secrets
import time
from collections.abc import Callable

import numpy as np

from bench.support.channel_runs import BATCH, RECORD, Channel, Move, Push
from bench.support.ring_runs import CAPACITY, ROW_BYTES
from shm import ring
from shm.handles import Consumer, Producer
from shm.ring import GATING

POLL_MAX = 256
LAPS = 12  # of the measured calls in one process
_WORDS = ROW_BYTES // 8
_RECORD = np.frombuffer(RECORD, np.int64).data  # what `append` takes fastest


def _producer(name: str) -> Producer:
    return Producer(ring.attach(name, capacity=CAPACITY, row_bytes=ROW_BYTES))


def _consumer(name: str) -> Consumer:
    return Consumer(ring.attach(name, capacity=CAPACITY, row_bytes=ROW_BYTES), 0)


def _batch_write(producer: Producer) -> Move:
    """Answers what publishes 64 records, 0 when there is no room for them."""
    records = np.zeros((BATCH, _WORDS), np.int64)
    append_rows = producer.append_rows
    return lambda: BATCH if append_rows(records) >= 0 else 0


def _batch_read(consumer: Consumer, records_max: int) -> Move:
    """Answers what polls and releases; answers how many records there were."""

    def move() -> int:
        rows = consumer.poll(records_max)
        count = len(rows)
        if count:
            consumer.release(consumer.released + count)
        return count

    return move


def _push(producer: Producer) -> Push:
    append = producer.append
    return lambda record: append(record) >= 0


def _made() -> tuple[str, Callable[[], None]]:
    """Makes a ring; answers its name and what removes it."""
    name = f"tickring-bench-{os.getpid()}-{secrets.token_hex(4)}"
    made = ring.create(
        name, 1, capacity=CAPACITY, row_bytes=ROW_BYTES, kinds=(GATING,), parkable=False
    )

    def close() -> None:
        made.unlink()
        made.close()

    return name, close


def channel() -> Channel:
    """Answers a ring of our own, driven from plain Python at both ends."""
    name, close = _made()
    return Channel(
        lambda: _push(_producer(name)),
        lambda: _consumer(name).take,
        close,
        is_trying=True,
        batch_writer=lambda: _batch_write(_producer(name)),
        batch_reader=lambda: _batch_read(_consumer(name), POLL_MAX),
        record=_RECORD,
    )


def _cost_ns(move: Callable[[], object], calls: int) -> float:
    start_ns = time.perf_counter_ns()
    for _ in range(calls):
        move()
    return (time.perf_counter_ns() - start_ns) / calls


def _nothing() -> None: ...


def costs() -> dict[str, float]:
    """Answers ns a record of each way to publish and to read, in one process, the best of laps.

    The ring is filled by a quarter and emptied in turn, so no call waits; after four laps every
    page is mapped. `empty_call_ns` is what the same loop takes around a function that does
    nothing: what this interpreter costs on this machine, to hold the others against.
    """
    name, close = _made()
    producer, consumer = _producer(name), _consumer(name)
    append = producer.append
    ways: dict[int, tuple[Callable[[], object], Callable[[], object]]] = {
        1: (functools.partial(append, _RECORD), consumer.take),
        BATCH: (_batch_write(producer), _batch_read(consumer, BATCH)),
    }
    calls = CAPACITY // 4
    found = {"empty_call_ns": round(min(_cost_ns(_nothing, calls) for _ in range(LAPS)), 1)}
    for size, (put, get) in ways.items():
        calls = CAPACITY // 4 // size
        laps = [(_cost_ns(put, calls), _cost_ns(get, calls)) for _ in range(LAPS)]
        found[f"publish_{size}_ns"] = round(min(lap[0] for lap in laps) / size, 1)
        found[f"read_{size}_ns"] = round(min(lap[1] for lap in laps) / size, 1)
    close()
    return found
