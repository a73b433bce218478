"""workers room: the symbols that the exchange lists, their grids and their filters.

Money is counted in units of 10**-8 of an asset, the precision the venue keeps. A price of one
tick times a quantity of one lot is a whole number of such units on every real symbol, so values
are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.decimals import UNITS_PER_ONE, text_from_units, units_from_text

QUOTE_ASSETS = ("FDUSD", "USDT", "USDC", "TUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "USD")
PRICE_UNITS_MAX = 1_000_000 * UNITS_PER_ONE
PERCENT_SCALE = 10_000  # multipliers of PERCENT_PRICE_BY_SIDE have four places
ORDER_TYPES = ("LIMIT", "LIMIT_MAKER", "MARKET")
PREVENTION_MODES = ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH")

# symbol: tick, lot, price that the synthetic market opens at
_KNOWN = {
    "BTCUSDT": ("0.01", "0.00001", "61000"),
    "ETHUSDT": ("0.01", "0.0001", "2650"),
    "BNBUSDT": ("0.01", "0.001", "580"),
    "SOLUSDT": ("0.01", "0.001", "145"),
    "XRPUSDT": ("0.0001", "0.1", "0.62"),
    "DOGEUSDT": ("0.00001", "1", "0.105"),
    "ADAUSDT": ("0.0001", "0.1", "0.35"),
    "ETHBTC": ("0.00001", "0.0001", "0.0435"),
}
_DEFAULT = ("0.01", "0.001", "100")


class ListingError(ValueError):
    """A symbol that the exchange cannot list."""

    is_configuration = True  # a worker that meets it is not started again


@dataclass(frozen=True, slots=True)
class Instrument:
    """One listed symbol. Sizes end in `_units` (10**-8 of an asset), `_ticks` or `_lots`."""

    symbol: str
    base: str
    quote: str
    tick_units: int
    lot_units: int
    value_units: int  # quote units of one tick times one lot
    price_ticks_max: int
    quantity_lots_max: int
    value_units_min: int  # NOTIONAL
    value_units_max: int
    up_e4: int = 50_000  # PERCENT_PRICE_BY_SIDE, multipliers times 10**4
    down_e4: int = 2_000
    orders_max: int = 200  # MAX_NUM_ORDERS

    def price_text(self, price_ticks: int) -> str:
        """Writes a price as the venue does, with eight places."""
        return text_from_units(price_ticks * self.tick_units)

    def quantity_text(self, lots: int) -> str:
        """Writes a quantity as the venue does, with eight places."""
        return text_from_units(lots * self.lot_units)

    def value_of(self, price_ticks: int, lots: int) -> int:
        """Answers price times quantity in quote units."""
        return price_ticks * lots * self.value_units


def split_symbol(symbol: str) -> tuple[str, str]:
    """Splits a symbol into base and quote asset.

    Raises:
        ListingError: the symbol ends in no quote asset that the exchange knows.
    """
    for quote in QUOTE_ASSETS:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    raise ListingError(
        f"a symbol must end in a known quote asset: symbol={symbol} known={','.join(QUOTE_ASSETS)}"
    )


def make_instrument(symbol: str, tick_units: int, lot_units: int) -> Instrument:
    """Makes an instrument on a given grid with the exchange's usual filters.

    Raises:
        ListingError: the symbol cannot be split, or tick times lot is finer than 10**-8.
    """
    base, quote = split_symbol(symbol)
    value_units, rest = divmod(tick_units * lot_units, UNITS_PER_ONE)
    if rest or not value_units:
        raise ListingError(
            f"tick times lot must be a multiple of 0.00000001: symbol={symbol} "
            f"tick={text_from_units(tick_units)} lot={text_from_units(lot_units)}"
        )
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        tick_units=tick_units,
        lot_units=lot_units,
        value_units=value_units,
        price_ticks_max=PRICE_UNITS_MAX // tick_units,
        quantity_lots_max=9_000_000 * UNITS_PER_ONE // lot_units
        if lot_units >= UNITS_PER_ONE
        else 9_000 * UNITS_PER_ONE // lot_units,
        value_units_min=5 * UNITS_PER_ONE if quote not in {"BTC", "ETH", "BNB"} else 10_000,
        value_units_max=9_000_000 * UNITS_PER_ONE,
    )


def known_instrument(symbol: str) -> Instrument:
    """Makes a symbol of the synthetic market: its real grid where we know it, else a usual one."""
    tick, lot, _ = _KNOWN.get(symbol, _DEFAULT)
    return make_instrument(symbol, units_from_text(tick), units_from_text(lot))


def opening_ticks(instrument: Instrument) -> int:
    """Says the price at which the synthetic market of a symbol opens."""
    price = _KNOWN.get(instrument.symbol, _DEFAULT)[2]
    return units_from_text(price) // instrument.tick_units


def describe(instrument: Instrument) -> dict[str, object]:
    """Answers a symbol's entry of `exchangeInfo`."""
    return {
        "symbol": instrument.symbol,
        "status": "TRADING",
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": list(ORDER_TYPES),
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(instrument),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": list(PREVENTION_MODES),
    }


def _filters(instrument: Instrument) -> list[dict[str, object]]:
    tick, lot = instrument.price_text(1), instrument.quantity_text(1)
    up, down = (f"{e4 / PERCENT_SCALE:g}" for e4 in (instrument.up_e4, instrument.down_e4))
    quantity_max = instrument.quantity_text(instrument.quantity_lots_max)
    sizes = {"minQty": lot, "maxQty": quantity_max, "stepSize": lot}
    price_max = instrument.price_text(instrument.price_ticks_max)
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": price_max, "tickSize": tick},
        {"filterType": "LOT_SIZE", **sizes},
        {"filterType": "MARKET_LOT_SIZE", **sizes},
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": up,
            "bidMultiplierDown": down,
            "askMultiplierUp": up,
            "askMultiplierDown": down,
            "avgPriceMins": 0,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": text_from_units(instrument.value_units_min),
            "applyMinToMarket": True,
            "maxNotional": text_from_units(instrument.value_units_max),
            "applyMaxToMarket": False,
            "avgPriceMins": 0,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": instrument.orders_max},
    ]


def make_all(
    symbols: Iterable[str], make: Callable[[str], Instrument] = known_instrument
) -> dict[str, Instrument]:
    """Makes an instrument for every symbol, by symbol, in their order."""
    return {symbol: make(symbol) for symbol in symbols}
