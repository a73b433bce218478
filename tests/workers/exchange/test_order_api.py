"""The order API over a real socket: orders, cancels and queries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
import uvloop

from config.settings import ExchangeSettings
from tests.workers.exchange.clients import (
    ED25519,
    HMAC,
    QUIET,
    SYMBOLS,
    OrderClient,
    order_client,
    serving,
)
from workers.exchange.limits import Limits

# The quiet book opens at 61000.00 / 61000.01.
LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
RESTING = LIMIT | {"quantity": "0.01", "price": "60000.00"}
CROSSING = LIMIT | {"quantity": "0.01", "price": "61000.01"}
MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET"}

Scenario = Callable[[OrderClient], Awaitable[None]]


def play(
    scenario: Scenario,
    settings: ExchangeSettings = QUIET,
    limits: Limits | None = None,
    query: str = "",
) -> None:
    """Runs a scenario against a fresh quiet exchange."""

    async def run() -> None:
        async with (
            serving(settings, SYMBOLS, limits=limits) as (_, port),
            order_client(port, query=query) as client,
        ):
            await scenario(client)

    uvloop.run(run())


class TestOrders:
    def test_a_resting_order_is_new_locks_its_money_and_is_found(self) -> None:
        async def scenario(client: OrderClient) -> None:
            placed = await client.result("order.place", RESTING | {"newClientOrderId": "mine"})
            status = await client.result(
                "order.status", {"symbol": "BTCUSDT", "origClientOrderId": "mine"}
            )
            opened = await client.result("openOrders.status", {"symbol": "BTCUSDT"})
            account = await client.result("account.status")

            assert placed["status"] == "NEW"
            assert placed["fills"] == []
            assert placed["clientOrderId"] == "mine"
            assert status["orderId"] == placed["orderId"]
            assert status["origQty"] == "0.01000000"
            assert status["isWorking"] is True
            assert opened == [status]
            balances = {entry["asset"]: entry for entry in account["balances"]}
            assert balances["USDT"] == {
                "asset": "USDT",
                "free": "999400.00000000",
                "locked": "600.00000000",
            }

        play(scenario)

    def test_a_cancel_gives_the_money_back_and_ends_the_order(self) -> None:
        async def scenario(client: OrderClient) -> None:
            placed = await client.result("order.place", RESTING)
            canceled = await client.result(
                "order.cancel", {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
            )
            again = await client.signed(
                "order.cancel", {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
            )
            account = await client.result("account.status", {"omitZeroBalances": True})

            assert canceled["status"] == "CANCELED"
            assert canceled["origClientOrderId"] == placed["clientOrderId"]
            assert canceled["clientOrderId"] != placed["clientOrderId"]
            assert again["error"] == {"code": -2011, "msg": "Unknown order sent."}
            assert {entry["locked"] for entry in account["balances"]} == {"0.00000000"}

        play(scenario)

    def test_a_crossing_order_fills_and_pays_its_fee_in_what_it_receives(self) -> None:
        async def scenario(client: OrderClient) -> None:
            placed = await client.result("order.place", CROSSING)
            fills = placed["fills"]
            trades = await client.result("myTrades", {"symbol": "BTCUSDT"})
            account = await client.result("account.status")

            assert placed["status"] == "FILLED"
            assert sum(Decimal(fill["qty"]) for fill in fills) == Decimal("0.01")
            assert {fill["commissionAsset"] for fill in fills} == {"BTC"}
            assert [trade["id"] for trade in trades] == [fill["tradeId"] for fill in fills]
            assert placed["cummulativeQuoteQty"] == "610.00010000"
            fee = sum(Decimal(fill["commission"]) for fill in fills)
            balances = {entry["asset"]: Decimal(entry["free"]) for entry in account["balances"]}
            assert balances["BTC"] == Decimal(10) + Decimal("0.01") - fee
            assert balances["USDT"] == Decimal(1_000_000) - Decimal("610.0001")

        play(scenario)

    @pytest.mark.parametrize(
        ("terms", "status", "reason"),
        [
            (
                {"timeInForce": "IOC", "price": "60000.00"},
                "EXPIRED",
                "UNFILLED_IOC_QUANTITY_EXPIRED",
            ),
            ({"timeInForce": "FOK", "price": "60000.00"}, "EXPIRED", "UNFILLED_FOK_ORDER_EXPIRED"),
            ({"timeInForce": "FOK", "price": "61000.01"}, "FILLED", None),
            ({"timeInForce": "IOC", "price": "61000.01"}, "FILLED", None),
        ],
    )
    def test_time_in_force_decides(
        self, terms: dict[str, str], status: str, reason: str | None
    ) -> None:
        async def scenario(client: OrderClient) -> None:
            placed = await client.result("order.place", LIMIT | {"quantity": "0.01"} | terms)

            assert placed["status"] == status
            assert placed.get("expiryReason") == reason

        play(scenario)

    def test_a_market_order_takes_by_quantity_and_by_value(self) -> None:
        async def scenario(client: OrderClient) -> None:
            by_quantity = await client.result("order.place", MARKET | {"quantity": "0.02"})
            by_value = await client.result("order.place", MARKET | {"quoteOrderQty": "1000"})

            assert by_quantity["executedQty"] == "0.02000000"
            assert by_value["status"] == "FILLED"
            assert Decimal(990) < Decimal(by_value["cummulativeQuoteQty"]) <= Decimal(1000)
            assert by_value["origQuoteOrderQty"] == "1000.00000000"

        play(scenario)

    @pytest.mark.parametrize(
        ("answer", "has", "lacks"),
        [("ACK", "transactTime", "status"), ("RESULT", "status", "fills"), ("FULL", "fills", "x")],
    )
    def test_the_answer_has_the_form_asked_for(self, answer: str, has: str, lacks: str) -> None:
        async def scenario(client: OrderClient) -> None:
            placed = await client.result("order.place", RESTING | {"newOrderRespType": answer})

            assert has in placed
            assert lacks not in placed

        play(scenario)

    def test_cancel_all_ends_every_order_of_one_symbol(self) -> None:
        async def scenario(client: OrderClient) -> None:
            other = RESTING | {"symbol": "ETHUSDT", "price": "2000", "quantity": "0.01"}
            for order in (RESTING, RESTING, other):
                await client.result("order.place", order)
            canceled = await client.result("openOrders.cancelAll", {"symbol": "BTCUSDT"})
            left = await client.result("openOrders.status")

            assert [entry["status"] for entry in canceled] == ["CANCELED", "CANCELED"]
            assert [entry["symbol"] for entry in left] == ["ETHUSDT"]

        play(scenario)

    def test_an_order_against_ones_own_expires_the_resting_one(self) -> None:
        async def scenario(client: OrderClient) -> None:
            maker = await client.result(
                "order.place", LIMIT | {"side": "SELL", "quantity": "0.01", "price": "61000.01"}
            )
            size = "9"
            await client.result("order.place", LIMIT | {"quantity": size, "price": "61000.01"})
            status = await client.result(
                "order.status", {"symbol": "BTCUSDT", "orderId": maker["orderId"]}
            )

            assert status["status"] == "EXPIRED_IN_MATCH"
            assert status["preventedQuantity"] == "0.01000000"

        play(scenario)


def test_two_accounts_trade_with_each_other_at_the_resting_price() -> None:
    async def run() -> None:
        async with (
            serving() as (_, port),
            order_client(port, pair=HMAC) as maker,
            order_client(port, pair=ED25519) as taker,
        ):
            for client in (maker, taker):
                await client.result("userDataStream.subscribe.signature")
            # Take everything at the best ask, so that the maker can rest alone inside the gap.
            best = Decimal("61000.01")
            sweep = LIMIT | {"timeInForce": "IOC", "price": str(best)}
            await taker.result("order.place", sweep | {"quantity": "3"})
            await maker.result(
                "order.place",
                LIMIT | {"side": "SELL", "type": "LIMIT", "quantity": "0.5", "price": str(best)},
            )
            placed = await taker.result("order.place", sweep | {"quantity": "10"})
            reports: list[dict[str, Any]] = []
            while not reports or reports[-1]["x"] != "TRADE":
                reports += await maker.executions(1)

            assert placed["status"] in {"EXPIRED", "FILLED"}
            assert reports[-1]["m"] is True
            assert reports[-1]["L"] == "61000.01000000"
            assert reports[-1]["N"] == "USDT"

    uvloop.run(run())


def test_orders_survive_their_connection() -> None:
    async def run() -> None:
        async with serving() as (_, port):
            async with order_client(port) as client:
                await client.result("userDataStream.subscribe.signature")
                await client.result("order.place", RESTING)
            async with order_client(port) as client:
                opened = await client.result("openOrders.status")

                assert len(opened) == 1

    asyncio.run(run())
