"""workers room: plays a recording: its frames go out byte for byte, and its book takes our orders.

Playback waits until somebody listens to every stream of the recording that the engine is
configured for, or two seconds after the first listener came. Frames keep their recorded
distances, divided by the speed; at speed 0 they go as fast as the listeners take them, and a
listener that is behind holds playback up, so nothing is dropped and nothing piles up.

A snapshot request is answered with the recorded snapshot until playback has passed its place, and
for the first request of a session at any time: whoever listened from the start can sync with it.
Later requests get the book as it stands. With `loop`, the end of the recording closes the market
streams, as the venue closes every connection once a day, and the next listeners start it again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from itertools import islice

from config.settings import ExchangeSettings, MarketSettings
from engine.decimals import units_from_text
from engine.matching import BUY, SELL, MatchEvent
from engine.matching_replay import ReplayBook
from engine.venues import Market
from workers.exchange.capture import (
    CaptureError,
    Frame,
    Line,
    Pairs,
    Payload,
    Scan,
    SymbolScan,
    read_lines,
)
from workers.exchange.exchange import Applied, Exchange
from workers.exchange.instruments import make_instrument
from workers.exchange.trading import Listing
from workers.exchange.writers import make_writer

START_S = 2.0  # after the first listener, for the others to come
FRAMES_PER_TURN_MAX = 64  # then orders and requests are served
_LOG = logging.getLogger("tickring.exchange")


class SymbolReplay:
    """One symbol of the recording: its book and its snapshot."""

    def __init__(self, symbol: str, found: SymbolScan, venue: Market) -> None:
        tick_units, lot_units = found.grid
        instrument = make_instrument(symbol, tick_units, lot_units)
        self.book = ReplayBook()
        self.listing = Listing(instrument, self.book)
        self._writer = make_writer(instrument, venue)
        self._trade_event = "trade" if found.has_trades else "aggTrade"
        self._tick_units = tick_units
        self._lot_units = lot_units
        self._snapshot = found.snapshot
        self._snapshot_frame = found.snapshot_frame
        self._is_passed = False  # playback is behind the snapshot's place
        self._is_served = False
        self.rewind()

    def rewind(self) -> None:
        """Sets the book to what the recording begins with."""
        frame = self._snapshot_frame
        self._is_passed = frame is None
        self._is_served = False
        if frame is not None and frame.lastUpdateId is not None:
            bids, asks = self._levels(frame.bids), self._levels(frame.asks)
            self.book.load_snapshot(frame.lastUpdateId, bids, asks)

    def depth(self, limit: int, now_ns: int) -> bytes:
        """Answers a depth snapshot: the recorded one, or the book as it stands."""
        if self._snapshot and not (self._is_passed and self._is_served):
            self._is_served = True
            return self._snapshot
        bids = islice(self.book.levels(BUY), limit)
        asks = islice(self.book.levels(SELL), limit)
        return self._writer.snapshot(self.book.update_id, bids, asks, now_ns)

    def apply(self, frame: Frame) -> list[MatchEvent]:
        """Applies one line to the book; answers what happened to our orders."""
        data = frame.data
        if data is None:
            self._is_passed = True
            return []
        if data.is_depth():
            bids, asks = self._levels(data.levels(data.b)), self._levels(data.levels(data.a))
            return self.book.apply_depth(data.u, bids, asks)
        if data.is_trade():
            return self._apply_trade(data) if data.e == self._trade_event else []
        if data.is_top():
            bid, ask = self._levels(data.top())
            return self.book.apply_top(data.u, bid, ask)
        return []

    def _apply_trade(self, data: Payload) -> list[MatchEvent]:
        ((price_ticks, lots),) = self._levels([(data.p, data.q)])
        self.listing.last_ticks = price_ticks
        return self.book.apply_trade(price_ticks, lots, BUY if data.m else SELL)

    def _levels(self, pairs: Pairs) -> list[tuple[int, int]]:
        tick, lot = self._tick_units, self._lot_units
        return [
            (units_from_text(price) // tick, units_from_text(quantity) // lot)
            for price, quantity in pairs
        ]


class Playback:
    """The market of a recording; see the module.

    Args:
        exchange: whose listeners and accounts it serves.
        settings: files, speed and loop.
        market: the streams that the engine is configured for.
        found: what the first reading of the files told.

    Raises:
        ValueError: the speed is negative, or a symbol's grid is finer than money.
    """

    def __init__(
        self, exchange: Exchange, settings: ExchangeSettings, market: MarketSettings, found: Scan
    ) -> None:
        if settings.speed < 0:
            raise ValueError(f"exchange.speed must be 0 or more: speed={settings.speed}")
        self._exchange = exchange
        self._settings = settings
        self._symbols = {
            symbol: SymbolReplay(symbol, entry, found.market)
            for symbol, entry in found.symbols.items()
        }
        self.listings = {symbol: entry.listing for symbol, entry in self._symbols.items()}
        self._channels = {name: exchange.hub.feed(name) for name in found.streams}
        configured = {
            f"{symbol.lower()}@{stream}" for symbol in market.symbols for stream in market.streams
        }
        self._awaited = configured & found.streams.keys() or set(found.streams)
        self._ready = asyncio.Event()
        self._countdown: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_started = self._is_played = False

    @property
    def is_started(self) -> bool:
        """Says whether the first frame has left."""
        return self._is_started

    @property
    def is_finished(self) -> bool:
        """Says whether the last frame has left for every listener."""
        return self._is_played and not self._exchange.hub.unsent_bytes()

    async def start(self) -> None:
        """Waits for listeners from now on."""
        self._exchange.hub.subscribed = self._on_subscribed
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stops playing."""
        if self._countdown is not None:
            self._countdown.cancel()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def book(self, symbol: str) -> tuple[int, list[tuple[int, int]], list[tuple[int, int]]]:
        """Answers update id, bids and asks as they stand, (price_ticks, lots), best first."""
        book = self._symbols[symbol].book
        return book.update_id, list(book.levels(BUY)), list(book.levels(SELL))

    def depth(self, symbol: str, limit: int) -> bytes:
        """Answers the JSON body of a depth snapshot."""
        return self._symbols[symbol].depth(limit, self._exchange.clock())

    def _on_subscribed(self) -> None:
        wanted = self._exchange.hub.wanted()
        if wanted >= self._awaited:
            self._ready.set()
        elif self._countdown is None and wanted & self._channels.keys():
            loop = asyncio.get_running_loop()
            self._countdown = loop.call_later(START_S, self._ready.set)

    async def _run(self) -> None:
        try:
            await self._ready.wait()
            await self._play()
            while self._settings.loop:
                self._await_again()
                await self._ready.wait()
                await self._play()
        except (CaptureError, OSError) as error:
            _LOG.error("playback ended: %s", error)
        self._is_played = True

    def _await_again(self) -> None:
        """Sends the listeners away and goes back to the beginning."""
        if self._countdown is not None:
            self._countdown.cancel()
            self._countdown = None
        self._ready.clear()
        for symbol in self._symbols.values():
            symbol.rewind()
        for session in tuple(self._exchange.hub.sessions):
            session.close("Recording ended")

    async def _play(self) -> None:
        """Plays the recording once."""
        loop = asyncio.get_running_loop()
        speed = self._settings.speed
        start_s, first_ns = loop.time(), 0
        for count, line in enumerate(read_lines(self._settings.capture)):
            first_ns = first_ns or line.time_ns
            if speed:
                due_s = start_s + (line.time_ns - first_ns) / speed / 1e9
                wait_s = due_s - loop.time()
                if wait_s > 0:
                    self._exchange.flush()
                    await asyncio.sleep(wait_s)
            if count % FRAMES_PER_TURN_MAX == FRAMES_PER_TURN_MAX - 1:
                self._exchange.flush()
                await asyncio.sleep(0)
            while self._exchange.hub.is_paused():
                self._exchange.released.clear()
                await self._exchange.released.wait()
            self._send(line)
            self._is_started = True
        self._exchange.flush()

    def _send(self, line: Line) -> None:
        """Sends one frame, then lets it meet our orders."""
        symbol = self._symbols[line.symbol]
        if line.frame.data is not None:
            self._channels[line.frame.stream].publish_frame(line.body, line.payload)
        events = symbol.apply(line.frame)
        if self._exchange.applied is not None:
            self._tell(self._exchange.applied, line, symbol.book)
        if events:
            self._exchange.trading.settle(symbol.listing, events, self._exchange.clock())

    @staticmethod
    def _tell(applied: Applied, line: Line, book: ReplayBook) -> None:
        """Tells of the book after a depth frame, if it is not from before the snapshot."""
        data = line.frame.data
        if data is not None and data.is_depth() and data.u == book.update_id:
            applied(line.symbol, data.u, book.levels)
