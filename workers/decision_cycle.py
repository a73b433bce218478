"""workers room: the duty cycle of a decision worker, compiled: which step to take next.

Inputs are polled in the order in which they are bound, at most BATCH_MAX records of each a round.
What is no ring comes first: the kill switch, then instruments and limits; the timer comes last.
"""

from __future__ import annotations

from engine.control import CONTROL_WORDS, PHASE, PHASE_QUIET, halt_level
from engine.decision import (
    DECISIONS,
    DIGEST,
    NOTES,
    OUTPUT_PUBLISHED,
    OUTPUT_WORDS,
    PROGRESS_LEVEL,
    PROGRESS_REFERENCE,
    PROGRESS_STEP,
    PROGRESS_TAKEN,
    PROGRESS_TIMER_NS,
    QUIET,
    STEP_DIGEST,
    Input,
    copy,
)
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX
from engine.records import ROW_BYTES, ROW_WORDS, STEP_COUNT, STEP_INPUT
from engine.risk import LIMITS_WORDS
from shm.jit import jit, load_acquire, now_ns, rows_at, stage, words_at
from shm.latest import read_latest
from shm.ring import CURSOR, PORT_WORDS, poll, port_control
from shm.segment import Words
from workers.decision_step import (
    BATCH_MAX,
    BLOCK_WORDS,
    COMMIT_NS_MAX,
    COMMIT_STEPS_MAX,
    CONTROL_AT,
    DIVERGED,
    GOES_QUIET,
    INPUT_AT,
    INPUTS,
    INSTRUMENTS_AT,
    IS_CLOSED,
    IS_COMMIT_DUE,
    LIMITS_AT,
    OUTPUT_PORTS,
    PORTS_AT,
    ROUNDS_MAX,
    UNCOMMITTED,
    UNCOMMITTED_NS,
    claim_outputs,
    close_step,
    commit,
    decide,
    open_step,
    outputs_of,
    progress_of,
    release_inputs,
    step_of,
)

_LIMITS_IN_STEP = ROW_WORDS + INSTRUMENTS_MAX * INSTRUMENT_WORDS
_CONTROL, _REFERENCE, _TIMER = int(Input.CONTROL), int(Input.REFERENCE), int(Input.TIMER)
_UNHEARD = -1


@jit
def _take_event(ports: Words, block: Words, what: int, first: int) -> int:
    if not open_step(ports, block, what, first, 0):
        return 0
    decide(ports, block, -1)
    close_step(ports, block, -1)
    return 1


@jit
def read_reference(block: Words) -> int:
    """Copies instruments and limits behind the step; answers their versions in one word."""
    step = step_of(block)
    values = INSTRUMENTS_MAX * INSTRUMENT_WORDS
    versions = read_latest(
        words_at(block[INSTRUMENTS_AT], 1 + values), step[ROW_WORDS : ROW_WORDS + values]
    )
    if block[LIMITS_AT] != 0:
        cell = words_at(block[LIMITS_AT], LIMITS_WORDS)
        versions |= read_latest(cell, step[_LIMITS_IN_STEP:]) << 32
    return versions


@jit
def _has_news(block: Words, known: int) -> bool:
    """Says whether reference data changed; not while a writer is inside, who may die there."""
    instruments = load_acquire(words_at(block[INSTRUMENTS_AT], 1), 0)
    limits = 0
    if block[LIMITS_AT] != 0:
        limits = load_acquire(words_at(block[LIMITS_AT], 1), 0)
    return (instruments | limits) & 1 == 0 and (instruments | (limits << 32)) != known


@jit
def _level(block: Words) -> int:
    """Answers the level to show to the kernel."""
    control = words_at(block[CONTROL_AT], CONTROL_WORDS)
    # Pairs with set_word in engine/control.py.
    if block[GOES_QUIET] != 0 and load_acquire(control, PHASE) >= PHASE_QUIET:
        return QUIET
    return halt_level(control)


@jit
def _take_events(ports: Words, block: Words) -> int:
    """Takes what is no ring: kill switch, instruments and limits."""
    progress = progress_of(block)
    work = 0
    level = _level(block)
    if level != progress[PROGRESS_LEVEL]:
        work += _take_event(ports, block, _CONTROL, level)
    if _has_news(block, progress[PROGRESS_REFERENCE]):
        work += _take_event(ports, block, _REFERENCE, read_reference(block))
    return work


@jit
def next_batch(ports: Words, block: Words, index: int) -> int:
    """Answers how many records of an input can be taken now, up to the end of the ring."""
    control = port_control(ports, index)
    first = progress_of(block)[PROGRESS_TAKEN + block[INPUT_AT + index]]
    capacity = ports[index, 2]
    count = min(poll(control, ports[index, 3]) - first + 1, block[BATCH_MAX])
    return min(count, capacity - (first & (capacity - 1)))  # type: ignore[no-any-return]


@jit
def take_input(ports: Words, block: Words, index: int) -> int:
    """Takes one step from an input if it has records and the outputs have room for one of them."""
    count = next_batch(ports, block, index)
    if count <= 0:
        return 0
    what = block[INPUT_AT + index]
    first = progress_of(block)[PROGRESS_TAKEN + what]
    if not open_step(ports, block, what, first, count):
        count = 1
        if not open_step(ports, block, what, first, count):
            return 0
    decide(ports, block, index)
    close_step(ports, block, index)
    return count


@jit
def _commit_when_due(ports: Words, block: Words, clock_ns: int) -> None:
    waiting = block[UNCOMMITTED]
    if waiting > 0 and (
        block[IS_COMMIT_DUE] != 0
        or waiting >= block[COMMIT_STEPS_MAX]
        or clock_ns - block[UNCOMMITTED_NS] >= block[COMMIT_NS_MAX]
    ):
        commit(ports, block)


@jit
def _round(ports: Words, block: Words) -> int:
    work = _take_events(ports, block)
    for index in range(block[INPUTS]):
        work += take_input(ports, block, index)
    clock = now_ns()
    if clock >= progress_of(block)[PROGRESS_TIMER_NS]:
        work += _take_event(ports, block, _TIMER, 0)
    _commit_when_due(ports, block, clock)
    return work


@jit
def cycle(ports: Words, block: Words) -> int:
    """Runs a duty cycle of ROUNDS_MAX rounds; answers the records and events taken."""
    work = 0
    for _ in range(block[ROUNDS_MAX]):
        work += _round(ports, block)
    return work


@stage
def cycle_at(address: int) -> int:
    """Runs a duty cycle of the block at `address`, unless it is closed; for workers/chain.py."""
    block = words_at(address, BLOCK_WORDS)
    if block[IS_CLOSED] != 0:
        return 0
    ports = rows_at(block[PORTS_AT], block[INPUTS] + OUTPUT_PORTS, PORT_WORDS)
    return cycle(ports, block)


@jit
def _index_of(block: Words, what: int) -> int:
    for index in range(block[INPUTS]):
        if block[INPUT_AT + index] == what:
            return index
    return -1


@jit
def recover(ports: Words, block: Words) -> int:
    """Does the steps behind the commit again; answers how many.

    Called by: the worker that takes over, after it has read the commit and before any cycle.
    """
    steps_index = block[INPUTS] + 2
    progress, outputs, step = progress_of(block), outputs_of(block), step_of(block)
    last = port_control(ports, steps_index)[CURSOR]
    first = progress[PROGRESS_STEP] + 1
    release_inputs(ports, block)  # the kill may have come between commit and release
    for sequence in range(first, last + 1):
        slot = sequence & (ports[steps_index, 2] - 1)
        row = words_at(ports[steps_index, 1] + ROW_BYTES * slot, ROW_WORDS)
        if row[STEP_DIGEST] != outputs[DIGEST]:
            block[DIVERGED] += 1
        if row[STEP_INPUT] == _REFERENCE:
            read_reference(block)
        copy(step, row, ROW_WORDS)
        # Room was there when the step was taken, and readers only ever move on.
        claim_outputs(ports, block, row[STEP_INPUT], row[STEP_COUNT])
        index = _index_of(block, row[STEP_INPUT])
        decide(ports, block, index)
        close_step(ports, block, index)
    outputs[OUTPUT_WORDS * DECISIONS + OUTPUT_PUBLISHED] = _UNHEARD
    outputs[OUTPUT_WORDS * NOTES + OUTPUT_PUBLISHED] = _UNHEARD
    return last - first + 1  # type: ignore[no-any-return]
