"""The store on a real PostgreSQL: exact bytes, exactly once through kills, TimescaleDB."""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import numpy as np
import pytest

from engine.records import Kind
from tests import servers
from tests.workers.journal_bench import (
    BITCOIN,
    GENERATION,
    WAIT_S_MAX,
    Notes,
    downgrade,
    expected_counts,
    kill_stores_while_they_work,
    opened_run,
    opened_store,
    poll_until_drained,
    record_run,
    rows_for,
    store_all,
    store_settings,
    tell_instruments,
)
from tests.workers.postgres_bench import (
    assert_stored_exactly_once,
    connected,
    fetch,
    run_stored_in,
)
from workers.context import Memory
from workers.store import StoreAgent, stored_counts
from workers.store_copy import CHUNK_ROWS, encode
from workers.store_views import postgres_schema
from workers.tables import (
    QUOTES,
    SCHEMA_VERSION,
    TABLE_OF,
    TABLES,
    Column,
    Part,
    Slice,
    Type,
    by_kind,
    values,
)

STORE_PID = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE application_name = 'tickring-store' AND datname = current_database()"
)
OFFSET_NS = 1_700_000_000_000_000_123


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """An empty database on the session's server."""
    name = f"test_{secrets.token_hex(6)}"

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(execute(f"CREATE DATABASE {name}"))
    yield postgres_url.rpartition("/")[0] + f"/{name}"
    asyncio.run(execute(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def memory(database_url: str, segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    with run_stored_in(database_url, segment_prefix, tmp_path) as memory:
        yield memory


def part_of(ring: str, count: int, first: int = 0) -> Part:
    return Part(GENERATION, ring, OFFSET_NS, first, rows_for(ring, first, count))


def pieces_of(part: Part, table_kind: Kind) -> list[Slice]:
    return [Slice(part, kind, rows) for kind, rows in by_kind(part.rows) if kind == table_kind]


def as_python(column: Column, piece: Slice) -> list[object]:
    """A column as asyncpg's own record encoder wants it."""
    found = values(column, piece.kind, piece.part, piece.rows)
    if not isinstance(found, np.ndarray):
        return [found] * len(piece.rows)
    if column.type == Type.TIME:
        start = datetime(1970, 1, 1, tzinfo=UTC)
        return [start + timedelta(microseconds=value) for value in found.tolist()]
    return list(found.tolist())


@pytest.mark.services
@pytest.mark.parametrize("ring", ["market.0", "risk", "reports", "steps.signal", "orders"])
def test_own_copy_stores_what_the_drivers_own_encoder_stores(database_url: str, ring: str) -> None:
    part = part_of(ring, 2 * CHUNK_ROWS + 7, 5)

    async def work() -> tuple[list[Any], list[Any]]:
        async with connected(database_url) as connection:
            for statement in postgres_schema(is_timescale=False):
                await connection.execute(statement)
            stored: list[list[Any]] = [[], []]
            for table in TABLES:
                pieces = [
                    Slice(part, kind, rows)
                    for kind, rows in by_kind(part.rows)
                    if table.name == _table_name(kind)
                ]
                columns = [column.name for column in table.columns]
                source = _chunks(b"".join(encode(table, pieces)))
                await connection.copy_to_table(
                    table.name, source=source, columns=columns, format="binary"
                )
                query = f"SELECT * FROM {table.name} ORDER BY sequence"
                stored[0] += await connection.fetch(query)
                await connection.execute(f"TRUNCATE {table.name}")
                for piece in pieces:
                    records = zip(*(as_python(it, piece) for it in table.columns), strict=True)
                    await connection.copy_records_to_table(
                        table.name, records=records, columns=columns
                    )
                stored[1] += await connection.fetch(query)
            return stored[0], stored[1]

    ours, theirs = asyncio.run(work())

    assert len(ours) == 2 * CHUNK_ROWS + 7
    assert ours == theirs


def _table_name(kind: Kind) -> str:
    return TABLE_OF[kind].name


async def _chunks(whole: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(whole), 65_536):
        yield whole[start : start + 65_536]


def test_encoded_row_has_the_bytes_of_the_manual() -> None:
    part = part_of("market.0", 1)
    raw = b"".join(encode(QUOTES, pieces_of(part, Kind.QUOTE)))
    row = part.rows[0].tolist()
    micros = (row[2] + OFFSET_NS) // 1_000 - 946_684_800_000_000

    def field(value: int, size: int) -> bytes:
        return size.to_bytes(4, "big") + value.to_bytes(size, "big", signed=True)

    expected = b"PGCOPY\n\xff\r\n\0" + bytes(8) + len(QUOTES.columns).to_bytes(2, "big")
    expected += field(GENERATION, 8) + b"\0\0\0\x08market.0" + field(0, 8) + field(micros, 8)
    expected += b"".join(field(word, 8) for word in row[2:5])
    expected += b"".join(field(part, 2) for part in (int(Kind.QUOTE), 0, 0, 0))
    expected += b"".join(field(word, 8) for word in row[5:11]) + b"\xff\xff"

    assert raw == expected


@pytest.mark.services
def test_every_record_of_every_ring_is_a_row(memory: Memory) -> None:
    tell_instruments(memory, BITCOIN)
    record_run(memory, 1_300)
    store_all(memory)

    assert_stored_exactly_once(memory)
    url = memory.run.settings.store.url
    for table in TABLES:
        shown = fetch(url, f"SELECT count(*) FROM {table.name}_view")[0][0]
        assert shown == expected_counts(memory)[table.name]


@pytest.mark.services
def test_view_shows_exact_decimals_and_times(memory: Memory) -> None:
    tell_instruments(memory, BITCOIN)
    record_run(memory, 8)
    store_all(memory)
    row = rows_for("market.0", 4, 1)[0]
    url = memory.run.settings.store.url
    shown = fetch(url, "SELECT * FROM quotes_view WHERE sequence = 4")[0]
    offset = fetch(url, "SELECT clock_offset_ns FROM runs")[0][0]

    assert (shown["symbol"], shown["kind"]) == ("BTCUSDT", "QUOTE")
    assert shown["bid_price"] == BITCOIN.price(int(row[6]))
    assert shown["ask_quantity"] == BITCOIN.quantity(int(row[9]))
    micros = int(shown["published_at"].timestamp()) * 1_000_000 + shown["published_at"].microsecond
    assert micros == (int(row[2]) + offset) // 1_000


@pytest.mark.services
def test_a_database_of_version_1_is_brought_up_to_date_with_its_rows(memory: Memory) -> None:
    url = memory.run.settings.store.url
    record_run(memory, 20)
    store_all(memory)
    query = "SELECT * FROM {} ORDER BY sequence"
    rows = {name: fetch(url, query.format(name)) for name in ("denials", "risk_states")}
    for statement in downgrade("bigint"):
        fetch(url, statement)
    record_run(memory, 10)
    store_all(memory)

    assert_stored_exactly_once(memory)
    for name, before in rows.items():
        assert fetch(url, query.format(name))[: len(before)] == before
        assert fetch(url, query.format(f"{name}_view"))
    assert fetch(url, "SELECT version FROM schema_version")[0][0] == SCHEMA_VERSION


@pytest.mark.services
def test_storing_again_stores_nothing_twice(memory: Memory) -> None:
    record_run(memory, 50)
    store_all(memory)
    record_run(memory, 30)
    store_all(memory)

    assert_stored_exactly_once(memory)


@pytest.mark.services
def test_second_store_on_one_journal_cannot_store_a_row_twice(memory: Memory) -> None:
    record_run(memory, 400)

    async def work() -> None:
        async with opened_store(memory) as first, opened_store(memory) as second:
            await asyncio.gather(poll_until_drained(first), poll_until_drained(second))

    asyncio.run(work())
    store_all(memory)

    assert_stored_exactly_once(memory)


async def until(is_true: Callable[[], bool]) -> None:
    """Polls until something holds."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not is_true():  # noqa: ASYNC110 - what is awaited is another process
            await asyncio.sleep(0.002)


def has_left(agent: StoreAgent, records: int) -> bool:
    agent.do_work()
    return agent.lag <= records


@pytest.mark.services
def test_connection_killed_in_mid_batch_loses_and_repeats_nothing(
    database_url: str, segment_prefix: str, tmp_path: Path
) -> None:
    with run_stored_in(database_url, segment_prefix, tmp_path, batch_rows_max=100) as memory:
        record_run(memory, 3_000)
        notes = Notes()
        victims = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'tickring-store' AND datname = current_database()"
        )

        async def work() -> None:
            async with connected(database_url) as connection, opened_store(memory, notes) as agent:
                for left in (24_000, 18_000, 12_000, 6_000):
                    await until(functools.partial(has_left, agent, left))
                    await connection.fetchval(victims)
                await poll_until_drained(agent)

        asyncio.run(work())

        assert_stored_exactly_once(memory)
        assert notes.events("warning")
        assert set(notes.events("warning")) == {"store is away"}


@pytest.mark.services
@pytest.mark.slow
def test_server_killed_and_started_again_delays_rows_only(
    segment_prefix: str, tmp_path: Path
) -> None:
    port, folder = servers.free_port(), tmp_path / "server"
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if Path(tempfile.gettempdir()) in parent.parents:
            parent.chmod(0o755)  # the server's user must come through
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with run_stored_in(url, segment_prefix, data_dir, batch_rows_max=100) as memory:
        notes = Notes()

        def is_away(agent: StoreAgent) -> bool:
            agent.do_work()
            return "store is away" in notes.events("warning")

        async def work() -> None:
            async with opened_store(memory, notes) as agent:
                with servers.postgres(port, folder):
                    record_run(memory, 500)

                    await until(lambda: has_left(agent, 4_000))
                    pid = int((folder / "postmaster.pid").read_text().splitlines()[0])
                    os.kill(pid, signal.SIGKILL)
                    record_run(memory, 200)
                    await until(functools.partial(is_away, agent))
                (folder / "postmaster.pid").unlink()
                with servers.postgres(port, folder):
                    await poll_until_drained(agent)
                    await asyncio.to_thread(assert_stored_exactly_once, memory)

        try:
            asyncio.run(work())
        except servers.MissingServerError as error:
            pytest.skip(str(error))


@pytest.mark.services
@pytest.mark.slow
def test_server_that_hangs_holds_up_neither_the_drain_nor_the_end(
    database_url: str, segment_prefix: str, tmp_path: Path
) -> None:
    settings = store_settings(segment_prefix, url=database_url, batch_rows_max=100)
    engine = msgspec.structs.replace(settings.engine, drain_s_max=0.5)
    with opened_run(msgspec.structs.replace(settings, engine=engine), tmp_path) as memory:
        record_run(memory, 300)
        notes = Notes()

        async def work() -> None:
            async with connected(database_url) as connection, opened_store(memory, notes) as agent:
                await until(functools.partial(has_left, agent, 2_500))
                pid = await connection.fetchval(STORE_PID)
                os.kill(pid, signal.SIGSTOP)
                await poll_until_drained(agent)
            os.kill(pid, signal.SIGCONT)

        asyncio.run(work())
        assert notes.events("warning") == ["store leaves rows to the next start"]
        store_all(memory)

        assert_stored_exactly_once(memory)


@pytest.mark.services
def test_store_without_a_database_gives_up_draining_and_says_so(
    segment_prefix: str, tmp_path: Path
) -> None:
    url = f"postgresql://me:sesame@127.0.0.1:{servers.free_port()}/db"
    with run_stored_in(url, segment_prefix, tmp_path) as memory:
        record_run(memory, 5)
        notes = Notes()
        store_all(memory, notes)

        assert notes.events("warning")[-1] == "store leaves rows to the next start"
        assert notes.lines[-1][2]["records"] == 45
        assert "sesame" not in str(notes.lines)
        assert stored_counts(memory) == {table.name: 0 for table in TABLES}


@pytest.mark.services
@pytest.mark.multiprocess
@pytest.mark.slow
def test_store_killed_at_any_instant_stores_every_record_once(
    database_url: str, segment_prefix: str, tmp_path: Path
) -> None:
    with run_stored_in(database_url, segment_prefix, tmp_path, batch_rows_max=150) as memory:
        kill_stores_while_they_work(memory, 4)
        store_all(memory)

        assert_stored_exactly_once(memory)
