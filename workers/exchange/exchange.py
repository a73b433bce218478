"""workers room: the exchange without its sockets: everything that its connections share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import msgspec

from config.settings import ExchangeSettings
from engine import venues
from workers.exchange.accounts import Account
from workers.exchange.authority import Authority
from workers.exchange.instruments import Instrument, describe
from workers.exchange.keys import Credential
from workers.exchange.limits import Limits, OrderCounter, WeightCounter
from workers.exchange.params import Params
from workers.exchange.reports import Report, time_of
from workers.exchange.streams import StreamHub
from workers.exchange.trading import Listing, Trading

NS_PER_ID = 10_000  # ids start at the time in 10 us, faster than they can be used up
SUBSCRIPTIONS_MAX = 1_000  # of user data, on one connection


# (symbol, update id, levels of a side as (price_ticks, lots), best first) once the state after a
# depth frame is known; levels must be read before the call returns
Applied = Callable[[str, int, Callable[[int], Iterator[tuple[int, int]]]], None]


class Market(Protocol):
    """Where prices come from: the synthetic flow or a recording."""

    listings: dict[str, Listing]

    async def start(self) -> None:
        """Begins to move, or to wait for listeners."""

    async def close(self) -> None:
        """Stops moving."""

    def depth(self, symbol: str, limit: int) -> bytes:
        """Answers the JSON body of a depth snapshot."""

    def book(self, symbol: str) -> tuple[int, list[tuple[int, int]], list[tuple[int, int]]]:
        """Answers update id, bids and asks as they stand, (price_ticks, lots), best first."""

    @property
    def is_started(self) -> bool:
        """Says whether the market moves."""

    @property
    def is_finished(self) -> bool:
        """Says whether nothing more will come."""


class Subscriber(Protocol):
    """A connection that receives an account's events."""

    def on_event(self, subscription_id: int, event: bytes) -> None:
        """Sends one event."""


class Exchange:
    """State of the exchange that all connections share.

    Args:
        settings: fees and opening balances.
        keys: credentials by API key.
        clock: answers epoch ns.
        limits: what clients may do.
        venue: which market it serves: addresses, forms and weights.
    """

    def __init__(
        self,
        settings: ExchangeSettings,
        keys: Mapping[str, Credential],
        clock: Callable[[], int],
        limits: Limits,
        venue: venues.Market = venues.SPOT,
    ) -> None:
        self.clock = clock
        self.venue = venue
        self.limits = limits
        self.authority = Authority(keys)
        self.hub = StreamHub(clock, limits, venue)
        self.weights = WeightCounter(limits)
        fees = (settings.maker_fee_bps, settings.taker_fee_bps)
        self.first_id = clock() // NS_PER_ID
        self.trading = Trading(fees, settings.balances, limits, self.first_id)
        self.applied: Applied | None = None  # hears of the exchange's own book, for tests
        self.events_n = 0
        self.released = asyncio.Event()  # set when a paused connection takes data again, or ends
        self._market: Market | None = None
        self._subscribers: dict[int, dict[tuple[Subscriber, int], None]] = {}
        self._encoder = msgspec.json.Encoder()

    @property
    def market(self) -> Market:
        """Answers the market; it is there from `open_market` on."""
        assert self._market is not None
        return self._market

    def authorize(self, params: Params, session: Credential | None, now_ns: int) -> Credential:
        """Checks a signed request by the exchange's own clock, skewed when a fault says so.

        Raises:
            ExchangeError: as `Authority.check`.
        """
        skew_ns = self.hub.injector.skew_ms * 1_000_000
        return self.authority.check(params, session, now_ns + skew_ns)

    def open_market(self, market: Market) -> None:
        """Lists the market's symbols for trading."""
        self._market = market
        for listing in market.listings.values():
            self.trading.list(listing)

    def subscribe(self, account: Account, subscriber: Subscriber, subscription_id: int) -> None:
        """Sends an account's events to a connection from now on."""
        entries = self._subscribers.setdefault(account.account_id, {})
        entries[subscriber, subscription_id] = None

    def unsubscribe(self, account: Account, subscriber: Subscriber, subscription_id: int) -> None:
        """Stops sending."""
        self._subscribers[account.account_id].pop((subscriber, subscription_id), None)

    def flush(self) -> None:
        """Sends what happened to accounts since the last call to whoever listens."""
        outbox = self.trading.outbox
        if not outbox:
            return
        for account, report in outbox:
            entries = self._subscribers.get(account.account_id)
            if entries:
                event = self._encoder.encode(report)
                for subscriber, subscription_id in tuple(entries):
                    subscriber.on_event(subscription_id, event)
                    self.events_n += 1
        outbox.clear()

    def describe(self, instruments: list[Instrument], now_ns: int) -> Report:
        """Answers the body of `exchangeInfo` for some instruments."""
        counter = OrderCounter(self.limits)
        limits = [self.weights.describe(), *counter.describe(now_ns)]
        for limit in limits:
            del limit["count"]
        return {
            "timezone": "UTC",
            "serverTime": time_of(now_ns) + self.hub.injector.skew_ms,
            "rateLimits": limits,
            "exchangeFilters": [],
            "symbols": [describe(instrument) for instrument in instruments],
        }
