"""workers room: depth streams of the synthetic market, each with its own period."""

from __future__ import annotations

from typing import Final

from engine.venues import USDM, Market
from workers.exchange.frames import FrameWriter, Levels
from workers.exchange.streams import Channel, StreamHub

NS_PER_MS: Final = 1_000_000
# stream: period in ms, 0 for after every event
SPOT_DEPTHS: Final = {"depth@100ms": 100, "depth": 1_000}
USDM_DEPTHS: Final = {"depth@0ms": 0, "depth@100ms": 100, "depth": 250, "depth@500ms": 500}


class DepthStream:
    """One depth stream: the levels that changed since its last frame."""

    def __init__(self, channel: Channel, period_ns: int, update_id: int) -> None:
        self.period_ns = period_ns
        self._channel = channel
        self._before_id = self._last_id = update_id
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}

    def collect(self, last_id: int, bids: Levels, asks: Levels) -> None:
        """Takes levels as they are at an update id."""
        self._last_id = last_id
        self._bids.update(bids)
        self._asks.update(asks)

    def advance(self, due_ns: int, now_ns: int, writer: FrameWriter) -> None:
        """Sends what was collected, when a period has ended since before `due_ns`."""
        if self.period_ns and now_ns // self.period_ns > (due_ns - 1) // self.period_ns:
            self.publish(now_ns, writer)

    def publish(self, now_ns: int, writer: FrameWriter) -> None:
        """Sends what was collected, if anything was, and begins anew."""
        before_id, last_id = self._before_id, self._last_id
        if last_id <= before_id:
            return
        if self._channel.listeners:
            sides = sorted(self._bids.items(), reverse=True), sorted(self._asks.items())
            ids = (before_id + 1, last_id)
            self._channel.publish_timed(
                now_ns, lambda time: writer.depth_update(ids, before_id, sides, time)
            )
        self._before_id = last_id
        self._bids.clear()
        self._asks.clear()


def step_ns(venue: Market) -> int:
    """Answers the time of which every period of a market is a whole multiple."""
    return 50_000_000 if venue is USDM else 100_000_000


def open_depth(hub: StreamHub, symbol: str, update_id: int) -> list[DepthStream]:
    """Makes the depth streams of a symbol, named as in streams, that the hub's market has."""
    periods = USDM_DEPTHS if hub.venue is USDM else SPOT_DEPTHS
    return [
        DepthStream(hub.feed(f"{symbol}@{stream}"), period_ms * NS_PER_MS, update_id)
        for stream, period_ms in periods.items()
    ]
