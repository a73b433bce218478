"""workers room: the mark price of a synthetic perpetual, with index and funding.

The index follows the mid slowly; the mark lies between both; the funding rate is the venue's
interest rate plus the premium of the mark over the index, within the venue's bounds.
"""

from __future__ import annotations

from engine.decimals import UNITS_PER_ONE
from engine.venues import USDM
from workers.exchange.exchange import Exchange
from workers.exchange.frames import FrameWriter

FAST_NS, SLOW_NS = 1_000_000_000, 3_000_000_000  # markPrice@1s, markPrice
FUNDING_NS = 8 * 3_600 * 1_000_000_000
INTEREST, FUNDING_MAX = 10_000, 75_000  # of 10**8: 0.01 % and 0.075 %
INDEX_WEIGHT = 60  # a new mid is one part in so many of the index


class MarkPrice:
    """One symbol's mark price; says nothing in a market that has none."""

    def __init__(self, exchange: Exchange, name: str, writer: FrameWriter) -> None:
        self._writer = writer
        self._is_served = exchange.venue is USDM
        self._index = 0
        self._next_ns = 0
        if self._is_served:
            self._fast = exchange.hub.feed(f"{name}@markPrice@1s")
            self._slow = exchange.hub.feed(f"{name}@markPrice")

    def publish(self, mid_units: int, now_ns: int) -> None:
        """Sends what is due; `mid_units` is the mid price in units of 10**-8."""
        if not self._is_served or now_ns < self._next_ns:
            return
        self._index = self._index or mid_units
        self._index += (mid_units - self._index) // INDEX_WEIGHT
        mark = (mid_units + self._index) // 2
        premium = (mark - self._index) * UNITS_PER_ONE // max(1, self._index)
        funding = max(-FUNDING_MAX, min(FUNDING_MAX, INTEREST + premium))
        funding_ns = now_ns - now_ns % FUNDING_NS + FUNDING_NS
        payload = self._writer.mark(mark, self._index, funding, funding_ns, now_ns)
        if self._fast.listeners:
            self._fast.publish(payload)
        if now_ns // SLOW_NS != (self._next_ns - FAST_NS) // SLOW_NS and self._slow.listeners:
            self._slow.publish(payload)
        self._next_ns = now_ns - now_ns % FAST_NS + FAST_NS
