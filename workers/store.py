"""workers room: the store, which copies the journal into a database, each record exactly once.

It reads files, never rings: a database that is slow, down or restarted costs trading nothing and
loses nothing. A batch is closed by size (`store.batch_rows_max`) or by age (`store.flush_ms`), and
goes in one transaction with the journal positions behind it. After any fault the store connects
again and asks the database where it stands; a batch whose commit was not answered is then either
there or read once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from config.settings import Settings
from config.topology import rings
from shm.histogram import record
from shm.ring import CURSOR
from workers import postgres
from workers.agent import Phase, SegmentPlan
from workers.context import AgentContext, Memory
from workers.postgres import PostgresDatabase
from workers.reading import samples, totals
from workers.sqlite import SqliteDatabase
from workers.store_backlog import RunBacklog, open_run, unfinished
from workers.store_database import (
    Database,
    StoreError,
    database_url,
    is_postgres,
    masked,
    scrubbed,
    sqlite_path,
)
from workers.tables import TABLES, Batch, Part, batch_of

FAULTS = (OSError, sqlite3.Error, *postgres.FAULTS)
READ_ROWS = 2_000  # read in one go; the event loop breathes in between
POLL_S = 0.02  # between looks in a stop, or at a run that has no journal yet
REST_S, REST_S_MAX = 0.25, 0.5  # at a journal that has nothing new, ever longer
COMMIT_S_MAX = 60.0
COUNT_S_MAX = 20.0
CLOSE_S_MAX = 2.0
RETRY_S = 0.1  # first pause after a fault; doubles up to store.retry_ms_max
DRAIN_SHARE = 0.8  # of the phase's time that the store waits for a slow database
FAILURES_DRAINING_MAX = 2
TELL_NS = 100_000_000


def make_database(url: str, data_dir: Path) -> Database:
    """Answers the database of a url, not opened. Raises ValueError for one that is no database."""
    if is_postgres(url):
        return PostgresDatabase(url)
    return SqliteDatabase(sqlite_path(url, data_dir))


class StoreAgent:
    """Copies the journal of this run, and of earlier ones left unfinished, into the database."""

    role_name = "store"

    def __init__(self, context: AgentContext) -> None:
        self._context = context
        self._settings = context.settings.store
        self._task: asyncio.Task[None] | None = None
        self._pending: Batch | None = None  # written, its commit not answered yet
        self._stored: dict[str, int] = {}  # ring of this run -> next sequence to store
        self._failures = 0  # in a row
        self._fault = ""  # what was said last
        self._damage: dict[str, str] = {}  # ring -> what was said of it
        self._done = 0
        self._tell_at = 0
        self._drain_ns = 0  # when the drain was asked for
        self._hurry = asyncio.Event()  # ends a rest: the drain was asked for
        self._looks = 0  # at a journal that had nothing new, since it had
        self._is_drained = False
        self._is_closing = False

    @staticmethod
    def segments(_settings: Settings, _agent: str) -> tuple[SegmentPlan, ...]:
        """Plans no memory of its own."""
        return ()

    def on_start(self) -> None:
        """Binds the numbers; raises ValueError when the configured database makes no sense."""
        context = self._context
        self._url = database_url(self._settings)
        self._database = make_database(self._url, context.data_dir)
        stats = context.stats
        self._counters = {
            it.name: stats.counter("stored_rows_total", table=it.name) for it in TABLES
        }
        self._lag = stats.gauge("store_lag_records")
        self._connected = stats.gauge("store_connected")
        self._latency = stats.histogram("db_write_latency_seconds")
        journaled = [it.name for it in rings(context.settings) if "recorder" in it.readers]
        self._cursors = {name: context.observe(name) for name in journaled}

    async def open(self) -> None:
        """Begins to store; does not wait for the database."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Ends storing and closes the database, in bounded time even when it hangs."""
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_S_MAX)
        with contextlib.suppress(*FAULTS):
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._database.close()

    def do_work(self) -> int:
        """Answers the rows stored since the last call; raises what ended the work, if anything."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()
        now = time.monotonic_ns()
        if now >= self._tell_at:
            self._tell_at = now + TELL_NS
            self._lag.set(self.lag)
        done, self._done = self._done, 0
        return done

    def on_phase(self, phase: Phase) -> bool:
        """Is done with STORE when the journal is stored, or the database will not have it now."""
        if phase != Phase.STORE or self._task is None or self._task.done() or self._is_drained:
            return True
        now = time.monotonic_ns()
        if self._drain_ns == 0:
            self._drain_ns, self._failures = now, min(self._failures, 1)
            self._hurry.set()
        limit_ns = DRAIN_SHARE * self._context.settings.engine.drain_s_max * 1e9
        if self._failures >= FAILURES_DRAINING_MAX or now - self._drain_ns > limit_ns:
            self._is_drained = True
            self._context.logger.warning(
                "store leaves rows to the next start", records=self.lag, url=self._database.address
            )
        return self._is_drained

    def on_close(self) -> None:
        """Says how far it came."""
        self._lag.set(self.lag)

    @property
    def lag(self) -> int:
        """Records of this run that are published and not stored."""
        return sum(self._ends().values()) - sum(self._stored.values())

    def _ends(self) -> dict[str, int]:
        """Answers per journaled ring the sequence that is published next."""
        return {ring: int(control[CURSOR]) + 1 for ring, control in self._cursors.items()}

    async def _run(self) -> None:
        # A driver that is cancelled may raise an error of its own instead: so `close` also says it.
        while not self._is_closing:
            try:
                await self._session()
            except FAULTS as error:
                if not self._is_closing:
                    self._note_fault(error)
                    await asyncio.sleep(self._pause_s())

    async def _session(self) -> None:
        """Stores on one connection until something fails."""
        await self._database.connect()
        await self._database.prepare()
        self._connected.set(1)
        finished = await self._database.finished()
        current = self._context.generation
        for run in unfinished(self._context.data_dir, current, finished):
            if run != current:
                await self._store_run(run)
        while True:
            has_journal = await self._store_run(current)
            if self._drain_ns and not has_journal:
                self._is_drained = True
            await asyncio.sleep(POLL_S)

    async def _store_run(self, run: int) -> bool:
        """Stores a run: an earlier one to its end, the current one until its rings change.

        Returns:
            Whether the run has a journal.
        """
        backlog = open_run(self._context.data_dir, run)
        if backlog is None:
            return False
        try:
            await self._attach(backlog)
            if run == self._context.generation:
                await self._follow(backlog)
            else:
                await self._finish(backlog)
        finally:
            backlog.close()
        return True

    async def _attach(self, backlog: RunBacklog) -> None:
        await self._database.add_run(backlog.facts, backlog.rings)
        positions = await self._database.positions()
        if self._pending is not None:
            batch, self._pending = self._pending, None
            if all(positions.get((run, ring)) == end for run, ring, _, end in batch.moves):
                self._count(batch)
        backlog.seek(positions)
        run = backlog.facts.generation
        if run == self._context.generation:
            self._stored = {ring: positions.get((run, ring), 0) for ring in backlog.rings}
        self._note_success()

    async def _follow(self, backlog: RunBacklog) -> None:
        """Stores the current run as it grows; returns when the recorder begins another ring."""
        is_told = False
        while True:
            is_last = self._drain_ns > 0
            parts = await self._collect(backlog, is_growing=True)
            if parts:
                self._looks = 0
                await self._commit(parts)
            else:
                self._note_damage(backlog)
                if len(backlog.rings) < len(self._cursors) and backlog.has_new_rings():
                    return
                self._is_drained = self._is_drained or is_last
                await self._rest()
            if not is_told:
                is_told = await self._tell_instruments(backlog)

    async def _rest(self) -> None:
        """Waits for the next look: longer the longer there was nothing, not at all in a stop."""
        if self._drain_ns:
            await asyncio.sleep(POLL_S)
            return
        pause_s = min(REST_S * 2**self._looks, REST_S_MAX)
        self._looks = min(self._looks + 1, 8)
        await self._wait(pause_s)

    async def _wait(self, seconds: float) -> None:
        """Waits, but not once the drain was asked for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    async def _finish(self, backlog: RunBacklog) -> None:
        """Stores an earlier run to its end."""
        while parts := await self._collect(backlog, is_growing=False):
            await self._commit(parts)
        await self._tell_instruments(backlog)
        self._note_damage(backlog)
        if not backlog.faults:
            await self._database.finish(backlog.facts.generation)
            self._context.logger.info("earlier run stored", generation=backlog.facts.generation)

    async def _tell_instruments(self, backlog: RunBacklog) -> bool:
        instruments = backlog.instruments()
        if instruments:
            await self._database.add_instruments(backlog.facts.generation, instruments)
        return bool(instruments)

    async def _collect(self, backlog: RunBacklog, *, is_growing: bool) -> list[Part]:
        """Answers the parts of one batch, none when the journal has nothing new."""
        parts: list[Part] = []
        left = self._settings.batch_rows_max
        deadline = 0.0
        while left > 0:
            wanted = min(left, READ_ROWS)
            some = backlog.read(wanted, self._ends() if is_growing else None)
            count = sum(len(part.rows) for part in some)
            parts += some
            left -= count
            if count == wanted:
                await asyncio.sleep(0)
                continue
            now = time.monotonic()
            deadline = deadline or now + self._settings.flush_ms / 1_000
            if not parts or not is_growing or self._drain_ns or now >= deadline:
                break
            await self._wait(deadline - now)
        return parts

    async def _commit(self, parts: list[Part]) -> None:
        try:
            batch = batch_of(parts)
        except ValueError as error:
            raise StoreError(str(error)) from None
        self._pending = batch
        start_ns = time.monotonic_ns()
        async with asyncio.timeout(COMMIT_S_MAX):
            await self._database.write(batch)
        self._pending = None
        record(self._latency, time.monotonic_ns() - start_ns)
        self._note_success()
        self._count(batch)

    def _count(self, batch: Batch) -> None:
        for name, pieces in batch.slices.items():
            self._counters[name].add(sum(len(piece.rows) for piece in pieces))
        for run, ring, _, end in batch.moves:
            if run == self._context.generation:
                self._stored[ring] = end
        self._done += batch.records

    def _pause_s(self) -> float:
        pause = RETRY_S * 2.0 ** min(self._failures - 1, 16)
        return RETRY_S if self._drain_ns else min(pause, self._settings.retry_ms_max / 1_000)

    def _note_success(self) -> None:
        if self._fault:
            self._context.logger.info("store works", url=self._database.address)
        self._failures, self._fault = 0, ""

    def _note_fault(self, error: BaseException) -> None:
        """Says a fault when it is another one than the last."""
        self._connected.set(0)
        self._failures += 1
        text = scrubbed(f"{type(error).__name__}: {error}".splitlines()[0], self._url)
        if text != self._fault:
            self._context.logger.warning("store is away", url=masked(self._url), error=text)
            self._context.stats.error(f"database must take the journal: error={text}")
        self._fault = text

    def _note_damage(self, backlog: RunBacklog) -> None:
        for ring, fault in backlog.faults.items():
            if self._damage.get(ring) != fault:
                self._context.logger.error("store cannot read the journal", ring=ring, fault=fault)
                self._context.stats.error(f"journal must be readable: ring={ring} fault={fault}")
            self._damage[ring] = fault


def stored_counts(memory: Memory) -> dict[str, int]:
    """Answers this run's stored rows by table, as the database itself counts them.

    When it does not answer, the rows that the store saw committed. Called by: the supervisor, when
    the workers have ended; any thread, with or without an event loop.
    """
    run = memory.run
    try:
        url = database_url(run.settings.store)
        database = make_database(url, run.data_dir)
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(asyncio.run, _counts(database, run.generation)).result()
    except (ValueError, *FAULTS):
        counted = totals(list(samples(memory)), "stored_rows_total", "table")
        return {table.name: counted.get(table.name, 0) for table in TABLES}


async def _counts(database: Database, generation: int) -> dict[str, int]:
    async with asyncio.timeout(COUNT_S_MAX):
        await database.connect()
        try:
            return await database.counts(generation)
        finally:
            await database.close()
