"""workers room: stores the journal in an SQLite file, in write-ahead mode.

SQLite blocks, so one thread owns the connection and the event loop goes on. A commit does not wait
for the disk (synchronous=NORMAL): after a power loss the newest transactions may be gone, rows and
positions together, and the journal stores them again.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from engine.instruments import Instrument
from workers.journal import GenerationFacts
from workers.store_database import (
    StoreError,
    check_journal,
    check_moved,
    instrument_row,
    run_row,
)
from workers.store_versions import sqlite_steps, version_of
from workers.store_views import PLAIN_TABLES, plain_table, sqlite_schema
from workers.tables import SCHEMA_VERSION, TABLES, Batch, Slice, Table, values

P = ParamSpec("P")
R = TypeVar("R")

BUSY_MS_MAX = 2_000  # wait for another program's write lock


class SqliteDatabase:
    """One SQLite file. Called by: one event loop."""

    def __init__(self, path: Path) -> None:
        self.address = f"sqlite:///{path}"
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None

    async def connect(self) -> None:
        """Opens the file, made 0600 when missing."""
        await self._call(self._connect)

    async def prepare(self) -> None:
        """Makes tables and views that are missing, and those of an older version anew."""
        await self._call(self._prepare)

    async def positions(self) -> dict[tuple[int, str], int]:
        """Answers the next sequence to store of every ring of every run."""
        query = "SELECT generation, ring, next_sequence FROM journal_positions"
        return {(run, ring): at for run, ring, at in await self._call(self._rows, query)}

    async def finished(self) -> set[int]:
        """Answers the runs that are stored to their end."""
        found = await self._call(self._rows, "SELECT generation FROM runs WHERE is_stored = 1")
        return {run for (run,) in found}

    async def add_run(self, facts: GenerationFacts, rings: list[str]) -> None:
        """Adds a run and its rings."""
        await self._call(self._add_run, facts, rings)

    async def add_instruments(self, generation: int, found: tuple[Instrument, ...]) -> None:
        """Replaces what a run's instruments are."""
        rows = [instrument_row(generation, it) for it in found]
        rows = [(*row[:-2], *(str(number) for number in row[-2:])) for row in rows]
        await self._call(self._insert, "INSERT OR REPLACE", "instruments", rows)

    async def write(self, batch: Batch) -> None:
        """Stores a batch and moves the positions in one transaction."""
        await self._call(self._write, batch)

    async def finish(self, generation: int) -> None:
        """Marks a run as stored to its end."""
        query = "UPDATE runs SET is_stored = 1 WHERE generation = ?"
        await self._call(self._rows, query, generation)

    async def counts(self, generation: int) -> dict[str, int]:
        """Answers a run's rows by table."""
        return await self._call(self._counts, generation)

    async def close(self) -> None:
        """Closes the file and ends the thread."""
        await self._call(self._close)
        self._thread.shutdown(wait=False)

    async def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*args, **kwargs))

    def _connect(self) -> None:
        self._close()
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self._path, timeout=BUSY_MS_MAX / 1_000, isolation_level=None, check_same_thread=False
        )
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    def _prepare(self) -> None:
        connection = self._opened()
        with _transaction(connection):
            connection.execute(plain_table("schema_version") + " WITHOUT ROWID")
            found = connection.execute("SELECT version FROM schema_version").fetchall()
            before, after = sqlite_steps(version_of(found))
            for statement in (*before, *sqlite_schema(), *after):
                connection.execute(statement)
            connection.execute("INSERT OR IGNORE INTO schema_version VALUES (?)", (SCHEMA_VERSION,))

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"database must be open: file={self._path}")
        return self._connection

    def _rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        return self._opened().execute(query, arguments).fetchall()

    def _insert(self, verb: str, table: str, rows: list[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(PLAIN_TABLES[table]))
        connection = self._opened()
        with _transaction(connection):
            connection.executemany(f"{verb} INTO {table} VALUES ({marks})", rows)

    def _add_run(self, facts: GenerationFacts, rings: list[str]) -> None:
        query = "SELECT journal_id FROM runs WHERE generation = ?"
        check_journal(facts, self._rows(query, facts.generation))
        self._insert("INSERT OR IGNORE", "runs", [run_row(facts)])
        positions: list[tuple[Any, ...]] = [(facts.generation, ring, 0) for ring in rings]
        self._insert("INSERT OR IGNORE", "journal_positions", positions)

    def _write(self, batch: Batch) -> None:
        connection = self._opened()
        with _transaction(connection):
            moved = connection.executemany(
                "UPDATE journal_positions SET next_sequence = ?"
                " WHERE generation = ? AND ring = ? AND next_sequence = ?",
                [(end, generation, ring, begin) for generation, ring, begin, end in batch.moves],
            )
            check_moved(batch, moved.rowcount)
            for table in TABLES:
                for piece in batch.slices.get(table.name, ()):
                    marks = ", ".join("?" * len(table.columns))
                    insert = f"INSERT INTO {table.name} VALUES ({marks})"  # noqa: S608 - our names
                    connection.executemany(insert, _tuples(table, piece))

    def _counts(self, generation: int) -> dict[str, int]:
        found = {}
        for table in TABLES:
            query = f"SELECT count(*) FROM {table.name} WHERE generation = ?"  # noqa: S608 - ours
            found[table.name] = int(self._rows(query, generation)[0][0])
        return found

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _transaction:  # noqa: N801 - read as a verb
    """Commits at the end of the block, rolls back when it raises."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _tuples(table: Table, piece: Slice) -> Iterator[tuple[Any, ...]]:
    columns: list[Any] = []
    for column in table.columns:
        found = values(column, piece.kind, piece.part, piece.rows)
        if isinstance(found, np.ndarray):
            columns.append(found.tolist())
        else:
            columns.append(itertools.repeat(found, len(piece.rows)))
    return zip(*columns, strict=True)
