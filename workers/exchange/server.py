"""workers room: the built-in exchange on its port: REST, market streams and the order API together.

One listener factory routes by path: plain requests under the market's REST prefix are answered in
place, its stream addresses become market streams, /ws-api/v3 the order API. Loopback unless the
settings say otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from picows import (
    WSCloseCode,
    WSListener,
    WSUpgradeRequest,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from config.settings import ExchangeSettings, MarketSettings
from engine import venues
from workers.exchange import rest
from workers.exchange.capture import scan
from workers.exchange.connection import Connection, Handler
from workers.exchange.exchange import Applied, Exchange, Market
from workers.exchange.fault_session import FAULTS_PATH, FaultSession
from workers.exchange.faults import read_script
from workers.exchange.keys import Credential
from workers.exchange.limits import NS_PER_S, Limits, limits_of
from workers.exchange.playback import Playback
from workers.exchange.session import OrderSession
from workers.exchange.streams import open_session
from workers.exchange.synthetic_market import SyntheticMarket

ORDER_PATH = "/ws-api/v3"
CLOSE_S_MAX = 2.0  # clients that have not taken their last bytes by then are cut off


class ExchangeServer:
    """The built-in exchange.

    Args:
        settings: `[exchange]`.
        market: `[market]`, for the symbols and streams.
        keys: who may trade, by API key.
        limits: what clients may do, the market's own by default.
        clock: answers epoch ns.
        venue: the market it serves; a recording is served as the market it was taken from.
    """

    def __init__(
        self,
        settings: ExchangeSettings,
        market: MarketSettings,
        *,
        keys: Mapping[str, Credential],
        limits: Limits | None = None,
        clock: Callable[[], int] = time.time_ns,
        venue: venues.Market = venues.SPOT,
    ) -> None:
        self._settings = settings
        self._market_settings = market
        self._keys = dict(keys)
        self._given_limits = limits
        self._limits = limits or limits_of(venue)
        self._venue = venue
        self._clock = clock
        self._exchange: Exchange | None = None
        self.applied: Applied | None = None  # set before `open`; see Exchange
        self._server: asyncio.Server | None = None
        self._connections: dict[Connection, None] = {}
        self._pinger: asyncio.TimerHandle | None = None

    async def open(self) -> int:
        """Opens the market and the port; answers the port.

        Raises:
            OSError: the port is taken, or a recording cannot be read.
            ValueError: a recording, a symbol or a fault script is not what it must be.
        """
        exchange, market = await self._make_market()
        exchange.applied = self.applied
        exchange.open_market(market)
        if self._settings.faults:
            exchange.hub.injector.arm(read_script(self._settings.faults))
        self._exchange = exchange
        self._server = await ws_create_server(
            self._route,
            self._settings.host,
            self._settings.port,
            enable_auto_pong=False,
            max_frame_size=self._limits.request_bytes_max,
        )
        await market.start()
        self._schedule_ping()
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stops the market, says goodbye to every client and frees the port."""
        if self._pinger is not None:
            self._pinger.cancel()
        if self._server is not None:
            self._server.close()
        if self._exchange is None:
            return
        await self._exchange.market.close()
        for connection in tuple(self._connections):
            connection.close(WSCloseCode.GOING_AWAY, "Server is shutting down")
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + CLOSE_S_MAX
        while self._open_connections() and loop.time() < deadline_s:
            self._exchange.released.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._exchange.released.wait(), deadline_s - loop.time())
        for connection in self._open_connections():
            connection.abort()

    @property
    def started(self) -> bool:
        """Says whether the market moves; a recording waits for its listeners first."""
        return self._exchange is not None and self._exchange.market.is_started

    @property
    def finished(self) -> bool:
        """Says whether a recording has been played to its end."""
        return self._exchange is not None and self._exchange.market.is_finished

    @property
    def counts(self) -> dict[str, object]:
        """Answers what happened so far: payloads by stream, orders, cancels, fills, events."""
        assert self._exchange is not None
        trading = self._exchange.trading
        return {
            "messages": self._exchange.hub.sent(),
            "orders": trading.orders_n,
            "cancels": trading.cancels_n,
            "fills": trading.fills_n,
            "events": self._exchange.events_n,
            "connections": len(self._open_connections()),
            "faults": self._exchange.hub.injector.counts(),
        }

    async def _make_market(self) -> tuple[Exchange, Market]:
        """Makes the market; a recording is read through first, beside the loop."""
        if not self._settings.capture:
            exchange = self._make_exchange(self._venue)
            return exchange, SyntheticMarket(exchange, self._settings, self._market_settings)
        found = await asyncio.to_thread(scan, self._settings.capture)
        exchange = self._make_exchange(found.market)
        return exchange, Playback(exchange, self._settings, self._market_settings, found)

    def _make_exchange(self, venue: venues.Market) -> Exchange:
        self._limits = self._given_limits or limits_of(venue)
        return Exchange(self._settings, self._keys, self._clock, self._limits, venue)

    def _route(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        exchange = self._exchange
        assert exchange is not None
        path, _, query = request.path.decode("latin-1").partition("?")
        handler: Handler | None = None
        if "upgrade" in request.headers:
            if path.rstrip("/") == ORDER_PATH:
                handler = OrderSession(exchange, query)
            elif path == FAULTS_PATH:
                handler = FaultSession(exchange, query)
            else:
                handler = open_session(path, query, exchange.hub)
        if handler is None or len(self._open_connections()) >= self._limits.connections_max:
            return rest.answer(request, path, query, exchange)
        connection = Connection(
            handler, self._clock, self._limits.request_bytes_max, exchange.released.set
        )
        self._connections[connection] = None
        return connection

    def _open_connections(self) -> list[Connection]:
        return [connection for connection in self._connections if connection.is_open]

    def _schedule_ping(self) -> None:
        loop = asyncio.get_running_loop()
        self._pinger = loop.call_later(self._limits.ping_s, self._ping_all)

    def _ping_all(self) -> None:
        """Pings every client; forgets those that are gone."""
        pong_ns_max = int(self._limits.pong_s_max * NS_PER_S)
        self._connections = dict.fromkeys(self._open_connections())
        for connection in tuple(self._connections):
            connection.ping(pong_ns_max)
        self._schedule_ping()
