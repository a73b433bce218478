"""shm room: the ring, one writer and many readers of fixed-size records in shared memory.

A record's place is its sequence modulo the capacity; sequences count from 0 and never wrap. The
writer claims, writes rows, publishes; a reader polls, reads rows in place, releases. Word 0 of
every record is its own sequence. A *gating* reader is never passed by the writer; an *observing*
reader may be lapped and finds out by `is_intact` after it has copied a record (shm/observer.py).

Body of the segment, in words of 8 bytes; every group begins on its own pair of cache lines so that
no two processes write to neighbouring lines (the prefetcher of x86-64 fetches lines in pairs):

    word          field             writer
    0             cursor            producer: highest published sequence, -1 at first
    16            claimed           producer: highest sequence it may be writing now
    17            gating_cached     producer: slowest gating sequence when it last looked
    18            full_count        producer: claims refused because the ring was full
    19            dropped_count     producer: records given up by a ring that drops
    32            capacity          creator, once
    33            row_words         creator, once
    34            parkable           creator, once: 1 when a reader may sleep on the cursor
    48 + 16 r     released          consumer r: its gating sequence, -1 at first
    49 + 16 r     parked            consumer r: 1 while it sleeps
    50 + 16 r     cursor_cached     consumer r
    51 + 16 r     overrun_count     consumer r: records lost by being lapped
    52 + 16 r     kind              creator, once: 0 unused, 1 gating, 2 observing
    512 ...       rows              producer: capacity rows of row_words words

Single-writer, cached-index design after LMAX Disruptor (SingleProducerSequencer) and, for the
lapped reader, the sequence lock; the memory order is explained in `shm/jit.py`.
"""

from __future__ import annotations

import os

from shm import segment as segments
from shm.jit import (
    bytes_at,
    fence_acquire,
    fence_release,
    fence_sequential,
    inlined,
    jit,
    load_acquire,
    rows_at,
    store_release,
    syscall,
    words_at,
)
from shm.segment import Bytes, Segment, Words

CURSOR = 0
CLAIMED, GATING_CACHED, FULL_COUNT, DROPPED_COUNT = 16, 17, 18, 19
CAPACITY, ROW_WORDS, PARKABLE = 32, 33, 34
READER_BASE, READER_WORDS, READERS_MAX = 48, 16, 16
RELEASED, PARKED, CURSOR_CACHED, OVERRUN_COUNT, KIND = range(5)
UNUSED, GATING, OBSERVING = range(3)
CONTROL_WORDS = 512
INSUFFICIENT_CAPACITY = -1
CAPACITY_MIN, LINE_BYTES = 2, 64
PORT_WORDS = 4  # of Handle.port
GRANT_MAX = 64  # sequences to ask for ahead: enough to hide the cost, a small part of a ring
FUTEX_CALL = 98 if os.uname().machine == "aarch64" else 202
FUTEX_WAKE = 1
_WAKE_ALL = 1 << 30


@jit
def slowest_gating(control: Words) -> int:
    """Answers the lowest released sequence of all gating readers, the cursor when there is none."""
    slowest = control[CURSOR]
    for reader in range(READERS_MAX):
        base = READER_BASE + READER_WORDS * reader
        if control[base + KIND] == GATING:
            # Pairs with release in this file: the reader's loads of a row come before our stores
            # into it one lap later.
            slowest = min(slowest, load_acquire(control, base + RELEASED))
    return int(slowest)


@jit
def claim(control: Words, count: int) -> int:
    """Answers the first of `count` sequences that may now be written, or INSUFFICIENT_CAPACITY.

    Called by: the producer only. Claiming again without publishing answers the same sequences.
    """
    first = control[CURSOR] + 1
    wrap_point = first + count - 1 - control[CAPACITY]
    if wrap_point > control[GATING_CACHED]:
        control[GATING_CACHED] = slowest_gating(control)
        if wrap_point > control[GATING_CACHED]:
            control[FULL_COUNT] += 1
            return INSUFFICIENT_CAPACITY
    # Never lower: rows of a larger claim before, also of a writer that died, may be half written.
    control[CLAIMED] = max(control[CLAIMED], first + count - 1)
    # Pairs with fence_acquire in is_intact: a reader that has seen any of our coming stores also
    # sees that they were claimed.
    fence_release()
    return int(first)


@jit
def grant(control: Words, count_max: int) -> int:
    """Answers the last of up to `count_max` sequences that may now be written, or -1 for none.

    Called by: the producer only, when it has used up what it was granted before.
    """
    first = control[CURSOR] + 1
    if first + count_max - 1 > control[GATING_CACHED] + control[CAPACITY]:
        control[GATING_CACHED] = slowest_gating(control)
    last = min(first + count_max - 1, control[GATING_CACHED] + control[CAPACITY])
    if last < first:
        control[FULL_COUNT] += 1
        return INSUFFICIENT_CAPACITY
    control[CLAIMED] = max(control[CLAIMED], last)
    fence_release()  # pairs with fence_acquire in is_intact, as in claim
    return int(last)


@jit
def append_rows(port_at: int, records: Words) -> int:
    """Stamps, copies in and publishes all of `records`, (n, row_words) int64, or none of them.

    Args:
        port_at: address of `Handle.port` words.
        records: their word 0 is not read.

    Returns:
        the last sequence, or INSUFFICIENT_CAPACITY. Called by: the producer only.
    """
    port = words_at(port_at, PORT_WORDS)
    control = words_at(port[0], CONTROL_WORDS)
    count, words = records.shape
    first = claim(control, count)
    if first < 0 or count == 0:
        return INSUFFICIENT_CAPACITY
    rows = rows_at(port[1], port[2], words)
    for index in range(count):
        row = rows[(first + index) & (port[2] - 1)]
        for word in range(words):
            row[word] = records[index, word]
        row[0] = first + index
    publish(control, first + count - 1)
    return int(first + count - 1)


@inlined
def publish(control: Words, sequence: int) -> None:
    """Makes every record up to `sequence` visible. Called by: the producer only."""
    # Pairs with poll in this file: who sees the cursor sees the rows.
    store_release(control, CURSOR, sequence)
    if control[PARKABLE] != 0:
        _wake(control)


@jit
def _wake(control: Words) -> None:
    # Pairs with park_prepare in shm/park.py (store flag, fence, load cursor): of the two, at least
    # one sees the other's store, so no reader sleeps over a record.
    fence_sequential()
    for reader in range(READERS_MAX):
        if control[READER_BASE + READER_WORDS * reader + PARKED] != 0:
            syscall(FUTEX_CALL, control.ctypes.data, FUTEX_WAKE, _WAKE_ALL, 0, 0, 0)
            return


@jit
def poll(control: Words, reader: int) -> int:
    """Answers the highest sequence that `reader` may read, at least its released sequence.

    Called by: the consumer that owns `reader`. Records released+1 .. answer are readable in place
    until they are released (gating) or as long as `is_intact` says so (observing).
    """
    base = READER_BASE + READER_WORDS * reader
    # Pairs with publish in this file.
    cursor = load_acquire(control, CURSOR)
    control[base + CURSOR_CACHED] = cursor
    return cursor


@jit
def released(control: Words, reader: int) -> int:
    """Answers the last sequence that `reader` released, -1 at first. Called by: its owner."""
    return int(control[READER_BASE + READER_WORDS * reader + RELEASED])


@jit
def release(control: Words, reader: int, sequence: int) -> None:
    """Gives every record up to `sequence` back to the producer. Called by: the reader's owner."""
    # Pairs with slowest_gating in this file: our loads of those rows are done.
    store_release(control, READER_BASE + READER_WORDS * reader + RELEASED, sequence)


@jit
def is_intact(control: Words, sequence: int) -> bool:
    """Says whether a copy just taken of record `sequence` is whole, for observing readers."""
    # Pairs with fence_release in claim: loads of the row are done before claimed is read.
    fence_acquire()
    return bool(sequence > control[CLAIMED] - control[CAPACITY])


@jit
def oldest_intact(control: Words) -> int:
    """Answers the lowest sequence that an observing reader can still copy whole."""
    fence_acquire()
    return int(max(0, control[CLAIMED] - control[CAPACITY] + 1))


def layout(row_bytes: int, capacity: int) -> int:
    """Answers the fingerprint of a ring of this shape."""
    return segments.fingerprint("ring", 1, READERS_MAX, CONTROL_WORDS, row_bytes, capacity)


def create(
    name: str,
    generation: int,
    *,
    capacity: int,
    row_bytes: int,
    kinds: tuple[int, ...],
    parkable: bool,
) -> Segment:
    """Makes a ring segment, ready. Called by: the supervisor before start.

    Args:
        name: of the segment.
        generation: the run.
        capacity: records, a power of two.
        row_bytes: size of a record, a multiple of 64.
        kinds: GATING or OBSERVING for each reader, at most READERS_MAX.
        parkable: whether readers may sleep on it; costs each publish a full fence.

    Raises:
        ValueError: when a size is not allowed.
        SegmentError: when the segment cannot be made.
    """
    if capacity < CAPACITY_MIN or capacity & (capacity - 1):
        raise ValueError(
            f"ring capacity must be a power of two: ring={name} capacity_records={capacity}"
        )
    if row_bytes < LINE_BYTES or row_bytes % LINE_BYTES or len(kinds) > READERS_MAX:
        raise ValueError(
            "ring rows must be multiples of 64 bytes and readers few:"
            f" ring={name} row_bytes={row_bytes} readers={len(kinds)} readers_max={READERS_MAX}"
        )
    body = CONTROL_WORDS * 8 + capacity * row_bytes
    segment = segments.create(name, body, layout(row_bytes, capacity), generation)
    control = segment.words(0, CONTROL_WORDS)
    control[CURSOR] = control[CLAIMED] = control[GATING_CACHED] = -1
    control[CAPACITY], control[ROW_WORDS] = capacity, row_bytes // 8
    control[PARKABLE] = int(parkable)
    for reader, kind in enumerate(kinds):
        base = READER_BASE + READER_WORDS * reader
        control[base + RELEASED] = control[base + CURSOR_CACHED] = -1
        control[base + KIND] = kind
    segment.set_ready()
    return segment


def attach(name: str, *, capacity: int, row_bytes: int) -> Segment:
    """Maps a ring segment of this shape; raises SegmentError when it is not one."""
    return segments.attach(name, layout(row_bytes, capacity))


@jit
def port_control(ports: Words, index: int) -> Words:
    """Views the control words of the ring at ports[index]; `ports` is (n, 4) of `port()` rows."""
    return words_at(ports[index, 0], CONTROL_WORDS)


@jit
def port_rows(ports: Words, index: int, row_words: int) -> Words:
    """Views the rows of the ring at ports[index], (capacity, row_words)."""
    return rows_at(ports[index, 1], ports[index, 2], row_words)


@jit
def port_bytes(ports: Words, index: int, row_bytes: int) -> Bytes:
    """Views the rows of the ring at ports[index] as bytes, (capacity * row_bytes,) uint8."""
    return bytes_at(ports[index, 1], ports[index, 2] * row_bytes)
