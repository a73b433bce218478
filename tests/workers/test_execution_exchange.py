"""Execution against the built-in exchange over its real protocol."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from config.settings import ExchangeSettings, MarketSettings
from engine.positions import FILLS, POSITION_LOTS
from engine.records import (
    CUMULATIVE_LOTS,
    LAST_LOTS,
    REPORT_TRADE_ID,
    STATUS,
    STATUS_ORDER,
    OrderState,
    Reason,
    Side,
    part,
)
from tests.workers.execution_rig import BTC, Rig, settings_of
from workers.agent import Phase
from workers.exchange.keys import KeyPair, make_ed25519_pair, make_hmac_pair, write_pair
from workers.exchange.server import ExchangeServer

pytestmark = pytest.mark.slow
Scenario = Callable[[Rig, int], Awaitable[None]]


def trade(scenario: Scenario, prefix: str, folder: Path, pair: KeyPair) -> None:
    """Runs a scenario on an agent connected to the exchange; its second argument is the port."""

    async def live() -> None:
        server = ExchangeServer(
            ExchangeSettings(seed=3, rate_per_s=200.0),
            MarketSettings(),
            keys={pair.api_key: pair.credential()},
        )
        port = await server.open()
        key_file = folder / "key"
        write_pair(key_file, pair)
        rig = Rig(settings_of(prefix, key_file, port), folder)
        try:
            await rig.start()
            await scenario(rig, port)
        finally:
            await rig.close()
            await server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())


async def best_ticks(port: int) -> tuple[int, int]:
    """Answers the best bid and ask of the moment, in ticks."""

    def read() -> Any:
        url = f"http://127.0.0.1:{port}/api/v3/depth?symbol=BTCUSDT&limit=5"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())

    book = await asyncio.to_thread(read)
    bid, ask = (round(float(book[side][0][0]) * 100) for side in ("bids", "asks"))
    return bid, ask


@pytest.mark.parametrize("make_pair", [make_hmac_pair, make_ed25519_pair])
def test_orders_rest_fill_and_are_cancelled(
    segment_prefix: str, tmp_path: Path, make_pair: Callable[[], KeyPair]
) -> None:
    async def scenario(rig: Rig, port: int) -> None:
        bid, ask = await best_ticks(port)
        resting = rig.order(lots=50, ticks=bid - 2_000)
        await rig.reported(Reason.SENT, Reason.ACK)
        rig.order(lots=40, ticks=ask + 2_000)
        await rig.until(lambda: rig.position()[POSITION_LOTS] == 40)
        rig.cancel(resting)
        await rig.until(lambda: Reason.CANCELED in rig.reasons())
        rig.order(lots=40, ticks=bid - 2_000, side=Side.SELL)
        await rig.until(lambda: rig.position()[POSITION_LOTS] == 0)

        reports = rig.told()
        fills = [r for r, why in zip(reports, rig.reasons(), strict=True) if why == Reason.FILL]
        assert sum(int(r[LAST_LOTS]) for r in fills) == 80
        assert len({int(r[REPORT_TRADE_ID]) for r in fills}) == len(fills)
        assert rig.position()[FILLS] == len(fills)
        ended = [OrderState(part(int(r[STATUS]), STATUS_ORDER)) for r in reports]
        assert ended.count(OrderState.FILLED) == 2
        assert ended.count(OrderState.CANCELED) == 1
        assert rig.counter("order_messages_rejected_total") == 0
        assert rig.counter("unknown_total") == 0

    trade(scenario, segment_prefix, tmp_path, make_pair())


def test_fills_missed_while_dead_are_recovered_once(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, port: int) -> None:
        bid, ask = await best_ticks(port)
        rig.order(lots=30, ticks=bid - 3_000)
        await rig.reported(Reason.SENT, Reason.ACK)
        rig.order(lots=30, ticks=ask + 2_000)
        rig.agent.do_work()  # the frame is out; nothing that the venue says is read
        assert rig.reasons()[-1] == Reason.SENT
        await rig.kill_and_restart()
        await rig.until(lambda: rig.position()[POSITION_LOTS] == 30)
        await rig.until(lambda: rig.agent._memory.live_count == 1)

        last = rig.told()[-1]
        assert last[CUMULATIVE_LOTS] == 30
        assert rig.counter("orders_sent_total") == 2
        while not rig.agent.on_phase(Phase.CANCEL):
            rig.agent.do_work()
            await asyncio.sleep(0)
        assert rig.agent._memory.live_count == 0

    trade(scenario, segment_prefix, tmp_path, make_ed25519_pair())


def test_a_price_beyond_the_filters_is_rejected(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, port: int) -> None:
        rig.order(lots=50, ticks=100)
        await rig.until(lambda: Reason.REJECT in rig.reasons())

        assert rig.counter("rejects_total") == 1
        assert BTC.price(100) == 1

    trade(scenario, segment_prefix, tmp_path, make_ed25519_pair())
