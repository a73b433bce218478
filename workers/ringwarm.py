"""workers room: loads every compiled function of the shared-memory room, see workers/warm.py.

Each is called with the very types of production, so that a process forked afterwards compiles and
loads nothing. The scratch segment loses its name as soon as it is made: a kill leaves nothing.
"""

from __future__ import annotations

import os
import secrets

import numpy as np

from shm import histogram, latest, park, ring, segment, stats
from shm.handles import Consumer, Producer
from shm.jit import bytes_at, epoch_ns, now_ns, rows_at, words_at, yield_cpu
from shm.observer import Observer
from shm.ring import GATING, OBSERVING
from shm.segment import Segment
from workers import chain

_BACKOFF_NS = park.YIELD_NS + 100_000  # behind this it has slept once


def warm() -> None:
    """Calls each compiled function once on memory of its own."""
    _warm_memory()
    chain.warm()
    _warm_ring()
    _warm_cells()


def _scratch(body_bytes: int) -> Segment:
    epoch_ns()  # compiled before the name exists
    name = f"tickring-warm-{os.getpid()}-{secrets.token_hex(4)}"
    made = segment.create(name, body_bytes, stats.LAYOUT, 1)
    made.unlink()
    made.set_ready()
    assert made.is_ready, "the creator declared it"
    return made


def _warm_memory() -> None:
    words = np.zeros(8, np.int64)
    address = int(words.ctypes.data)
    words_at(address, 8)
    rows_at(address, 2, 4)
    bytes_at(address, 64)
    now_ns()
    yield_cpu()


def _warm_ring() -> None:
    epoch_ns()
    name = f"tickring-warm-{os.getpid()}-{secrets.token_hex(4)}"
    kinds = (GATING, OBSERVING)
    made = ring.create(name, 1, capacity=4, row_bytes=64, kinds=kinds, parkable=True)
    made.unlink()
    producer, consumer, observer = Producer(made), Consumer(made, 0), Observer(made, 1)
    sequence = producer.append(np.zeros(8, np.int64))
    control = producer.control
    assert ring.slowest_gating(control) < sequence, "nothing is released yet"
    assert ring.is_intact(control, sequence), "nobody has written over it"
    assert len(observer.take()) == 1, "the record is there"
    ring.oldest_intact(control)
    consumer.poll(1)
    consumer.release(sequence)
    # What the handles call on machines of weak order, and other compiled code everywhere.
    assert ring.claim(control, 1) == sequence + 1, "there is room"
    assert ring.poll(control, 0) == ring.released(control, 0), "everything is read"
    ring.release(control, 0, sequence)
    consumer.release(producer.append_rows(np.zeros((1, 8), np.int64)))
    ports = np.stack([producer.port(), consumer.port(0)])
    ring.port_control(ports, 0)
    ring.port_rows(ports, 1, 8)
    ring.port_bytes(ports, 1, 64)
    for name in ("spin", "yield"):
        park.strategy(name, ()).idle(0)
    park.Park([consumer], park_ns_max=1_000).idle(0)
    park.Park([], park_ns_max=1_000).idle(0)
    backoff, until_ns = park.Backoff(sleep_ns_max=1_000), now_ns() + _BACKOFF_NS
    while now_ns() < until_ns:
        backoff.idle(0)


def _warm_cells() -> None:
    cell = latest.Latest(np.zeros(3, np.int64))
    cell.write(np.ones(2, np.int64))
    assert cell.read().all(), "the value is read back"
    numbers = stats.Stats(_scratch(stats.BODY_BYTES))
    numbers.counter("warm").add()
    numbers.error("warm")
    words = numbers.histogram("warm")
    histogram.record(words, histogram.lower_bound(histogram.bucket_of(1)))
