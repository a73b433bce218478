"""workers room: Binance's exchangeInfo as instruments, exact, and their table in shared memory."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

import msgspec

from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX, LAYOUT, Instrument, to_words
from shm.latest import Latest
from shm.segment import Words
from workers.agent import SegmentPlan

INSTRUMENT_TABLE_WORDS = 1 + INSTRUMENTS_MAX * INSTRUMENT_WORDS
INSTRUMENTS_PLAN = SegmentPlan("instruments", INSTRUMENT_TABLE_WORDS * 8, LAYOUT)
# Resting orders keep their quantity when a venue makes its lot larger, so its books hold quantities
# that are off today's lot (recorded: 25.42618900 BTC with a lot of 0.00001). A real venue's market
# data is therefore read on a grid finer than the lot by this many decimals.
SPARE_DECIMALS = 3
DECIMALS_MAX = 8
_UNLIMITED = 1 << 53
_NOTIONAL_UNLIMITED = 1 << 62
_EXACT = Context(prec=60)


class InstrumentError(ValueError):
    """The venue does not list a symbol, or not in a way that we can trade."""

    is_configuration = True  # a worker that meets it is not started again


class _Filter(msgspec.Struct, rename="camel"):
    filter_type: str
    min_price: Decimal = Decimal(0)
    max_price: Decimal = Decimal(0)
    tick_size: Decimal = Decimal(0)
    min_qty: Decimal = Decimal(0)
    max_qty: Decimal = Decimal(0)
    step_size: Decimal = Decimal(0)
    min_notional: Decimal = Decimal(0)
    max_notional: Decimal = Decimal(0)
    multiplier_up: Decimal = Decimal(0)
    multiplier_down: Decimal = Decimal(0)
    bid_multiplier_up: Decimal = Decimal(0)
    bid_multiplier_down: Decimal = Decimal(0)
    ask_multiplier_up: Decimal = Decimal(0)
    ask_multiplier_down: Decimal = Decimal(0)
    max_num_orders: int = 200


class _Symbol(msgspec.Struct, rename="camel"):
    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[_Filter]


class _Info(msgspec.Struct):
    symbols: list[_Symbol]


_NONE = _Filter(filter_type="")


def _grid(step: Decimal, spare: int) -> tuple[int, int]:
    """Answers decimals and units of a grid `spare` decimals finer than `step`."""
    exponent = step.normalize(_EXACT).as_tuple().exponent
    assert isinstance(exponent, int), "a step is a finite number"
    decimals = max(0, -exponent)
    finer = max(decimals, min(decimals + spare, DECIMALS_MAX))
    return finer, 1 if finer > decimals else int(step.scaleb(decimals))


def _steps(value: Decimal, step: Decimal, rounding: str) -> int:
    return int(_EXACT.divide(value, step).to_integral_value(rounding))


def _least(value: Decimal, step: Decimal) -> int:
    return max(1, _steps(value, step, ROUND_CEILING))


def _most(value: Decimal, step: Decimal, unlimited: int = _UNLIMITED) -> int:
    return min(unlimited, _steps(value, step, ROUND_FLOOR)) if value else unlimited


def _percent(by_side: _Filter, plain: _Filter) -> tuple[int, int]:
    """Answers the narrower of the multipliers up and down in 1/10,000, 0 for no filter."""
    up = [
        f for f in (by_side.bid_multiplier_up, by_side.ask_multiplier_up, plain.multiplier_up) if f
    ]
    down = (by_side.bid_multiplier_down, by_side.ask_multiplier_down, plain.multiplier_down)
    return int(min(up, default=Decimal(0)) * 10_000), int(max(down) * 10_000)


def _instrument(index: int, found: _Symbol, spare: int) -> Instrument:
    filters = {one.filter_type: one for one in found.filters}
    prices, sizes = filters.get("PRICE_FILTER", _NONE), filters.get("LOT_SIZE", _NONE)
    if prices.tick_size <= 0 or sizes.step_size <= 0:
        raise InstrumentError(
            "a symbol must have a tick and a lot size:"
            f" symbol={found.symbol} tickSize={prices.tick_size} stepSize={sizes.step_size}"
        )
    market = filters.get("MARKET_LOT_SIZE", _NONE)
    value = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or _NONE
    up, down = _percent(
        filters.get("PERCENT_PRICE_BY_SIDE", _NONE), filters.get("PERCENT_PRICE", _NONE)
    )
    price_decimals, tick_units = _grid(prices.tick_size, 0)
    quantity_decimals, lot_units = _grid(sizes.step_size, spare)
    lot = Decimal(lot_units).scaleb(-quantity_decimals)
    one = prices.tick_size * lot
    return Instrument(
        index=index,
        symbol=found.symbol,
        base=found.base_asset,
        quote=found.quote_asset,
        trading=found.status == "TRADING",
        price_decimals=price_decimals,
        tick_units=tick_units,
        quantity_decimals=quantity_decimals,
        lot_units=lot_units,
        quantity_step_lots=_steps(sizes.step_size, lot, ROUND_FLOOR),
        price_ticks_min=_least(prices.min_price, prices.tick_size),
        price_ticks_max=_most(prices.max_price, prices.tick_size),
        quantity_lots_min=_least(sizes.min_qty, lot),
        quantity_lots_max=_most(sizes.max_qty, lot),
        market_lots_min=_least(market.min_qty or sizes.min_qty, lot),
        market_lots_max=_most(market.max_qty or sizes.max_qty, lot),
        notional_min=_steps(value.min_notional, one, ROUND_CEILING),
        notional_max=_most(value.max_notional, one, _NOTIONAL_UNLIMITED),
        orders_max=filters.get("MAX_NUM_ORDERS", _NONE).max_num_orders,
        percent_up_e4=up,
        percent_down_e4=down,
    )


def instruments_of(body: bytes, symbols: tuple[str, ...], spare: int) -> tuple[Instrument, ...]:
    """Reads exchangeInfo.

    Args:
        body: as the venue answered.
        symbols: the symbols wanted, in index order.
        spare: decimals by which quantities are kept finer than the lot.

    Raises:
        InstrumentError: a symbol is missing or has no grid.
        ConnectionError: the answer is no exchangeInfo.
    """
    try:
        info = msgspec.json.decode(body, type=_Info, strict=False)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ConnectionError(f"the venue must answer exchangeInfo: error={error}") from None
    listed = {one.symbol: one for one in info.symbols}
    missing = [symbol for symbol in symbols if symbol not in listed]
    if missing:
        raise InstrumentError(f"the venue must list every symbol: missing={','.join(missing)}")
    return tuple(_instrument(index, listed[name], spare) for index, name in enumerate(symbols))


def write_instruments(words: Words, instruments: tuple[Instrument, ...]) -> None:
    """Publishes the table. Called by: ingest.0 only, the segment's one writer."""
    cell = Latest(words)
    table = cell.read().reshape(INSTRUMENTS_MAX, INSTRUMENT_WORDS)
    for instrument in instruments:
        table[instrument.index] = to_words(instrument)
    cell.write(table.reshape(-1))
