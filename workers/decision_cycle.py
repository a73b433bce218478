"""workers room: the duty cycle of a decision worker, compiled: take a step, record it, decide, commit.

One step, in this order; a process may be killed between any two of them:

    1  open_step    claim room for the most the step can write, or leave the input alone (counted);
                    write the STEP record (input, first sequence, count, clock) and publish it
    2  decide       the kernel reads the records in place and writes outputs behind the cursors
    3  close_step   stamp publish_ns, publish decisions, then notes
    4  commit       now and then: state, sequences and cursors into the commit segment, then the
                    inputs are released

Whoever takes over reads the newest commit and does the steps behind it again, with the clocks and
inputs their STEP records name; these inputs are still in their rings, because nothing is released
before a commit. Outputs up to the ring's cursor were published before and are only compared; the
rest is written. So no decision is lost or made twice, wherever the kill came.

Levels of the kill switch, reference data (instruments, limits) and the timer are steps too. The
reference words themselves are in no ring, so a commit follows such a step at once.
"""

from __future__ import annotations

from engine.control import PHASE, PHASE_QUIET, halt_level
from engine.decision import (
    DECISIONS,
    DIGEST,
    NOTES,
    OUTPUT_CLAIMED,
    OUTPUT_NEXT,
    OUTPUT_PUBLISHED,
    OUTPUT_WORDS,
    OUTPUTS_WORDS,
    PROGRESS_CLOCK_NS,
    PROGRESS_DIGEST,
    PROGRESS_LEVEL,
    PROGRESS_NEXT,
    PROGRESS_REFERENCE,
    PROGRESS_STEP,
    PROGRESS_TAKEN,
    PROGRESS_TIMER_NS,
    PROGRESS_WORDS,
    QUIET,
    RINGS_MAX,
    STEP_DIGEST,
    Input,
    write_commit,
)
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX
from engine.records import (
    PUBLISH_NS,
    ROW_BYTES,
    ROW_WORDS,
    SEQUENCE,
    STEP_CLOCK_NS,
    STEP_COUNT,
    STEP_FIRST,
    STEP_INPUT,
    STEP_OUTPUT_CURSOR,
    TAG,
    TRIGGER,
    TRIGGER_NS,
    Kind,
    tag,
)
from engine.risk import LIMITS_VALUES, LIMITS_WORDS
from shm.histogram import HISTOGRAM_WORDS, record
from shm.jit import call_handler, jit, load_acquire, now_ns, words_at
from shm.latest import read_latest
from shm.ring import (
    CAPACITY,
    CLAIMED,
    CURSOR,
    claim,
    poll,
    port_control,
    publish,
    release,
    released,
)
from shm.segment import Words

# The cycle's block: addresses, bounds and counts of this process, never shared.
(
    KERNEL, STATE_AT, STATE_WORDS, PARAMETERS_AT, PARAMETERS_WORDS, OUTPUTS_AT, STEP_AT,
    PROGRESS_AT, CONTROL_AT, COMMIT_AT, COMMIT_WORDS, INSTRUMENTS_AT, LIMITS_AT, HISTOGRAM_AT,
    INPUTS, ROUNDS_MAX, BATCH_MAX, DECISIONS_PER_RECORD, NOTES_PER_RECORD, DECISIONS_PER_EVENT,
    NOTES_PER_EVENT, TIMER_NS, COMMIT_STEPS_MAX, COMMIT_NS_MAX, GOES_QUIET, MEASURED,
) = range(26)  # fmt: skip
# Counted by the cycle. PRESSED: steps not taken for want of room in an output.
STEPS, RECORDS, PRESSED, COMMITS, TIMERS, UNCOMMITTED, UNCOMMITTED_NS, IS_COMMIT_DUE, DIVERGED = (
    range(32, 41)
)
INPUT_AT = 48  # Input of each bound ring, in the order in which they are polled
BLOCK_WORDS = 64
STEP_WORDS = ROW_WORDS + INSTRUMENTS_MAX * INSTRUMENT_WORDS + LIMITS_VALUES
_LIMITS_IN_STEP = ROW_WORDS + INSTRUMENTS_MAX * INSTRUMENT_WORDS

_STEP = int(Kind.STEP)
_CONTROL, _REFERENCE, _TIMER = int(Input.CONTROL), int(Input.REFERENCE), int(Input.TIMER)
_CONTROL_SEGMENT_WORDS = 64
_UNHEARD = -1


@jit
def _progress(block: Words) -> Words:
    return words_at(block[PROGRESS_AT], PROGRESS_WORDS)


@jit
def _outputs(block: Words) -> Words:
    return words_at(block[OUTPUTS_AT], OUTPUTS_WORDS)


@jit
def _step(block: Words) -> Words:
    return words_at(block[STEP_AT], STEP_WORDS)


@jit
def _claim_output(ports: Words, block: Words, output: int, count: int) -> bool:
    """Claims the most a step may write to an output; records published before need no room."""
    control = port_control(ports, block[INPUTS] + output)
    outputs = _outputs(block)
    base = OUTPUT_WORDS * output
    granted = count == 0 or claim(control, count) >= 0
    outputs[base + OUTPUT_CLAIMED] = control[CLAIMED]
    return granted


@jit
def _claim(ports: Words, block: Words, what: int, count: int) -> bool:
    """Claims room for all outputs of a step of `count` records."""
    if what >= RINGS_MAX:
        decisions, notes = block[DECISIONS_PER_EVENT], block[NOTES_PER_EVENT]
    else:
        decisions, notes = block[DECISIONS_PER_RECORD] * count, block[NOTES_PER_RECORD] * count
    granted = _claim_output(ports, block, DECISIONS, decisions)
    return granted and _claim_output(ports, block, NOTES, notes)


@jit
def open_step(ports: Words, block: Words, what: int, first: int, count: int) -> bool:
    """Records that a step is taken now; answers False, and nothing is changed, for want of room.

    Args:
        ports: (n, 4) ring ports: inputs, decisions, notes, steps.
        block: of the cycle.
        what: an Input, or Input.MARKET + K.
        first: first sequence taken, or what an event is about.
        count: records taken.
    """
    steps = port_control(ports, block[INPUTS] + 2)
    if not _claim(ports, block, what, count) or claim(steps, 1) < 0:
        block[PRESSED] += 1
        return False
    progress, step, outputs = _progress(block), _step(block), _outputs(block)
    clock = max(now_ns(), progress[PROGRESS_CLOCK_NS])
    sequence = steps[CURSOR] + 1
    slot = sequence & (ports[block[INPUTS] + 2, 2] - 1)
    row = words_at(ports[block[INPUTS] + 2, 1] + ROW_BYTES * slot, ROW_WORDS)
    row[:] = 0
    row[SEQUENCE], row[TAG], row[PUBLISH_NS] = sequence, tag(_STEP, 0, 0, 0), clock
    row[TRIGGER_NS], row[TRIGGER] = clock, sequence
    row[STEP_INPUT], row[STEP_FIRST], row[STEP_COUNT] = what, first, count
    row[STEP_CLOCK_NS] = clock
    row[STEP_OUTPUT_CURSOR] = outputs[OUTPUT_WORDS * DECISIONS + OUTPUT_NEXT] - 1
    row[STEP_DIGEST] = outputs[DIGEST]
    publish(steps, sequence)
    step[:ROW_WORDS] = row
    return True


@jit
def decide(ports: Words, block: Words, index: int) -> None:
    """Runs the kernel on the open step; `index` is the port of its input, -1 for an event."""
    step = _step(block)
    address = block[STEP_AT]
    count = step[STEP_COUNT]
    if index >= 0:
        slot = step[STEP_FIRST] & (ports[index, 2] - 1)
        address = ports[index, 1] + ROW_BYTES * slot
    call_handler(
        block[KERNEL],
        words_at(address, ROW_WORDS * count),
        step,
        words_at(block[STATE_AT], block[STATE_WORDS]),
        words_at(block[PARAMETERS_AT], block[PARAMETERS_WORDS]),
        _outputs(block),
    )


@jit
def publish_output(ports: Words, block: Words, output: int, clock_ns: int) -> None:
    """Stamps and publishes what the kernel wrote to one output."""
    index = block[INPUTS] + output
    control = port_control(ports, index)
    last = _outputs(block)[OUTPUT_WORDS * output + OUTPUT_NEXT] - 1
    cursor = control[CURSOR]
    if last <= cursor:
        return
    for sequence in range(cursor + 1, last + 1):
        slot = sequence & (ports[index, 2] - 1)
        words_at(ports[index, 1] + ROW_BYTES * slot, ROW_WORDS)[PUBLISH_NS] = clock_ns
    publish(control, last)


@jit
def close_step(ports: Words, block: Words, index: int) -> None:
    """Publishes the outputs of the open step and notes that it is done."""
    step, progress = _step(block), _progress(block)
    finished_ns = now_ns()
    publish_output(ports, block, DECISIONS, finished_ns)
    publish_output(ports, block, NOTES, finished_ns)
    what, count = step[STEP_INPUT], step[STEP_COUNT]
    if index >= 0:
        progress[PROGRESS_TAKEN + what] = step[STEP_FIRST] + count
        if block[HISTOGRAM_AT] != 0 and (block[MEASURED] >> what) & 1:
            histogram = words_at(block[HISTOGRAM_AT], HISTOGRAM_WORDS)
            record(histogram, max(0, finished_ns - step[STEP_CLOCK_NS]) // count)
        taken = step[STEP_FIRST] + count - 1
        control = port_control(ports, index)
        if taken - released(control, ports[index, 3]) > control[CAPACITY] >> 2:
            block[IS_COMMIT_DUE] = 1
    elif what == _CONTROL:
        progress[PROGRESS_LEVEL] = step[STEP_FIRST]
    elif what == _REFERENCE:
        progress[PROGRESS_REFERENCE] = step[STEP_FIRST]
        block[IS_COMMIT_DUE] = 1
    else:
        progress[PROGRESS_TIMER_NS] = step[STEP_CLOCK_NS] + block[TIMER_NS]
        block[TIMERS] += 1
    progress[PROGRESS_STEP], progress[PROGRESS_CLOCK_NS] = step[SEQUENCE], step[STEP_CLOCK_NS]
    if block[UNCOMMITTED] == 0:
        block[UNCOMMITTED_NS] = finished_ns
    block[UNCOMMITTED] += 1
    block[STEPS] += 1
    block[RECORDS] += count


@jit
def write_progress(block: Words) -> None:
    """Commits state, sequences and cursors; nothing is released yet."""
    progress, outputs = _progress(block), _outputs(block)
    progress[PROGRESS_DIGEST] = outputs[DIGEST]
    progress[PROGRESS_NEXT + DECISIONS] = outputs[OUTPUT_WORDS * DECISIONS + OUTPUT_NEXT]
    progress[PROGRESS_NEXT + NOTES] = outputs[OUTPUT_WORDS * NOTES + OUTPUT_NEXT]
    state = words_at(block[STATE_AT], block[STATE_WORDS])
    write_commit(words_at(block[COMMIT_AT], block[COMMIT_WORDS]), progress, state)
    block[COMMITS] += 1
    block[UNCOMMITTED] = block[IS_COMMIT_DUE] = 0


@jit
def release_inputs(ports: Words, block: Words) -> None:
    """Gives back every input record that the last commit covers."""
    progress = _progress(block)
    for index in range(block[INPUTS]):
        control, reader = port_control(ports, index), ports[index, 3]
        taken = progress[PROGRESS_TAKEN + block[INPUT_AT + index]] - 1
        if taken > released(control, reader):
            release(control, reader, taken)


@jit
def commit(ports: Words, block: Words) -> None:
    """Commits, then releases the inputs."""
    write_progress(block)
    release_inputs(ports, block)


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
    step = _step(block)
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
    control = words_at(block[CONTROL_AT], _CONTROL_SEGMENT_WORDS)
    # Pairs with set_word in engine/control.py.
    if block[GOES_QUIET] != 0 and load_acquire(control, PHASE) >= PHASE_QUIET:
        return QUIET
    return halt_level(control)


@jit
def _take_events(ports: Words, block: Words) -> int:
    """Takes what is no ring: kill switch, instruments and limits."""
    progress = _progress(block)
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
    first = _progress(block)[PROGRESS_TAKEN + block[INPUT_AT + index]]
    capacity = ports[index, 2]
    count = min(poll(control, ports[index, 3]) - first + 1, block[BATCH_MAX])
    return min(count, capacity - (first & (capacity - 1)))


@jit
def take_input(ports: Words, block: Words, index: int) -> int:
    """Takes one step from an input if it has records and the outputs have room for one of them."""
    count = next_batch(ports, block, index)
    if count <= 0:
        return 0
    what = block[INPUT_AT + index]
    first = _progress(block)[PROGRESS_TAKEN + what]
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
    if clock >= _progress(block)[PROGRESS_TIMER_NS]:
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
    progress, outputs, step = _progress(block), _outputs(block), _step(block)
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
        step[:ROW_WORDS] = row
        # Room was there when the step was taken, and readers only ever move on.
        _claim(ports, block, row[STEP_INPUT], row[STEP_COUNT])
        index = _index_of(block, row[STEP_INPUT])
        decide(ports, block, index)
        close_step(ports, block, index)
    outputs[OUTPUT_WORDS * DECISIONS + OUTPUT_PUBLISHED] = _UNHEARD
    outputs[OUTPUT_WORDS * NOTES + OUTPUT_PUBLISHED] = _UNHEARD
    return last - first + 1
