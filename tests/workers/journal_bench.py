"""A run without a supervisor: its real rings, counters and folders, and processes on it."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import msgspec
import numpy as np

from config.settings import (
    EngineSettings,
    JournalSettings,
    RingSettings,
    Settings,
    StoreSettings,
    WorkerSettings,
)
from engine import instruments as grids
from engine.frames import Moment, Origin, ring_code
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX, Instrument, to_words
from engine.records import Kind, tag
from shm import ring as shared_ring
from shm import segment
from shm import stats as shared_stats
from shm.handles import Producer
from shm.latest import Latest
from shm.ring import GATING
from shm.segment import Words
from workers import board
from workers.agent import LoopAgent, Phase, SegmentPlan
from workers.context import AgentContext, Memory, Run
from workers.journal_writer import RingWriter
from workers.log import Logger
from workers.recorder import RecorderAgent
from workers.store import StoreAgent, stored_counts
from workers.tables import RISK_STATES, TABLE_OF, TABLES

WAIT_S_MAX = 60.0
GENERATION = 3
WORKER = "cold"
INSTRUMENT_BYTES = 8 * (1 + INSTRUMENTS_MAX * INSTRUMENT_WORDS)
BITCOIN = Instrument(
    index=0, symbol="BTCUSDT", base="BTC", quote="USDT", price_decimals=2, tick_units=1,
    quantity_decimals=5, lot_units=1,
)  # fmt: skip
DECISION_KINDS = {
    "signals": [Kind.SIGNAL], "intents": [Kind.INTENT_NEW, Kind.INTENT_CANCEL],
    "risk": [Kind.DENIAL, Kind.RISK_STATE], "orders": [Kind.ORDER_NEW, Kind.ORDER_CANCEL],
    "reports": [Kind.REPORT], "steps": [Kind.STEP],
    "market": [
        Kind.QUOTE, Kind.TRADE, Kind.DEPTH, Kind.BOOK_STATE,
        Kind.QUOTE, Kind.TRADE, Kind.DEPTH, Kind.MARK,
    ],
}  # fmt: skip


class Notes:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, /, **fields: self.lines.append((level, event, fields))

    def events(self, level: str) -> list[str]:
        return [event for found, event, _ in self.lines if found == level]


def await_until(is_true: Callable[[], bool], what: str) -> None:
    """Polls until something holds."""
    deadline = monotonic() + WAIT_S_MAX
    pause = Event()
    while not is_true():
        assert monotonic() < deadline, f"must hold in time: {what}"
        pause.wait(0.002)


def small_settings(name: str, **sections: Any) -> Settings:
    """Settings with small rings."""
    return msgspec.structs.replace(
        Settings(),
        engine=EngineSettings(name=name),
        rings=RingSettings(market=1_024, decisions=256),
        workers=(WorkerSettings(name=WORKER, agents=("recorder", "store")),),
        **sections,
    )


def store_settings(name: str, **store: Any) -> Settings:
    return small_settings(
        name,
        journal=JournalSettings(segment_bytes_max=50_000, flush="none"),
        store=StoreSettings(flush_ms=5, retry_ms_max=50, **store),
    )


@contextmanager
def opened_run(
    settings: Settings, data_dir: Path, generation: int = GENERATION
) -> Iterator[Memory]:
    """Makes every segment of a run and removes it again."""
    plans = (SegmentPlan("instruments", INSTRUMENT_BYTES, grids.LAYOUT),)
    run = Run(settings, data_dir, generation, plans)
    memory = Memory(run)
    made = [
        shared_ring.create(
            run.prefix + plan.name, generation, capacity=plan.capacity, row_bytes=plan.row_bytes,
            kinds=(GATING,) * len(plan.readers), parkable=plan.parkable,
        )
        for plan in memory.ring_plans
    ]  # fmt: skip
    for name, size, layout in (
        (f"stats.{WORKER}", shared_stats.BODY_BYTES, shared_stats.LAYOUT),
        ("stats.supervisor", shared_stats.BODY_BYTES, shared_stats.LAYOUT),
        ("board", board.BODY_BYTES, board.LAYOUT),
        *plans,
    ):
        made.append(segment.create(run.prefix + name, size, layout, generation))
        made[-1].set_ready()
    try:
        yield memory
    finally:
        memory.close()
        for one in made:
            one.unlink()
            one.close()


def context_of(memory: Memory, agent: str, notes: Notes | None = None) -> AgentContext:
    """A context whose logger keeps notes."""
    return AgentContext(memory, WORKER, agent, _as_logger(notes or Notes()))


def _as_logger(notes: Any) -> Logger:
    logger: Logger = notes
    return logger


def tell_instruments(memory: Memory, *instruments: Instrument) -> None:
    """Does what ingest.0 does once the venue has answered."""
    table = np.zeros((INSTRUMENTS_MAX, INSTRUMENT_WORDS), np.int64)
    for instrument in instruments:
        table[instrument.index] = to_words(instrument)
    cell = memory.segment("instruments").words(0, INSTRUMENT_BYTES // 8)
    Latest(cell).write(table.reshape(-1))


def journaled(memory: Memory) -> list[str]:
    """The rings that the recorder reads."""
    return [plan.name for plan in memory.ring_plans if "recorder" in plan.readers]


def rows_for(name: str, first: int, count: int) -> Words:
    """Records of a ring, (count, 16): the same for the same sequences, whoever asks."""
    sequence = np.arange(first, first + count, dtype=np.int64)
    mixed = (sequence + ring_code(name)) * np.int64(0x9E3779B97F4A7C1)
    # Packed parts stay below 32768, as real ones do.
    rows = (mixed[:, None] >> np.arange(16, dtype=np.int64)) & 0x7FFF_7FFF
    rows[:, 0] = sequence
    kinds = np.array(DECISION_KINDS[name.partition(".")[0]])
    rows[:, 1] = [tag(int(kind), 0, 0, 0) for kind in kinds[sequence % len(kinds)]]
    rows[:, 2] = 1_000_000_000 + sequence * 1_000
    rows[:, 3] = rows[:, 2] - 500
    return rows


def publish(producer: Producer, name: str, count: int) -> int:
    """Publishes up to `count` records, fewer when the ring is full; answers how many."""
    done = 0
    while done < count:
        first = producer.cursor + 1
        some = min(
            count - done, producer.capacity // 4, producer.capacity - first % producer.capacity
        )
        if producer.claim(some) < 0:
            break
        start = first % producer.capacity
        producer.rows[start : start + some] = rows_for(name, first, some)
        producer.publish(first + some - 1)
        done += some
    return done


def release_others(memory: Memory) -> None:
    """Lets every reader but the recorder keep up."""
    for plan in memory.ring_plans:
        for reader in plan.readers:
            if reader != "recorder":
                consumer = memory.consumer(plan.name, reader)
                consumer.release(consumer.cursor)


def write_journal(folder: Path, name: str, sizes: list[int], segment_bytes_max: int) -> None:
    """Writes frames of these sizes, beginning behind what is there."""
    origin = Origin(ring_code(name), int(folder.name), 128)
    writer = RingWriter(folder / name, origin, segment_bytes_max)
    writer.recover(0)
    for size in sizes:
        writer.append(rows_for(name, writer.next_sequence, size), Moment(1, 2))
    writer.close()


def record_forever(run: Run) -> None:
    """Is a recorder process: steps until it is killed."""
    memory = Memory(run)
    agent = RecorderAgent(context_of(memory, "recorder"))
    agent.on_start()
    pause = Event()
    while True:
        if agent.do_work() == 0:
            pause.wait(0.0005)


def start(target: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """Starts a process from a warm server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def kill(process: ForkServerProcess) -> None:
    """Ends a process as kill -9 does."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def record_run(memory: Memory, count: int, step: int = 200) -> None:
    """Publishes `count` records in every ring and journals them, `step` in a frame."""
    recorder = RecorderAgent(context_of(memory, "recorder"))
    recorder.on_start()
    goals = {ring: memory.producer(ring).cursor + count for ring in journaled(memory)}
    while any(memory.producer(ring).cursor < goal for ring, goal in goals.items()):
        for ring, goal in goals.items():
            producer = memory.producer(ring)
            publish(producer, ring, min(goal - producer.cursor, step))
        release_others(memory)
        while not recorder.on_phase(Phase.JOURNAL):
            recorder.do_work()
    recorder._tell_at = recorder._instruments_at = 0
    recorder.do_work()
    recorder.on_close()


async def poll_until_drained(agent: StoreAgent) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not agent.on_phase(Phase.STORE):
            agent.do_work()
            await asyncio.sleep(0.001)


@asynccontextmanager
async def opened_store(memory: Memory, notes: Notes | None = None) -> AsyncIterator[StoreAgent]:
    agent = StoreAgent(context_of(memory, "store", notes))
    agent.on_start()
    assert isinstance(agent, LoopAgent)
    await agent.open()
    try:
        yield agent
    finally:
        await agent.close()
        agent.on_close()


def store_all(memory: Memory, notes: Notes | None = None) -> None:
    async def work() -> None:
        async with opened_store(memory, notes) as agent:
            await poll_until_drained(agent)

    asyncio.run(work())


def expected_counts(memory: Memory) -> dict[str, int]:
    """Rows by table that the rings' sequences imply."""
    counts = {table.name: 0 for table in TABLES}
    for ring in journaled(memory):
        rows = rows_for(ring, 0, memory.producer(ring).cursor + 1)
        for number, count in zip(*np.unique(rows[:, 1] & 0x7FFF, return_counts=True), strict=True):
            counts[TABLE_OF[Kind(int(number))].name] += int(count)
    return counts


def downgrade(bigint: str) -> Iterator[str]:
    """Yields the SQL that makes a version 1 database of this version's, with its rows."""
    old, shared = ("state", "reason", "version"), [it.name for it in RISK_STATES.columns]
    yield "DROP VIEW denials_view"
    yield "DROP VIEW risk_states_view"
    for name in old:
        yield f"ALTER TABLE denials ADD COLUMN {name} {bigint}"
    columns = ", ".join(shared)
    yield f"INSERT INTO denials ({columns}) SELECT {columns} FROM risk_states"
    yield "DROP TABLE risk_states"
    yield "CREATE VIEW denials_view AS SELECT state, reason, version FROM denials"
    yield "UPDATE schema_version SET version = 1"


def store_forever(run: Run) -> None:
    """Is a store process: stores until it is killed."""
    memory = Memory(run)

    async def work() -> None:
        async with opened_store(memory) as agent:
            while True:
                agent.do_work()
                await asyncio.sleep(0.001)

    asyncio.run(work())


def stored_total(memory: Memory) -> int:
    """Rows of this run in the database."""
    return sum(stored_counts(memory).values())


def _has_stored(memory: Memory, goal: int) -> bool:
    return stored_total(memory) > goal


def kill_stores_while_they_work(memory: Memory, kills: int) -> None:
    """Kills one store process after the other, each when it has stored some more."""
    random = np.random.default_rng(3)
    for _ in range(kills):
        record_run(memory, int(random.integers(300, 700)))
        goal = stored_total(memory) + int(random.integers(1, 1_500))
        process = start(store_forever, memory.run)
        await_until(functools.partial(_has_stored, memory, goal), "the store works")
        kill(process)
