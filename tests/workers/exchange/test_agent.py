"""The exchange as an agent: it tells its port and progress, and comes back where it was."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import uvloop

from config.settings import ExchangeSettings, MarketSettings, Settings
from shm.segment import Words
from tests.workers.exchange.clients import get, order_client, stream_client, until
from workers.agent import LoopAgent, Phase
from workers.context import AgentContext
from workers.endpoints import (
    EXCHANGE_WORDS,
    KEY_FILE,
    PLAYBACK_FINISHED,
    PLAYBACK_STARTED,
    PORT,
    ensure_exchange_key,
)
from workers.exchange.agent import ExchangeAgent
from workers.exchange.capture import CaptureError
from workers.exchange.keys import read_pair
from workers.listening import ListenError

NS = 1_700_000_000_000_000_000
TRADE = '{"stream":"abcusdt@trade","data":{"e":"trade","s":"ABCUSDT","t":%d,"p":"1.0","q":"2.0"}}'


class Context:
    """What the exchange needs of a worker, in this process's own memory."""

    def __init__(self, data_dir: Path, exchange: ExchangeSettings) -> None:
        self.agent = "exchange"
        self.data_dir = data_dir
        self.settings = Settings(exchange=exchange, market=MarketSettings())
        self.logger = self
        self.table = np.zeros(EXCHANGE_WORDS, np.int64)
        self.said: list[str] = []
        ensure_exchange_key(data_dir)

    def segment(self, name: str) -> Context:
        assert name == "exchange"
        return self

    def words(self, offset: int, count: int) -> Words:
        return self.table[offset : offset + count]

    def info(self, event: str, **fields: object) -> None:
        self.said.append(f"{event} {fields}")

    def agent_of(self) -> ExchangeAgent:
        agent = ExchangeAgent(cast("AgentContext", self))
        agent.on_start()
        return agent


def test_it_is_an_agent_with_sockets_and_one_segment(tmp_path: Path) -> None:
    agent = Context(tmp_path, ExchangeSettings()).agent_of()

    assert isinstance(agent, LoopAgent)
    assert agent.role_name == "exchange"
    assert [plan.name for plan in ExchangeAgent.segments(Settings(), "exchange")] == ["exchange"]
    assert all(agent.on_phase(phase) for phase in Phase)


def test_it_serves_with_the_engines_key_and_tells_its_port(tmp_path: Path) -> None:
    async def run() -> None:
        context = Context(tmp_path, ExchangeSettings(rate_per_s=0.001))
        agent = context.agent_of()
        await agent.open()
        port = int(context.table[PORT])
        pair = read_pair(tmp_path / KEY_FILE)
        async with order_client(port, pair=pair) as client:
            logon = await client.result("session.logon")
        await agent.close()
        agent.on_close()

        assert logon["apiKey"] == pair.api_key
        assert not any(pair.secret in line or pair.api_key in line for line in context.said)

    uvloop.run(run())


def test_a_restarted_exchange_takes_its_old_port_again(tmp_path: Path) -> None:
    async def run() -> list[int]:
        context = Context(tmp_path, ExchangeSettings(rate_per_s=0.001))
        ports = []
        for _ in range(2):
            agent = context.agent_of()
            await agent.open()
            ports.append(int(context.table[PORT]))
            assert (await get(ports[-1], "/api/v3/ping"))[0] == 200
            await agent.close()
        return ports

    first, second = uvloop.run(run())

    assert first == second > 0


def test_ids_go_on_rising_over_a_restart(tmp_path: Path) -> None:
    async def run() -> list[int]:
        context = Context(tmp_path, ExchangeSettings(rate_per_s=0.001))
        ids = []
        for _ in range(2):
            agent = context.agent_of()
            await agent.open()
            pair = read_pair(tmp_path / KEY_FILE)
            order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
            async with order_client(int(context.table[PORT]), pair=pair) as client:
                placed = await client.result("order.place", order)
            ids += [placed["orderId"], placed["fills"][-1]["tradeId"]]
            await agent.close()
        return ids

    order_before, trade_before, order_after, trade_after = uvloop.run(run())

    assert order_after > order_before
    assert trade_after > trade_before


def test_the_progress_of_a_recording_is_told(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_text("".join(f"{NS + number} {TRADE % number}\n" for number in range(3)))

    async def run() -> None:
        context = Context(tmp_path, ExchangeSettings(capture=(str(path),), speed=0.0))
        agent = context.agent_of()
        await agent.open()
        agent.do_work()
        before: Any = context.table[[PLAYBACK_STARTED, PLAYBACK_FINISHED]].tolist()

        def is_finished() -> bool:
            agent.do_work()
            return bool(context.table[PLAYBACK_FINISHED])

        async with stream_client(int(context.table[PORT]), "/ws/abcusdt@trade"):
            await until(is_finished)
        await agent.close()

        assert before == [0, 0]
        assert context.table[PLAYBACK_STARTED] == 1

    uvloop.run(run())


def test_a_bad_recording_is_a_configuration_error(tmp_path: Path) -> None:
    async def run() -> None:
        settings = ExchangeSettings(capture=(str(tmp_path / "nowhere"),))
        await Context(tmp_path, settings).agent_of().open()

    with pytest.raises(CaptureError) as refusal:
        uvloop.run(run())
    assert refusal.value.is_configuration


def test_a_port_that_is_taken_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            agent = Context(tmp_path, ExchangeSettings(port=port)).agent_of()
            with pytest.raises(ListenError, match=rf"exchange\.port must be free.*={port} "):
                await agent.open()
            await agent.close()

    uvloop.run(test())
