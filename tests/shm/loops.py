"""Compiled loops of the race tests: what a writer and its readers do for a million records.

Every word of a record follows from its sequence, so a reader can tell a torn record, a lost one and
a doubled one. The words of a run, (RUN_WORDS,) in shared memory:

    0  last       the run ends behind this sequence       3  records   records read
    1  batch_max  records claimed or read at once         4  faults    records that were not right
    2  seed       of the batch sizes                      5  checksum  sum of the last words read
    6  stop       ends a run whose writer comes and goes, once nothing is left to read
    7  next       behind the last record read, stored before it is released
"""

from __future__ import annotations

import numpy as np

from shm.jit import call_handler, handler, jit, load_acquire, now_ns, pause, yield_cpu
from shm.latest import read_latest, write_latest
from shm.observer import observe
from shm.ring import (
    CONTROL_WORDS,
    CURSOR,
    claim,
    poll,
    port_control,
    port_rows,
    publish,
    release,
    released,
)
from shm.segment import Words

LAST, BATCH_MAX, SEED, RECORDS, FAULTS, CHECKSUM, STOP, NEXT = range(8)
RUN_WORDS = 16
ROW_WORDS = 8
PATIENCE_NS = 60_000_000_000  # a peer that is gone this long never comes back
FACTOR = 1_000_003
_PAUSES = 256


@jit
def word_of(sequence: int, word: int) -> int:
    """Answers what word of a record holds."""
    return sequence if word == 0 else sequence * FACTOR + word


@jit
def fill(rows: Words, sequence: int) -> None:
    """Writes the record of a sequence, word by word."""
    row = rows[sequence & (len(rows) - 1)]
    for word in range(ROW_WORDS):
        row[word] = word_of(sequence, word)


@jit
def is_whole(row: Words, sequence: int) -> bool:
    """Says whether a row holds the record of a sequence and nothing else."""
    whole = True
    for word in range(ROW_WORDS):
        whole = whole and row[word] == word_of(sequence, word)
    return whole


@jit
def _batch(run: Words) -> int:
    """Answers a random size, 1 .. batch_max."""
    run[SEED] = (run[SEED] * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) & (1 << 62) - 1
    return int(1 + (run[SEED] >> 33) % run[BATCH_MAX])


@jit
def _is_patient(turns: int, since_ns: int) -> bool:
    """Waits a little for the other process; says whether to go on waiting."""
    if turns % _PAUSES:
        pause()
        return True
    yield_cpu()
    return now_ns() - since_ns < PATIENCE_NS


@jit
def write_run(ports: Words, run: Words) -> None:
    """Publishes records in random batches until `last`."""
    control, rows = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS)
    turns, since_ns = 0, now_ns()
    cursor = control[CURSOR]
    while cursor < run[LAST]:
        count = min(_batch(run), run[LAST] - cursor)
        first = claim(control, count)
        if first < 0:
            turns += 1
            if not _is_patient(turns, since_ns):
                return
            continue
        for sequence in range(first, first + count):
            fill(rows, sequence)
        cursor = first + count - 1
        publish(control, cursor)
        since_ns = now_ns()


@jit
def read_run(ports: Words, run: Words) -> None:
    """Reads as a gating reader, in place, from behind its released sequence to `last`."""
    control, rows, reader = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS), ports[0, 3]
    turns, since_ns = 0, now_ns()
    sequence = released(control, reader)
    # Where a dead one left off, or up to a batch earlier; never behind what it had not read.
    run[FAULTS] += not run[NEXT] - run[BATCH_MAX] <= sequence + 1 <= run[NEXT]
    while sequence < run[LAST]:
        is_over = load_acquire(run, STOP) != 0
        upto = min(poll(control, reader), sequence + _batch(run))
        if upto == sequence:
            turns += 1
            if is_over or not _is_patient(turns, since_ns):
                return
            continue
        for place in range(sequence + 1, upto + 1):
            row = rows[place & (len(rows) - 1)]
            run[FAULTS] += not is_whole(row, place)
            run[RECORDS] += 1
            run[CHECKSUM] += row[ROW_WORDS - 1]
        sequence = upto
        run[NEXT] = sequence + 1
        release(control, reader, sequence)
        since_ns = now_ns()


@jit
def observe_run(ports: Words, run: Words) -> None:
    """Reads as an observing reader to `last`; a record that is torn or not newer is a fault."""
    control, rows, reader = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS), ports[0, 3]
    out = np.zeros((64, ROW_WORDS), np.int64)
    turns, since_ns, before = 0, now_ns(), -1
    while released(control, reader) < run[LAST]:
        is_over = load_acquire(run, STOP) != 0
        count = observe(control, rows, reader, out[: _batch(run)])
        for index in range(count):
            sequence = out[index, 0]
            run[FAULTS] += sequence <= before or not is_whole(out[index], sequence)
            run[RECORDS] += 1
            before = sequence
        if count:
            since_ns = now_ns()
            continue
        turns += 1
        is_over = is_over and released(control, reader) == poll(control, reader)
        if is_over or not _is_patient(turns, since_ns):
            return


@jit
def write_cells(cell: Words, run: Words) -> None:
    """Writes values of equal words, counting up from the last whole one, until `last`."""
    values = np.zeros(len(cell) - 1, np.int64)
    value = cell[1]
    while value < run[LAST] and load_acquire(run, STOP) == 0:
        value += 1
        values[:] = value
        write_latest(cell, values)


@jit
def read_cells(cell: Words, run: Words) -> None:
    """Reads until `stop`; a value whose words differ, or one that goes back, is a fault."""
    out = np.zeros(len(cell) - 1, np.int64)
    before, version = 0, 0
    while load_acquire(run, STOP) == 0:
        found = read_latest(cell, out)
        if found == 0:
            continue
        whole = found & 1 == 0 and found >= version and out[0] >= before
        for word in out:
            whole = whole and word == out[0]
        run[FAULTS] += not whole
        run[RECORDS] += found != version
        before, version = out[0], found


@handler
def add_up(row: Words, view: Words, state: Words, parameters: Words, out: Words) -> int:
    """Answers a number in which each of the five arrays has its own decimal."""
    out[0] = len(row) + 10 * len(view) + 100 * len(state)
    return int(row[0] + 10 * view[0] + 100 * state[0] + 1_000 * parameters[0] + 10_000 * out[1])


@jit
def call(address: int, row: Words, out: Words) -> int:
    """Calls a handler by its address, as a decision loop does."""
    return call_handler(address, row, row[1:], row[2:], row[3:], out)


@jit
def claim_at(ports: Words, count: int) -> int:
    """Claims as compiled code does: from a ring bound by its port."""
    return claim(port_control(ports, 0), count)


@jit
def fill_at(ports: Words, first: int, count: int) -> None:
    """Writes records without publishing them."""
    rows = port_rows(ports, 0, ROW_WORDS)
    for sequence in range(first, first + count):
        fill(rows, sequence)


@jit
def publish_at(ports: Words, sequence: int) -> None:
    """Publishes as compiled code does."""
    publish(port_control(ports, 0), sequence)


@jit
def poll_at(ports: Words, index: int, out: Words) -> int:
    """Copies records behind the released one, around the ring's end; answers how many."""
    control, rows = port_control(ports, index), port_rows(ports, index, ROW_WORDS)
    first = released(control, ports[index, 3]) + 1
    count = min(poll(control, ports[index, 3]) - first + 1, len(out))
    for place in range(count):
        out[place] = rows[(first + place) & (len(rows) - 1)]
    return count


@jit
def release_at(ports: Words, index: int, sequence: int) -> None:
    """Releases as compiled code does."""
    release(port_control(ports, index), ports[index, 3], sequence)


@jit
def observe_at(ports: Words, index: int, out: Words) -> int:
    """Takes whole records as an observing reader."""
    control, rows = port_control(ports, index), port_rows(ports, index, ROW_WORDS)
    return observe(control, rows, ports[index, 3], out)


def warm() -> None:
    """Loads the loops, so that a process forked from here begins at once."""
    control, rows = np.zeros(CONTROL_WORDS, np.int64), np.zeros((2, ROW_WORDS), np.int64)
    ports = np.array([[control.ctypes.data, rows.ctypes.data, 2, 0]], np.int64)
    run = np.zeros(RUN_WORDS, np.int64)
    run[LAST], run[STOP], run[BATCH_MAX] = -1, 1, 1
    write_run(ports, run)
    read_run(ports, run)
    observe_run(ports, run)
    cell = np.zeros(3, np.int64)
    write_cells(cell, run)
    read_cells(cell, run)
