"""workers room: market stream payloads in the form of USD-M futures, one formatting each."""

from __future__ import annotations

from typing import Final

from engine.decimals import UNITS_PER_ONE
from workers.exchange.frames import NS_PER_MS, FrameWriter, Levels
from workers.exchange.instruments import Instrument

FUNDING_NS: Final = 8 * 3_600 * 1_000_000_000  # funding is paid at whole multiples of it


class UsdmWriter(FrameWriter):
    """Writes the payloads of one symbol's streams as USD-M does."""

    def __init__(self, instrument: Instrument) -> None:
        super().__init__(instrument)
        symbol = instrument.symbol.encode()
        self._top = (
            b'{"e":"bookTicker","u":%%d,"s":"%b","b":"%%d.%%08d","B":"%%d.%%08d",'
            b'"a":"%%d.%%08d","A":"%%d.%%08d","T":%%d,"E":%%d}' % symbol
        )
        self._trade = (
            b'{"e":"trade","E":%%d,"T":%%d,"s":"%b","t":%%d,"p":"%%d.%%08d","q":"%%d.%%08d",'
            b'"X":"MARKET","m":%%b}' % symbol
        )
        self._many = (
            b'{"e":"aggTrade","E":%%d,"s":"%b","a":%%d,"p":"%%d.%%08d","q":"%%d.%%08d","f":%%d,'
            b'"l":%%d,"T":%%d,"m":%%b}' % symbol
        )
        self._depth = (
            b'{"e":"depthUpdate","E":%%d,"T":%%d,"s":"%b","U":%%d,"u":%%d,"pu":%%d,'
            b'"b":[%%b],"a":[%%b]}' % symbol
        )
        self._mark = (
            b'{"e":"markPriceUpdate","E":%%d,"s":"%b","p":"%%d.%%08d","P":"%%d.%%08d",'
            b'"i":"%%d.%%08d","r":"%%b%%d.%%08d","T":%%d}' % symbol
        )

    def book_ticker(
        self, update_id: int, bid: tuple[int, int], ask: tuple[int, int], now_ns: int
    ) -> bytes:
        """Writes best prices; bid and ask are (price_ticks, lots), zeros for an empty side."""
        time_ms = now_ns // NS_PER_MS
        return self._top % (update_id, *self._pair(bid), *self._pair(ask), time_ms, time_ms)

    def trade(
        self, trade_id: int, price_ticks: int, lots: int, time: int, *, buyer_is_maker: bool
    ) -> bytes:
        """Writes one trade."""
        is_maker = b"true" if buyer_is_maker else b"false"
        return self._trade % (
            time,
            time,
            trade_id,
            *self._pair((price_ticks, lots)),
            is_maker,
        )

    def depth_update(
        self, ids: tuple[int, int], before_id: int, sides: tuple[Levels, Levels], time: int
    ) -> bytes:
        """Writes a depth difference; `pu` is the last update id of the one before it."""
        bids, asks = map(self._levels, sides)
        return self._depth % (time, time, *ids, before_id, bids, asks)

    def snapshot(self, update_id: int, bids: Levels, asks: Levels, now_ns: int) -> bytes:
        """Writes the body of a depth snapshot."""
        time_ms = now_ns // NS_PER_MS
        return b'{"lastUpdateId":%d,"E":%d,"T":%d,"bids":[%b],"asks":[%b]}' % (
            update_id,
            time_ms,
            time_ms,
            self._levels(bids),
            self._levels(asks),
        )

    def mark_price(
        self, mark_units: int, index_units: int, rate_units: int, next_ns: int, now_ns: int
    ) -> bytes:
        """Writes mark price, index price and funding rate, all in units of 10**-8."""
        return self._mark % (
            now_ns // NS_PER_MS,
            *divmod(mark_units, UNITS_PER_ONE),
            *divmod(mark_units, UNITS_PER_ONE),
            *divmod(index_units, UNITS_PER_ONE),
            b"-" if rate_units < 0 else b"",
            *divmod(abs(rate_units), UNITS_PER_ONE),
            next_ns // NS_PER_MS,
        )
