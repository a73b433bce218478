"""workers room: runs the synthetic order flow of every symbol and sends what it makes of the books.

One timer serves all symbols: at each wake every event that has become due happens at its own
time, and every change of a best price leaves at once; changed levels leave with each depth
stream's own period, in USD-M also after every event. Clients' orders are orders like any other in
these books: their trades print, and they change depth.
"""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import islice

from config.settings import ExchangeSettings, MarketSettings
from engine.decimals import UNITS_PER_ONE
from engine.matching import BUY, SELL, Fill, MatchingBook
from engine.synthetic import Arrivals, Draws, FlowProfile, OrderFlow
from engine.venues import USDM
from workers.exchange.depth_streams import DepthStream, open_depth, step_ns
from workers.exchange.exchange import Exchange
from workers.exchange.instruments import Instrument, known_instrument, make_all, opening_ticks
from workers.exchange.marks import Marks
from workers.exchange.trading import Listing
from workers.exchange.writers import make_writer

EVENTS_PER_WAKE_MAX = 256  # of one symbol, so that clients are served in between
LAG_NS_MAX = 1_000_000_000  # a longer standstill is skipped instead of made up for
SIZE_VALUE = 1_500  # median value of a limit order in quote units
SYMBOL_SEED_STEP = 7_919  # a prime, so that neighbouring seeds share no symbol's stream


class SymbolMarket:
    """One symbol: its book, its flow and its streams."""

    def __init__(self, exchange: Exchange, instrument: Instrument, seed: int, rate: float) -> None:
        self.book = MatchingBook(exchange.first_id)
        self.listing = Listing(instrument, self.book)
        self.writer = make_writer(instrument, exchange.venue)
        mid_ticks = opening_ticks(instrument)
        lots = SIZE_VALUE * UNITS_PER_ONE / (mid_ticks * instrument.value_units)
        profile = FlowProfile(mid_ticks=mid_ticks, rate_per_s=rate, size_lots=max(1.0, lots))
        draws = Draws(seed)
        self._exchange = exchange
        self._flow = OrderFlow(self.book, profile, draws)
        self._arrivals = Arrivals(profile, draws)
        name = instrument.symbol.lower()
        self._top_channel = exchange.hub.feed(f"{name}@bookTicker")
        self._prints = (
            (exchange.hub.feed(f"{name}@trade"), self.writer.trade),
            (exchange.hub.feed(f"{name}@aggTrade"), self.writer.many_trades),
        )
        self._top: tuple[tuple[int, int], tuple[int, int]] | None = None
        self.book.take_changes()
        self._depth_id = self.book.update_id
        self._depths: list[DepthStream] = open_depth(exchange.hub, name, self._depth_id)
        self._step_ns = step_ns(exchange.venue)
        self._is_usdm = exchange.venue is USDM
        self._marks = Marks(exchange.hub, name, self.writer)
        self.next_ns = 0
        self._fast_ns = 0

    def start(self, now_ns: int) -> None:
        """Draws the first event's time."""
        self.next_ns = now_ns + self._arrivals.gap_ns()
        self._fast_ns = now_ns - now_ns % self._step_ns + self._step_ns

    def advance(self, now_ns: int) -> int:
        """Lets everything happen that is due by `now_ns`; answers when to be called again."""
        if now_ns - self.next_ns > LAG_NS_MAX:
            self.next_ns = now_ns
        for _ in range(EVENTS_PER_WAKE_MAX):
            if self.next_ns > now_ns:
                break
            events = self._flow.step()
            if events:
                self._exchange.trading.settle(self.listing, events, self.next_ns)
            self.publish_top()
            if self._is_usdm:
                self.collect(self.next_ns)
            self.next_ns += self._arrivals.gap_ns()
        if now_ns >= self._fast_ns:
            self._publish_depth(now_ns)
        return min(self.next_ns, self._fast_ns)

    def publish_top(self) -> None:
        """Sends the best prices when one of them, or its quantity, has changed."""
        book = self.book
        bid, ask = book.best_ticks(BUY), book.best_ticks(SELL)
        top = ((bid, book.level_lots(BUY, bid)), (ask, book.level_lots(SELL, ask)))
        if top != self._top:
            self._top = top
            if self._top_channel.listeners:
                now_ns = self._exchange.clock()
                self._top_channel.publish(self.writer.book_ticker(book.update_id, *top, now_ns))

    def publish_trade(self, fill: Fill, now_ns: int) -> None:
        """Sends one trade."""
        facts = (self.listing.trade_id, fill.price_ticks, fill.quantity_lots)
        is_sale = fill.taker_side == SELL
        for channel, write in self._prints:
            if channel.listeners:
                channel.publish_timed(now_ns, partial(write, *facts, buyer_is_maker=is_sale))

    def depth(self, limit: int) -> bytes:
        """Answers a depth snapshot."""
        bids, asks = islice(self.book.walk(BUY), limit), islice(self.book.walk(SELL), limit)
        return self.writer.snapshot(self.book.update_id, bids, asks, self._exchange.clock())

    def _publish_depth(self, now_ns: int) -> None:
        """Sends the levels that changed to the streams whose period is over."""
        due_ns = self._fast_ns
        self._fast_ns = now_ns - now_ns % self._step_ns + self._step_ns
        self.collect(now_ns)
        for depth in self._depths:
            depth.advance(due_ns, now_ns, self.writer)
        if self._is_usdm:
            best = self.book.best_ticks(BUY), self.book.best_ticks(SELL)
            self._marks.advance(best, self.listing.instrument.tick_units, now_ns)

    def collect(self, now_ns: int) -> None:
        """Hands the levels that changed since the last call to every depth stream."""
        bids, asks = self.book.take_changes()
        last_id = self.book.update_id
        if last_id > self._depth_id:
            self._depth_id = last_id
            for depth in self._depths:
                depth.collect(last_id, bids, asks)
                if not depth.period_ns:
                    depth.publish(now_ns, self.writer)
            if self._exchange.applied is not None:
                self._exchange.applied(self.listing.instrument.symbol, last_id, self.book.walk)


class SyntheticMarket:
    """All symbols of the synthetic market; see the module."""

    def __init__(
        self, exchange: Exchange, settings: ExchangeSettings, market: MarketSettings
    ) -> None:
        self._exchange = exchange
        self._symbols = {
            symbol: SymbolMarket(
                exchange, instrument, settings.seed + index * SYMBOL_SEED_STEP, settings.rate_per_s
            )
            for index, (symbol, instrument) in enumerate(
                make_all(market.symbols, known_instrument).items()
            )
        }
        self.listings = {symbol: entry.listing for symbol, entry in self._symbols.items()}
        self._timer: asyncio.TimerHandle | None = None
        exchange.trading.print_trade = self._on_trade
        exchange.trading.moved = self._on_moved

    @property
    def is_started(self) -> bool:
        """A synthetic market moves from the start."""
        return self._timer is not None

    @property
    def is_finished(self) -> bool:
        """A synthetic market never ends."""
        return False

    async def start(self) -> None:
        """Starts the flow."""
        now_ns = self._exchange.clock()
        for symbol in self._symbols.values():
            symbol.start(now_ns)
        self._wake()

    async def close(self) -> None:
        """Stops the flow."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def book(self, symbol: str) -> tuple[int, list[tuple[int, int]], list[tuple[int, int]]]:
        """Answers update id, bids and asks as they stand, (price_ticks, lots), best first."""
        book = self._symbols[symbol].book
        return book.update_id, list(book.walk(BUY)), list(book.walk(SELL))

    def depth(self, symbol: str, limit: int) -> bytes:
        """Answers the JSON body of a depth snapshot."""
        return self._symbols[symbol].depth(limit)

    def _wake(self) -> None:
        now_ns = self._exchange.clock()
        next_ns = min(symbol.advance(now_ns) for symbol in self._symbols.values())
        self._exchange.flush()
        delay_s = max(0.0, (next_ns - self._exchange.clock()) / 1e9)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake)

    def _on_trade(self, listing: Listing, fill: Fill, now_ns: int) -> None:
        self._symbols[listing.instrument.symbol].publish_trade(fill, now_ns)

    def _on_moved(self, listing: Listing, now_ns: int) -> None:
        symbol = self._symbols[listing.instrument.symbol]
        symbol.publish_top()
        if self._exchange.venue is USDM:
            symbol.collect(now_ns)
