"""Two processes and one ring: run it with `python docs/examples/two_processes.py`.

    writer: prices -----ring `example-PID`-----> reader: adds up, in compiled code

Needs only the package `shm` of Tickring. docs/rings.md explains every line.
"""

from __future__ import annotations

import multiprocessing
import os

import numpy as np

from shm import park, ring
from shm.handles import Consumer, Producer
from shm.jit import jit
from shm.ring import GATING
from shm.segment import Words

RECORDS, CAPACITY, ROW_BYTES = 100_000, 1024, 64
SEQUENCE, PRICE, QUANTITY = range(3)  # words of a record; word 0 is its sequence, always


@jit
def add_up(rows: Words, totals: Words) -> None:
    """Adds price and quantity of each record, in place, without copying."""
    for row in rows:
        totals[PRICE] += row[PRICE]
        totals[QUANTITY] += row[QUANTITY]


def read(name: str) -> None:
    """Is the reader's life: poll, work in place, release; wait as the strategy says."""
    consumer = Consumer(ring.attach(name, capacity=CAPACITY, row_bytes=ROW_BYTES), reader=0)
    idle = park.strategy("park", [consumer])
    totals = np.zeros(8, np.int64)
    while totals[SEQUENCE] < RECORDS:
        rows = consumer.poll(256)
        if len(rows):
            add_up(rows, totals)
            totals[SEQUENCE] += len(rows)
            consumer.release(int(rows[-1, SEQUENCE]))
        idle.idle(len(rows))
    print(f"{totals[SEQUENCE]} records, prices {totals[PRICE]}, quantities {totals[QUANTITY]}")


def write(producer: Producer) -> None:
    """Publishes records one by one; when the ring is full it waits for its slowest reader."""
    record = np.zeros(ROW_BYTES // 8, np.int64)
    view = record.data  # a memoryview: stores through it cost a quarter of numpy's
    for number in range(RECORDS):
        view[PRICE], view[QUANTITY] = 6_000_000 + number % 100, 1
        while producer.append(view) < 0:
            os.sched_yield()


def main() -> None:
    """Makes the ring, lets both ends run, and leaves nothing in /dev/shm."""
    name = f"example-{os.getpid()}"
    made = ring.create(
        name, 1, capacity=CAPACITY, row_bytes=ROW_BYTES, kinds=(GATING,), parkable=True
    )
    try:
        reader = multiprocessing.get_context("spawn").Process(target=read, args=(name,))
        reader.start()
        write(Producer(made))
        reader.join()
    finally:
        made.unlink()
        made.close()


if __name__ == "__main__":
    main()
