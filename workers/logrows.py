"""workers room: how one message lies in a log ring, and the compiled functions that write it.

A log ring has rows of 512 bytes, one writer (its worker) and one gating reader (the collector):

    word 0       sequence       of this row in its ring
    word 1       epoch_ns       CLOCK_REALTIME when it was logged
    word 2       monotonic_ns   CLOCK_MONOTONIC when it was logged; the collector merges by it
    word 3       tag            level | form << 16 | payload bytes << 32, each 16 bits
    word 4       pid            of the writer
    word 5 ..63  payload        472 bytes: msgpack (event, fields), or code, a, b, c

A call into compiled code costs by the argument, so everything a writer needs lies in one array, the
*port*. It begins at a multiple of 64 bytes, so the level of a message rides in the low bits of its
address: address | level is the *place* that a message is written to.

    word 0       address of the ring's control words
    word 1       address of the ring's rows
    word 2       capacity, records
    word 3       address of the level word (written by the supervisor, `workers/loglevels.py`)
    word 4       pid
    word 5       epoch_offset_ns   writer: CLOCK_REALTIME - CLOCK_MONOTONIC when last read
    word 6       offset_until_ns   writer: monotonic time from which it must be read again

The two clocks run at one rate, so one reading of one of them stamps both times of a row (a reading
is half of what an event of compiled code costs); a clock that was set is seen a millisecond later.

A full ring never makes anyone wait: the message is dropped and counted in the ring's control words.
Messages below warning may fill only 7/8 of it, so that a flood of them leaves room for warnings.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np

from engine.eventcodes import INFO, LEVEL_SHIFT, WARNING
from shm.handles import Producer
from shm.jit import epoch_ns, held, jit, load_acquire, now_ns, rows_at, words_at
from shm.ring import (
    CAPACITY,
    CONTROL_WORDS,
    CURSOR,
    DROPPED_COUNT,
    GATING_CACHED,
    claim,
    publish,
    slowest_gating,
)
from shm.segment import Words

ROW_BYTES: Final = 512
ROW_WORDS: Final = ROW_BYTES // 8
SEQUENCE, EPOCH_NS, MONOTONIC_NS, TAG, PID, PAYLOAD = range(6)
PAYLOAD_BYTES: Final = ROW_BYTES - 8 * PAYLOAD
FORM_FIELDS, FORM_CODE, FORM_TRUNCATED = range(3)

PORT_CONTROL, PORT_ROWS, PORT_CAPACITY, PORT_LEVEL, PORT_PID = range(5)
PORT_OFFSET_NS, PORT_OFFSET_UNTIL_NS = 5, 6
PORT_WORDS: Final = 8
PORT_ALIGN: Final = 64  # bytes: one line, and more than any level
LEVEL_MASK: Final = PORT_ALIGN - 1  # of a place
OFFSET_NS: Final = 1_000_000  # how long a difference of the clocks is believed
OFFSET_READ_NS_MAX: Final = 1_000  # a reading that took longer was interrupted: not kept
RESERVED_PART: Final = 8  # one part in eight of a ring is for warnings and worse
DROPPED, TOO_LONG = -1, -2
CODE_BYTES: Final = 32

# A bytes object of CPython: reference count, type, size, hash, then its bytes and a zero.
BYTES_SIZE: Final = 2  # word
BYTES_AT: Final = bytes.__basicsize__ - 1


def port_of(producer: Producer, level: Words) -> Words:
    """Answers the port of a log ring, (PORT_WORDS,) int64 that begin at a multiple of PORT_ALIGN.

    Args:
        producer: of a ring of ROW_BYTES rows; owned by this process.
        level: (1,) int64, the lowest level that is written; shared with who sets it.

    Lifetime: as long as both mappings; the caller keeps them.
    """
    assert producer.row_words == ROW_WORDS, "a log ring has rows of 512 bytes"
    port = _aligned_port()
    port[: PORT_PID + 1] = (
        producer.control.ctypes.data,
        producer.rows.ctypes.data,
        producer.capacity,
        level.ctypes.data,
        os.getpid(),
    )
    return port


def _aligned_port() -> Words:
    room = np.zeros(PORT_WORDS + PORT_ALIGN // 8, np.int64)
    start = -room.ctypes.data % PORT_ALIGN // 8
    return room[start : start + PORT_WORDS]


@jit
def _has_room(control: Words, capacity: int, level: int) -> bool:
    limit = capacity if level >= WARNING else capacity - capacity // RESERVED_PART
    wrap_point = control[CURSOR] + 1 - limit
    if wrap_point > control[GATING_CACHED]:
        control[GATING_CACHED] = slowest_gating(control)
    return wrap_point <= control[GATING_CACHED]  # type: ignore[no-any-return]


@jit
def _claim_row(control: Words, capacity: int, level: int) -> int:
    """Answers the sequence to write, or DROPPED, which it counts."""
    if not _has_room(control, capacity, level):
        control[DROPPED_COUNT] += 1
        return DROPPED
    return claim(control, 1)


@jit
def _stamp(port: Words, row: Words) -> None:
    now = now_ns()
    row[MONOTONIC_NS] = now
    if now >= port[PORT_OFFSET_UNTIL_NS]:
        port[PORT_OFFSET_NS] = epoch_ns() - now
        took_ns = now_ns() - now
        port[PORT_OFFSET_UNTIL_NS] = now + OFFSET_NS if took_ns < OFFSET_READ_NS_MAX else 0
    row[EPOCH_NS] = now + port[PORT_OFFSET_NS]


@jit
def _copy(row: Words, payload: Words, size: int) -> None:
    whole = size >> 3
    for word in range(whole):
        row[PAYLOAD + word] = payload[word]
    rest = size & 7
    if rest != 0:
        # What lies behind the payload in this process's memory is nobody's business.
        row[PAYLOAD + whole] = payload[whole] & ((1 << (8 * rest)) - 1)


@jit
def _write(place: int, payload: int, form: int, epoch: int, monotonic: int) -> int:
    level = place & LEVEL_MASK
    size = words_at(payload, BYTES_SIZE + 1)[BYTES_SIZE]
    if size > PAYLOAD_BYTES:
        return TOO_LONG
    port = words_at(place - level, PORT_WORDS)
    control = words_at(port[PORT_CONTROL], CONTROL_WORDS)
    capacity = port[PORT_CAPACITY]
    sequence = _claim_row(control, capacity, level)
    if sequence == DROPPED:
        return DROPPED
    row = rows_at(port[PORT_ROWS], capacity, ROW_WORDS)[sequence & (capacity - 1)]
    row[SEQUENCE] = sequence
    if monotonic == 0:
        _stamp(port, row)
    else:
        row[EPOCH_NS], row[MONOTONIC_NS] = epoch, monotonic
    row[TAG] = level | form << 16 | size << 32
    row[PID] = port[PORT_PID]
    _copy(row, words_at(payload + BYTES_AT, ROW_WORDS - PAYLOAD), size)
    publish(control, sequence)
    return sequence


@held
def write_message(place: int, payload: int) -> int:
    """Writes one message, stamped now; answers its sequence, DROPPED or TOO_LONG.

    It writes in one step that no signal handler of Python can see half done.

    Args:
        place: address of the port | level.
        payload: id() of a bytes object that outlives the call: msgpack (event, fields).

    Called by: the ring's one writer, in the thread that owns it.
    """
    return _write(place, payload, FORM_FIELDS, 0, 0)


@held
def write_again(place: int, payload: int, form: int, epoch: int, monotonic: int) -> int:
    """Does what write_message does for one that was shortened or had to wait.

    Args:
        place: address of the port | level.
        payload: id() of a bytes object that outlives the call.
        form: FORM_FIELDS or FORM_TRUNCATED.
        epoch: CLOCK_REALTIME when it was logged, ns.
        monotonic: CLOCK_MONOTONIC when it was logged, ns; 0: now, for both.

    Called by: the ring's one writer, in the thread that owns it.
    """
    return _write(place, payload, form, epoch, monotonic)


@jit
def add_dropped(port: Words, count: int) -> None:
    """Counts messages that were given up before they came to the ring. Called by: its writer."""
    words_at(port[PORT_CONTROL], CONTROL_WORDS)[DROPPED_COUNT] += count


def _entry_of(function: Callable[..., Any]) -> Callable[..., int]:
    """Answers what calls a compiled function past numba's look at its arguments.

    The caller answers for the types: what the function was compiled for, int64 here.
    """
    compiled = list(getattr(function, "overloads", {}).values())
    assert len(compiled) == 1, "the function was compiled for one kind of arguments"
    return compiled[0].entry_point  # type: ignore[no-any-return]


@cache
def entries() -> tuple[Callable[[int, int], int], Callable[[int, int, int, int, int], int]]:
    """Answers write_message and write_again as Python calls them at least cost.

    numba's look at the arguments would add an eighth to what a message costs its caller (measured
    with timeit: a function of two integers 190 ns, its entry 90 ns).
    """
    warm()
    return _entry_of(write_message), _entry_of(write_again)


@jit
def is_logged(port: Words, code: int) -> bool:
    """Says whether a code's level is written at present: one load, for loops that log much."""
    # Pairs with set_level in workers/loglevels.py; a new level may be seen one message late.
    return code >> LEVEL_SHIFT >= load_acquire(words_at(port[PORT_LEVEL], 1), 0)


@jit
def log_event(port: Words, code: int, a: int, b: int, c: int) -> int:
    """Logs an event of engine/eventcodes.py from compiled code.

    Answers the row's sequence; -1 when the level is off or the ring is full (which is counted).

    Args:
        port: `Logger.port` of this process.
        code: EVENT_* of engine/eventcodes.py.
        a: first number of its text.
        b: second number of its text.
        c: third number of its text.

    Called by: the ring's one writer, in the thread that owns it.
    """
    if not is_logged(port, code):
        return DROPPED
    control = words_at(port[PORT_CONTROL], CONTROL_WORDS)
    capacity, level = port[PORT_CAPACITY], code >> LEVEL_SHIFT
    sequence = _claim_row(control, capacity, level)
    if sequence == DROPPED:
        return DROPPED
    row = rows_at(port[PORT_ROWS], capacity, ROW_WORDS)[sequence & (capacity - 1)]
    row[SEQUENCE] = sequence
    _stamp(port, row)
    row[TAG] = level | FORM_CODE << 16 | CODE_BYTES << 32
    row[PID] = port[PORT_PID]
    row[PAYLOAD], row[PAYLOAD + 1] = code, a
    row[PAYLOAD + 2], row[PAYLOAD + 3] = b, c
    publish(control, sequence)
    return sequence


def warm() -> None:
    """Compiles what this file compiles, on scratch memory."""
    control = np.zeros(CONTROL_WORDS, np.int64)
    rows, level = np.zeros((2, ROW_WORDS), np.int64), np.zeros(1, np.int64)
    control[CAPACITY] = len(rows)
    port = _aligned_port()
    port[:4] = control.ctypes.data, rows.ctypes.data, len(rows), level.ctypes.data
    payload = b"\x92\xa4warm\x80"
    write_message(port.ctypes.data, id(payload))
    write_again(port.ctypes.data, id(payload), FORM_FIELDS, 0, 0)
    log_event(port, INFO << LEVEL_SHIFT, 0, 0, 0)
    add_dropped(port, 0)
    is_logged(port, 0)
