"""workers room: what ccxt answers, as the spot frames that the compiled codec reads.

ccxt keeps order books as floats. A float whose shortest text has at most 15 significant digits is
that text exactly, so a level is read by its shortest text and must lie on the market's grid within
15 digits; whatever does not is an error, never a rounded number. Called by: ccxtsession only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from engine.instruments import Instrument
from workers.ingest_instruments import DECIMALS_MAX as SPARE_TO
from workers.ingest_instruments import SPARE_DECIMALS

DIGITS_MAX = 15  # significant decimal digits that a double holds exactly
DECIMALS_MAX = 17  # that the codec's grids may have
TICK_SIZE, DECIMAL_PLACES = 4, 2  # ccxt's precisionMode
Side = dict[Decimal, Decimal]


def exact(value: object, what: str, symbol: str) -> Decimal:
    """Reads a number of ccxt exactly; raises ValueError where that cannot be said."""
    try:
        read = Decimal(value if isinstance(value, str) else repr(value))
    except InvalidOperation as error:
        raise _wrong(value, what, symbol) from error
    if not read.is_finite() or read < 0:
        raise _wrong(value, what, symbol)
    if isinstance(value, float) and len(read.normalize().as_tuple().digits) > DIGITS_MAX:
        raise _wrong(value, what, symbol)
    return read


def _wrong(value: object, what: str, symbol: str) -> ValueError:
    return ValueError(
        f"ccxt must give a {what} that is exact in {DIGITS_MAX} digits: symbol={symbol} "
        f"{what}={value!r}; leave the symbol out or trade it on a native venue"
    )


def _grid(precision: object, mode: int, what: str, symbol: str) -> tuple[int, int]:
    """Answers the decimals and units of one step."""
    if precision is None or mode not in {TICK_SIZE, DECIMAL_PLACES}:
        raise ValueError(
            f"a ccxt market must have a fixed grid: symbol={symbol} {what}={precision} "
            f"precisionMode={mode}; leave the symbol out"
        )
    read = exact(precision, what, symbol)
    step = (read if mode == TICK_SIZE else Decimal(1).scaleb(-int(read))).normalize()
    exponent = step.as_tuple().exponent
    decimals = max(0, -exponent) if isinstance(exponent, int) else DECIMALS_MAX + 1
    if step <= 0 or decimals > DECIMALS_MAX:
        raise _wrong(precision, what, symbol)
    return decimals, int(step.scaleb(decimals))


def instrument_of(index: int, symbol: str, market: Mapping[str, Any], mode: int) -> Instrument:
    """Answers a ccxt market as an instrument of ours; raises ValueError when it has no grid."""
    price = _grid(market["precision"].get("price"), mode, "price precision", symbol)
    amount = _grid(market["precision"].get("amount"), mode, "amount precision", symbol)
    made = Instrument(
        index=index, symbol=symbol, base=market["base"], quote=market["quote"],
        trading=market.get("active") is not False, price_decimals=price[0], tick_units=price[1],
        quantity_decimals=amount[0], lot_units=amount[1],
    )  # fmt: skip
    limits = market.get("limits") or {}
    made = _finer(made)
    least = (limits.get("amount") or {}).get("min")
    notional = (limits.get("cost") or {}).get("min")
    step = made.quantity_step_lots
    changes = {"quantity_lots_min": step, "market_lots_min": step}
    if least is not None:
        # A venue may write a minimum between two lots; the next lot up is the true minimum.
        lots = -int(-exact(least, "minimum", symbol) // (made.lot * step)) * step
        changes["quantity_lots_min"] = changes["market_lots_min"] = max(step, lots)
    if notional is not None:
        unit = made.tick * made.lot
        changes["notional_min"] = -int(-exact(notional, "minimum cost", symbol) // unit)
    return msgspec.structs.replace(made, **changes)


def _finer(made: Instrument) -> Instrument:
    """Answers an instrument whose quantities may lie between two lots; see SPARE_DECIMALS."""
    decimals = min(made.quantity_decimals + SPARE_DECIMALS, SPARE_TO)
    if decimals <= made.quantity_decimals:
        return made
    step = made.lot_units * 10 ** (decimals - made.quantity_decimals)
    return msgspec.structs.replace(
        made, quantity_decimals=decimals, lot_units=1, quantity_step_lots=step
    )


class Frames:
    """One symbol's frames: whole order books in, differences with consecutive ids out."""

    def __init__(
        self, instrument: Instrument, depth: str = "depth@100ms", first_id: int = 0
    ) -> None:
        """Makes frames with ids behind `first_id`."""
        self.instrument = instrument
        self.is_fresh = False  # a whole book came since the last fault
        self._depth = depth
        self._last_id = self._trade_id = self._quote_id = first_id
        self._bids: Side = {}
        self._asks: Side = {}

    def book(self, bids: Iterable[Sequence[Any]], asks: Iterable[Sequence[Any]], ms: int) -> bytes:
        """Answers what a whole order book changes as a depthUpdate frame, b"" for nothing."""
        new_bids, new_asks = self._side(bids), self._side(asks)
        changed = _difference(self._bids, new_bids), _difference(self._asks, new_asks)
        self._bids, self._asks = new_bids, new_asks
        is_first, self.is_fresh = not self.is_fresh, True
        if not is_first and not any(changed):
            return b""
        self._last_id += 1
        return self._update(*changed, ms)

    def fault(self, ms: int) -> bytes:
        """Answers a frame whose id leaves a gap: the book is stale until a new snapshot."""
        self.is_fresh = False
        self._last_id += 2
        return self._update([], [], ms)

    def snapshot(self) -> bytes:
        """Answers the last whole book as a REST depth body; raises LookupError without one."""
        if not self.is_fresh:
            raise LookupError(
                f"ccxt must have sent a whole book first: symbol={self.instrument.symbol}; retry"
            )
        sides = [
            [[f"{p:f}", f"{q:f}"] for p, q in sorted(side.items(), reverse=turned)]
            for side, turned in ((self._bids, True), (self._asks, False))
        ]
        body = {"lastUpdateId": self._last_id, "bids": sides[0], "asks": sides[1]}
        return msgspec.json.encode(body)

    def quote(self, bid: object, bid_size: object, ask: object, ask_size: object) -> bytes:
        """Answers a best bid and ask as a bookTicker frame."""
        self._quote_id += 1
        data = {
            "u": self._quote_id, "s": self.instrument.symbol, "b": self._price(bid),
            "B": self._lots(bid_size), "a": self._price(ask), "A": self._lots(ask_size),
        }  # fmt: skip
        return self._frame("bookTicker", data)

    def top(self) -> bytes:
        """Answers the best levels of the last book as a bookTicker frame, b"" without both."""
        if not self._bids or not self._asks:
            return b""
        bid, ask = max(self._bids), min(self._asks)
        return self.quote(f"{bid:f}", f"{self._bids[bid]:f}", f"{ask:f}", f"{self._asks[ask]:f}")

    def trade(self, trade: Mapping[str, Any]) -> bytes:
        """Answers a ccxt trade as a trade frame; an id that is no number becomes our own."""
        symbol = self.instrument.symbol
        if trade.get("side") not in {"buy", "sell"} or trade.get("timestamp") is None:
            raise ValueError(f"a ccxt trade must say its side and time: symbol={symbol}")
        text = str(trade.get("id") or "")
        is_number = text.isdecimal() and text.isascii() and len(text) <= DIGITS_MAX
        self._trade_id = int(text) if is_number else self._trade_id + 1
        data = {
            "e": "trade", "E": trade["timestamp"], "s": symbol, "t": self._trade_id,
            "p": self._price(trade["price"]), "q": self._lots(trade["amount"]),
            "T": trade["timestamp"], "m": trade["side"] == "sell", "M": True,
        }  # fmt: skip
        return self._frame("trade", data)

    def rejected(self, stream: str, error: ValueError) -> bytes:
        """Answers a frame for what cannot be said exactly: the feed rejects and counts it."""
        return self._frame(stream, {"e": "rejected", "error": str(error)})

    def _price(self, value: object) -> str:
        read = exact(value, "price", self.instrument.symbol)
        self.instrument.ticks(read)
        return f"{read:f}"

    def _lots(self, value: object) -> str:
        read = exact(value, "quantity", self.instrument.symbol)
        self.instrument.lots(read)
        return f"{read:f}"

    def _side(self, levels: Iterable[Sequence[Any]]) -> Side:
        made = {Decimal(self._price(level[0])): Decimal(self._lots(level[1])) for level in levels}
        return {price: quantity for price, quantity in made.items() if quantity}

    def _update(self, bids: list[list[str]], asks: list[list[str]], ms: int) -> bytes:
        data = {
            "e": "depthUpdate", "E": ms, "s": self.instrument.symbol, "U": self._last_id,
            "u": self._last_id, "b": bids, "a": asks,
        }  # fmt: skip
        return self._frame(self._depth, data)

    def _frame(self, stream: str, data: dict[str, object]) -> bytes:
        name = f"{self.instrument.symbol.lower()}@{stream}"
        return msgspec.json.encode({"stream": name, "data": data})


def _difference(old: Side, new: Side) -> list[list[str]]:
    gone = [[f"{price:f}", "0"] for price in old if price not in new]
    return gone + [[f"{p:f}", f"{q:f}"] for p, q in new.items() if old.get(p) != q]
