"""workers room: how one message lies in a log ring, and the one compiled function that writes it.

A log ring has rows of 512 bytes, one writer (its worker) and one gating reader (the collector):

    word 0       sequence       of this row in its ring
    word 1       epoch_ns       CLOCK_REALTIME when it was logged
    word 2       monotonic_ns   CLOCK_MONOTONIC when it was logged; the collector merges by it
    word 3       tag            level | form << 16 | payload bytes << 32, each 16 bits
    word 4       pid            of the writer
    word 5 ..63  payload        472 bytes: msgpack (event, fields), or code, a, b, c

Everything the writer needs lies in one array, the *port*, because a call into compiled code costs
by the argument:

    word 0       address of the ring's control words
    word 1       address of the ring's rows
    word 2       capacity, records
    word 3       address of the level word (written by the supervisor, `workers/loglevels.py`)
    word 4       pid
    word 8       tag            of the message to write
    word 9       epoch_ns       of the message to write; 0: the writer takes the clocks
    word 10      monotonic_ns   of the message to write
    word 11..69  payload        of the message to write

A full ring never makes anyone wait: the message is dropped and counted in the ring's control words.
Messages below warning may fill only 7/8 of it, so that a flood of them leaves room for warnings.
"""

from __future__ import annotations

import os
from typing import Final

import numpy as np

from engine.eventcodes import INFO, LEVEL_SHIFT, WARNING
from shm.jit import epoch_ns, jit, load_acquire, now_ns, rows_at, words_at
from shm.ring import (
    CAPACITY,
    CONTROL_WORDS,
    CURSOR,
    DROPPED_COUNT,
    GATING_CACHED,
    Producer,
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
MESSAGE_TAG, MESSAGE_EPOCH_NS, MESSAGE_MONOTONIC_NS, MESSAGE_PAYLOAD = range(8, 12)
PORT_WORDS: Final = MESSAGE_PAYLOAD + ROW_WORDS - PAYLOAD
RESERVED_PART: Final = 8  # one part in eight of a ring is for warnings and worse
_CODE_TAG: Final = FORM_CODE << 16 | 32 << 32


def port_of(producer: Producer, level: Words) -> Words:
    """Answers the port of a log ring, (PORT_WORDS,) int64.

    Args:
        producer: of a ring of ROW_BYTES rows; owned by this process.
        level: (1,) int64, the lowest level that is written; shared with who sets it.

    Lifetime: as long as both mappings; the caller keeps them.
    """
    assert producer.row_words == ROW_WORDS, "a log ring has rows of 512 bytes"
    port = np.zeros(PORT_WORDS, np.int64)
    port[:5] = (
        producer.control.ctypes.data,
        producer.rows.ctypes.data,
        producer.capacity,
        level.ctypes.data,
        os.getpid(),
    )
    return port


@jit
def _has_room(control: Words, capacity: int, level: int) -> bool:
    limit = capacity if level >= WARNING else capacity - capacity // RESERVED_PART
    wrap_point = control[CURSOR] + 1 - limit
    if wrap_point > control[GATING_CACHED]:
        control[GATING_CACHED] = slowest_gating(control)
    return wrap_point <= control[GATING_CACHED]  # type: ignore[no-any-return]


@jit
def write_message(port: Words) -> int:
    """Writes the message that lies in the port; answers its sequence, -1 when it was dropped.

    Called by: the ring's one writer, in the thread that owns it.
    """
    control = words_at(port[PORT_CONTROL], CONTROL_WORDS)
    tag = port[MESSAGE_TAG]
    if not _has_room(control, port[PORT_CAPACITY], tag & 0xFFFF):
        control[DROPPED_COUNT] += 1
        return -1
    sequence = claim(control, 1)
    rows = rows_at(port[PORT_ROWS], port[PORT_CAPACITY], ROW_WORDS)
    row = rows[sequence & (port[PORT_CAPACITY] - 1)]
    row[SEQUENCE] = sequence
    if port[MESSAGE_EPOCH_NS] == 0:
        row[EPOCH_NS] = epoch_ns()
        row[MONOTONIC_NS] = now_ns()
    else:
        row[EPOCH_NS] = port[MESSAGE_EPOCH_NS]
        row[MONOTONIC_NS] = port[MESSAGE_MONOTONIC_NS]
    row[TAG] = tag
    row[PID] = port[PORT_PID]
    for word in range(((tag >> 32) + 7) // 8):
        row[PAYLOAD + word] = port[MESSAGE_PAYLOAD + word]
    publish(control, sequence)
    return sequence


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
        return -1
    port[MESSAGE_TAG] = _CODE_TAG | code >> LEVEL_SHIFT
    port[MESSAGE_PAYLOAD] = code
    port[MESSAGE_PAYLOAD + 1] = a
    port[MESSAGE_PAYLOAD + 2] = b
    port[MESSAGE_PAYLOAD + 3] = c
    return write_message(port)


def warm() -> None:
    """Compiles what this file compiles, on scratch memory."""
    control = np.zeros(CONTROL_WORDS, np.int64)
    rows, level = np.zeros((2, ROW_WORDS), np.int64), np.zeros(1, np.int64)
    control[CAPACITY] = len(rows)
    port = np.zeros(PORT_WORDS, np.int64)
    port[:4] = control.ctypes.data, rows.ctypes.data, len(rows), level.ctypes.data
    write_message(port)
    log_event(port, INFO << LEVEL_SHIFT, 0, 0, 0)
    is_logged(port, 0)
