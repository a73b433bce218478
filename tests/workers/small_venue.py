"""A small real venue: REST and WebSocket on one loopback port, told by the test what to say."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import uvloop
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from tests.engine.scratch_feed import BTCUSDT, Scratch, scratch_feed
from workers.framesession import FrameSession

SECONDS_MAX = 150.0


def symbol_info(symbol: str) -> dict[str, object]:
    """Answers a symbol's entry of exchangeInfo, as the venue writes it."""
    sizes = {"minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"}
    prices = {"minPrice": "0.01000000", "maxPrice": "1000000.00000000", "tickSize": "0.01000000"}
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": symbol[:3],
        "quoteAsset": symbol[3:],
        "filters": [
            {"filterType": "PRICE_FILTER", **prices},
            {"filterType": "LOT_SIZE", **sizes},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "avgPriceMins": 5},
            {"filterType": "TRAILING_DELTA", "minTrailingAboveDelta": 10},
        ],
    }


class SmallVenue:
    """Counts what it is asked; answers what the test has put into it."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.snapshots: dict[str, bytes] = {}
        self.snapshot_status = HTTPStatus.OK
        self.connections: list[ServerConnection] = []
        self.streams: list[list[str]] = []
        self.on_connect: Callable[[], None] = lambda: None
        self.port = 0
        self.is_secure = False

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream_url(self) -> str:
        return f"{'wss' if self.is_secure else 'ws'}://127.0.0.1:{self.port}"

    def answer(self, _connection: ServerConnection, request: Request) -> Response | None:
        """Answers REST requests; None lets a WebSocket handshake go on."""
        parts = urlsplit(request.path)
        if parts.path == "/stream":
            return None
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.asked[parts.path] += 1
        if parts.path == "/api/v3/exchangeInfo":
            symbols = [symbol_info(symbol) for symbol in json.loads(query["symbols"])]
            return _response(HTTPStatus.OK, json.dumps({"symbols": symbols}).encode())
        if parts.path == "/api/v3/depth":
            return _response(self.snapshot_status, self.snapshots[query["symbol"]])
        return _response(HTTPStatus.NOT_FOUND, b"{}")

    async def serve_stream(self, connection: ServerConnection) -> None:
        """Keeps a stream connection until it is closed."""
        assert connection.request is not None
        streams = parse_qs(urlsplit(connection.request.path).query)["streams"][0].split("/")
        self.streams.append(streams)
        self.connections.append(connection)
        self.on_connect()
        await connection.wait_closed()

    async def send(self, *frames: bytes) -> None:
        """Sends frames on the last connection."""
        for frame in frames:
            await self.connections[-1].send(frame.decode())


def _response(status: HTTPStatus, body: bytes) -> Response:
    headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
    return Response(status.value, status.phrase, headers, body)


@asynccontextmanager
async def small_venue(
    port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[SmallVenue]:
    """Serves a venue on a free port, or on `port` when it comes back; over TLS when told how."""
    venue = SmallVenue()
    venue.is_secure = tls is not None
    server: Server = await serve(
        venue.serve_stream, "127.0.0.1", port, process_request=venue.answer, compression=None,
        ssl=tls,
    )  # fmt: skip
    venue.port = next(iter(server.sockets)).getsockname()[1]
    try:
        yield venue
    finally:
        server.close()
        await server.wait_closed()


async def until(condition: Callable[[], bool], step: Callable[[], object]) -> None:
    """Steps until a condition holds; fails after SECONDS_MAX, which no passing test comes near."""
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():
            step()
            await asyncio.sleep(0)


@asynccontextmanager
async def connected(
    prefix: str,
    make_room: Callable[[], object] = lambda: None,
) -> AsyncIterator[tuple[SmallVenue, Scratch, FrameSession]]:
    """A session of one instrument's quotes, connected to a small venue."""
    with scratch_feed(prefix, BTCUSDT) as scratch:
        scratch.rows()
        async with small_venue() as venue:
            session = FrameSession(scratch.feed, lambda: None, make_room)
            await session.connect(f"{venue.stream_url}/stream?streams=btcusdt@bookTicker", 20)
            await until(lambda: bool(venue.connections), lambda: None)
            try:
                yield venue, scratch, session
            finally:
                session.disconnect()
                await session.ended()


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Runs a test on uvloop, as the product does."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())  # type: ignore[arg-type]
