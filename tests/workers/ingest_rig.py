"""An ingest agent stepped by hand, its small venue, and a reader in every consumer's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from config.settings import MarketSettings, RingSettings, Settings, VenueSettings
from engine.records import FIRST_ID, STATE, UPDATE_ID, BookState, Kind, kind_of
from shm.handles import Consumer
from shm.segment import Words
from tests.engine.scratch_feed import Levels, snapshot_body
from tests.workers.observed_run import agent_context, observed_run, small_settings
from tests.workers.small_venue import SmallVenue, small_venue, until
from workers.context import Memory
from workers.ingest import IngestAgent

BIDS: Levels = [("99.00", "1"), ("98.00", "2")]
ASKS: Levels = [("101.00", "3")]
SNAPSHOT = snapshot_body(10, BIDS, ASKS)
READERS = ("signal", "risk", "recorder")


class Rig:
    """One agent, stepped by hand, and a reader in the place of every consumer."""

    def __init__(self, memory: Memory, agent: str = "ingest.0", worker: str = "trader") -> None:
        self.memory = memory
        self.context = agent_context(memory, worker, agent)
        self.agent = IngestAgent(self.context)
        ring = agent.replace("ingest", "market")
        self.consumers = [memory.consumer(ring, reader) for reader in READERS]
        self.seen: list[Words] = []
        self.is_reading = True

    async def start(self) -> None:
        self.agent.on_start()
        await self.agent.open()

    def step(self) -> None:
        self.agent.do_work()
        if self.is_reading:
            self.read()

    def read(self) -> None:
        rows = self.consumers[0].poll(1 << 20)
        self.seen.extend(row.copy() for row in rows)
        for consumer in self.consumers:
            self._release(consumer, consumer.released + len(rows))

    @staticmethod
    def _release(consumer: Consumer, sequence: int) -> None:
        consumer.release(sequence)

    def states(self) -> list[BookState]:
        return [BookState(int(row[STATE])) for row in self.seen if kind_of(row) == Kind.BOOK_STATE]

    def ids(self, kind: Kind) -> list[int]:
        word = UPDATE_ID if kind == Kind.QUOTE else FIRST_ID
        return [int(row[word]) for row in self.seen if kind_of(row) == kind]

    def counter(self, label: str) -> int:
        counts = {sample.label: sample.value for sample in self.context.stats.samples()}
        return counts.get(label, 0)

    async def until_state(self, *states: BookState) -> None:
        await until(lambda: self.states()[-len(states) :] == list(states), self.step)


def settings_for(prefix: str, venue: SmallVenue, **sections: object) -> Settings:
    plain = {
        "market": MarketSettings(symbols=("BTCUSDT", "ETHUSDT")),
        "rings": RingSettings(market=1024, decisions=64, log=256),
        "venue": VenueSettings(
            rest_url=venue.rest_url,
            stream_url=venue.stream_url,
            order_url=venue.stream_url,
            reconnect_ms=1,
            reconnect_ms_max=8,
        ),
    }
    return small_settings(prefix, **(plain | sections))


@asynccontextmanager
async def running(memory: Memory, agent: str = "ingest.0") -> AsyncIterator[Rig]:
    rig = Rig(memory, agent)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.agent.close()
        rig.agent.on_close()


def on_a_loop(test: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())  # type: ignore[arg-type]


def plans(settings: Settings, *agents: str) -> list[object]:
    found = {p.name: p for agent in agents for p in IngestAgent.segments(settings, agent)}
    return [plan for name, plan in found.items() if name != "instruments"]


@asynccontextmanager
async def synced_rig(
    prefix: str, folder: Path, **sections: object
) -> AsyncIterator[tuple[SmallVenue, Rig]]:
    """An agent of one symbol whose book has been synced once."""
    async with small_venue() as venue:
        venue.snapshots = {"BTCUSDT": SNAPSHOT}
        market = MarketSettings(symbols=("BTCUSDT",))
        settings = settings_for(prefix, venue, **({"market": market} | sections))
        with observed_run(settings, folder, *plans(settings, "ingest.0")) as memory:  # type: ignore[arg-type]
            async with running(memory) as rig:
                await rig.until_state(BookState.STALE_START, BookState.SYNCED)
                yield venue, rig
