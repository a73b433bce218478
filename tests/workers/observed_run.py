"""Shared memory of a small run for tests of what observes it: rings, stats, board, levels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from config.settings import (
    EngineSettings,
    LogSettings,
    MarketSettings,
    RingSettings,
    Settings,
    WorkerSettings,
)
from config.topology import SUPERVISOR, rings, workers
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX, Instrument, to_words
from engine.instruments import LAYOUT as INSTRUMENTS_LAYOUT
from shm import ring, segment
from shm.latest import Latest
from shm.segment import Segment
from shm.stats import BODY_BYTES as STATS_BYTES
from shm.stats import LAYOUT as STATS_LAYOUT
from workers import board, loglevels
from workers.agent import SegmentPlan
from workers.context import AgentContext, Memory, Run

BTCUSDT = Instrument(
    index=0, symbol="BTCUSDT", base="BTC", quote="USDT", price_decimals=2, tick_units=1,
    quantity_decimals=5, lot_units=1,
)  # fmt: skip
ETHUSDT = msgspec.structs.replace(BTCUSDT, index=1, symbol="ETHUSDT", base="ETH")


def small_settings(name: str, **sections: object) -> Settings:
    """Settings of three workers with small rings; `sections` replaces whole sections."""
    plain = Settings(
        engine=EngineSettings(name=name),
        market=MarketSettings(symbols=("BTCUSDT", "ETHUSDT")),
        rings=RingSettings(market=64, decisions=64, log=64),
        log=LogSettings(level="debug"),
        workers=(
            WorkerSettings(name="trader", agents=("ingest.0", "signal", "risk", "execution")),
            WorkerSettings(name="keeper", agents=("recorder", "store")),
            WorkerSettings(name="watcher", agents=("logs", "bus", "monitor")),
        ),
    )
    return msgspec.structs.replace(plain, **sections)


def _plans(extra: tuple[SegmentPlan, ...]) -> tuple[SegmentPlan, ...]:
    table = 8 * (1 + INSTRUMENTS_MAX * INSTRUMENT_WORDS)
    return (
        loglevels.segment_plan(),
        SegmentPlan("instruments", table, INSTRUMENTS_LAYOUT),
        *extra,
    )


def _create(run: Run) -> list[Segment]:
    made = [
        ring.create(
            run.prefix + plan.name, run.generation, capacity=plan.capacity,
            row_bytes=plan.row_bytes, kinds=(ring.GATING,) * len(plan.readers), parkable=False,
        )
        for plan in rings(run.settings)
    ]  # fmt: skip
    names = (*(worker.name for worker in workers(run.settings)), SUPERVISOR)
    plans = [
        *run.plans,
        *(SegmentPlan(f"stats.{name}", STATS_BYTES, STATS_LAYOUT) for name in names),
        SegmentPlan("board", board.BODY_BYTES, board.LAYOUT),
    ]
    for one in plans:
        made.append(segment.create(run.prefix + one.name, one.body_bytes, one.layout, 1))
        made[-1].set_ready()
    return made


@contextmanager
def observed_run(
    settings: Settings, data_dir: Path, *extra: SegmentPlan, generation: int = 1
) -> Iterator[Memory]:
    """Makes the memory of a run and removes it afterwards."""
    run = Run(settings, data_dir, generation, _plans(extra))
    made = _create(run)
    memory = Memory(run)
    memory.log_levels().set_all(settings)
    try:
        yield memory
    finally:
        memory.close()
        for one in made:
            one.unlink()
            one.close()


def tell_instruments(memory: Memory) -> None:
    """Does what ingest does once the venue has answered."""
    cell = Latest(memory.segment("instruments").words(0, 1 + INSTRUMENTS_MAX * INSTRUMENT_WORDS))
    table = cell.read().reshape(INSTRUMENTS_MAX, INSTRUMENT_WORDS)
    for instrument in (BTCUSDT, ETHUSDT):
        table[instrument.index] = to_words(instrument)
    cell.write(table.reshape(-1))


def agent_context(memory: Memory, worker: str, agent: str) -> AgentContext:
    """Answers the context of one agent, with its worker's logger."""
    return AgentContext(memory, worker, agent, memory.logger(worker))
