"""workers room: one step of a decision worker, compiled: recorded, decided, published, kept.

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

from engine.decision import (
    DECISIONS,
    DIGEST,
    NOTES,
    OUTPUT_CLAIMED,
    OUTPUT_NEXT,
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
    RINGS_MAX,
    STEP_DIGEST,
    Input,
    clear,
    copy,
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
from engine.risk import LIMITS_VALUES
from shm.histogram import HISTOGRAM_WORDS, record
from shm.jit import call_handler, jit, now_ns, words_at
from shm.ring import (
    CAPACITY,
    CLAIMED,
    CURSOR,
    claim,
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
    NOTES_PER_EVENT, TIMER_NS, COMMIT_STEPS_MAX, COMMIT_NS_MAX, GOES_QUIET, MEASURED, PORTS_AT,
    IS_CLOSED,
) = range(28)  # fmt: skip
# Counted by the cycle. PRESSED: steps not taken for want of room in an output.
STEPS, RECORDS, PRESSED, COMMITS, TIMERS, UNCOMMITTED, UNCOMMITTED_NS, IS_COMMIT_DUE, DIVERGED = (
    range(32, 41)
)
INPUT_AT = 48  # Input of each bound ring, in the order in which they are polled
BLOCK_WORDS = 64
OUTPUT_PORTS = 3  # decisions, notes, steps; their ports come behind those of the inputs
STEP_WORDS = ROW_WORDS + INSTRUMENTS_MAX * INSTRUMENT_WORDS + LIMITS_VALUES

_STEP = int(Kind.STEP)
_CONTROL, _REFERENCE = int(Input.CONTROL), int(Input.REFERENCE)


@jit
def progress_of(block: Words) -> Words:
    """Views the progress words, see engine/decision.py."""
    return words_at(block[PROGRESS_AT], PROGRESS_WORDS)


@jit
def outputs_of(block: Words) -> Words:
    """Views the outputs words, see engine/decision.py."""
    return words_at(block[OUTPUTS_AT], OUTPUTS_WORDS)


@jit
def step_of(block: Words) -> Words:
    """Views the open step and the reference words behind it."""
    return words_at(block[STEP_AT], STEP_WORDS)


@jit
def _claim_output(ports: Words, block: Words, output: int, count: int) -> bool:
    """Claims the most a step may write to an output; records published before need no room."""
    control = port_control(ports, block[INPUTS] + output)
    outputs = outputs_of(block)
    base = OUTPUT_WORDS * output
    granted = count == 0 or claim(control, count) >= 0
    outputs[base + OUTPUT_CLAIMED] = control[CLAIMED]
    return granted


@jit
def claim_outputs(ports: Words, block: Words, what: int, count: int) -> bool:
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
    if not claim_outputs(ports, block, what, count) or claim(steps, 1) < 0:
        block[PRESSED] += 1
        return False
    progress, step, outputs = progress_of(block), step_of(block), outputs_of(block)
    clock = max(now_ns(), progress[PROGRESS_CLOCK_NS])
    sequence = steps[CURSOR] + 1
    slot = sequence & (ports[block[INPUTS] + 2, 2] - 1)
    row = words_at(ports[block[INPUTS] + 2, 1] + ROW_BYTES * slot, ROW_WORDS)
    clear(row, ROW_WORDS)
    row[SEQUENCE], row[TAG], row[PUBLISH_NS] = sequence, tag(_STEP, 0, 0, 0), clock
    row[TRIGGER_NS], row[TRIGGER] = clock, sequence
    row[STEP_INPUT], row[STEP_FIRST], row[STEP_COUNT] = what, first, count
    row[STEP_CLOCK_NS] = clock
    row[STEP_OUTPUT_CURSOR] = outputs[OUTPUT_WORDS * DECISIONS + OUTPUT_NEXT] - 1
    row[STEP_DIGEST] = outputs[DIGEST]
    publish(steps, sequence)
    copy(step, row, ROW_WORDS)
    return True


@jit
def decide(ports: Words, block: Words, index: int) -> None:
    """Runs the kernel on the open step; `index` is the port of its input, -1 for an event."""
    step = step_of(block)
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
        outputs_of(block),
    )


@jit
def publish_output(ports: Words, block: Words, output: int, clock_ns: int) -> None:
    """Stamps and publishes what the kernel wrote to one output."""
    index = block[INPUTS] + output
    control = port_control(ports, index)
    last = outputs_of(block)[OUTPUT_WORDS * output + OUTPUT_NEXT] - 1
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
    step, progress = step_of(block), progress_of(block)
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
    progress, outputs = progress_of(block), outputs_of(block)
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
    progress = progress_of(block)
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
