"""Every refusal of the exchange: code, wording and status, over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from config.settings import ExchangeSettings
from tests.workers.exchange.clients import ManualClock, Params, get, order_client, serving
from workers.exchange.keys import sign_hmac
from workers.exchange.limits import Limits

LIMIT = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "60000.00",
}
MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
MAKER = {name: value for name, value in LIMIT.items() if name != "timeInForce"} | {
    "type": "LIMIT_MAKER"
}
SETTINGS = ExchangeSettings(rate_per_s=0.001, balances={"USDT": "10000", "BTC": "0.1"})
ABSENT = object()


def changed(params: dict[str, Any], **changes: object) -> dict[str, object]:
    """Parameters with some replaced, and without those that are ABSENT."""
    return {name: value for name, value in (params | changes).items() if value is not ABSENT}


def ask(method: str, params: Params, *before: Params, limits: Limits | None = None) -> Any:
    """The reply to one signed request, after orders that must be taken."""

    async def run() -> Any:
        clock = ManualClock()
        async with (
            serving(SETTINGS, limits=limits, clock=clock) as (_, port),
            order_client(port, clock) as client,
        ):
            for order in before:
                await client.result("order.place", order)
            return await client.signed(method, params)

    return uvloop.run(run())


PLACING = [
    (changed(LIMIT, symbol=ABSENT), -1102, "Mandatory parameter 'symbol' was not sent"),
    (changed(LIMIT, symbol=""), -1102, "Mandatory parameter 'symbol' was not sent"),
    (changed(LIMIT, symbol=None), -1102, "Mandatory parameter 'symbol' was not sent"),
    (changed(LIMIT, symbol="btcusdt"), -1100, "Illegal characters found in parameter 'symbol'"),
    (changed(LIMIT, symbol="NOPEUSDT"), -1121, "Invalid symbol."),
    (changed(LIMIT, symbol=["BTCUSDT"]), -1100, "Illegal characters found in parameter 'symbol'"),
    (changed(LIMIT, side="HOLD"), -1117, "Invalid side."),
    (changed(LIMIT, side=ABSENT), -1102, "Mandatory parameter 'side' was not sent"),
    (changed(LIMIT, type="ICEBERG"), -1116, "Invalid orderType."),
    (changed(LIMIT, type=ABSENT), -1102, "Mandatory parameter 'type' was not sent"),
    (changed(LIMIT, type="STOP_LOSS"), -2010, "Stop loss orders are not supported"),
    (changed(LIMIT, icebergQty="1"), -2010, "Iceberg orders are not supported"),
    (changed(LIMIT, stopPrice="1"), -1106, "Parameter 'stopPrice' sent when not required."),
    (changed(LIMIT, timeInForce="GTD"), -1115, "Invalid timeInForce."),
    (changed(LIMIT, timeInForce=ABSENT), -1102, "Mandatory parameter 'timeInForce' was not sent"),
    (changed(MAKER, timeInForce="GTC"), -1114, "TimeInForce parameter sent when not required."),
    (changed(MARKET, timeInForce="IOC"), -1114, "TimeInForce parameter sent when not required."),
    (changed(MARKET, price="1"), -1106, "Parameter 'price' sent when not required."),
    (changed(MARKET, quantity=ABSENT), -1102, "Param 'quantity' or 'quoteOrderQty' must be sent"),
    (changed(MARKET, quoteOrderQty="10"), -1128, "Combination of optional parameters invalid."),
    (
        changed(LIMIT, quoteOrderQty="10"),
        -1106,
        "Parameter 'quoteOrderQty' sent when not required.",
    ),
    (changed(LIMIT, price=ABSENT), -1102, "Mandatory parameter 'price' was not sent"),
    (changed(LIMIT, price="-1"), -1100, "Illegal characters found in parameter 'price'"),
    (changed(LIMIT, price="1e5"), -1100, "Illegal characters found in parameter 'price'"),
    (changed(LIMIT, price=True), -1100, "Illegal characters found in parameter 'price'"),
    (changed(LIMIT, price={"a": 1}), -1100, "Illegal characters found in parameter 'price'"),
    (changed(LIMIT, price="60000.000000001"), -1111, "Parameter 'price' has too much precision."),
    (changed(LIMIT, quantity="ten"), -1100, "Illegal characters found in parameter 'quantity'"),
    (changed(LIMIT, quantity="0.010000001"), -1111, "Parameter 'quantity' has too much precision."),
    (changed(LIMIT, newClientOrderId="a b"), -1100, "parameter 'newClientOrderId'; legal range is"),
    (changed(LIMIT, newClientOrderId="x" * 37), -1100, "parameter 'newClientOrderId'"),
    (changed(LIMIT, newClientOrderId=""), -1105, "Parameter 'newClientOrderId' was empty."),
    (changed(LIMIT, newOrderRespType="NONE"), -1130, "parameter 'newOrderRespType' is not valid."),
    (changed(LIMIT, selfTradePreventionMode="X"), -1130, "parameter 'selfTradePreventionMode'"),
    (
        changed(LIMIT, colour="red"),
        -1104,
        "Not all sent parameters were read; read '9' parameter(s)",
    ),
    (changed(LIMIT, price="60000.001"), -1013, "Filter failure: PRICE_FILTER"),
    (changed(LIMIT, price="0"), -1013, "Filter failure: PRICE_FILTER"),
    (changed(LIMIT, price="1000001"), -1013, "Filter failure: PRICE_FILTER"),
    (changed(LIMIT, quantity="0.000001"), -1013, "Filter failure: LOT_SIZE"),
    (changed(LIMIT, quantity="0"), -1013, "Filter failure: LOT_SIZE"),
    (changed(LIMIT, quantity="9001"), -1013, "Filter failure: LOT_SIZE"),
    (changed(LIMIT, quantity="0.00001"), -1013, "Filter failure: NOTIONAL"),
    (changed(MARKET, quantity="0.00001"), -1013, "Filter failure: NOTIONAL"),
    (changed(MARKET, quantity=ABSENT, quoteOrderQty="0.1"), -1013, "Filter failure: NOTIONAL"),
    (changed(LIMIT, quantity="8000"), -1013, "Filter failure: NOTIONAL"),
    (changed(LIMIT, price="12000"), -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    (changed(LIMIT, price="400000"), -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    (changed(LIMIT, quantity="1"), -2010, "Account has insufficient balance"),
    (changed(MARKET, quantity="1"), -2010, "Account has insufficient balance"),
    (changed(LIMIT, side="SELL", quantity="1"), -2010, "Account has insufficient balance"),
    (changed(MAKER, price="61000.01"), -2010, "Order would immediately match and take."),
]


@pytest.mark.parametrize(("params", "code", "message"), PLACING)
def test_a_bad_order_is_refused(params: Params, code: int, message: str) -> None:
    reply = ask("order.place", params)

    assert reply["status"] == 400
    assert reply["error"]["code"] == code
    assert message in reply["error"]["msg"]


def test_a_client_id_is_unique_among_open_orders() -> None:
    order = changed(LIMIT, newClientOrderId="mine", quantity="0.001")

    assert ask("order.place", order, order)["error"] == {
        "code": -2010,
        "msg": "Duplicate order sent.",
    }


def test_open_orders_of_a_symbol_are_limited_in_number() -> None:
    small = changed(LIMIT, quantity="0.0001", price="50000.00")
    reply = ask("order.place", small, *[small] * 200)

    assert reply["error"] == {"code": -1013, "msg": "Filter failure: MAX_NUM_ORDERS"}


def test_unfilled_orders_are_limited_in_time_and_say_when_to_come_back() -> None:
    small = changed(LIMIT, quantity="0.001")
    reply = ask("order.place", small, small, small, limits=Limits(orders_per_10_s=2))

    assert (reply["status"], reply["error"]["code"]) == (429, -1015)
    assert reply["error"]["msg"] == "Too many new orders; current limit is 2 orders per 10 SECOND."
    wait_ms = reply["error"]["data"]["retryAfter"] - reply["error"]["data"]["serverTime"]
    assert 0 < wait_ms <= 10_000
    assert reply["rateLimits"][0]["count"] == 2


def test_filled_orders_leave_the_count() -> None:
    taker = changed(LIMIT, quantity="0.001", price="61000.01")
    reply = ask("order.place", taker, taker, taker, limits=Limits(orders_per_10_s=2))

    assert reply["status"] == 200


QUERIES = [
    ("order.cancel", {"symbol": "BTCUSDT", "orderId": 1}, -2011, "Unknown order sent."),
    ("order.cancel", {"symbol": "BTCUSDT", "origClientOrderId": "x"}, -2011, "Unknown order sent."),
    ("order.cancel", {"symbol": "BTCUSDT"}, -1102, "Param 'origClientOrderId' or 'orderId' must"),
    ("order.cancel", {"symbol": "BTCUSDT", "orderId": "one"}, -1100, "parameter 'orderId'"),
    ("order.cancel", {"symbol": "BTCUSDT", "orderId": 2**63}, -1102, "Cannot be greater than"),
    ("order.cancel", {"symbol": "NOPEUSDT", "orderId": 1}, -1121, "Invalid symbol."),
    (
        "order.cancel",
        {"symbol": "BTCUSDT", "orderId": 1, "cancelRestrictions": "X"},
        -1145,
        "cancelRestrictions",
    ),
    ("order.status", {"symbol": "BTCUSDT", "orderId": 1}, -2013, "Order does not exist."),
    ("openOrders.cancelAll", {"symbol": "BTCUSDT"}, -2011, "Unknown order sent."),
    ("openOrders.cancelAll", {}, -1102, "Mandatory parameter 'symbol'"),
    ("openOrders.status", {"symbol": "X"}, -1121, "Invalid symbol."),
    ("myTrades", {"symbol": "BTCUSDT", "fromId": 1, "startTime": 1}, -1128, "Combination"),
    ("myTrades", {"symbol": "BTCUSDT", "startTime": 1, "endTime": 10**9}, -1127, "24 hours"),
    ("myTrades", {"symbol": "BTCUSDT", "limit": 0}, -1130, "parameter 'limit' is not valid"),
    ("account.status", {"omitZeroBalances": "maybe"}, -1130, "'omitZeroBalances' is not valid"),
    ("order.amend.keepPriority", {}, -1020, "This operation is not supported."),
]


@pytest.mark.parametrize(("method", "params", "code", "message"), QUERIES)
def test_a_bad_query_is_refused(method: str, params: Params, code: int, message: str) -> None:
    reply = ask(method, params)

    assert reply["status"] == 400
    assert reply["error"]["code"] == code
    assert message in reply["error"]["msg"]


def test_an_order_with_another_client_id_is_not_the_one_meant() -> None:
    async def run() -> Any:
        async with serving() as (_, port), order_client(port) as client:
            placed = await client.result("order.place", LIMIT)
            named = {"symbol": "BTCUSDT", "orderId": placed["orderId"], "origClientOrderId": "x"}
            return await client.signed("order.cancel", named)

    assert uvloop.run(run())["error"]["code"] == -2039


STAMPS = [
    (0, {}, None),
    (-5_000, {}, None),
    (-5_001, {}, "outside of the recvWindow"),
    (-100, {"recvWindow": 100}, None),
    (-101, {"recvWindow": "100"}, "outside of the recvWindow"),
    (-101, {"recvWindow": "101.5"}, None),
    (-59_000, {"recvWindow": 60000}, None),
    (999, {}, None),
    (1_001, {}, "1000ms ahead of the server's time"),
]


@pytest.mark.parametrize("scale", [1, 1_000], ids=["ms", "us"])
@pytest.mark.parametrize(("offset_ms", "window", "refusal"), STAMPS)
def test_a_request_is_good_for_its_window_only(
    scale: int, offset_ms: int, window: Params, refusal: str | None
) -> None:
    async def run() -> Any:
        clock = ManualClock()
        async with (
            serving(SETTINGS, clock=clock) as (_, port),
            order_client(port, clock) as client,
        ):
            clock.now_ns -= clock.now_ns % 1_000_000
            stamp = (clock.now_ms + offset_ms) * scale
            return await client.signed("account.status", {"timestamp": stamp, **window})

    reply = uvloop.run(run())

    if refusal is None:
        assert reply["status"] == 200
    else:
        assert reply["error"]["code"] == -1021
        assert refusal in reply["error"]["msg"]


SIGNATURES = [
    ({"apiKey": ABSENT}, 400, -1102),
    ({"signature": ABSENT}, 400, -1102),
    ({"timestamp": ABSENT}, 400, -1102),
    ({"timestamp": "now"}, 400, -1100),
    ({"recvWindow": 60001}, 400, -1102),
    ({"recvWindow": "1.2345"}, 400, -1111),
    ({"recvWindow": "soon"}, 400, -1100),
    ({"apiKey": "not a key!"}, 401, -2014),
    ({"apiKey": "a" * 64}, 401, -2015),
    ({"signature": "00" * 32}, 400, -1022),
    ({"omitZeroBalances": True}, 400, -1022),
]


@pytest.mark.parametrize(("changes", "status", "code"), SIGNATURES)
def test_a_tampered_request_is_refused(changes: dict[str, object], status: int, code: int) -> None:
    async def run() -> Any:
        async with serving() as (_, port), order_client(port) as client:
            return await client.request("account.status", changed(client.sign({}), **changes))

    reply = uvloop.run(run())

    assert (reply["status"], reply["error"]["code"]) == (status, code)


def test_numbers_are_signed_as_they_were_written() -> None:
    async def run() -> Any:
        async with serving() as (_, port), order_client(port) as client:
            stamp = client.sign({})["timestamp"]
            text = f"apiKey={client.pair.api_key}&limit=5e0&symbol=BTCUSDT&timestamp={stamp}"
            signature = sign_hmac(client.pair.secret, text)
            body = (
                f'{{"id":1,"method":"myTrades","params":{{"symbol":"BTCUSDT","limit":5e0,'
                f'"timestamp":{stamp},"apiKey":"{client.pair.api_key}","signature":"{signature}"}}}}'
            )
            return await client.raw(body)

    assert uvloop.run(run())["error"]["code"] == -1100  # past the signature, to the number itself


GARBAGE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"7",
    b'"order.place"',
    b"\xff\xfe",
    b'{"id":1}',
    b'{"id":1,"method":5}',
    b'{"id":1,"method":"ping","params":[]}',
    b'{"id":1.5,"method":"ping"}',
    b'{"id":{},"method":"ping"}',
    b'{"id":true,"method":"ping"}',
    b'{"id":1,"method":"ping","params":"x"}',
    b"[" * 60_000,
]


def test_what_is_no_request_is_answered_and_ends_nothing() -> None:
    async def run() -> Iterator[tuple[bytes, Any]]:
        async with serving() as (_, port), order_client(port) as client:
            replies = [(text, await client.raw(text)) for text in GARBAGE]
            assert (await client.request("ping"))["result"] == {}
            return iter(replies)

    for text, reply in uvloop.run(run()):
        assert (text[:40], reply["status"], reply["error"]["code"]) == (text[:40], 400, -1135)
        assert reply["id"] == (1 if text.startswith(b'{"id":1,') or text == b'{"id":1}' else None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(["symbol", "side", "type", "price", "quantity", "timeInForce", "limit"])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["order.place", "order.cancel", "myTrades", "depth", "exchangeInfo"]),
            st.dictionaries(NAMES, JSON, max_size=5),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_parameters_of_any_kind_are_refused_and_never_an_unknown_failure(
    requests: list[tuple[str, dict[str, object]]],
) -> None:
    async def run() -> list[Any]:
        async with serving() as (_, port), order_client(port) as client:
            replies = []
            for method, params in requests:
                is_public = method in {"depth", "exchangeInfo"}
                sent = {"symbol": "BTCUSDT", **params}
                try:
                    sent = sent if is_public else client.sign(sent)
                except UnicodeEncodeError:
                    continue
                replies.append(
                    await client.raw(json.dumps({"id": 1, "method": method, "params": sent}))
                )
            return replies

    for reply in uvloop.run(run()):
        assert reply.get("error", {}).get("code") != -1000


REST = [
    ("/api/v3/depth", 400, -1102),
    ("/api/v3/depth?symbol=NOPE", 400, -1121),
    ("/api/v3/depth?symbol=BTCUSDT&limit=x", 400, -1100),
    ("/api/v3/depth?symbol=BTCUSDT&limit=0", 400, -1130),
    ("/api/v3/depth?symbol=BTCUSDT&symbol=BTCUSDT", 400, -1101),
    ("/api/v3/depth?symbol=BTCUSDT&colour=red", 400, -1101),
    ("/api/v3/exchangeInfo?symbol=NOPE", 400, -1121),
    ("/api/v3/exchangeInfo?symbols=BTCUSDT", 400, -1100),
    ("/api/v3/exchangeInfo?symbol=BTCUSDT&symbols=[%22BTCUSDT%22]", 400, -1128),
    ("/api/v3/order", 404, -1020),
    ("/", 404, -1020),
    ("/ws/btcusdt@trade", 404, -1020),
]


@pytest.mark.parametrize(("path", "status", "code"), REST)
def test_a_bad_get_request_is_refused(path: str, status: int, code: int) -> None:
    async def run() -> tuple[int, dict[str, str], Any]:
        async with serving() as (_, port):
            return await get(port, path)

    found, headers, body = uvloop.run(run())

    assert (found, body["code"]) == (status, code)
    assert headers["Content-Type"].startswith("application/json")


def test_request_weight_is_limited_and_says_when_to_come_back() -> None:
    async def run() -> tuple[int, dict[str, str], Any]:
        async with serving(limits=Limits(weight_per_minute=10)) as (_, port):
            for _ in range(2):
                status, _, _ = await get(port, "/api/v3/depth?symbol=BTCUSDT")
                assert status == 200
            return await get(port, "/api/v3/ping")

    status, headers, body = uvloop.run(run())

    assert (status, body["code"]) == (429, -1003)
    assert 1 <= int(headers["Retry-After"]) <= 60
    assert headers["X-MBX-USED-WEIGHT-1M"] == "10"
