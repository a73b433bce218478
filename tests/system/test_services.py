"""The engine with its neighbours: a real PostgreSQL, a real Redis, and Prometheus's own checker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import urllib.request
from typing import Any

import asyncpg
import msgpack
import pytest
import redis

from tests.system import sequences
from tests.system.conftest import Starter
from tests.system.profiles import demo

pytestmark = [pytest.mark.multiprocess, pytest.mark.services, pytest.mark.slow]

NAMED_METRICS = (
    "order_execution_latency_seconds_count",
    "signal_generation_time_seconds_count",
    "db_write_latency_seconds_count",
    "risk_check_time_seconds_count",
    "websocket_message_rate",
)


def test_rows_in_postgres_equal_the_journal(start: Starter, postgres_url: str) -> None:
    base, _, _ = postgres_url.rpartition("/")

    async def run(database: str, statement: str) -> list[Any]:
        connection = await asyncpg.connect(f"{base}/{database}")
        try:
            found: list[Any] = await connection.fetch(statement)
            return found
        finally:
            await connection.close()

    asyncio.run(run("postgres", "create database engine_run"))
    store = f'[store]\nurl = "{base}/engine_run"\n'
    engine = start("--for", "6s", config=demo("services", more=store))
    summary = engine.summary()
    rows = {
        table: tuple(asyncio.run(run("engine_run", sequences.TABLE.format(table)))[0])
        for table in summary["stored"]
    }
    rings, positions = (
        [tuple(row) for row in asyncio.run(run("engine_run", query))]
        for query in (sequences.RINGS, sequences.POSITIONS)
    )

    assert summary["lost"] == 0
    assert sum(summary["records"].values()) == summary["journal_records"]
    assert rows == {table: (count, count) for table, count in summary["stored"].items()}
    sequences.assert_every_sequence_is_everywhere(engine, summary, rings, positions)


class Listener:
    """A plain redis-py subscriber that counts what it hears by channel and kind."""

    def __init__(self, url: str, prefix: str, encoding: str) -> None:
        self._decode = json.loads if encoding == "json" else msgpack.unpackb
        self._client = redis.Redis.from_url(url)
        self._heard = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._heard.psubscribe(f"{prefix}.*")
        self._over = threading.Event()
        self.messages: dict[str, list[dict[str, Any]]] = {}
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._over.is_set():
            message = self._heard.get_message(timeout=0.1)
            if message is not None:
                channel = message["channel"].decode().rpartition(".")[2]
                self.messages.setdefault(channel, []).append(self._decode(message["data"]))

    def close(self) -> None:
        """Stops listening after what has arrived was read."""
        self._over.set()
        self._thread.join()
        self._heard.close()
        self._client.close()


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_a_redis_subscriber_hears_every_order_and_fill(
    start: Starter, redis_url: str, encoding: str
) -> None:
    prefix = f"run-{encoding}"
    listener = Listener(redis_url, prefix, encoding)
    bus = f'[bus]\nurl = "{redis_url}"\nprefix = "{prefix}"\nencoding = "{encoding}"\n'
    try:
        summary = start("--for", "6s", config=demo("services", more=bus)).summary()
    finally:
        listener.close()
    heard = {channel: len(messages) for channel, messages in listener.messages.items()}
    records = summary["records"]

    assert heard["orders"] == records["orders"]
    assert heard["execution"] == records["reports"]
    assert heard["risk"] == records["risk"]
    assert heard["signals"] == records["signals"] + records["intents"]
    fills = [m for m in listener.messages["execution"] if str(m["reason"]).upper() == "FILL"]
    assert len(fills) == summary["fills"] > 0


def test_metrics_pass_promtool_and_the_named_ones_move(start: Starter, promtool: str) -> None:
    engine = start(config=demo("services", more=""))
    engine.wait_trading()

    def metrics() -> dict[str, float]:
        with urllib.request.urlopen(engine.status()["metrics_url"]) as answer:
            text = answer.read().decode()
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
        values: dict[str, float] = {}
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            base = name.partition("{")[0]
            if base in NAMED_METRICS:
                values[base] = values.get(base, 0.0) + float(value)
        return values

    first = metrics()
    engine.wait(
        lambda: all(metrics()[name] > first[name] for name in NAMED_METRICS[:4]),
        "the named histograms move",
    )
    engine.wait(lambda: metrics()["websocket_message_rate"] > 0, "frames are counted")
    engine.stop()

    assert set(first) == set(NAMED_METRICS)
