"""workers room: market stream payloads as bytes, one formatting each.

Numbers are exact: a price of so many ticks is so many units of 10**-8, split into its whole and
eight places by one division and written by one format. Trades and depth differences take their time
as the number that is written: who listens decides whether that is milliseconds or microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.decimals import UNITS_PER_ONE
from workers.exchange.instruments import Instrument

NS_PER_MS = 1_000_000
NS_PER_US = 1_000
Levels = Iterable[tuple[int, int]]


class FrameWriter:
    """Writes the payloads of one symbol's streams."""

    def __init__(self, instrument: Instrument) -> None:
        self._tick = instrument.tick_units
        self._lot = instrument.lot_units
        symbol = instrument.symbol.encode()
        self._top = (
            b'{"u":%%d,"s":"%b","b":"%%d.%%08d","B":"%%d.%%08d","a":"%%d.%%08d","A":"%%d.%%08d"}'
            % symbol
        )
        self._trade = (
            b'{"e":"trade","E":%%d,"s":"%b","t":%%d,"p":"%%d.%%08d","q":"%%d.%%08d","T":%%d,'
            b'"m":%%b,"M":true}' % symbol
        )
        self._many = (
            b'{"e":"aggTrade","E":%%d,"s":"%b","a":%%d,"p":"%%d.%%08d","q":"%%d.%%08d","f":%%d,'
            b'"l":%%d,"T":%%d,"m":%%b,"M":true}' % symbol
        )
        self._depth = (
            b'{"e":"depthUpdate","E":%%d,"s":"%b","U":%%d,"u":%%d,"b":[%%b],"a":[%%b]}' % symbol
        )

    def book_ticker(
        self, update_id: int, bid: tuple[int, int], ask: tuple[int, int], now_ns: int
    ) -> bytes:
        """Writes best prices; bid and ask are (price_ticks, lots), zeros for an empty side."""
        del now_ns  # spot says no time here
        return self._top % (update_id, *self._pair(bid), *self._pair(ask))

    def trade(
        self, trade_id: int, price_ticks: int, lots: int, time: int, *, buyer_is_maker: bool
    ) -> bytes:
        """Writes one trade."""
        return self._trade % (
            time,
            trade_id,
            *divmod(price_ticks * self._tick, UNITS_PER_ONE),
            *divmod(lots * self._lot, UNITS_PER_ONE),
            time,
            b"true" if buyer_is_maker else b"false",
        )

    def many_trades(
        self, trade_id: int, price_ticks: int, lots: int, time: int, *, buyer_is_maker: bool
    ) -> bytes:
        """Writes an aggregate trade of one trade."""
        return self._many % (
            time,
            trade_id,
            *self._pair((price_ticks, lots)),
            trade_id,
            trade_id,
            time,
            b"true" if buyer_is_maker else b"false",
        )

    def depth_update(
        self, ids: tuple[int, int], before_id: int, sides: tuple[Levels, Levels], time: int
    ) -> bytes:
        """Writes a depth difference of bids and asks.

        Args:
            ids: the first and the last update id it covers.
            before_id: the last update id of the one before it; spot does not say it.
            sides: changed (price_ticks, lots) of bids and of asks, best first.
            time: epoch time in the unit to be written.
        """
        del before_id
        bids, asks = map(self._levels, sides)
        return self._depth % (time, *ids, bids, asks)

    def snapshot(self, update_id: int, bids: Levels, asks: Levels, now_ns: int) -> bytes:
        """Writes the body of a depth snapshot."""
        del now_ns  # spot says no time here
        return b'{"lastUpdateId":%d,"bids":[%b],"asks":[%b]}' % (
            update_id,
            self._levels(bids),
            self._levels(asks),
        )

    def _pair(self, level: tuple[int, int]) -> tuple[int, int, int, int]:
        """Splits price and quantity into wholes and eight places."""
        price_ticks, lots = level
        price = divmod(price_ticks * self._tick, UNITS_PER_ONE)
        return (*price, *divmod(lots * self._lot, UNITS_PER_ONE))

    def _levels(self, levels: Levels) -> bytes:
        tick, lot = self._tick, self._lot
        return b",".join(
            b'["%d.%08d","%d.%08d"]'
            % (*divmod(price * tick, UNITS_PER_ONE), *divmod(lots * lot, UNITS_PER_ONE))
            for price, lots in levels
        )
