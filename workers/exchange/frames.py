"""workers room: market stream payloads as bytes, one formatting each.

Numbers are exact: a price of so many ticks is so many units of 10**-8, split into its whole and
eight places by one division and written by one format.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.decimals import UNITS_PER_ONE, text_from_units
from engine.venues import SPOT, USDM, Market
from workers.exchange.instruments import Instrument

NS_PER_MS = 1_000_000
_TOP = b'"s":"%b","b":"%%d.%%08d","B":"%%d.%%08d","a":"%%d.%%08d","A":"%%d.%%08d"'
_TOPS = {
    SPOT.name: b'{"u":%%d,' + _TOP + b"}",
    USDM.name: b'{"e":"bookTicker","u":%%d,' + _TOP + b',"T":%%d,"E":%%d}',
}
_TRADES = {
    SPOT.name: (
        b'{"e":"trade","E":%%d,"s":"%b","t":%%d,"p":"%%d.%%08d","q":"%%d.%%08d","T":%%d,'
        b'"m":%%b,"M":true}'
    ),
    USDM.name: (
        b'{"e":"trade","E":%%d,"T":%%d,"s":"%b","t":%%d,"p":"%%d.%%08d","q":"%%d.%%08d",'
        b'"X":"MARKET","m":%%b}'
    ),
}
_AGGREGATE = (
    b'{"e":"aggTrade","E":%%d,"s":"%b","a":%%d,"p":"%%d.%%08d","q":"%%d.%%08d","f":%%d,"l":%%d,'
    b'"T":%%d,"m":%%b'
)
_AGGREGATES = {SPOT.name: _AGGREGATE + b',"M":true}', USDM.name: _AGGREGATE + b"}"}
_DEPTHS = {
    SPOT.name: b'{"e":"depthUpdate","E":%%d,"s":"%b","U":%%d,"u":%%d,"b":[%%b],"a":[%%b]}',
    USDM.name: (
        b'{"e":"depthUpdate","E":%%d,"T":%%d,"s":"%b","U":%%d,"u":%%d,"pu":%%d,"b":[%%b],"a":[%%b]}'
    ),
}
_MARK = (
    b'{"e":"markPriceUpdate","E":%%d,"s":"%b","p":"%%d.%%08d","P":"%%d.%%08d","i":"%%d.%%08d",'
    b'"r":"%%b","T":%%d}'
)
Levels = Iterable[tuple[int, int]]


class FrameWriter:
    """Writes the payloads of one symbol's streams, as its market does. Times are epoch ns."""

    def __init__(self, instrument: Instrument, venue: Market) -> None:
        self._tick = instrument.tick_units
        self._lot = instrument.lot_units
        self._is_usdm = venue is USDM
        symbol = instrument.symbol.encode()
        self._top = _TOPS[venue.name] % symbol
        self._trade = _TRADES[venue.name] % symbol
        self._aggregate = _AGGREGATES[venue.name] % symbol
        self._depth = _DEPTHS[venue.name] % symbol
        self._mark = _MARK % symbol

    def book_ticker(
        self, update_id: int, bid: tuple[int, int], ask: tuple[int, int], now_ns: int
    ) -> bytes:
        """Writes best prices; bid and ask are (price_ticks, lots), zeros for an empty side."""
        tick, lot = self._tick, self._lot
        times = (now_ns // NS_PER_MS,) * 2 if self._is_usdm else ()
        return self._top % (
            update_id,
            *divmod(bid[0] * tick, UNITS_PER_ONE),
            *divmod(bid[1] * lot, UNITS_PER_ONE),
            *divmod(ask[0] * tick, UNITS_PER_ONE),
            *divmod(ask[1] * lot, UNITS_PER_ONE),
            *times,
        )

    def trade(
        self, trade_id: int, price_ticks: int, lots: int, now_ns: int, *, buyer_is_maker: bool
    ) -> bytes:
        """Writes one trade."""
        time_ms = now_ns // NS_PER_MS
        price = divmod(price_ticks * self._tick, UNITS_PER_ONE)
        quantity = divmod(lots * self._lot, UNITS_PER_ONE)
        is_maker = b"true" if buyer_is_maker else b"false"
        if self._is_usdm:
            return self._trade % (time_ms, time_ms, trade_id, *price, *quantity, is_maker)
        return self._trade % (time_ms, trade_id, *price, *quantity, time_ms, is_maker)

    def aggregate(
        self, trade_id: int, price_ticks: int, lots: int, now_ns: int, *, buyer_is_maker: bool
    ) -> bytes:
        """Writes one trade as the aggregate of itself."""
        time_ms = now_ns // NS_PER_MS
        return self._aggregate % (
            time_ms,
            trade_id,
            *divmod(price_ticks * self._tick, UNITS_PER_ONE),
            *divmod(lots * self._lot, UNITS_PER_ONE),
            trade_id,
            trade_id,
            time_ms,
            b"true" if buyer_is_maker else b"false",
        )

    def depth_update(self, ids: tuple[int, int], bids: Levels, asks: Levels, now_ns: int) -> bytes:
        """Writes a depth difference; ids are the first and the last update id it covers."""
        time_ms = now_ns // NS_PER_MS
        levels = (self._levels(bids), self._levels(asks))
        if self._is_usdm:
            return self._depth % (time_ms, time_ms, *ids, ids[0] - 1, *levels)
        return self._depth % (time_ms, *ids, *levels)

    def mark(self, mark: int, index: int, funding: int, next_ns: int, now_ns: int) -> bytes:
        """Writes mark price, index price and funding rate, all units of 10**-8."""
        return self._mark % (
            now_ns // NS_PER_MS,
            *divmod(mark, UNITS_PER_ONE),
            *divmod(mark, UNITS_PER_ONE),
            *divmod(index, UNITS_PER_ONE),
            text_from_units(funding).encode(),
            next_ns // NS_PER_MS,
        )

    def snapshot(self, update_id: int, bids: Levels, asks: Levels, now_ns: int) -> bytes:
        """Writes the body of a depth snapshot."""
        levels = (self._levels(bids), self._levels(asks))
        if self._is_usdm:
            time_ms = now_ns // NS_PER_MS
            head = b'{"lastUpdateId":%d,"E":%d,"T":%d' % (update_id, time_ms, time_ms)
        else:
            head = b'{"lastUpdateId":%d' % update_id
        return b'%b,"bids":[%b],"asks":[%b]}' % (head, *levels)

    def _levels(self, levels: Levels) -> bytes:
        tick, lot = self._tick, self._lot
        return b",".join(
            b'["%d.%08d","%d.%08d"]'
            % (*divmod(price * tick, UNITS_PER_ONE), *divmod(lots * lot, UNITS_PER_ONE))
            for price, lots in levels
        )
