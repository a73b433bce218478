"""The recorder: every record of every ring reaches the journal once, whatever happens to it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from config.settings import JournalSettings
from shm.segment import Words
from tests.workers.journal_bench import (
    BITCOIN,
    GENERATION,
    Notes,
    await_until,
    context_of,
    journaled,
    kill,
    opened_run,
    publish,
    record_forever,
    release_others,
    rows_for,
    small_settings,
    start,
    tell_instruments,
)
from workers.agent import Phase
from workers.context import Memory
from workers.journal import (
    Tail,
    generation_folder,
    read_generation,
    read_instruments,
    rings_of,
    segment_files,
)
from workers.recorder import RecorderAgent

RINGS = [
    "market.0", "signals", "intents", "risk", "orders", "reports", "steps.signal", "steps.risk",
    "steps.execution",
]  # fmt: skip


@pytest.fixture(params=["none", "batch", "interval"])
def memory(request: pytest.FixtureRequest, segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    journal = JournalSettings(segment_bytes_max=20_000, flush=request.param, flush_ms=5)
    with opened_run(small_settings(segment_prefix, journal=journal), tmp_path) as memory:
        yield memory


@pytest.fixture
def plain_memory(segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    journal = JournalSettings(segment_bytes_max=20_000, flush="none")
    with opened_run(small_settings(segment_prefix, journal=journal), tmp_path) as memory:
        yield memory


def started(memory: Memory, notes: Notes | None = None) -> RecorderAgent:
    agent = RecorderAgent(context_of(memory, "recorder", notes))
    agent.on_start()
    return agent


def drain(agent: RecorderAgent) -> None:
    def is_done() -> bool:
        agent.do_work()
        return agent.on_phase(Phase.JOURNAL)

    await_until(is_done, "the recorder empties the rings")


def journal_of(memory: Memory, ring: str) -> Words:
    tail = Tail(generation_folder(memory.run.data_dir, GENERATION), ring, 0)
    rows = tail.read(10_000_000)
    tail.close()
    return rows


def assert_journal_equals_rings(memory: Memory) -> None:
    for ring in journaled(memory):
        producer = memory.producer(ring)
        rows = journal_of(memory, ring)

        assert len(rows) == producer.cursor + 1, ring
        assert np.array_equal(rows, rows_for(ring, 0, len(rows))), ring
        assert memory.consumer(ring, "recorder").lag == 0, ring


def test_every_ring_is_journaled_over_many_laps(memory: Memory) -> None:
    agent = started(memory)

    assert journaled(memory) == RINGS
    producers = {ring: memory.producer(ring) for ring in RINGS}

    def published(turn: int) -> bool:
        for ring, producer in producers.items():
            publish(producer, ring, 1 + 13 * turn % 90)
        release_others(memory)
        agent.do_work()
        return bool(producers["orders"].cursor > 1_000)

    turns = iter(range(1_000_000))
    await_until(lambda: published(next(turns)), "every ring goes round several times")
    drain(agent)
    agent.on_close()

    assert_journal_equals_rings(memory)
    assert rings_of(generation_folder(memory.run.data_dir, GENERATION)) == sorted(RINGS)
    assert len(segment_files(generation_folder(memory.run.data_dir, GENERATION) / "orders")) > 3


def test_counters_equal_what_was_written(plain_memory: Memory) -> None:
    agent = started(plain_memory)
    publish(plain_memory.producer("orders"), "orders", 7)
    publish(plain_memory.producer("reports"), "reports", 3)
    drain(agent)
    agent.on_close()
    values = {s.label: s.value for s in plain_memory.stats("cold").samples()}

    assert values['journal_records_total{ring="orders"}'] == 7
    assert values['journal_records_total{ring="reports"}'] == 3
    assert values["journal_bytes_total"] == 10 * 128


def test_ring_is_not_released_before_a_batch_is_durable(
    segment_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Event()
    monkeypatch.setattr("workers.journal_flush.os.fdatasync", lambda _: gate.wait(60))
    settings = small_settings(segment_prefix, journal=JournalSettings(flush="batch"))
    with opened_run(settings, tmp_path) as memory:
        agent = started(memory)
        publish(memory.producer("orders"), "orders", 7)
        consumer = memory.consumer("orders", "recorder")

        assert agent.do_work() == 7
        assert agent.do_work() == 0
        assert (consumer.released, len(journal_of(memory, "orders"))) == (-1, 7)
        gate.set()
        drain(agent)
        assert consumer.released == 6
        agent.on_close()


def test_written_but_unreleased_records_are_not_written_twice(plain_memory: Memory) -> None:
    agent = started(plain_memory)
    publish(plain_memory.producer("orders"), "orders", 9)
    drain(agent)
    agent.on_close()
    plain_memory.consumer("orders", "recorder").release(3)
    again = started(plain_memory)
    publish(plain_memory.producer("orders"), "orders", 2)
    drain(again)
    again.on_close()

    assert_journal_equals_rings(plain_memory)


def test_records_missing_from_the_journal_are_reported_once(plain_memory: Memory) -> None:
    """Somebody cut the journal behind the recorder's back: said, and the rest still recorded."""
    agent = started(plain_memory)
    publish(plain_memory.producer("orders"), "orders", 5)
    drain(agent)
    publish(plain_memory.producer("orders"), "orders", 5)
    drain(agent)
    agent.on_close()
    folder = generation_folder(plain_memory.run.data_dir, GENERATION) / "orders"
    os.truncate(segment_files(folder)[0].path, 64 + 5 * 128)
    notes = Notes()
    again = started(plain_memory, notes)
    publish(plain_memory.producer("orders"), "orders", 4)
    drain(again)
    again.on_close()

    assert ("error", "journal lost records", {"ring": "orders", "records": 5}) in notes.lines
    tail = Tail(folder.parent, "orders", 10)
    assert tail.read(100)[:, 0].tolist() == [10, 11, 12, 13]
    tail.close()


def test_full_disk_is_said_once_and_loses_nothing(plain_memory: Memory) -> None:
    notes = Notes()
    agent = started(plain_memory, notes)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        publish(plain_memory.producer("orders"), "orders", 200)
        for _ in range(5):
            agent._retry_at = 0
            agent.do_work()
        assert plain_memory.consumer("orders", "recorder").released == -1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    agent._retry_at = 0
    drain(agent)
    agent.on_close()

    assert_journal_equals_rings(plain_memory)
    assert notes.events("error") == ["journal failed"]
    assert "journal works again" in notes.events("info")
    errors = [(e.text, e.times) for e in plain_memory.stats("cold").errors()]
    assert errors == [("journal must take every write: error=File too large", 5)]


def test_run_is_readable_from_its_folder_alone(plain_memory: Memory) -> None:
    agent = started(plain_memory)
    folder = generation_folder(plain_memory.run.data_dir, GENERATION)
    agent.do_work()
    assert read_instruments(folder) == ()
    tell_instruments(plain_memory, BITCOIN)
    agent._tell_at = agent._instruments_at = 0
    agent.do_work()
    agent.on_close()

    facts = read_generation(folder)
    assert facts is not None
    assert (facts.generation, facts.symbols) == (GENERATION, ("BTCUSDT",))
    assert read_instruments(folder) == (BITCOIN,)
    again = started(plain_memory)
    again.on_close()
    assert read_generation(folder) == facts


def test_journal_ahead_of_its_ring_is_refused(plain_memory: Memory, tmp_path: Path) -> None:
    agent = started(plain_memory)
    publish(plain_memory.producer("orders"), "orders", 5)
    drain(agent)
    agent.on_close()
    plain_memory.producer("orders").control[0] = 2

    with pytest.raises(OSError, match=r"ahead of its ring: ring=orders journal=5 ring=3"):
        started(plain_memory)


@pytest.mark.multiprocess
@pytest.mark.slow
def test_recorder_killed_at_any_instant_leaves_no_gap_and_no_repeat(memory: Memory) -> None:
    random = np.random.default_rng(11)
    producers = {ring: memory.producer(ring) for ring in journaled(memory)}
    pause = Event()
    for _ in range(4):
        process = start(record_forever, memory.run)
        goal = producers["market.0"].cursor + 2_500
        while producers["market.0"].cursor < goal:
            for ring, producer in producers.items():
                publish(producer, ring, int(random.integers(1, 120)))
            release_others(memory)
            pause.wait(float(random.integers(0, 3)) / 1_000)
        kill(process)
    agent = started(memory)
    drain(agent)
    agent.on_close()

    assert_journal_equals_rings(memory)
