"""The order API over a real socket: events of the user data stream, and sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal

import uvloop

from config.settings import ExchangeSettings
from tests.workers.exchange.clients import (
    ED25519,
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


class TestUserData:
    def test_reports_tell_the_whole_life_of_an_order(self) -> None:
        async def scenario(client: OrderClient) -> None:
            subscribed = await client.result("userDataStream.subscribe.signature")
            placed = await client.result("order.place", CROSSING | {"newClientOrderId": "one"})
            reports = await client.executions(1 + len(placed["fills"]))
            new, trades = reports[0], reports[1:]

            assert subscribed == {"subscriptionId": 0}
            assert (new["x"], new["X"], new["c"], new["z"], new["t"]) == (
                "NEW",
                "NEW",
                "one",
                "0.00000000",
                -1,
            )
            assert [trade["x"] for trade in trades] == ["TRADE"] * len(trades)
            assert trades[-1]["X"] == "FILLED"
            assert [trade["t"] for trade in trades] == [fill["tradeId"] for fill in placed["fills"]]
            assert [trade["n"] for trade in trades] == [
                fill["commission"] for fill in placed["fills"]
            ]
            assert {trade["N"] for trade in trades} == {"BTC"}
            assert {trade["m"] for trade in trades} == {False}
            total = Decimal(0)
            for trade in trades:
                total += Decimal(trade["l"])
                assert Decimal(trade["z"]) == total
                assert Decimal(trade["Y"]) == Decimal(trade["l"]) * Decimal(trade["L"])
            assert len({report["I"] for report in reports}) == len(reports)

        play(scenario)

    def test_a_cancel_report_names_both_client_ids(self) -> None:
        async def scenario(client: OrderClient) -> None:
            await client.result("userDataStream.subscribe.signature")
            await client.result("order.place", RESTING | {"newClientOrderId": "one"})
            await client.result(
                "order.cancel",
                {"symbol": "BTCUSDT", "origClientOrderId": "one", "newClientOrderId": "two"},
            )
            new, canceled = await client.executions(2)

            assert (new["w"], new["C"]) == (True, "")
            assert (canceled["x"], canceled["X"]) == ("CANCELED", "CANCELED")
            assert (canceled["c"], canceled["C"], canceled["w"]) == ("two", "one", False)

        play(scenario)

    def test_balances_follow_every_change(self) -> None:
        async def scenario(client: OrderClient) -> None:
            await client.result("userDataStream.subscribe.signature")
            await client.result("order.place", RESTING)
            await client.executions(1)
            position = await client.event()

            assert position["e"] == "outboundAccountPosition"
            assert position["B"] == [{"a": "USDT", "f": "999400.00000000", "l": "600.00000000"}]

        play(scenario)

    def test_an_account_is_heard_once_a_connection_until_unsubscribed(self) -> None:
        async def scenario(client: OrderClient) -> None:
            await client.result("userDataStream.subscribe.signature")
            again = await client.signed("userDataStream.subscribe.signature")
            listed = await client.request("session.subscriptions")
            ended = await client.request("userDataStream.unsubscribe", {"subscriptionId": 0})
            event = await client.event()
            inactive = await client.request("userDataStream.unsubscribe", {"subscriptionId": 0})

            assert again["error"]["code"] == -2035
            assert listed["result"] == [{"subscriptionId": 0}]
            assert ended["result"] == {}
            assert event["e"] == "eventStreamTerminated"
            assert inactive["error"]["code"] == -2036

        play(scenario)

    def test_events_reach_every_connection_of_the_account_and_no_other(self) -> None:
        async def run() -> None:
            async with (
                serving() as (_, port),
                order_client(port) as trader,
                order_client(port) as listener,
                order_client(port, pair=ED25519) as stranger,
            ):
                for client in (listener, stranger):
                    await client.result("userDataStream.subscribe.signature")
                await trader.result("order.place", RESTING)
                (heard,) = await listener.executions(1)
                await stranger.request("ping")

                assert heard["x"] == "NEW"
                assert stranger.events == []
                assert trader.events == []

        uvloop.run(run())


class TestSessions:
    def test_a_logged_on_connection_needs_no_signature(self) -> None:
        async def run() -> None:
            async with serving() as (_, port), order_client(port, pair=ED25519) as client:
                before = await client.request("session.status")
                logon = await client.result("session.logon")
                stamp = {"timestamp": client.sign({})["timestamp"]}
                subscribed = await client.request("userDataStream.subscribe")
                placed = await client.request("order.place", RESTING | stamp)
                logout = await client.request("session.logout")
                ended = [await client.event() for _ in range(3)][-1]
                refused = await client.request("order.place", RESTING | stamp)

                assert before["result"]["apiKey"] is None
                assert logon["apiKey"] == ED25519.api_key
                assert subscribed["result"] == {"subscriptionId": 0}
                assert placed["result"]["status"] == "NEW"
                assert logout["result"]["apiKey"] is None
                assert logout["result"]["userDataStream"] is False
                assert ended["e"] == "eventStreamTerminated"
                assert refused["error"]["code"] == -1102

        uvloop.run(run())

    def test_an_hmac_key_cannot_log_on(self) -> None:
        async def scenario(client: OrderClient) -> None:
            reply = await client.signed("session.logon")

            assert (reply["status"], reply["error"]["code"]) == (401, -2015)

        play(scenario)

    def test_subscribing_without_a_logon_is_not_authorized(self) -> None:
        async def scenario(client: OrderClient) -> None:
            reply = await client.request("userDataStream.subscribe")

            assert (reply["status"], reply["error"]["code"]) == (401, -1002)

        play(scenario)

    def test_ed25519_signatures_sign_single_requests_too(self) -> None:
        async def run() -> None:
            async with serving() as (_, port), order_client(port, pair=ED25519) as client:
                placed = await client.result("order.place", RESTING)

                assert placed["status"] == "NEW"

        uvloop.run(run())

    def test_rate_limits_are_shown_unless_unwanted(self) -> None:
        async def scenario(client: OrderClient) -> None:
            shown = await client.request("time", {"returnRateLimits": True})
            hidden = await client.request("time")
            placed = await client.signed("order.place", RESTING | {"returnRateLimits": True})

            assert shown["rateLimits"][0]["rateLimitType"] == "REQUEST_WEIGHT"
            assert "rateLimits" not in hidden
            assert [limit["interval"] for limit in placed["rateLimits"]] == [
                "SECOND",
                "DAY",
                "MINUTE",
            ]

        play(scenario, query="?returnRateLimits=false")
