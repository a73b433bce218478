"""workers room: mark price, index price and funding of a synthetic USD-M symbol."""

from __future__ import annotations

from typing import Final

from engine.venues import USDM
from workers.exchange.frames import FrameWriter
from workers.exchange.streams import StreamHub
from workers.exchange.usdm_frames import FUNDING_NS, UsdmWriter

PERIODS_NS: Final = {"markPrice": 3_000_000_000, "markPrice@1s": 1_000_000_000}
INDEX_PARTS: Final = 20_000  # the index lies one part of so many off the middle
RATE_UNITS: Final = 1_000  # 0.001 %, in units of 10**-8, to one side and the other by turns


class Marks:
    """The mark price streams of one symbol; silent in a market that has none."""

    def __init__(self, hub: StreamHub, symbol: str, writer: FrameWriter) -> None:
        names = PERIODS_NS if hub.venue is USDM else {}
        self._channels = [(hub.feed(f"{symbol}@{name}"), names[name]) for name in names]
        self._writer = writer if isinstance(writer, UsdmWriter) else None
        self._last_ns = 0

    def advance(self, best: tuple[int, int], tick_units: int, now_ns: int) -> None:
        """Sends the prices to the streams whose period has ended; best are bid and ask ticks."""
        last_ns, self._last_ns = self._last_ns, now_ns
        if self._writer is None or not last_ns:
            return
        for channel, period_ns in self._channels:
            if now_ns // period_ns > last_ns // period_ns and channel.listeners:
                middle = sum(best) * tick_units // 2
                turn = now_ns // FUNDING_NS
                sign = 1 if turn % 2 else -1
                index = middle + sign * (middle // INDEX_PARTS)
                facts = (middle, index, sign * RATE_UNITS, (turn + 1) * FUNDING_NS)
                channel.publish(self._writer.mark_price(*facts, now_ns))
