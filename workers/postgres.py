"""workers room: stores the journal in PostgreSQL by binary COPY; with TimescaleDB in hypertables.

A commit does not wait for the server's disk (synchronous_commit=off): should the server's host
lose power, its newest transactions are gone, rows and positions together, and the journal stores
them again. A password in the url is never shown: see workers/store_database.py.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from engine.instruments import Instrument
from workers.journal import GenerationFacts
from workers.store_copy import stream
from workers.store_database import (
    StoreError,
    check_journal,
    check_moved,
    instrument_row,
    masked,
    run_row,
)
from workers.store_versions import postgres_steps, version_of
from workers.store_views import PLAIN_TABLES, plain_table, postgres_schema
from workers.tables import SCHEMA_VERSION, TABLES, Batch

CONNECT_S_MAX = 5.0
COMMAND_S_MAX = 30.0
CLOSE_S_MAX = 1.0
# InternalClientError: what asyncpg says when the connection is lost between two steps of a COPY.
FAULTS = (
    asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError,
)  # fmt: skip
SCHEMA_LOCK = 0x7469_636B  # "tick": two stores making the schema at once would trip over each other


class PostgresDatabase:
    """One PostgreSQL database. Called by: one event loop."""

    def __init__(self, url: str) -> None:
        self.address = masked(url)
        self._url = url
        self._connection: asyncpg.Connection[Any] | None = None
        self.is_timescale = False

    async def connect(self) -> None:
        """Connects."""
        await self.close()
        self._connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_S_MAX,
            command_timeout=COMMAND_S_MAX,
            server_settings={"application_name": "tickring-store", "synchronous_commit": "off"},
        )

    async def prepare(self) -> None:
        """Makes tables and views that are missing, hypertables where TimescaleDB is."""
        connection = self._opened()
        found = await connection.fetchval(
            "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"
        )
        self.is_timescale = found > 0
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", SCHEMA_LOCK)
            await self._make_schema(connection)

    async def positions(self) -> dict[tuple[int, str], int]:
        """Answers the next sequence to store of every ring of every run."""
        query = "SELECT generation, ring, next_sequence FROM journal_positions"
        return {(run, ring): at for run, ring, at in await self._opened().fetch(query)}

    async def finished(self) -> set[int]:
        """Answers the runs that are stored to their end."""
        found = await self._opened().fetch("SELECT generation FROM runs WHERE is_stored = 1")
        return {int(row[0]) for row in found}

    async def add_run(self, facts: GenerationFacts, rings: list[str]) -> None:
        """Adds a run and its rings."""
        connection = self._opened()
        query = "SELECT journal_id FROM runs WHERE generation = $1"
        check_journal(facts, await connection.fetch(query, facts.generation))
        await self._insert("runs", [run_row(facts)], "DO NOTHING")
        positions: list[tuple[Any, ...]] = [(facts.generation, ring, 0) for ring in rings]
        await self._insert("journal_positions", positions, "DO NOTHING")

    async def add_instruments(self, generation: int, found: tuple[Instrument, ...]) -> None:
        """Replaces what a run's instruments are."""
        names = [name for name, _ in PLAIN_TABLES["instruments"][2:]]
        updates = ", ".join(f"{name} = excluded.{name}" for name in names)
        rows = [instrument_row(generation, it) for it in found]
        await self._insert("instruments", rows, f"(generation, instrument) DO UPDATE SET {updates}")

    async def write(self, batch: Batch) -> None:
        """Stores a batch and moves the positions in one transaction."""
        connection = self._opened()
        async with connection.transaction():
            check_moved(batch, await self._move(connection, batch))
            for table in TABLES:
                pieces = batch.slices.get(table.name)
                if pieces:
                    await connection.copy_to_table(
                        table.name,
                        source=stream(table, pieces),
                        columns=[column.name for column in table.columns],
                        format="binary",
                    )

    async def finish(self, generation: int) -> None:
        """Marks a run as stored to its end."""
        query = "UPDATE runs SET is_stored = 1 WHERE generation = $1"
        await self._opened().execute(query, generation)

    async def counts(self, generation: int) -> dict[str, int]:
        """Answers a run's rows by table."""
        found = {}
        for table in TABLES:
            query = f"SELECT count(*) FROM {table.name} WHERE generation = $1"  # noqa: S608 - ours
            found[table.name] = int(await self._opened().fetchval(query, generation))
        return found

    async def close(self) -> None:
        """Closes the connection; drops it when the server does not answer."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await connection.close(timeout=CLOSE_S_MAX)
        except (OSError, *FAULTS):
            connection.terminate()

    def _opened(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            raise StoreError(f"database must be connected: url={self.address}")
        return self._connection

    async def _make_schema(self, connection: asyncpg.Connection[Any]) -> None:
        await connection.execute(plain_table("schema_version"))
        found = await connection.fetch("SELECT version FROM schema_version")
        before, after = postgres_steps(version_of(found))
        for statement in (*before, *postgres_schema(is_timescale=self.is_timescale), *after):
            await connection.execute(statement)
        await self._insert("schema_version", [(SCHEMA_VERSION,)], "DO NOTHING")

    async def _insert(self, table: str, rows: list[tuple[Any, ...]], conflict: str) -> None:
        marks = ", ".join(f"${index + 1}" for index in range(len(PLAIN_TABLES[table])))
        query = f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT {conflict}"  # noqa: S608 - ours
        await self._opened().executemany(query, rows)

    async def _move(self, connection: asyncpg.Connection[Any], batch: Batch) -> int:
        """Moves the positions that are where the batch says; answers how many were."""
        columns = [list(column) for column in zip(*batch.moves, strict=True)]
        status = await connection.execute(
            "UPDATE journal_positions p SET next_sequence = n.later FROM"
            " unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[])"
            " AS n (generation, ring, earlier, later) WHERE p.generation = n.generation"
            " AND p.ring = n.ring AND p.next_sequence = n.earlier",
            *columns,
        )
        return int(status.rpartition(" ")[2])
