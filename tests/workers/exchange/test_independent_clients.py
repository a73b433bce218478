"""Clients that other people wrote, pointed at the exchange: they notice nothing."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
import uvloop

from config.settings import ExchangeSettings
from tests.workers.exchange.clients import DEADLINE_S, ED25519, HMAC, SYMBOLS, serving
from workers.exchange.keys import KeyPair

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the library's own imports warn about other libraries
    binance = pytest.importorskip("binance", reason="python-binance is not installed")
    exceptions = pytest.importorskip("binance.exceptions")
    ws_constants = pytest.importorskip("binance.ws.constants")

pytestmark = pytest.mark.filterwarnings("ignore")
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}


@asynccontextmanager
async def python_binance(port: int, pair: KeyPair) -> AsyncIterator[Any]:
    """An AsyncClient of python-binance whose addresses are the exchange's."""
    is_hmac = pair is HMAC
    client = binance.AsyncClient(
        api_key=pair.api_key,
        api_secret=pair.secret if is_hmac else None,
        private_key=None if is_hmac else pair.secret,
    )
    client.API_URL = f"http://127.0.0.1:{port}/api"
    client.ws_api._url = f"ws://127.0.0.1:{port}/ws-api/v3"
    try:
        yield client
    finally:
        if client.ws_api.ws is not None:
            # Its reader looks up every ten seconds only; one more message lets it see the end.
            client.ws_api.ws_state = ws_constants.WSListenerState.EXITING
            await client.ws_api.ws.send('{"id":"last","method":"ping"}')
        await client.close_connection()


@pytest.mark.parametrize("pair", [HMAC, ED25519], ids=["hmac", "ed25519"])
def test_python_binance_places_queries_and_cancels_an_order(pair: KeyPair) -> None:
    async def run() -> None:
        async with serving() as (_, port), python_binance(port, pair) as client:
            placed = await client.ws_create_order(**ORDER, quantity="0.01", price="60000.00")
            named = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
            found = await client.ws_get_order(**named)
            opened = await client.ws_get_open_orders(symbol="BTCUSDT")
            canceled = await client.ws_cancel_order(**named)
            account = await client.ws_get_account()
            with pytest.raises(exceptions.BinanceAPIException) as refusal:
                await client.ws_cancel_order(**named)

            assert [placed["status"], found["status"], canceled["status"]] == [
                "NEW",
                "NEW",
                "CANCELED",
            ]
            assert [order["orderId"] for order in opened] == [placed["orderId"]]
            assert {entry["locked"] for entry in account["balances"]} == {"0.00000000"}
            assert refusal.value.code == -2011

    uvloop.run(run())


def test_python_binance_fills_an_order_and_reads_its_trades() -> None:
    async def run() -> None:
        async with serving() as (_, port), python_binance(port, HMAC) as client:
            filled = await client.ws_create_order(
                symbol="BTCUSDT", side="SELL", type="MARKET", quantity="0.05"
            )
            trades = await client.ws_get_my_trades(symbol="BTCUSDT")

            assert filled["status"] == "FILLED"
            assert sum(Decimal(trade["qty"]) for trade in trades) == Decimal("0.05")
            assert {trade["commissionAsset"] for trade in trades} == {"USDT"}

    uvloop.run(run())


def test_python_binance_reads_symbols_depth_and_time() -> None:
    async def run() -> None:
        async with serving(market=SYMBOLS) as (_, port), python_binance(port, HMAC) as client:
            info = await client.get_exchange_info()
            symbol = await client.get_symbol_info("ETHUSDT")
            depth = await client.get_order_book(symbol="BTCUSDT", limit=20)
            over_socket = await client.ws_get_order_book(symbol="BTCUSDT", limit=20)
            time = await client.get_server_time()
            await client.ping()

            assert [entry["symbol"] for entry in info["symbols"]] == ["BTCUSDT", "ETHUSDT"]
            assert symbol["baseAsset"] == "ETH"
            assert len(depth["bids"]) == len(depth["asks"]) == 20
            assert over_socket == depth
            assert time["serverTime"] > 1_600_000_000_000

    uvloop.run(run())


def test_python_binance_reads_streams_and_its_own_events() -> None:
    async def run() -> None:
        settings = ExchangeSettings(rate_per_s=300.0)
        async with serving(settings) as (_, port), python_binance(port, HMAC) as client:
            manager = binance.BinanceSocketManager(client)
            manager.STREAM_URL = f"ws://127.0.0.1:{port}/"
            streams = ["btcusdt@bookTicker", "btcusdt@trade", "btcusdt@depth@100ms"]
            seen: set[str] = set()
            async with manager.multiplex_socket(streams) as market:
                while seen != set(streams):
                    seen.add((await asyncio.wait_for(market.recv(), DEADLINE_S))["stream"])
            async with manager.user_socket() as user:
                await client.ws_create_order(**ORDER, quantity="0.01", price="60000.00")
                event = await asyncio.wait_for(user.recv(), DEADLINE_S)

            assert (event["e"], event["x"]) == ("executionReport", "NEW")

    asyncio.run(run())


def test_ccxt_reads_symbols_and_depth() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ccxt = pytest.importorskip("ccxt.async_support", reason="ccxt is not installed")

    async def run() -> None:
        async with serving(market=SYMBOLS) as (_, port):
            client = ccxt.binance({"options": {"defaultType": "spot", "fetchMarkets": ["spot"]}})
            client.urls["api"]["public"] = f"http://127.0.0.1:{port}/api/v3"
            client.has["fetchCurrencies"] = False
            try:
                markets = await client.load_markets()
                book = await client.fetch_order_book("BTC/USDT", 10)
            finally:
                await client.close()

            assert set(markets) == {"BTC/USDT", "ETH/USDT"}
            precision = markets["BTC/USDT"]["precision"]
            assert (precision["price"], precision["amount"]) == (0.01, 0.00001)
            assert book["bids"][0][0] < book["asks"][0][0]

    asyncio.run(run())
