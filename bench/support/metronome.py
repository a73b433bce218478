"""Bench: the built-in exchange with a market like a metronome, which times orders on the wire.

Same protocol, matching and order API as the real one; only the order flow is replaced: at a fixed
pace the best ask moves to a price that no other quote of the last CYCLE quotes had. An order that
buys at that price says by it which quote caused it, so quotes and orders pair up without trust in
either engine. A quote's time is taken before the socket call that writes it, an order's when its
bytes are in the socket: from the quote on the exchange does nothing but look for them. It rests
between order and next quote, as an exchange elsewhere would: its core is then free for others.

Run as a process: python -m bench.support.metronome FOLDER QUOTES GAP_US CORE
It writes FOLDER/port, waits for a client on the stream and one on the order API, plays, and leaves
FOLDER/written.npy, CLOCK_MONOTONIC in ns of each quote, and FOLDER/round_trips.npy: ns for each
quote, 0 where no order came.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from picows import WSListener, WSUpgradeRequest, WSUpgradeResponseWithListener

from config.settings import ExchangeSettings, MarketSettings
from engine.matching import BUY, SELL, BookOrder, MatchEvent, MatchingBook
from engine.venues import SPOT
from workers.exchange import synthetic_market
from workers.exchange.connection import Connection
from workers.exchange.exchange import Exchange, Market
from workers.exchange.keys import read_pair
from workers.exchange.limits import Limits
from workers.exchange.server import ExchangeServer
from workers.exchange.session import OrderSession
from workers.exchange.streams import Channel, StreamSession

SYMBOL = "BTCUSDT"
STREAM = "btcusdt@bookTicker"
OPENING_UPDATE_ID = 1_000_000
CYCLE = 4_096  # quotes until an ask price returns
BASE_TICKS = 6_000_000
BID_LOTS, ASK_LOTS = 7_286_700, 906_400
WARM_QUOTES = 2_000  # before the measured ones; both engines load caches and connections
LAST_ORDER_S = 0.5
AWAIT_NS_MAX = 1_000_000  # for an order; later ones are timed when the loop reads them
REST_NS = 1_000_000  # the loop's timers know no shorter time
AWAKE_NS = 200_000  # before a quote, so that no wake-up is measured
KEY_FILE = "exchange-key"
_FIN_TEXT, _LENGTH_16 = 0x81, 126  # RFC 6455, section 5.2; a server's frames are not masked
_TEXT_HEADER = struct.Struct("!BBH")


class MetronomeFlow:
    """An order flow that only ever moves the best ask."""

    def __init__(self, book: Any, probe: Probe) -> None:
        self._book, self._probe = book, probe
        self._ids = 0
        self._ask: BookOrder | None = None
        self._rest(BUY, BASE_TICKS - 10, BID_LOTS)

    def _rest(self, side: int, price_ticks: int, lots: int) -> BookOrder:
        self._ids += 1
        order = BookOrder(self._ids, 0, side, price_ticks, lots)
        self._book.rest(order)
        return order

    def step(self) -> list[MatchEvent]:
        """Moves the ask to the next price of the cycle."""
        if not self._probe.is_running:
            return []
        number = self._probe.next_quote()
        if self._ask is not None:
            self._book.cancel(self._ask)
        self._ask = self._rest(SELL, BASE_TICKS + number % CYCLE, ASK_LOTS)
        return []


class Pace:
    """Arrivals at a fixed gap."""

    def __init__(self, gap_ns: int) -> None:
        self._gap_ns = gap_ns

    def gap_ns(self) -> int:
        """Answers the gap."""
        return self._gap_ns


def _socket_of(connection: Connection | None) -> socket.socket:
    """Answers a non-blocking handle of a connection's socket, beside the transport's own."""
    assert connection is not None, "the connection is open"
    assert connection._transport is not None, "the connection is open"  # noqa: SLF001 - the probe
    used = connection._transport.underlying_transport.get_extra_info("socket")  # noqa: SLF001
    own = socket.socket(fileno=os.dup(used.fileno()))
    own.settimeout(0.0)
    return own


class Probe:
    """Times of quotes written and orders read."""

    def __init__(self, quotes: int) -> None:
        self.written_ns = np.zeros(quotes + WARM_QUOTES, np.int64)
        self.round_trips_ns = np.zeros(quotes + WARM_QUOTES, np.int64)
        self.sent = 0
        self.is_running = False
        self._orders: socket.socket | None = None
        self._seen_ns = 0

    def next_quote(self) -> int:
        """Answers the number of the quote that is written next."""
        number = self.sent
        if number < len(self.written_ns):
            self.sent += 1
        else:
            self.is_running = False
        return number

    def write(self) -> bool:
        """Takes the time of the last quote's frame; False when it is one that a fill caused."""
        number = self.sent - 1
        if number < 0 or self.written_ns[number] != 0:
            return False
        self.written_ns[number] = time.perf_counter_ns()
        return True

    def watch(self, connection: Connection) -> None:
        """Looks at the socket of the order API from now on. Called by: a new session."""
        self._orders = _socket_of(connection)

    def await_order(self) -> None:
        """Waits for the bytes of the next order, a while, and takes the time."""
        self._seen_ns = 0
        orders, clock = self._orders, time.perf_counter_ns
        end_ns = clock() + AWAIT_NS_MAX
        while orders is not None and clock() < end_ns:
            try:
                orders.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            self._seen_ns = clock()
            return

    def read(self, data: bytes) -> None:
        """Notes the round trip that ends with an order frame."""
        now_ns = time.perf_counter_ns()
        seen_ns, self._seen_ns = self._seen_ns, 0
        at = data.find(b'"price":"')
        if at < 0 or b"order.place" not in data:
            return
        text = data[at + 9 : data.index(b'"', at + 9)]
        ticks = round(float(text) * 100) - BASE_TICKS
        last = self.sent - 1
        number = last - (last - ticks) % CYCLE
        if number == last and seen_ns:  # else the bytes that were seen were of something before
            now_ns = seen_ns
        if 0 <= number and self.round_trips_ns[number] == 0:
            self.round_trips_ns[number] = now_ns - self.written_ns[number]


class ProbedSession(OrderSession):
    """An order API connection whose requests are timed before anything else."""

    probe: Probe

    def on_open(self, connection: Connection) -> None:
        """Lets the probe look at the socket."""
        super().on_open(connection)
        self.probe.watch(connection)

    def on_message(self, data: bytes) -> None:
        """Times and answers one request."""
        self.probe.read(data)
        super().on_message(data)


class TimedChannel(Channel):
    """The quotes' channel, which takes the time right before the socket call."""

    __slots__ = ("_listener", "_wire", "probe")

    def __init__(self, channel: Channel, probe: Probe) -> None:
        super().__init__(channel.name)
        self.listeners = channel.listeners
        self.probe = probe
        self._listener: StreamSession | None = None

    def publish(self, payload: bytes) -> None:
        """Sends one payload to the one who listens."""
        is_new = False
        for listener in tuple(self.listeners):
            assert isinstance(listener, StreamSession), "no faults are armed"
            if listener is not self._listener:
                self._listener, self._wire = listener, _socket_of(listener._connection)  # noqa: SLF001 - the probe
            body = b"%b%b}" % (self.prefix, payload)
            frame = _TEXT_HEADER.pack(_FIN_TEXT, _LENGTH_16, len(body)) + body
            is_new = self.probe.write()
            written = self._wire.send(frame)
            assert written == len(frame), "a quote is small and its reader is fast"
        if is_new:
            self.probe.await_order()


class HotMarket(synthetic_market.SyntheticMarket):
    """The synthetic market, punctual: it rests by a timer and is awake well before a quote."""

    probe: Probe
    _soon: asyncio.Handle

    def _wake(self) -> None:
        now_ns = self._exchange.clock()
        rest_ns = REST_NS
        for symbol in self._symbols.values():
            due_ns = min(symbol.next_ns, symbol._fast_ns)  # noqa: SLF001 - the same class's idea
            if now_ns >= due_ns:
                symbol.advance(now_ns)
                self._exchange.flush()
            rest_ns = min(rest_ns, due_ns - now_ns - AWAKE_NS)
        loop = asyncio.get_running_loop()
        if self.probe.is_running and rest_ns < REST_NS:
            self._soon = loop.call_soon(self._wake)
        else:
            self._soon = loop.call_later(REST_NS / 1e9, self._wake)

    async def close(self) -> None:
        """Stops the flow."""
        self._soon.cancel()


class MetronomeServer(ExchangeServer):
    """The built-in exchange with the metronome for a market and probes at its order API."""

    def __init__(self, probe: Probe, gap_ns: int, folder: Path) -> None:
        pair = read_pair(folder / KEY_FILE)
        balances = {"USDT": "1000000000000", "BTC": "1000000"}
        super().__init__(
            ExchangeSettings(balances=balances),
            MarketSettings(symbols=(SYMBOL,)),
            keys={pair.api_key: pair.credential()},
            limits=Limits(
                weight_per_minute=1 << 40, orders_per_10_s=1 << 40, orders_per_day=1 << 40
            ),
        )
        self._probe, self._gap_ns = probe, gap_ns
        self.sessions = 0

    async def _make_market(self) -> tuple[Exchange, Market]:
        exchange = self._make_exchange(SPOT)
        market = HotMarket(exchange, self._settings, self._market_settings)
        market.probe = self._probe
        symbol = market._symbols[SYMBOL]  # noqa: SLF001 - the one replaced part
        symbol.book = MatchingBook(OPENING_UPDATE_ID)
        symbol.listing.book = symbol.book
        symbol._flow = MetronomeFlow(symbol.book, self._probe)  # type: ignore[assignment]  # noqa: SLF001
        symbol._top_channel = TimedChannel(symbol._top_channel, self._probe)  # noqa: SLF001
        symbol._arrivals = Pace(self._gap_ns)  # type: ignore[assignment]  # noqa: SLF001
        return exchange, market

    def _route(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        answer = super()._route(request)
        if isinstance(answer, Connection) and isinstance(answer.handler, OrderSession):
            assert self._exchange is not None, "requests come after open"
            session = ProbedSession(self._exchange, "")
            session.probe = self._probe
            answer.handler = session
            self.sessions += 1
        return answer

    @property
    def is_wanted(self) -> bool:
        """Says whether an engine listens and can order."""
        assert self._exchange is not None, "asked after open"
        return self.sessions > 0 and STREAM in self._exchange.hub.wanted()


async def play(folder: Path, quotes: int, gap_us: int) -> None:
    """Serves until the last quote has been written and its order had time to come."""
    probe = Probe(quotes)
    server = MetronomeServer(probe, gap_us * 1_000, folder)
    port = await server.open()
    fresh = folder / "port.new"
    fresh.write_text(str(port))
    fresh.rename(folder / "port")
    while not (server.is_wanted and (folder / "go").exists()):
        await asyncio.sleep(0.05)
    probe.is_running = True
    while probe.is_running:
        await asyncio.sleep(0.05)
    await asyncio.sleep(LAST_ORDER_S)
    np.save(folder / "written.npy", probe.written_ns[WARM_QUOTES:])
    np.save(folder / "round_trips.npy", probe.round_trips_ns[WARM_QUOTES:])
    await server.close()


def main() -> None:
    """Plays; see the module."""
    folder, quotes, gap_us, core = Path(sys.argv[1]), *(int(word) for word in sys.argv[2:5])
    if core >= 0:
        os.sched_setaffinity(0, {core})
    uvloop.run(play(folder, quotes, gap_us))


if __name__ == "__main__":
    main()
