"""The bus on a real Redis: a plain subscriber hears every record, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import redis

from config.settings import BusSettings
from engine.records import ROW_WORDS, Kind, client_id_of, pack, tag
from tests import servers
from tests.workers.observed_run import (
    agent_context,
    observed_run,
    small_settings,
    tell_instruments,
)
from workers.agent import Phase
from workers.bus import POSITION_FILE, BusAgent, bus_url, load_position
from workers.context import Memory
from workers.recorder import RecorderAgent

KINDS = {
    "signals": Kind.SIGNAL,
    "intents": Kind.INTENT_NEW,
    "orders": Kind.ORDER_NEW,
    "risk": Kind.DENIAL,
    "reports": Kind.REPORT,
}
WAIT_S_MAX = 60.0

Talk = Callable[["Listener"], Awaitable[None]]


class Listener:
    """A subscriber written with plain redis-py."""

    def __init__(self, url: str, prefix: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._subscription = self._client.pubsub(  # type: ignore[no-untyped-call]
            ignore_subscribe_messages=True
        )
        self._subscription.psubscribe(f"{prefix}.*")
        self._prefix = prefix
        self.heard: list[tuple[str, bytes]] = []
        while self._subscription.get_message(timeout=WAIT_S_MAX) is not None:
            pass  # the confirmation

    def poll(self) -> None:
        while (message := self._subscription.get_message(timeout=0)) is not None:
            channel = message["channel"].decode().removeprefix(f"{self._prefix}.")
            self.heard.append((channel, message["data"]))

    def places(self) -> list[tuple[str, int, int]]:
        found = [json.loads(raw) for _, raw in self.heard]
        return [(one["ring"], one["run"], one["sequence"]) for one in found]

    def close(self) -> None:
        self._subscription.close()
        self._client.close()


def publish(memory: Memory, count: int) -> None:
    """Writes `count` records into every ring that the bus publishes, and journals them."""
    for ring, kind in KINDS.items():
        producer = memory.producer(ring)
        for _ in range(count):
            record = np.zeros(ROW_WORDS, np.int64)
            record[1] = tag(kind, 0, 1, 0)
            record[2] = 1_000 + 10 * (producer.cursor + 1)
            record[5] = client_id_of(memory.run.generation, producer.cursor + 1)
            record[6] = pack(1, 1, 1, 0)
            record[7:9] = 300_001, 25
            assert producer.append(record) >= 0
        for reader in memory.ring_plans[_index(memory, ring)].readers:
            if reader != "recorder":
                memory.consumer(ring, reader).release(producer.cursor)


def _index(memory: Memory, ring: str) -> int:
    return [plan.name for plan in memory.ring_plans].index(ring)


def journal(memory: Memory) -> None:
    """Runs a recorder until every ring is in the journal."""
    agent = RecorderAgent(agent_context(memory, "keeper", "recorder"))
    agent.on_start()
    for _ in range(100_000):
        agent.do_work()
        if agent.on_phase(Phase.JOURNAL):
            break
    agent.on_close()


async def until(condition: Callable[[], bool]) -> None:
    """Polls with a deadline."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(0.002)


async def is_done(agent: BusAgent) -> None:
    await until(lambda: agent.on_phase(Phase.STORE))


def run_bus(memory: Memory, talk: Callable[[BusAgent], Awaitable[None]]) -> None:
    """Runs the agent as its worker would, around one conversation."""

    async def run() -> None:
        agent = BusAgent(agent_context(memory, "watcher", "bus"))
        agent.on_start()
        await agent.open()
        try:
            await talk(agent)
        finally:
            await agent.close()
            agent.on_close()

    asyncio.run(run())


def bus_settings(name: str, url: str, **fields: Any) -> Any:
    return small_settings(name, bus=BusSettings(url=url, prefix=name, batch_max=50, **fields))


@pytest.fixture
def memory(segment_prefix: str, tmp_path: Path, redis_url: str) -> Iterator[Memory]:
    settings = bus_settings(segment_prefix, redis_url)
    with observed_run(settings, tmp_path) as memory:
        tell_instruments(memory)
        yield memory


@pytest.fixture
def listener(segment_prefix: str, redis_url: str) -> Iterator[Listener]:
    made = Listener(redis_url, segment_prefix)
    yield made
    made.close()


def expected(run: int, *counts: int) -> list[tuple[str, int, int]]:
    """Every place of `sum(counts)` records in every ring."""
    return sorted((ring, run, sequence) for ring in KINDS for sequence in range(sum(counts)))


@pytest.mark.services
class TestPublishing:
    @pytest.mark.parametrize("encoding", ["json", "msgpack"])
    def test_subscriber_hears_every_record_on_its_channel(
        self, segment_prefix: str, tmp_path: Path, redis_url: str, listener: Listener, encoding: str
    ) -> None:
        settings = bus_settings(segment_prefix, redis_url, encoding=encoding)
        with observed_run(settings, tmp_path) as memory:
            tell_instruments(memory)
            publish(memory, 40)
            journal(memory)
            run_bus(memory, is_done)
            counted = {
                channel: memory.stats("watcher")
                .counter("bus_published_total", channel=channel)
                .value
                for channel in ("signals", "orders", "risk", "execution")
            }

        listener.poll()
        decode = msgpack.unpackb if encoding == "msgpack" else json.loads
        messages = [(channel, decode(raw)) for channel, raw in listener.heard]
        places = [(one["ring"], one["run"], one["sequence"]) for _, one in messages]
        assert sorted(places) == expected(1, 40)
        assert Counter(channel for channel, _ in messages) == counted
        assert counted == {"signals": 80, "orders": 40, "risk": 40, "execution": 40}
        for ring in KINDS:
            own = [sequence for name, _, sequence in places if name == ring]
            assert own == sorted(own)
        order = next(one for channel, one in messages if channel == "orders")
        assert (order["symbol"], order["price"], order["quantity"]) == (
            "ETHUSDT", "3000.01", "0.00025"
        )  # fmt: skip

    def test_records_of_a_batch_come_by_time(self, memory: Memory, listener: Listener) -> None:
        publish(memory, 5)
        journal(memory)
        run_bus(memory, is_done)

        listener.poll()
        times = [json.loads(raw)["time_ns"] for _, raw in listener.heard]
        assert times == sorted(times)

    def test_records_that_come_later_are_heard(self, memory: Memory, listener: Listener) -> None:
        async def talk(agent: BusAgent) -> None:
            publish(memory, 3)
            journal(memory)
            await until(lambda: agent.do_work() > 0)
            publish(memory, 2)
            journal(memory)
            await is_done(agent)

        run_bus(memory, talk)
        listener.poll()
        assert sorted(listener.places()) == expected(1, 3, 2)


@pytest.mark.services
class TestPosition:
    def test_second_bus_goes_on_where_the_first_stopped(
        self, memory: Memory, listener: Listener
    ) -> None:
        publish(memory, 30)
        journal(memory)
        run_bus(memory, is_done)
        publish(memory, 20)
        journal(memory)
        run_bus(memory, is_done)

        listener.poll()
        assert sorted(listener.places()) == expected(1, 30, 20)

    def test_bus_killed_before_it_saved_repeats_one_batch_at_most(
        self, memory: Memory, listener: Listener
    ) -> None:
        publish(memory, 60)
        journal(memory)

        async def die(agent: BusAgent) -> None:
            agent._backlog.save = _killed  # type: ignore[method-assign]
            await until(lambda: agent._task is not None and agent._task.done())
            assert agent._task is not None
            agent._task.exception()
            agent._task = None

        run_bus(memory, die)
        run_bus(memory, is_done)

        listener.poll()
        times = Counter(listener.places())
        assert sorted(times) == expected(1, 60)
        assert set(times.values()) == {1, 2}
        assert sum(count - 1 for count in times.values()) == 50

    def test_position_is_private_and_whole(self, memory: Memory, tmp_path: Path) -> None:
        publish(memory, 4)
        journal(memory)
        run_bus(memory, is_done)

        path = tmp_path / POSITION_FILE
        position = load_position(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert position is not None
        assert (position.run, position.following) == (1, dict.fromkeys(KINDS, 4))

    def test_damaged_position_is_one_clear_line(self, memory: Memory, tmp_path: Path) -> None:
        (tmp_path / POSITION_FILE).write_text("{")

        with pytest.raises(ValueError, match="a position file must be readable: file="):
            BusAgent(agent_context(memory, "watcher", "bus")).on_start()

    def test_last_run_is_finished_before_the_next_one(
        self, segment_prefix: str, tmp_path: Path, redis_url: str, listener: Listener
    ) -> None:
        for run in (1, 2):
            settings = bus_settings(segment_prefix, redis_url)
            with observed_run(settings, tmp_path, generation=run) as memory:
                tell_instruments(memory)
                publish(memory, 10)
                journal(memory)
                if run == 1:
                    run_bus(memory, is_done)
                    publish(memory, 5)
                    journal(memory)
                else:
                    run_bus(memory, is_done)

        listener.poll()
        places = listener.places()
        assert sorted(places) == sorted(expected(1, 10, 5) + expected(2, 10))
        assert [run for _, run, _ in places] == sorted(run for _, run, _ in places)

    def test_first_bus_leaves_runs_of_the_past_alone(
        self, segment_prefix: str, tmp_path: Path, redis_url: str, listener: Listener
    ) -> None:
        for run in (1, 2):
            settings = bus_settings(segment_prefix, redis_url)
            with observed_run(settings, tmp_path, generation=run) as memory:
                tell_instruments(memory)
                publish(memory, 6)
                journal(memory)
                if run == 2:
                    run_bus(memory, is_done)

        listener.poll()
        assert sorted(listener.places()) == expected(2, 6)


def _killed() -> None:
    raise RuntimeError("killed here")


@pytest.mark.services
class TestRedisAway:
    def test_nothing_is_lost_while_redis_is_away(
        self, segment_prefix: str, tmp_path: Path, free_port: int
    ) -> None:
        url = f"redis://127.0.0.1:{free_port}/0"
        with ExitStack() as stack:
            settings = bus_settings(segment_prefix, url)
            memory = stack.enter_context(observed_run(settings, tmp_path))
            tell_instruments(memory)
            heard: list[tuple[str, int, int]] = []

            async def talk(agent: BusAgent) -> None:
                publish(memory, 10)
                journal(memory)
                await until(lambda: agent._retry_s > 0)
                with server(free_port):
                    listener = Listener(url, segment_prefix)
                    await is_caught_up(agent)
                    heard.extend(drained(listener))
                publish(memory, 10)
                journal(memory)
                await until(lambda: agent._retry_s > 0)
                with server(free_port):
                    listener = Listener(url, segment_prefix)
                    await is_caught_up(agent)
                    heard.extend(drained(listener))

            run_bus(memory, talk)
            errors = [error.text for error in memory.stats("watcher").errors()]

        assert sorted(heard) == expected(1, 10, 10)
        assert any(text.startswith("bus must be reachable") for text in errors)

    def test_stop_does_not_wait_for_ever(
        self, segment_prefix: str, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workers.bus.STOP_S_MAX", 0.0)
        settings = bus_settings(segment_prefix, f"redis://:hunter2@127.0.0.1:{free_port}/0")
        with observed_run(settings, tmp_path) as memory:
            tell_instruments(memory)
            publish(memory, 1)
            journal(memory)
            run_bus(memory, is_done)
            rows = memory.consumer("log.watcher", "logs").poll(64).tobytes()

        assert b"bus is away" in rows
        assert b"hunter2" not in rows


def server(port: int) -> Any:
    try:
        return servers.redis(port)
    except servers.MissingServerError as error:
        pytest.skip(str(error))


async def is_caught_up(agent: BusAgent) -> None:
    agent._stop_ns = 0
    await until(lambda: agent.on_phase(Phase.STORE) and agent._retry_s == 0)


def drained(listener: Listener) -> list[tuple[str, int, int]]:
    listener.poll()
    places = listener.places()
    listener.close()
    return places


def test_url_of_an_unset_variable_is_one_clear_line() -> None:
    settings = small_settings("x", bus=BusSettings(url_env="TICKRING_TEST_NO_SUCH_VARIABLE"))

    with pytest.raises(ValueError, match=r"bus\.url_env must name a variable that is set"):
        bus_url(settings)


def test_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKRING_TEST_BUS", "redis://host/1")
    settings = small_settings("x", bus=BusSettings(url_env="TICKRING_TEST_BUS"))

    assert bus_url(settings) == "redis://host/1"
