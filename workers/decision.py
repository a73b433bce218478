"""workers room: the cold handle of a decision worker; the work is in workers/decision_cycle.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from config.settings import Settings
from config.topology import ingest_agents
from engine.control import NO_NEW
from engine.decision import (
    DECISIONS,
    DIGEST,
    NOTES,
    OUTPUT_CAPACITY,
    OUTPUT_DIVERGED,
    OUTPUT_NEXT,
    OUTPUT_PUBLISHED,
    OUTPUT_ROWS,
    OUTPUT_WORDS,
    OUTPUTS_WORDS,
    PROGRESS_DIGEST,
    PROGRESS_LEVEL,
    PROGRESS_NEXT,
    PROGRESS_STEP,
    PROGRESS_WORDS,
    QUIET,
    Input,
    read_commit,
    slot_words,
)
from shm.handles import Consumer, Producer
from shm.jit import handler_address
from shm.ring import CONTROL_WORDS, CURSOR
from shm.segment import Words, fingerprint
from shm.stats import Counter, Stats
from workers import decision_cycle as cycles
from workers import decision_step as steps
from workers.agent import Phase, SegmentPlan
from workers.chain import Stage
from workers.context import AgentContext

BATCH_MAX = 64  # records of one step
COMMIT_STEPS_MAX = 256
COMMIT_NS_MAX = 1_000_000
SPIN_ROUNDS_MAX = 1_000  # rounds of one cycle in a process that does nothing else: well under 1 ms


class ConfigurationError(ValueError):
    """What a user can mend in the configuration: said once, and the worker is not restarted."""

    is_configuration = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What the loop must know about a kernel.

    Attributes:
        function: made by `shm.jit.handler`, see engine/decision.py.
        parameters: (n,) int64.
        state_words: size of its state.
        per_record: most records it writes to decisions and to notes for one record taken.
        per_event: the same for a step without records.
        timer_ns: of the step's clock, between two TIMER steps.
        measured: inputs whose steps go into the histogram.
        goes_quiet: whether a stopping engine silences it (signal) or not (risk).
    """

    function: Callable[..., int]
    parameters: Words
    state_words: int
    per_record: tuple[int, int]
    per_event: tuple[int, int]
    timer_ns: int
    measured: tuple[int, ...]
    goes_quiet: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """The shared memory of a decision worker.

    Attributes:
        inputs: rings in the order in which they are polled, each with its Input.
        decisions: ring of intents or orders.
        notes: ring of signals or denials.
        steps: ring of STEP records.
        control: words of engine/control.py.
        commit: body of the commit segment.
        instruments: latest cell.
        limits: latest cell; None for a kernel that does not need it.
        histogram: words of a shm.histogram; None when nothing is measured.
    """

    inputs: tuple[tuple[int, Consumer], ...]
    decisions: Producer
    notes: Producer
    steps: Producer
    control: Words
    commit: Words
    instruments: Words
    limits: Words | None = None
    histogram: Words | None = None


def commit_plan(agent: str, state_words: int) -> SegmentPlan:
    """Answers the commit segment of an agent whose kernel has so much state."""
    layout = fingerprint("commit", 1, PROGRESS_WORDS, state_words)
    return SegmentPlan(f"commit.{agent}", 16 * slot_words(state_words), layout)


def market_inputs(settings: Settings) -> list[tuple[int, str]]:
    """Answers Input and ring of every ingest agent."""
    names = [agent.replace("ingest", "market") for agent in ingest_agents(settings)]
    return [(Input.MARKET + int(name[-1]), name) for name in names or ["market.0"]]


def rounds_of(settings: Settings, agent: str) -> int:
    """Answers the rounds of one duty cycle: many only for a lone agent on a spinning core."""
    for worker in settings.workers:
        if worker.agents == (agent,) and worker.idle == "spin":
            return SPIN_ROUNDS_MAX
    return 1


class DecisionLoop:
    """Binds a kernel to its rings and runs it. Called by: one process at a time."""

    def __init__(self, kernel: Kernel, wiring: Wiring, *, rounds_max: int = 1) -> None:
        """Binds everything and takes over from the last commit; `start` goes on from there.

        Raises:
            ConfigurationError: when an output ring is too small for what one step may write.
            ValueError: when there are commits but none is whole.
        """
        self.kernel, self.wiring = kernel, wiring
        self.state = np.zeros(kernel.state_words, np.int64)
        self.progress = np.zeros(PROGRESS_WORDS, np.int64)
        self.outputs = np.zeros(OUTPUTS_WORDS, np.int64)
        self._step = np.zeros(steps.STEP_WORDS, np.int64)
        self.block = np.zeros(steps.BLOCK_WORDS, np.int64)
        handles = [consumer.port(consumer.reader) for _, consumer in wiring.inputs]
        handles += [ring.port() for ring in (wiring.decisions, wiring.notes, wiring.steps)]
        self.ports = np.array(handles, np.int64)
        self._bind(rounds_max)
        self._take_over()

    def _bind(self, rounds_max: int) -> None:
        kernel, wiring, block = self.kernel, self.wiring, self.block
        block[steps.KERNEL] = handler_address(kernel.function)
        block[steps.PORTS_AT] = self.ports.ctypes.data
        for at, words in (
            (steps.STATE_AT, self.state),
            (steps.PARAMETERS_AT, kernel.parameters),
            (steps.OUTPUTS_AT, self.outputs),
            (steps.STEP_AT, self._step),
            (steps.PROGRESS_AT, self.progress),
            (steps.CONTROL_AT, wiring.control),
            (steps.COMMIT_AT, wiring.commit),
            (steps.INSTRUMENTS_AT, wiring.instruments),
            (steps.LIMITS_AT, wiring.limits),
            (steps.HISTOGRAM_AT, wiring.histogram),
        ):
            block[at] = 0 if words is None else words.ctypes.data
        block[steps.STATE_WORDS] = len(self.state)
        block[steps.PARAMETERS_WORDS] = len(kernel.parameters)
        block[steps.COMMIT_WORDS] = len(wiring.commit)
        block[steps.INPUTS] = len(wiring.inputs)
        for index, (what, _) in enumerate(wiring.inputs):
            block[steps.INPUT_AT + index] = what
        block[steps.ROUNDS_MAX] = rounds_max
        block[steps.DECISIONS_PER_RECORD], block[steps.NOTES_PER_RECORD] = kernel.per_record
        block[steps.DECISIONS_PER_EVENT], block[steps.NOTES_PER_EVENT] = kernel.per_event
        block[steps.BATCH_MAX] = self._batch_max()
        block[steps.TIMER_NS] = kernel.timer_ns
        block[steps.COMMIT_STEPS_MAX] = min(COMMIT_STEPS_MAX, wiring.steps.capacity // 4)
        block[steps.COMMIT_NS_MAX] = COMMIT_NS_MAX
        block[steps.GOES_QUIET] = int(kernel.goes_quiet)
        block[steps.MEASURED] = sum(1 << what for what in kernel.measured)

    def _batch_max(self) -> int:
        """Answers how many records a step may take so that outputs need half a ring at most."""
        batch = BATCH_MAX
        rings = (self.wiring.decisions, self.wiring.notes)
        for ring, record, event in zip(
            rings, self.kernel.per_record, self.kernel.per_event, strict=True
        ):
            if max(record, event) > ring.capacity // 2:
                raise ConfigurationError(
                    "rings.decisions must hold twice what one step may write:"
                    f" capacity_records={ring.capacity} needed={2 * max(record, event)}"
                )
            batch = min(batch, ring.capacity // (2 * record)) if record else batch
        return batch

    def _take_over(self) -> None:
        """Reads the last commit and sets the outputs to where it was."""
        self.progress[PROGRESS_STEP] = -1
        slots = self.wiring.commit
        self.version = read_commit(slots, self.progress, self.state)
        if self.version == 0 and (slots[0] or slots[len(slots) // 2]):
            raise ValueError(
                "a commit must be whole: both slots are damaged; stop the engine and start it anew"
            )
        for output, ring in ((DECISIONS, self.wiring.decisions), (NOTES, self.wiring.notes)):
            base = OUTPUT_WORDS * output
            self.outputs[base + OUTPUT_ROWS] = ring.rows.ctypes.data
            self.outputs[base + OUTPUT_CAPACITY] = ring.capacity
            self.outputs[base + OUTPUT_NEXT] = self.progress[PROGRESS_NEXT + output]
            self.outputs[base + OUTPUT_PUBLISHED] = ring.cursor
        self.outputs[DIGEST] = self.progress[PROGRESS_DIGEST]

    def start(self) -> int:
        """Does the steps behind the commit again; answers how many. Called by: once, first."""
        return cycles.recover(self.ports, self.block)

    def cycle(self) -> int:
        """Runs one duty cycle; answers the records and events taken."""
        return cycles.cycle(self.ports, self.block)

    def commit(self) -> None:
        """Commits what is not yet committed."""
        if self.block[steps.UNCOMMITTED]:
            steps.commit(self.ports, self.block)

    def stage(self) -> Stage:
        """Answers the duty cycle as a stage, for the runner."""
        return Stage(cycles.cycle_at, int(self.block.ctypes.data), None)

    def close(self) -> None:
        """Takes no more."""
        self.block[steps.IS_CLOSED] = 1

    @property
    def lag(self) -> int:
        """Input records that are published and not taken yet."""
        return sum(
            cycles.next_batch(self.ports, self.block, index)
            for index in range(len(self.wiring.inputs))
        )

    @property
    def diverged(self) -> int:
        """Records and steps that came out differently when they were done again; 0 always."""
        outputs = [self.outputs[OUTPUT_WORDS * o + OUTPUT_DIVERGED] for o in (DECISIONS, NOTES)]
        return int(self.block[steps.DIVERGED] + sum(outputs))


class Mirror:
    """Shows counts of a kernel's state, and of the loop, as counters to the outside.

    The state is committed and counts since the first step of the run, so its counters are set; what
    the loop counts begins at zero with every process, so those are added up.
    """

    def __init__(self, loop: DecisionLoop, stats: Stats, agent: str) -> None:
        self._loop = loop
        self._state: list[tuple[Counter, int]] = []
        self._block = [
            (stats.counter("decision_steps_total", agent=agent), steps.STEPS),
            (stats.counter("decision_back_pressure_total", agent=agent), steps.PRESSED),
            (stats.counter("decision_commits_total", agent=agent), steps.COMMITS),
        ]
        self._seen = [0] * len(self._block)

    def add(self, counter: Counter, index: int) -> None:
        """Shows word `index` of the state."""
        self._state.append((counter, index))

    def update(self) -> None:
        """Brings the counters up to date."""
        for counter, index in self._state:
            counter.set(int(self._loop.state[index]))
        for place, (counter, index) in enumerate(self._block):
            value = int(self._loop.block[index])
            counter.add(value - self._seen[place])
            self._seen[place] = value


class Duty:
    """What signal and risk have alike as agents: cycles, counters ten times a second, phases."""

    def __init__(self, loop: DecisionLoop, mirror: Mirror) -> None:
        self.loop, self.mirror = loop, mirror
        self._ports, self._block = loop.ports, loop.block
        self._timers = memoryview(loop.block.data)[steps.TIMERS : steps.TIMERS + 1]
        self._seen = 0
        self._is_over = False

    def do_work(self) -> int:
        """Runs one duty cycle."""
        if self._is_over:
            return 0
        work = cycles.cycle(self._ports, self._block)
        if self._timers[0] != self._seen:
            self._seen = self._timers[0]
            self.mirror.update()
        return work

    def on_phase(self, phase: Phase) -> bool:
        """Goes on to take inputs up to CLOSE; writes nothing after that, so rings can empty."""
        if phase == Phase.QUIET:
            wanted = QUIET if self.loop.kernel.goes_quiet else NO_NEW
            return int(self.loop.progress[PROGRESS_LEVEL]) >= wanted
        if phase >= Phase.CLOSE and (phase > Phase.CLOSE or self.loop.lag == 0):
            self.close()
        return phase != Phase.CLOSE or self._is_over

    def close(self) -> None:
        """Commits and counts for the last time."""
        if not self._is_over:
            self._is_over = True
            self.loop.close()
            self.loop.commit()
            self.mirror.update()


def take_over(loop: DecisionLoop, context: AgentContext) -> None:
    """Does the steps behind the last commit again and says so."""
    again = loop.start()
    if loop.version or again:
        context.logger.info("decisions taken over", commit=loop.version, steps=again)
    if loop.diverged:
        context.stats.error("steps done again must come out the same")
        context.logger.error("decisions diverged", records=loop.diverged)


def warm() -> None:
    """Compiles the loop, or loads it from the cache, on scratch memory."""
    control = np.full(CONTROL_WORDS, 0, np.int64)
    control[CURSOR] = -1
    ports = np.array([[control.ctypes.data, 0, 0, 0]] * 3, np.int64)
    block = np.zeros(steps.BLOCK_WORDS, np.int64)
    progress, state = np.zeros(PROGRESS_WORDS, np.int64), np.zeros(1, np.int64)
    outputs, slots = np.zeros(OUTPUTS_WORDS, np.int64), np.zeros(2 * slot_words(1), np.int64)
    progress[PROGRESS_STEP] = -1
    block[steps.PROGRESS_AT], block[steps.OUTPUTS_AT] = progress.ctypes.data, outputs.ctypes.data
    block[steps.STATE_AT], block[steps.STATE_WORDS] = state.ctypes.data, len(state)
    block[steps.COMMIT_AT], block[steps.COMMIT_WORDS] = slots.ctypes.data, len(slots)
    cycles.recover(ports, block)
    cycles.cycle(ports, block)  # no rounds: compiles only
    block[steps.PORTS_AT] = ports.ctypes.data
    cycles.cycle_at(int(block.ctypes.data))
    steps.commit(ports, block)
    read_commit(slots, progress, state)
