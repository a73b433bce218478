"""The store on SQLite: every record once, whatever stops it; and what it does not depend on."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import StoreSettings
from engine.records import Kind
from shm.histogram import COUNT
from tests.workers.journal_bench import (
    BITCOIN,
    GENERATION,
    WAIT_S_MAX,
    Notes,
    downgrade,
    expected_counts,
    journaled,
    kill_stores_while_they_work,
    opened_run,
    opened_store,
    poll_until_drained,
    record_run,
    rows_for,
    store_all,
    store_settings,
    stored_total,
    tell_instruments,
)
from workers.context import Memory
from workers.journal import RING_FILE, generation_folder, segment_files
from workers.store import make_database, stored_counts
from workers.store_database import database_url, masked, scrubbed
from workers.tables import SCHEMA_VERSION, TABLES


@pytest.fixture
def memory(segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    with opened_run(store_settings(segment_prefix), tmp_path) as memory:
        yield memory


def connect(memory: Memory) -> sqlite3.Connection:
    return sqlite3.connect(memory.run.data_dir / "tickring.db")


def assert_stored_exactly_once(memory: Memory) -> None:
    """Rows by table, keys and positions agree with the rings."""
    assert stored_counts(memory) == expected_counts(memory)
    connection = connect(memory)
    for ring in journaled(memory):
        found = []
        for table in TABLES:
            query = f"SELECT sequence FROM {table.name} WHERE generation = ? AND ring = ?"
            found += [row[0] for row in connection.execute(query, (GENERATION, ring))]
        assert sorted(found) == list(range(memory.producer(ring).cursor + 1)), ring
    query = "SELECT ring, next_sequence FROM journal_positions WHERE generation = ?"
    positions = dict(connection.execute(query, (GENERATION,)))
    assert positions == {ring: memory.producer(ring).cursor + 1 for ring in journaled(memory)}
    connection.close()


def test_every_record_of_every_ring_is_a_row(memory: Memory) -> None:
    record_run(memory, 700)
    store_all(memory)

    assert_stored_exactly_once(memory)
    samples = {s.label: s for s in memory.stats("cold").samples()}
    assert samples['stored_rows_total{table="orders"}'].value == 700
    assert samples["store_lag_records"].value == 0
    assert samples["db_write_latency_seconds"].words[COUNT] > 0


def test_storing_again_stores_nothing_twice(memory: Memory) -> None:
    record_run(memory, 50)
    store_all(memory)
    store_all(memory)
    record_run(memory, 30)
    store_all(memory)

    assert_stored_exactly_once(memory)


def test_records_are_stored_while_the_run_goes_on(memory: Memory) -> None:
    async def work() -> None:
        async with opened_store(memory) as agent:
            for _ in range(4):
                record_run(memory, 90)
                async with asyncio.timeout(WAIT_S_MAX):
                    while agent.lag:
                        agent.do_work()
                        await asyncio.sleep(0.001)

    asyncio.run(work())

    assert_stored_exactly_once(memory)


def test_ring_that_the_recorder_began_just_before_the_stop_is_stored(memory: Memory) -> None:
    record_run(memory, 60)
    late = generation_folder(memory.run.data_dir, GENERATION) / "orders" / RING_FILE
    hidden = late.rename(late.with_suffix(".later"))
    others = sum(memory.producer(it).cursor + 1 for it in journaled(memory) if it != "orders")

    async def work() -> None:
        async with opened_store(memory) as agent:
            async with asyncio.timeout(WAIT_S_MAX):
                while stored_total(memory) < others:
                    agent.do_work()
                    await asyncio.sleep(0.001)
            hidden.rename(late)
            await poll_until_drained(agent)

    asyncio.run(work())

    assert_stored_exactly_once(memory)


def test_values_of_a_quote_come_back_exactly(memory: Memory) -> None:
    tell_instruments(memory, BITCOIN)
    record_run(memory, 8)
    store_all(memory)
    row = rows_for("market.0", 4, 1)[0]
    connection = connect(memory)
    connection.row_factory = sqlite3.Row
    found = connection.execute("SELECT * FROM quotes WHERE sequence = 4").fetchone()
    shown = connection.execute("SELECT * FROM quotes_view WHERE sequence = 4").fetchone()
    offset = connection.execute("SELECT clock_offset_ns FROM runs").fetchone()[0]
    connection.close()

    assert [found[name] for name in ("publish_ns", "trigger_ns", "trigger_sequence")] == (
        row[2:5].tolist()
    )
    assert [found[n] for n in ("update_id", "bid_ticks", "bid_lots", "ask_ticks", "ask_lots")] == (
        row[5:10].tolist()
    )
    assert found["published_at"] == (row[2] + offset) // 1_000
    assert (shown["symbol"], shown["kind"]) == ("BTCUSDT", "QUOTE")
    assert shown["bid_price"] == str(BITCOIN.price(int(row[6])))
    assert shown["ask_quantity"] == str(BITCOIN.quantity(int(row[9])))


def test_packed_words_are_columns_and_missing_ones_null(memory: Memory) -> None:
    record_run(memory, 4)
    store_all(memory)
    order = rows_for("orders", 0, 1)[0].tolist()
    connection = connect(memory)
    query = "SELECT side, type, time_in_force, strategy FROM orders WHERE sequence = 0"
    terms = connection.execute(query).fetchone()
    connection.close()

    assert terms == tuple((order[6] >> shift) & 0x7FFF for shift in (0, 16, 32, 48))


def test_denials_and_risk_states_are_told_apart(memory: Memory) -> None:
    record_run(memory, 9)
    store_all(memory)
    connection = connect(memory)
    denials = connection.execute("SELECT kind, sequence FROM denials ORDER BY 2").fetchall()
    states = connection.execute("SELECT kind, state, reason, version FROM risk_states").fetchall()
    connection.close()

    assert denials == [(Kind.DENIAL, sequence) for sequence in range(0, 9, 2)]
    assert states == [(Kind.RISK_STATE, *rows_for("risk", n, 1)[0, 5:8]) for n in range(1, 9, 2)]


def test_a_database_of_version_1_is_brought_up_to_date_with_its_rows(memory: Memory) -> None:
    record_run(memory, 20)
    store_all(memory)
    connection = connect(memory)
    rows = {name: everything(connection, name) for name in ("denials", "risk_states")}
    for statement in downgrade("INTEGER"):
        connection.execute(statement)
    connection.commit()
    assert len(everything(connection, "denials")) == 20
    record_run(memory, 10)
    store_all(memory)

    assert_stored_exactly_once(memory)
    for name, before in rows.items():
        assert everything(connection, name)[: len(before)] == before
        assert everything(connection, f"{name}_view")
    assert connection.execute("SELECT version FROM schema_version").fetchall() == [
        (SCHEMA_VERSION,)
    ]
    connection.close()


def test_a_database_of_version_2_gets_the_table_of_mark_prices(memory: Memory) -> None:
    record_run(memory, 20)
    store_all(memory)
    connection = connect(memory)
    connection.executescript(
        "DROP VIEW marks_view; DROP TABLE marks; UPDATE schema_version SET version = 2"
    )
    record_run(memory, 10)
    store_all(memory)

    assert everything(connection, "marks_view")
    assert connection.execute("SELECT version FROM schema_version").fetchall() == [
        (SCHEMA_VERSION,)
    ]
    connection.close()


def everything(connection: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    return connection.execute(f"SELECT * FROM {table} ORDER BY sequence").fetchall()


def test_a_database_of_a_later_version_is_refused(memory: Memory) -> None:
    record_run(memory, 5)
    store_all(memory)
    connection = connect(memory)
    connection.execute("UPDATE schema_version SET version = 99")
    connection.commit()
    connection.close()
    notes = Notes()
    store_all(memory, notes)

    assert any("known=3 found=99" in str(fields) for _, _, fields in notes.lines)


def test_every_view_can_be_read(memory: Memory) -> None:
    tell_instruments(memory, BITCOIN)
    record_run(memory, 12)
    store_all(memory)
    connection = connect(memory)
    for table in TABLES:
        found = connection.execute(f"SELECT * FROM {table.name}_view").fetchall()
        plain = connection.execute(f"SELECT * FROM {table.name}").fetchall()
        assert len(found) == len(plain) > 0, table.name
    connection.close()


def test_earlier_run_is_stored_to_its_end_and_marked(segment_prefix: str, tmp_path: Path) -> None:
    settings = store_settings(segment_prefix)
    with opened_run(settings, tmp_path, GENERATION - 1) as memory:
        record_run(memory, 40)
    with opened_run(settings, tmp_path) as memory:
        record_run(memory, 30)
        notes = Notes()
        store_all(memory, notes)

        assert_stored_exactly_once(memory)
        connection = connect(memory)
        runs = connection.execute("SELECT generation, is_stored FROM runs").fetchall()
        query = "SELECT generation, count(*) FROM reports GROUP BY 1"
        reports = connection.execute(query).fetchall()
        connection.close()
        assert runs == [(GENERATION - 1, 1), (GENERATION, 0)]
        assert reports == [(GENERATION - 1, 40), (GENERATION, 30)]
        assert notes.events("info") == ["earlier run stored"]


def test_database_of_another_data_folder_is_refused(memory: Memory) -> None:
    record_run(memory, 5)
    store_all(memory)
    connection = connect(memory)
    connection.execute("UPDATE runs SET journal_id = 'other'")
    connection.commit()
    connection.close()
    notes = Notes()
    store_all(memory, notes)

    assert "store leaves rows to the next start" in notes.events("warning")
    assert any("one data folder" in str(fields) for _, _, fields in notes.lines)


def test_locked_database_delays_rows_and_loses_none(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.sqlite.BUSY_MS_MAX", 10)
    record_run(memory, 60)
    store_all(memory)
    other = connect(memory)
    other.execute("BEGIN IMMEDIATE")
    record_run(memory, 60)
    notes = Notes()

    async def work() -> None:
        async with opened_store(memory, notes) as agent:
            async with asyncio.timeout(WAIT_S_MAX):
                while not notes.events("warning"):
                    agent.do_work()
                    await asyncio.sleep(0.001)
            other.rollback()
            await poll_until_drained(agent)

    asyncio.run(work())
    other.close()

    assert_stored_exactly_once(memory)
    assert "store works" in notes.events("info")


def test_damaged_ring_is_named_and_the_others_are_stored(memory: Memory) -> None:
    record_run(memory, 20)
    path = segment_files(generation_folder(memory.run.data_dir, GENERATION) / "orders")[0].path
    wrong = bytearray(path.read_bytes())
    wrong[100] ^= 1
    path.write_bytes(wrong)
    notes = Notes()
    store_all(memory, notes)
    counts = stored_counts(memory)

    assert counts["orders"] == 0
    assert counts["reports"] == 20
    assert notes.events("error") == ["store cannot read the journal"]


def test_unreachable_database_counts_what_was_committed(memory: Memory) -> None:
    record_run(memory, 9)
    store_all(memory)
    (memory.run.data_dir / "tickring.db").unlink()
    (memory.run.data_dir / "tickring.db").mkdir()

    assert stored_counts(memory)["reports"] == 9


def test_database_file_is_private(memory: Memory) -> None:
    record_run(memory, 1)
    store_all(memory)

    assert (memory.run.data_dir / "tickring.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.multiprocess
@pytest.mark.slow
def test_store_killed_at_any_instant_stores_every_record_once(
    segment_prefix: str, tmp_path: Path
) -> None:
    settings = store_settings(segment_prefix, batch_rows_max=150)
    with opened_run(settings, tmp_path) as memory:
        kill_stores_while_they_work(memory, 4)
        store_all(memory)

        assert_stored_exactly_once(memory)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pass%20word@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://host/db?password=word&x=1", "postgresql://host/db?password=***&x=1"),
        ("sqlite", "sqlite"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
    ],
)
def test_password_is_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url", ["postgresql://me:pass%20word@host:5432/db", "postgresql://host/db?password=pass%20word"]
)
def test_password_never_shows_in_a_fault(url: str) -> None:
    text = scrubbed(f"cannot use {url} with pass%20word or 'pass word'", url)

    assert "word" not in text
    assert text.count("***") >= 3


def test_url_comes_from_the_environment_when_it_is_named() -> None:
    settings = StoreSettings(url_env="MY_URL")

    assert database_url(settings, {"MY_URL": "postgresql://host/db"}) == "postgresql://host/db"
    with pytest.raises(ValueError, match="name=MY_URL"):
        database_url(settings, {})


def test_unknown_url_is_refused_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"url=mysql://me:\*\*\*@host"):
        make_database("mysql://me:secret@host/db", tmp_path)
