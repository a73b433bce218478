"""engine room: what a step of a decision worker is, how its outputs are written, how it commits.

A decision worker is a pure function, the *kernel*, folded over steps. A step is one input, the
sequences taken from it and the clock shown to the kernel; it is written to `steps.AGENT` before
anything of it is processed. Kernel, steps and inputs therefore give every output again, byte for
byte, except `publish_ns`, which is stamped when a row is published and is no part of a decision.

A kernel is made with `shm.jit.handler`: five int64 arrays in, int64 out, called by address:

    rows         (16 n,) the n input records in place; empty for CONTROL, REFERENCE and TIMER
    step         (16 + m,) the STEP record; behind it, for REFERENCE, the reference words
    state        all that the kernel remembers; zero at the very beginning
    parameters   what configuration says; the same for a whole run, never in a commit
    outputs      where to write, see below; only `next_row` and `finish_row` touch it

Outputs are two rings: DECISIONS (intents of signal, orders of risk) and NOTES (signals, denials).

    word 8 o      rows address     word 8 o + 3   published when this process took over
    word 8 o + 1  capacity         word 8 o + 4   claimed: highest sequence that may be written
    word 8 o + 2  next sequence    word 8 o + 5   records that differ from the published ones
    word 16       digest of every record written so far
    word 32 ..    a row for records that were published by an earlier life of the process
    word 64 ..    free for the kernel

Commit segment: two slots, written in turn. A slot is worth reading when its version is not zero
and its checksum is right; the higher version counts.

    word 0        version    0 while the slot is being written, stored last with release
    word 1        checksum   over progress and state
    word 2 ..     progress, PROGRESS_WORDS
    then          state
"""

from __future__ import annotations

from enum import IntEnum

from engine.records import PUBLISH_NS, ROW_BYTES, ROW_WORDS, SEQUENCE
from shm.jit import jit, load_acquire, store_release, words_at
from shm.segment import Words


class Input(IntEnum):
    """What a step takes in. Values are stable: they are in journals. market.K is K."""

    MARKET = 0  # .. MARKET + 7
    REPORTS = 8
    DENIALS = 9  # the ring `risk`
    INTENTS = 10
    ORDERS = 11  # taken by execution
    CONTROL = 16  # no records: `first` is the level in force, see engine/control.py; QUIET above
    REFERENCE = 17  # no records: `first` is the version of instruments | that of limits << 32
    TIMER = 18  # no records: only the clock


RINGS_MAX = 16  # inputs below this number are rings
QUIET = 3  # level of a draining engine for a worker that must fall silent
DECISIONS, NOTES = 0, 1
OUTPUT_WORDS = 8
OUTPUT_ROWS, OUTPUT_CAPACITY, OUTPUT_NEXT, OUTPUT_PUBLISHED, OUTPUT_CLAIMED, OUTPUT_DIVERGED = (
    range(6)
)
DIGEST, SCRATCH_ROW, SCRATCH, OUTPUTS_WORDS = 16, 32, 64, 512
STEP_DIGEST = 10  # word `state_hash` of a STEP: the digest before the step

# Progress: what a commit holds beside the state.
PROGRESS_WORDS = 40
PROGRESS_STEP, PROGRESS_CLOCK_NS, PROGRESS_LEVEL, PROGRESS_REFERENCE, PROGRESS_TIMER_NS = range(5)
PROGRESS_DIGEST, PROGRESS_NEXT = 5, 6  # NEXT: one word an output
PROGRESS_TAKEN = 16  # next sequence of each input ring, RINGS_MAX words

SLOT_HEADER = 2
_MULTIPLIER = 0x9E3779B97F4A7C15 - (1 << 64)  # odd; 2**64 over the golden ratio (Knuth, 6.4)


@jit
def mix(digest: int, word: int) -> int:
    """Answers a digest that also covers `word`."""
    mixed = (digest ^ word) * _MULTIPLIER
    return mixed ^ (mixed >> 29)


@jit
def clear(words: Words, count: int) -> None:
    """Zeroes the first `count` words; measured: a loop is cheaper than a slice assignment."""
    for word in range(count):
        words[word] = 0


@jit
def copy(words: Words, source: Words, count: int) -> None:
    """Copies the first `count` words of `source`; a loop, see `clear`."""
    for word in range(count):
        words[word] = source[word]


@jit
def next_row(outputs: Words, output: int) -> Words:
    """Answers the row of the next record of an output, zero but for its sequence.

    Lifetime: until `finish_row`. A record that an earlier life of this process has published goes
    into the scratch row instead of the ring.
    """
    base = OUTPUT_WORDS * output
    sequence = outputs[base + OUTPUT_NEXT]
    if sequence <= outputs[base + OUTPUT_PUBLISHED]:
        row = outputs[SCRATCH_ROW : SCRATCH_ROW + ROW_WORDS]
    else:
        slot = sequence & (outputs[base + OUTPUT_CAPACITY] - 1)
        row = words_at(outputs[base + OUTPUT_ROWS] + ROW_BYTES * slot, ROW_WORDS)
    clear(row, ROW_WORDS)
    row[SEQUENCE] = sequence
    return row


@jit
def finish_row(outputs: Words, output: int, row: Words) -> int:
    """Counts the row that `next_row` gave; answers its sequence."""
    base = OUTPUT_WORDS * output
    sequence = outputs[base + OUTPUT_NEXT]
    digest = outputs[DIGEST]
    for word in range(ROW_WORDS):
        if word != PUBLISH_NS:
            digest = mix(digest, row[word])
    outputs[DIGEST] = digest
    if sequence <= outputs[base + OUTPUT_PUBLISHED]:
        _compare(outputs, base, row)
    outputs[base + OUTPUT_NEXT] = sequence + 1
    return sequence  # type: ignore[no-any-return]


@jit
def _compare(outputs: Words, base: int, row: Words) -> None:
    """Counts a difference between a record made again and the published one, if still there."""
    sequence = row[SEQUENCE]
    capacity = outputs[base + OUTPUT_CAPACITY]
    if sequence <= outputs[base + OUTPUT_CLAIMED] - capacity:
        return
    slot = sequence & (capacity - 1)
    published = words_at(outputs[base + OUTPUT_ROWS] + ROW_BYTES * slot, ROW_WORDS)
    for word in range(ROW_WORDS):
        if word != PUBLISH_NS and row[word] != published[word]:
            outputs[base + OUTPUT_DIVERGED] += 1
            return


@jit
def checksum(words: Words, seed: int) -> int:
    """Answers a 64-bit checksum; four lanes, so that the multiplier is never waited for."""
    a, b, c, d = seed, seed + 1, seed + 2, seed + 3
    whole = len(words) & ~3
    for index in range(0, whole, 4):
        a = (a ^ words[index]) * _MULTIPLIER
        b = (b ^ words[index + 1]) * _MULTIPLIER
        c = (c ^ words[index + 2]) * _MULTIPLIER
        d = (d ^ words[index + 3]) * _MULTIPLIER
    for index in range(whole, len(words)):
        a = (a ^ words[index]) * _MULTIPLIER
    return mix(mix(mix(mix(0, a), b), c), d)


def slot_words(state_words: int) -> int:
    """Answers the size of a commit slot in words, a multiple of two pairs of cache lines."""
    return -(-(SLOT_HEADER + PROGRESS_WORDS + state_words) // 32) * 32


@jit
def write_commit(slots: Words, progress: Words, state: Words) -> int:
    """Commits into the older slot; answers the version. Called by: the one decision worker."""
    size = len(slots) // 2
    version = max(slots[0], slots[size]) + 1
    slot = slots[size * (version & 1) : size * (version & 1) + size]
    # A reader after a kill sees zero or a whole slot: zero comes before the first word of the new
    # content, the version after the last. The kernel keeps a dead process's stores in order.
    store_release(slot, 0, 0)
    split = SLOT_HEADER + PROGRESS_WORDS
    copy(slot[SLOT_HEADER:], progress, PROGRESS_WORDS)
    copy(slot[split:], state, len(state))
    slot[1] = checksum(state, checksum(progress, version))
    # Pairs with read_commit in this file.
    store_release(slot, 0, version)
    return version  # type: ignore[no-any-return]


@jit
def read_commit(slots: Words, progress: Words, state: Words) -> int:
    """Copies the newest whole commit; answers its version, 0 when there is none.

    Called by: the worker that takes over, before its first step.
    """
    size = len(slots) // 2
    split = SLOT_HEADER + PROGRESS_WORDS
    best = 0
    for half in range(2):
        slot = slots[size * half : size * half + size]
        # Pairs with store_release in write_commit.
        version = load_acquire(slot, 0)
        whole = checksum(
            slot[split : split + len(state)], checksum(slot[SLOT_HEADER:split], version)
        )
        if version > best and slot[1] == whole:
            best = version
            progress[:] = slot[SLOT_HEADER:split]
            state[:] = slot[split : split + len(state)]
    return best
