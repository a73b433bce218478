"""workers room: rate limits of the exchange, counted in fixed windows aligned to the clock.

The venue counts request weight per minute and address, and unfilled orders per account in windows
of ten seconds and of one day; a fill takes its order out of the count again. Windows start at
whole multiples of their length, so a count falls to zero at once, not gradually.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.venues import Market
from workers.exchange.errors import ExchangeError, too_many_orders, too_much_weight

NS_PER_S = 1_000_000_000
MINUTE_S = 60
ORDERS_SHORT_S = 10
DAY_S = 86_400


@dataclass(frozen=True)
class Limits:
    """How much the exchange takes from its clients.

    The order limits lie far above the venue's (100 in ten seconds): this exchange is also what load
    tests run against, and clients read the limits from `exchangeInfo` as they would there.
    """

    weight_per_minute: int = 6_000
    orders_per_10_s: int = 100_000
    orders_per_day: int = 100_000_000
    ping_s: float = 20.0  # a ping goes out this often
    pong_s_max: float = 60.0  # a connection that has not answered one for so long is dropped
    stream_messages_per_s: int = 5  # from the client, on one market stream connection
    streams_max: int = 1_024  # on one connection
    connection_s_max: float = 86_400.0  # then a market stream connection is ended
    connections_max: int = 300  # WebSocket connections at one time
    request_bytes_max: int = 65_536


def limits_of(venue: Market) -> Limits:
    """Answers what clients may do in a market: as there, but for orders."""
    return Limits(
        weight_per_minute=venue.weight_per_minute,
        ping_s=venue.ping_s,
        pong_s_max=venue.pong_s_max,
        stream_messages_per_s=venue.messages_per_s,
        streams_max=venue.streams_max,
        connection_s_max=venue.connection_s_max,
    )


class Window:
    """A counter that starts again at every multiple of its length."""

    __slots__ = ("_length_ns", "_start_ns", "count", "limit")

    def __init__(self, length_s: int, limit: int) -> None:
        self._length_ns = length_s * NS_PER_S
        self._start_ns = 0
        self.limit = limit
        self.count = 0

    def roll(self, now_ns: int) -> int:
        """Starts a new window when the time has come; answers when this one ends, in epoch ms."""
        start_ns = now_ns - now_ns % self._length_ns
        if start_ns != self._start_ns:
            self._start_ns = start_ns
            self.count = 0
        return (start_ns + self._length_ns) // 1_000_000

    def is_full(self) -> bool:
        """Says whether nothing more fits into this window."""
        return self.count >= self.limit


def describe_limit(kind: str, interval: str, number: int, window: Window) -> dict[str, object]:
    """Describes a window as an entry of `rateLimits`."""
    return {
        "rateLimitType": kind,
        "interval": interval,
        "intervalNum": number,
        "limit": window.limit,
        "count": window.count,
    }


class WeightCounter:
    """Counts request weight; every client of the exchange comes from one address."""

    def __init__(self, limits: Limits) -> None:
        self.window = Window(MINUTE_S, limits.weight_per_minute)

    def spend(self, weight: int, now_ns: int) -> None:
        """Counts a request.

        Raises:
            ExchangeError: the minute's weight is used up.
        """
        end_ms = self.window.roll(now_ns)
        if self.window.is_full():
            raise too_much_weight(self.window.limit, end_ms)
        self.window.count += weight

    def describe(self) -> dict[str, object]:
        """Describes the count as an entry of `rateLimits`."""
        return describe_limit("REQUEST_WEIGHT", "MINUTE", 1, self.window)


class OrderCounter:
    """Counts one account's unfilled orders."""

    def __init__(self, limits: Limits) -> None:
        self.short = Window(ORDERS_SHORT_S, limits.orders_per_10_s)
        self.day = Window(DAY_S, limits.orders_per_day)

    def spend(self, now_ns: int) -> None:
        """Counts a new order.

        Raises:
            ExchangeError: a window is full.
        """
        for window, interval in ((self.short, "10 SECOND"), (self.day, "1 DAY")):
            end_ms = window.roll(now_ns)
            if window.is_full():
                raise _full(window, interval, end_ms)
        self.short.count += 1
        self.day.count += 1

    def refund(self, now_ns: int) -> None:
        """Takes an order that was filled out of the count."""
        for window in (self.short, self.day):
            window.roll(now_ns)
            window.count = max(0, window.count - 1)

    def describe(self, now_ns: int) -> list[dict[str, object]]:
        """Describes the counts as entries of `rateLimits`."""
        self.short.roll(now_ns)
        self.day.roll(now_ns)
        return [
            describe_limit("ORDERS", "SECOND", ORDERS_SHORT_S, self.short),
            describe_limit("ORDERS", "DAY", 1, self.day),
        ]


def _full(window: Window, interval: str, end_ms: int) -> ExchangeError:
    return too_many_orders(window.limit, interval, end_ms)
