"""Real sockets for the exchange's tests: a served exchange, and clients from other libraries."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import websockets
from websockets.asyncio.client import ClientConnection

from config.settings import ExchangeSettings, MarketSettings
from engine.venues import SPOT, Market
from workers.exchange.keys import KeyPair, make_ed25519_pair, make_hmac_pair, payload
from workers.exchange.limits import Limits
from workers.exchange.server import ExchangeServer

HMAC = make_hmac_pair()
ED25519 = make_ed25519_pair()
QUIET = ExchangeSettings(rate_per_s=0.001)  # the book opens and then stands still
BITCOIN = MarketSettings(symbols=("BTCUSDT",))
SYMBOLS = MarketSettings(symbols=("BTCUSDT", "ETHUSDT"))
DEADLINE_S = 20.0  # a hang ends here; nothing is measured with it
Params = Mapping[str, object]


class ManualClock:
    """Epoch time that only tests move."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000_123_456_789

    def __call__(self) -> int:
        return self.now_ns

    @property
    def now_ms(self) -> int:
        return self.now_ns // 1_000_000


@asynccontextmanager
async def serving(
    settings: ExchangeSettings = QUIET,
    market: MarketSettings = BITCOIN,
    limits: Limits | None = None,
    clock: Callable[[], int] = time.time_ns,
    venue: Market = SPOT,
) -> AsyncIterator[tuple[ExchangeServer, int]]:
    """An exchange on a free port with one HMAC and one Ed25519 key."""
    keys = {pair.api_key: pair.credential() for pair in (HMAC, ED25519)}
    server = ExchangeServer(settings, market, keys=keys, limits=limits, clock=clock, venue=venue)
    try:
        yield server, await server.open()
    finally:
        await server.close()


class OrderClient:
    """A client of the order API over the websockets package."""

    def __init__(self, socket: ClientConnection, clock: Callable[[], int], pair: KeyPair) -> None:
        self.socket = socket
        self.pair = pair
        self.events: list[dict[str, Any]] = []
        self._clock = clock
        self._number = 0

    async def raw(self, text: str | bytes) -> dict[str, Any]:
        """Sends text as it is; answers the next reply, and keeps events that come before it."""
        await self.socket.send(text)
        while True:
            message = await self.receive()
            if "event" not in message:
                return message
            self.events.append(message)

    async def receive(self) -> dict[str, Any]:
        text = await asyncio.wait_for(self.socket.recv(), DEADLINE_S)
        message: dict[str, Any] = json.loads(text)
        return message

    async def request(self, method: str, params: Params | None = None) -> dict[str, Any]:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method}
        if params is not None:
            message["params"] = dict(params)
        reply = await self.raw(json.dumps(message))
        assert reply["id"] == self._number
        return reply

    async def signed(self, method: str, params: Params | None = None) -> dict[str, Any]:
        return await self.request(method, self.sign(params or {}))

    async def result(self, method: str, params: Params | None = None) -> Any:
        """The result of a signed request that must succeed."""
        reply = await self.signed(method, params)
        assert reply["status"] == 200, reply
        return reply["result"]

    async def event(self) -> dict[str, Any]:
        """The next event of the user data stream."""
        while not self.events:
            self.events.append(await self.receive())
        event: dict[str, Any] = self.events.pop(0)["event"]
        return event

    async def executions(self, count: int) -> list[dict[str, Any]]:
        """The next execution reports, balances left out."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            event = await self.event()
            if event["e"] == "executionReport":
                found.append(event)
        return found

    def sign(self, params: Params) -> dict[str, object]:
        signed = {"apiKey": self.pair.api_key, "timestamp": self._clock() // 1_000_000, **params}
        texts = {name: _text(value) for name, value in signed.items()}
        return {**signed, "signature": self.pair.sign(payload(texts))}


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


@asynccontextmanager
async def order_client(
    port: int,
    clock: Callable[[], int] = time.time_ns,
    pair: KeyPair = HMAC,
    query: str = "",
) -> AsyncIterator[OrderClient]:
    url = f"ws://127.0.0.1:{port}/ws-api/v3{query}"
    async with websockets.connect(url, max_queue=None) as socket:
        yield OrderClient(socket, clock, pair)


def stream_client(port: int, path: str) -> websockets.connect:
    """A connection to market streams; frames are not limited in number while they wait."""
    return websockets.connect(f"ws://127.0.0.1:{port}{path}", max_queue=None)


async def get(port: int, path: str) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of a plain GET request."""
    return await asyncio.to_thread(_get, port, path)


def _get(port: int, path: str) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        return response.status, dict(response.getheaders()), msgspec.json.decode(body)
    finally:
        connection.close()


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop run until `condition` holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the condition is the server's, it tells nobody
            await asyncio.sleep(0.001)
