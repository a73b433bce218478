"""The decision worker over real rings: kill it anywhere, and no decision is lost or doubled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from engine.control import NO_NEW, OPERATOR_HALT, PHASE, PHASE_QUIET, set_word
from engine.decision import Input
from engine.records import (
    CLIENT_ID,
    INTENT,
    PRICE_TICKS,
    PUBLISH_NS,
    QUANTITY_LOTS,
    SEQUENCE,
    STEP_COUNT,
    STEP_FIRST,
    STEP_INPUT,
    TERMS,
    BookState,
    Kind,
    OrderState,
    Reason,
    client_id_of,
    kind_of,
    pack,
)
from shm.handles import Consumer
from shm.segment import Words
from tests.workers.decision_rig import GENERATION, Rig, quote, report, row, settings_of, synced
from workers import decision_cycle as cycles
from workers import decision_step as steps
from workers.decision import ConfigurationError, DecisionLoop

CUTS_MAX = 400  # more micro actions than any life below has


@pytest.fixture
def rig(segment_prefix: str) -> Iterator[Rig]:
    made = Rig(segment_prefix)
    made.load()
    yield made
    made.close()


def run(loop: DecisionLoop, cycles_max: int = 1_000) -> None:
    """Runs cycles until one finds nothing to do."""
    for _ in range(cycles_max):
        if loop.cycle() == 0:
            return
    raise AssertionError("the worker runs out of work")


def market(quotes: int, seed: int = 1) -> list[Words]:
    """Answers a synced book and quotes that make both reference strategies act."""
    random = np.random.default_rng(seed)
    moves = np.cumsum(random.integers(-9, 10, quotes))
    sizes = random.integers(1, 1_000, (quotes, 2))
    rows = [
        quote(6_000_000 + int(m), int(b), int(a)) for m, (b, a) in zip(moves, sizes, strict=True)
    ]
    return [synced(), *rows]


def answers(orders: Words) -> list[Words]:
    """Answers reports as a venue might give them: every second order trades, the others rest."""
    new = (Kind.INTENT_NEW, Kind.ORDER_NEW)
    rows = []
    for number, intent in enumerate(order for order in orders if kind_of(order) in new):
        rows.append(report(intent, OrderState.NEW, Reason.ACK))
        if number % 2:
            lots = int(intent[8])
            rows.append(report(intent, OrderState.FILLED, Reason.FILL, lots, lots))
    return rows


def micro(loop: DecisionLoop) -> Iterator[None]:
    """Does all there is to do, stopping after every action that a kill could come behind."""
    ports, block = loop.ports, loop.block
    versions = cycles.read_reference(block)
    if versions != loop.progress[3]:
        yield from _step(loop, Input.REFERENCE, versions, 0, -1)
        yield from _commit(loop)
    for number in range(1_000):
        counts = [cycles.next_batch(ports, block, i) for i in range(len(loop.wiring.inputs))]
        if not any(count > 0 for count in counts):
            return
        for index, (what, _) in enumerate(loop.wiring.inputs):
            count = min(counts[index], 2)
            if count > 0:
                first = int(loop.progress[16 + what])
                yield from _step(loop, what, first, count, index)
        if number % 3 == 2:
            yield from _commit(loop)


def _step(loop: DecisionLoop, what: int, first: int, count: int, index: int) -> Iterator[None]:
    ports, block = loop.ports, loop.block
    assert steps.open_step(ports, block, what, first, count), "there is room"
    yield
    steps.decide(ports, block, index)
    yield
    steps.publish_output(ports, block, 0, 1)
    yield
    steps.close_step(ports, block, index)
    yield


def _commit(loop: DecisionLoop) -> Iterator[None]:
    steps.write_progress(loop.block)
    yield
    steps.release_inputs(loop.ports, loop.block)
    yield


def live(make: Callable[[], DecisionLoop], cut: int) -> bool:
    """Lives one life that ends behind micro action `cut`; says whether there were so many."""
    loop = make()
    loop.start()
    return any(number == cut for number, _ in enumerate(micro(loop)))


def decided(rows: Words) -> bytes:
    """Answers the bytes of records without the time at which they were published."""
    rows = rows.copy()
    rows[:, PUBLISH_NS] = 0
    return rows.tobytes()


def check_steps(rig: Rig, agent: str, names: dict[int, str]) -> None:
    """Checks that the steps of a worker took every input record once and in order."""
    taken: dict[int, int] = dict.fromkeys(names, 0)
    for number, step in enumerate(rig.published(f"steps.{agent}")):
        assert number == step[SEQUENCE]
        if step[STEP_INPUT] in taken:
            assert taken[int(step[STEP_INPUT])] == step[STEP_FIRST]
            taken[int(step[STEP_INPUT])] += int(step[STEP_COUNT])
    for what, name in names.items():
        assert rig.producer(name).cursor + 1 == taken[what]


def replay(rig: Rig, other: Rig, agent: str) -> DecisionLoop:
    """Gives another engine the inputs and steps of this one and lets it decide."""
    inputs = ("market.0", "reports", "risk" if agent == "signal" else "intents")
    for name in (*inputs, f"steps.{agent}"):
        for record in rig.published(name):
            assert other.producer(name).append(record) >= 0
    loop = other.signal() if agent == "signal" else other.risk()
    loop.start()
    return loop


SIGNAL = {int(Input.REPORTS): "reports", int(Input.DENIALS): "risk", int(Input.MARKET): "market.0"}
RISK = {int(Input.REPORTS): "reports", int(Input.INTENTS): "intents", int(Input.MARKET): "market.0"}


def intend(rig: Rig, count: int) -> None:
    """Fills the ring of intents with orders, some beyond the limits, and cancels of every third."""
    producer = rig.producer("intents")
    for number in range(count):
        sequence = producer.cursor + 1
        client_id = client_id_of(GENERATION, sequence - (number % 3 == 2))
        kind = Kind.INTENT_CANCEL if number % 3 == 2 else Kind.INTENT_NEW
        words = {
            CLIENT_ID: client_id, TERMS: pack(1 + number % 2, 1, 1, 0), PRICE_TICKS: 6_000_000,
            QUANTITY_LOTS: 100 if number % 5 else 10**6, INTENT: sequence,
        }  # fmt: skip
        producer.append(row(kind, words))


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["signal", "risk"])
def test_a_kill_behind_any_action_loses_and_doubles_nothing(
    segment_prefix: str, agent: str
) -> None:
    """Cuts a life at every micro action; the next life and a replay must agree to the byte."""
    names = SIGNAL if agent == "signal" else RISK
    outputs = ("intents", "signals") if agent == "signal" else ("orders", "risk")
    cuts = 0
    for cut in range(CUTS_MAX):
        rig, other = Rig(f"{segment_prefix}-a{cut}"), Rig(f"{segment_prefix}-b{cut}", capacity=4096)
        try:
            rig.load()
            other.load()
            rig.feed("market.0", *market(20))
            if agent == "risk":
                intend(rig, 12)
            make = rig.signal if agent == "signal" else rig.risk
            more = live(make, cut)
            rig.feed("reports", *answers(rig.published(outputs[0])))
            loop = make()
            loop.start()
            rig.feed("market.0", *market(4, seed=2)[1:])
            run(loop)

            check_steps(rig, agent, names)
            again = replay(rig, other, agent)
            assert 0 == loop.diverged == again.diverged
            for name in outputs:
                # What was published once is never written again: its stamp would be gone.
                assert rig.published(name)[:, PUBLISH_NS].all()
                assert name == "risk" or len(rig.published(name)) > 0
                assert decided(rig.published(name)) == decided(other.published(name))
        finally:
            rig.close()
            other.close()
        if not more:
            cuts = cut
            break
    assert cuts > 40


def test_a_step_that_comes_out_differently_is_counted(rig: Rig) -> None:
    loop = rig.signal()
    loop.start()
    loop.cycle()
    loop.block[steps.COMMIT_NS_MAX] = 1 << 60
    rig.feed("market.0", *market(20))
    run(loop)
    rig.producer("intents").row(0)[QUANTITY_LOTS] += 1  # as if memory had been damaged

    loop = rig.signal()
    loop.start()

    assert loop.diverged > 0


def test_inputs_are_released_at_a_commit_only(rig: Rig) -> None:
    loop = rig.signal()
    loop.start()
    loop.cycle()
    loop.block[steps.COMMIT_NS_MAX] = 1 << 60
    rig.feed("market.0", *market(4))
    run(loop)
    before = rig.consumer("market.0", "signal").released
    loop.commit()

    assert (before, rig.consumer("market.0", "signal").released) == (-1, 4)


def test_a_damaged_commit_is_not_taken_for_a_fresh_start(rig: Rig) -> None:
    rig.feed("market.0", *market(4))
    loop = rig.signal()
    loop.start()
    run(loop)
    loop.commit()
    rig.commits["signal"][60] += 1
    size = len(rig.commits["signal"]) // 2
    rig.commits["signal"][size + 60] += 1

    with pytest.raises(ValueError, match="a commit must be whole"):
        rig.signal()


def test_one_damaged_slot_falls_back_to_the_commit_before(rig: Rig) -> None:
    loop = rig.signal()
    loop.start()
    loop.cycle()
    rig.feed("market.0", *market(4))
    run(loop)
    steps.commit(loop.ports, loop.block)
    slots = rig.commits["signal"]
    size = len(slots) // 2
    version = int(max(slots[0], slots[size]))
    slots[(version & 1) * size + 60] += 1

    assert version - 1 == rig.signal().version


def test_an_output_without_room_leaves_the_input_alone(segment_prefix: str) -> None:
    """Back-pressure: nothing is taken that could not be answered; it goes on when there is room."""
    rig = Rig(segment_prefix, capacity=64)
    try:
        rig.load()
        readers = [
            rig.consumer(name, "recorder") for name in ("intents", "signals", "steps.signal")
        ]
        readers.append(rig.consumer("intents", "risk"))
        others = [rig.consumer("market.0", name) for name in ("risk", "recorder")]
        loop = rig.signal()
        loop.start()
        for record in market(100):
            rig.feed("market.0", record)
            loop.cycle()
            for other in others:
                other.release(other.cursor)
            if loop.block[steps.PRESSED] > 0:
                break
        pressed, lag = int(loop.block[steps.PRESSED]), loop.lag
        _catch_up(loop, readers)

        assert pressed > 0
        assert lag > 0
        assert loop.lag == 0
    finally:
        rig.close()


def _catch_up(loop: DecisionLoop, readers: list[Consumer]) -> None:
    for _ in range(1_000):
        for reader in readers:
            reader.release(reader.cursor)
        if loop.cycle() == 0 and loop.lag == 0:
            return


def test_a_ring_too_small_for_one_step_is_a_configuration_error(segment_prefix: str) -> None:
    rig = Rig(segment_prefix, capacity=16)
    try:
        with pytest.raises(ConfigurationError, match=r"rings\.decisions must hold twice"):
            rig.signal()
    finally:
        rig.close()


def test_a_halt_is_heard_as_a_step(rig: Rig) -> None:
    loop = rig.risk()
    loop.start()
    run(loop)
    set_word(rig.control, OPERATOR_HALT, NO_NEW)
    run(loop)

    heard = [step for step in rig.published("steps.risk") if step[STEP_INPUT] == Input.CONTROL]
    assert [(step[STEP_FIRST], step[STEP_COUNT]) for step in heard] == [(NO_NEW, 0)]
    assert kind_of(rig.published("risk")[-1]) == Kind.RISK_STATE


def test_a_stopping_engine_silences_signal(rig: Rig) -> None:
    loop = rig.signal()
    loop.start()
    rig.feed("market.0", *market(20))
    run(loop)
    before = rig.producer("intents").cursor
    set_word(rig.control, PHASE, PHASE_QUIET)
    rig.feed("market.0", *market(20, seed=3), synced(BookState.STALE_GAP))
    run(loop)

    assert before > 0
    assert (before, 0) == (rig.producer("intents").cursor, loop.lag)


def _child(rig: Rig, agent: str) -> int:
    """Forks a worker that decides until it is killed; answers its process id."""
    child = os.fork()
    if child == 0:
        loop = rig.signal() if agent == "signal" else rig.risk()
        loop.start()
        while True:
            if loop.cycle() == 0:
                os.sched_yield()
    return child


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.parametrize("agent", ["signal", "risk"])
def test_kill_9_loses_and_doubles_nothing(segment_prefix: str, agent: str) -> None:
    rig = Rig(segment_prefix, capacity=8192, settings=settings_of())
    other = Rig(f"{segment_prefix}-b", capacity=8192)
    child = 0
    try:
        rig.load()
        other.load()
        random = np.random.default_rng(5)
        rows = market(900)
        warm = rig.signal() if agent == "signal" else rig.risk()
        warm.start()  # compiles before the forks
        for start in range(0, len(rows), 60):
            child = _child(rig, agent)
            rig.feed("market.0", *rows[start : start + 60])
            if agent == "risk":
                intend(rig, 10)
            reader = rig.consumer("market.0", agent)
            # Kills somewhere inside, at the latest when everything was taken and committed.
            goal = reader.released + int(random.integers(1, 60))
            deadline = time.monotonic_ns() + 5_000_000_000
            while reader.released < goal and time.monotonic_ns() < deadline:
                os.sched_yield()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            child = 0
        loop = rig.signal() if agent == "signal" else rig.risk()
        loop.start()
        run(loop)

        check_steps(rig, agent, SIGNAL if agent == "signal" else RISK)
        again = replay(rig, other, agent)
        assert 0 == loop.diverged == again.diverged
        for name in ("intents", "signals") if agent == "signal" else ("orders", "risk"):
            assert len(rig.published(name)) > 3
            assert decided(rig.published(name)) == decided(other.published(name))
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        rig.close()
        other.close()
