"""engine room: what an instrument is, and the table of them in shared memory.

A price is `ticks * tick_units / 10**price_decimals`, a quantity `lots * lot_units /
10**quantity_decimals`: exact integers for any grid, also 0.05 or 0.25. Text goes to ticks and lots
in the codecs without passing a float.

The table lies in the segment `instruments` as a cell of shm/latest.py: a version, then
INSTRUMENTS_MAX rows of 32 words. Its one writer is the agent ingest.0, from the exchangeInfo that
the venue answers.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import numpy as np

from shm.segment import Words, fingerprint

INSTRUMENTS_MAX = 64
INSTRUMENT_WORDS = 32
(
    STATUS_WORD, PRICE_DECIMALS, TICK_UNITS, QUANTITY_DECIMALS, LOT_UNITS, PRICE_TICKS_MIN,
    PRICE_TICKS_MAX, QUANTITY_LOTS_MIN, QUANTITY_LOTS_MAX, NOTIONAL_MIN, NOTIONAL_MAX, ORDERS_MAX,
    SYMBOL_LOW, SYMBOL_HIGH, BASE_ASSET, QUOTE_ASSET, MARKET_LOTS_MIN, MARKET_LOTS_MAX,
    PERCENT_UP_E4, PERCENT_DOWN_E4, QUANTITY_STEP_LOTS,
) = range(21)  # fmt: skip
UNKNOWN, TRADING, NOT_TRADING = range(3)  # STATUS_WORD
# NOTIONAL_* are in units of one tick times one lot; PERCENT_* in 1/10,000 of the average price.

LAYOUT = fingerprint("instruments", 2, INSTRUMENTS_MAX, INSTRUMENT_WORDS)


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument as the venue describes it; integers in ticks and lots."""

    index: int
    symbol: str  # at most 16 ASCII characters
    base: str  # at most 8 ASCII characters
    quote: str
    price_decimals: int
    tick_units: int
    quantity_decimals: int
    lot_units: int
    trading: bool = True
    price_ticks_min: int = 1
    price_ticks_max: int = 1 << 53
    quantity_lots_min: int = 1
    quantity_lots_max: int = 1 << 53
    market_lots_min: int = 1
    market_lots_max: int = 1 << 53
    notional_min: int = 0
    notional_max: int = 1 << 62
    orders_max: int = 200
    percent_up_e4: int = 0  # 0: no such filter
    percent_down_e4: int = 0
    quantity_step_lots: int = 1  # orders must be a multiple; market data may be finer

    @property
    def tick(self) -> Decimal:
        """The price grid."""
        return Decimal(self.tick_units).scaleb(-self.price_decimals)

    @property
    def lot(self) -> Decimal:
        """The quantity grid."""
        return Decimal(self.lot_units).scaleb(-self.quantity_decimals)

    def price(self, ticks: int) -> Decimal:
        """Answers the exact price of a number of ticks."""
        return Decimal(ticks * self.tick_units).scaleb(-self.price_decimals)

    def quantity(self, lots: int) -> Decimal:
        """Answers the exact quantity of a number of lots."""
        return Decimal(lots * self.lot_units).scaleb(-self.quantity_decimals)

    def ticks(self, price: Decimal) -> int:
        """Answers the ticks of an exact price; raises ValueError when it is off the grid."""
        return _steps(price, self.tick, "price", self.symbol)

    def lots(self, quantity: Decimal) -> int:
        """Answers the lots of an exact quantity; raises ValueError when it is off the grid."""
        return _steps(quantity, self.lot, "quantity", self.symbol)


def _steps(value: Decimal, step: Decimal, what: str, symbol: str) -> int:
    count, rest = divmod(value, step)
    if rest:
        raise ValueError(f"{what} must lie on the grid: symbol={symbol} {what}={value} step={step}")
    return int(count)


def _text_word(text: str) -> int:
    return int.from_bytes(text.encode("ascii").ljust(8, b"\0")[:8], "little", signed=True)


def _word_text(word: int) -> str:
    return int(word).to_bytes(8, "little", signed=True).rstrip(b"\0").decode("ascii")


def to_words(instrument: Instrument) -> Words:
    """Answers the (32,) int64 row of an instrument."""
    row = np.zeros(INSTRUMENT_WORDS, np.int64)
    i = instrument
    row[:21] = (
        TRADING if i.trading else NOT_TRADING, i.price_decimals, i.tick_units, i.quantity_decimals,
        i.lot_units, i.price_ticks_min, i.price_ticks_max, i.quantity_lots_min,
        i.quantity_lots_max, i.notional_min, i.notional_max, i.orders_max, _text_word(i.symbol[:8]),
        _text_word(i.symbol[8:16]), _text_word(i.base), _text_word(i.quote), i.market_lots_min,
        i.market_lots_max, i.percent_up_e4, i.percent_down_e4, i.quantity_step_lots,
    )  # fmt: skip
    return row


def from_words(index: int, row: Words) -> Instrument:
    """Answers the instrument of a (32,) int64 row."""
    w = [int(word) for word in row]
    return Instrument(
        index=index,
        symbol=_word_text(w[SYMBOL_LOW]) + _word_text(w[SYMBOL_HIGH]),
        base=_word_text(w[BASE_ASSET]),
        quote=_word_text(w[QUOTE_ASSET]),
        trading=w[STATUS_WORD] == TRADING,
        price_decimals=w[PRICE_DECIMALS],
        tick_units=w[TICK_UNITS],
        quantity_decimals=w[QUANTITY_DECIMALS],
        lot_units=w[LOT_UNITS],
        price_ticks_min=w[PRICE_TICKS_MIN],
        price_ticks_max=w[PRICE_TICKS_MAX],
        quantity_lots_min=w[QUANTITY_LOTS_MIN],
        quantity_lots_max=w[QUANTITY_LOTS_MAX],
        market_lots_min=w[MARKET_LOTS_MIN],
        market_lots_max=w[MARKET_LOTS_MAX],
        notional_min=w[NOTIONAL_MIN],
        notional_max=w[NOTIONAL_MAX],
        orders_max=w[ORDERS_MAX],
        percent_up_e4=w[PERCENT_UP_E4],
        percent_down_e4=w[PERCENT_DOWN_E4],
        quantity_step_lots=w[QUANTITY_STEP_LOTS],
    )
