"""workers room: depth snapshots through REST, for books that need one.

One request at a time for an instrument, each further one later than the last, all of them within
the worker's budget (workers/ingest_budget.py). After SNAPSHOT_TRIES_MAX in a row without a synced
book the owner is told to give the connection up: a new connection is what is left to try.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from time import monotonic_ns
from typing import NamedTuple, Protocol

from config.settings import Settings
from config.topology import ingest_agents
from engine.codec_feed import Feed
from engine.codec_layout import BROKEN, DONE, FULL, SYNC_WANT
from engine.venues import market_of
from shm.stats import Stats
from workers.ingest_backoff import Backoff
from workers.ingest_budget import SnapshotBudget
from workers.log import Logger
from workers.rest import Answer, RestError

SNAPSHOT_TRIES_MAX = 12


class Asked(Protocol):
    """Who answers snapshots."""

    async def get(self, path: str, **parameters: str) -> Answer:
        """Answers a request; raises RestError."""


class _Body(NamedTuple):
    slot: int
    body: bytes
    read_ns: int


class Snapshots:
    """Fetches and installs what a feed's books want. Called by: one event loop."""

    def __init__(
        self, feed: Feed, rest: Asked, settings: Settings, wake: Callable[[], None]
    ) -> None:
        self._feed, self._rest, self._wake = feed, rest, wake
        market, venue = market_of(settings.venue.kind), settings.venue
        levels = min(settings.market.snapshot_levels, market.snapshot_levels_max)
        self._path, self._levels = market.depth_path, str(levels)
        weight, workers = market.snapshot_weight(levels), len(ingest_agents(settings))
        self._budget = SnapshotBudget(market, weight, workers)
        slots = range(len(feed.plan.instruments))
        self._backoffs = [Backoff(venue.reconnect_ms, venue.reconnect_ms_max) for _ in slots]
        self._after_ns = [0 for _ in slots]
        self._was_synced = [False for _ in slots]
        self._flying: dict[int, asyncio.Task[None]] = {}
        self._bodies: deque[_Body] = deque()  # at most one a slot: a slot in flight asks no more
        self._installing: set[int] = set()
        self.is_exhausted = False

    def watch(self, stats: Stats, logger: Logger) -> None:
        """Takes the counters and the logger."""
        self._logger = logger
        symbols = [instrument.symbol for instrument in self._feed.plan.instruments]
        self._resyncs = [stats.counter("ingest_resyncs_total", symbol=name) for name in symbols]

    @property
    def is_busy(self) -> bool:
        """Says whether a snapshot has come that is not wholly on the ring yet."""
        return bool(self._bodies or self._installing)

    def request(self, now_ns: int) -> None:
        """Starts a request for every book that wants one and may ask now."""
        for slot in self._feed.wanted():
            task = self._flying.get(slot)
            if task is not None and task.done():
                task.result()  # raises when the request failed in a way that nobody foresaw
            elif task is None and now_ns >= self._after_ns[slot] and self._budget.take():
                self._flying[slot] = asyncio.get_running_loop().create_task(self._fetch(slot))

    async def _fetch(self, slot: int) -> None:
        symbol = self._feed.plan.instruments[slot].symbol
        try:
            answer = await self._rest.get(self._path, symbol=symbol, limit=self._levels)
        except RestError as error:
            self._logger.warning("depth snapshot failed", symbol=symbol, error=str(error))
            self._budget.refused(error.status, error.retry_after_s)
            self._fail(slot)
        else:
            self._budget.heard(answer.used_weight)
            self._bodies.append(_Body(slot, answer.body, answer.read_ns))
        self._wake()

    def _fail(self, slot: int) -> None:
        """Lets a book ask again later."""
        self._flying.pop(slot, None)
        self._installing.discard(slot)
        delay_s = self._backoffs[slot].next_s()
        self._after_ns[slot] = monotonic_ns() + int(delay_s * 1e9)
        if self._backoffs[slot].tries >= SNAPSHOT_TRIES_MAX:
            self.is_exhausted = True

    def install(self, now_ns: int) -> int:
        """Writes what has come as far as the ring has room; answers how many steps it took."""
        steps = 0
        while self._bodies:
            taken = self._bodies[0]
            status = DONE
            if self._feed.sync[taken.slot, SYNC_WANT]:
                status = self._feed.take_snapshot(taken.slot, taken.body, taken.read_ns, now_ns)
            if status == FULL:
                return steps
            self._bodies.popleft()
            self._took(taken.slot, status)
            steps += 1
        for slot in tuple(self._installing):
            steps += self._go_on(slot, now_ns)
        return steps

    def _took(self, slot: int, status: int) -> None:
        if status == DONE:
            self._flying.pop(slot, None)
            self._installing.add(slot)
            return
        symbol = self._feed.plan.instruments[slot].symbol
        self._logger.info("depth snapshot not usable, asking again", symbol=symbol, status=status)
        self._fail(slot)

    def _go_on(self, slot: int, now_ns: int) -> int:
        status = self._feed.go_on(slot, now_ns)
        if status == FULL:
            return 0
        self._installing.discard(slot)
        if status == BROKEN:
            self._fail(slot)
            return 1
        self._backoffs[slot].reset()
        if self._was_synced[slot]:
            self._resyncs[slot].add()
        self._was_synced[slot] = True
        self._logger.info("book synced", symbol=self._feed.plan.instruments[slot].symbol)
        return 1

    def reset(self, slots: Collection[int]) -> None:
        """Forgets what is under way for some books; the budget stays as it is.

        Called by: the owner after the connection that feeds them ended.
        """
        for slot in slots:
            task = self._flying.pop(slot, None)
            if task is not None:
                task.cancel()
            self._installing.discard(slot)
            self._after_ns[slot] = 0
            self._backoffs[slot].reset()
        self._bodies = deque(one for one in self._bodies if one.slot not in slots)
        self.is_exhausted = False
