"""Bench: what the compiled ends of a ring do for millions of records, in the product's functions.

Every word of a record follows from its sequence and readers check them all: a figure of a run that
read a wrong word is not a figure. A checksum that depends on the order of the records keeps the
compiler from reading many rows at once, which no handler of records could do either.

Rings are bound by their ports, (n, PORT_WORDS): `bench/rivals/ring_reference.c` does the same.
"""

from __future__ import annotations

import numpy as np

from shm.jit import jit, now_ns, pause
from shm.observer import observe
from shm.ring import (
    CONTROL_WORDS,
    CURSOR,
    GRANT_MAX,
    PORT_WORDS,
    claim,
    grant,
    poll,
    port_control,
    port_rows,
    publish,
    release,
    released,
)
from shm.segment import Words

ROW_WORDS = 8
SAMPLE_MASK = 15  # of paced records, one in sixteen is timed: the clock would be the load
FAULTS, CHECK = range(2)  # what `read` leaves: 0 when every word was right; any number
_DUE = 1  # word of a paced record: when it was due, whether or not it could be published then
_CHECK_FACTOR = 3


@jit
def _fill(rows: Words, sequence: int, first_word: int) -> None:
    row = rows[sequence & (len(rows) - 1)]
    for word in range(ROW_WORDS):
        row[word] = first_word + word


@jit
def _faults(rows: Words, sequence: int, first_word: int) -> int:
    row = rows[sequence & (len(rows) - 1)]
    faults = 0
    for word in range(ROW_WORDS):
        faults |= row[word] ^ (first_word + word)
    return faults


@jit
def write_singly(ports: Words, count: int) -> None:
    """Writes and publishes `count` records, one at a time; asks for room for some ahead."""
    control, rows = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS)
    cursor = control[CURSOR]
    last = cursor + count
    granted = cursor
    while cursor < last:
        if cursor >= granted:
            granted = grant(control, GRANT_MAX)
            if granted < 0:
                pause()
                continue
        cursor += 1
        _fill(rows, cursor, cursor)
        publish(control, cursor)


@jit
def write_batches(ports: Words, count: int, batch: int) -> None:
    """Claims, writes and publishes `count` records, `batch` at a time."""
    control, rows = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS)
    cursor = control[CURSOR]
    last = cursor + count
    while cursor < last:
        size = min(batch, last - cursor)
        first = claim(control, size)
        if first < 0:
            pause()
            continue
        for sequence in range(first, first + size):
            _fill(rows, sequence, sequence)
        cursor = first + size - 1
        publish(control, cursor)


def write(ports: Words, count: int, batch: int) -> None:
    """Writes one at a time or in batches."""
    if batch == 1:
        write_singly(ports, count)
    else:
        write_batches(ports, count, batch)


@jit
def read(ports: Words, count: int, out: Words) -> None:
    """Reads `count` records, all there are at each poll; leaves faults and checksum in `out`."""
    control, rows, reader = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS), ports[0, 3]
    sequence = released(control, reader)
    last = sequence + count
    faults, check = 0, 0
    while sequence < last:
        upto = min(poll(control, reader), last)
        if upto == sequence:
            pause()
            continue
        for place in range(sequence + 1, upto + 1):
            faults |= _faults(rows, place, place)
            check = check * _CHECK_FACTOR + rows[place & (len(rows) - 1), ROW_WORDS - 1]
        sequence = upto
        release(control, reader, sequence)
    out[FAULTS], out[CHECK] = faults, check


@jit
def forward(ports: Words, count: int) -> int:
    """Moves `count` records from ring 0 to ring 1, as a step of a pipeline does."""
    source, rows, reader = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS), ports[0, 3]
    out_control, out = port_control(ports, 1), port_rows(ports, 1, ROW_WORDS)
    sequence = released(source, reader)
    last = sequence + count
    faults = 0
    granted = cursor = out_control[CURSOR]
    while sequence < last:
        upto = min(poll(source, reader), last)
        if upto == sequence:
            pause()
            continue
        for place in range(sequence + 1, upto + 1):
            faults |= _faults(rows, place, place)
            while cursor >= granted:
                granted = grant(out_control, GRANT_MAX)
                if granted < 0:
                    pause()
            cursor += 1
            _fill(out, cursor, place)
            publish(out_control, cursor)
        sequence = upto
        release(source, reader, sequence)
    return int(faults != 0)


@jit
def watch(ports: Words, count: int, out: Words) -> int:
    """Observes until record `count - 1` has passed; answers how many records were taken whole.

    `out` is (n, ROW_WORDS). A record that is not whole makes the answer negative.
    """
    control, rows, reader = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS), ports[0, 3]
    taken, faults = 0, 0
    while released(control, reader) < count - 1:
        found = observe(control, rows, reader, out)
        if found == 0:
            pause()
        for index in range(found):
            for word in range(ROW_WORDS):
                faults |= out[index, word] ^ (out[index, 0] + word)
        taken += found
    return -1 if faults else taken


@jit
def ping(ports: Words, count: int, out: Words) -> int:
    """Sends on ring 0 and waits for the answer on ring 1, `count` times; ns of each into `out`."""
    there, rows = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS)
    back, answers, reader = port_control(ports, 1), port_rows(ports, 1, ROW_WORDS), ports[1, 3]
    seen = released(back, reader)
    granted = cursor = there[CURSOR]
    faults = 0
    before_ns = now_ns()
    for index in range(count):
        while cursor >= granted:
            granted = grant(there, GRANT_MAX)
            if granted < 0:
                pause()
        cursor += 1
        _fill(rows, cursor, cursor)
        publish(there, cursor)
        upto = poll(back, reader)
        while upto == seen:
            pause()
            upto = poll(back, reader)
        seen = upto
        faults |= _faults(answers, seen, cursor)
        release(back, reader, seen)
        after_ns = now_ns()
        out[index] = after_ns - before_ns
        before_ns = after_ns
    return int(faults != 0)


@jit
def pong(ports: Words, count: int) -> int:
    """Answers each record of ring 0 with the same on ring 1, `count` times."""
    there, rows, reader = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS), ports[0, 3]
    back, answers = port_control(ports, 1), port_rows(ports, 1, ROW_WORDS)
    seen = released(there, reader)
    granted = cursor = back[CURSOR]
    faults = 0
    for _ in range(count):
        upto = poll(there, reader)
        while upto == seen:
            pause()
            upto = poll(there, reader)
        seen = upto
        faults |= _faults(rows, seen, seen)
        while cursor >= granted:
            granted = grant(back, GRANT_MAX)
            if granted < 0:
                pause()
        cursor += 1
        _fill(answers, cursor, seen)
        publish(back, cursor)
        release(there, reader, seen)
    return int(faults != 0)


@jit
def write_paced(ports: Words, count: int, gap_ps: int) -> None:
    """Publishes `count` records, each `gap_ps` picoseconds after the one before was due."""
    control, rows = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS)
    start_ns = now_ns()
    sent, clock_ns = 0, start_ns
    granted = cursor = control[CURSOR]
    while sent < count:
        due_ns = start_ns + sent * gap_ps // 1_000
        if due_ns > clock_ns:
            clock_ns = now_ns()
            continue
        while cursor >= granted:
            granted = grant(control, GRANT_MAX)
            if granted < 0:
                pause()
        cursor += 1
        _fill(rows, cursor, cursor)
        rows[cursor & (len(rows) - 1), _DUE] = due_ns
        publish(control, cursor)
        sent += 1


@jit
def read_paced(ports: Words, count: int, out: Words) -> None:
    """Reads `count` records; of each that is sampled, ns from when it was due to now."""
    control, rows, reader = port_control(ports, 0), port_rows(ports, 0, ROW_WORDS), ports[0, 3]
    sequence = released(control, reader)
    last = sequence + count
    sampled = 0
    while sequence < last:
        upto = min(poll(control, reader), last)
        if upto == sequence:
            pause()
            continue
        for place in range(sequence + 1, upto + 1):
            if place & SAMPLE_MASK == 0 and sampled < len(out):
                out[sampled] = now_ns() - rows[place & (len(rows) - 1), _DUE]
                sampled += 1
        sequence = upto
        release(control, reader, sequence)


@jit
def clock_cost_ps(calls: int) -> int:
    """Answers picoseconds that one reading of the clock costs in compiled code."""
    start_ns = now_ns()
    for _ in range(calls - 1):
        now_ns()
    return (now_ns() - start_ns) * 1_000 // calls


def warm() -> None:
    """Compiles everything before it is forked."""
    control, rows = np.zeros(CONTROL_WORDS, np.int64), np.zeros((2, ROW_WORDS), np.int64)
    ports = np.zeros((2, PORT_WORDS), np.int64)
    ports[:] = (control.ctypes.data, rows.ctypes.data, 2, 0)
    for batch in (1, 2):
        write(ports, 0, batch)
    out = np.zeros(1, np.int64)
    read(ports, 0, np.zeros(2, np.int64))
    forward(ports, 0)
    watch(ports, 0, rows)
    ping(ports, 0, out)
    pong(ports, 0)
    write_paced(ports, 0, 1)
    read_paced(ports, 0, out)
    clock_cost_ps(1)
