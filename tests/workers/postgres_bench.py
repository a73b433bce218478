"""What tests of the store on a real PostgreSQL share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from tests.workers.journal_bench import (
    GENERATION,
    expected_counts,
    journaled,
    opened_run,
    store_settings,
)
from workers.context import Memory
from workers.store import stored_counts
from workers.tables import TABLES


@contextmanager
def run_stored_in(url: str, name: str, folder: Path, **store: Any) -> Iterator[Memory]:
    with opened_run(store_settings(name, url=url, **store), folder) as memory:
        yield memory


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def fetch(url: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    async def work() -> list[asyncpg.Record]:
        async with connected(url) as connection:
            found: list[asyncpg.Record] = await connection.fetch(query, *arguments)
            return found

    return asyncio.run(work())


def assert_stored_exactly_once(memory: Memory) -> None:
    url = memory.run.settings.store.url
    assert stored_counts(memory) == expected_counts(memory)
    for ring in journaled(memory):
        found: list[int] = []
        for table in TABLES:
            query = f"SELECT sequence FROM {table.name} WHERE generation = $1 AND ring = $2"
            found += [row[0] for row in fetch(url, query, GENERATION, ring)]
        assert sorted(found) == list(range(memory.producer(ring).cursor + 1)), ring
    query = "SELECT ring, next_sequence FROM journal_positions WHERE generation = $1"
    positions = {row[0]: row[1] for row in fetch(url, query, GENERATION)}
    assert positions == {ring: memory.producer(ring).cursor + 1 for ring in journaled(memory)}
