"""workers room: reads `order.place`, and holds the order against the symbol's filters.

First every parameter is read by itself, then the combination is judged, then the filters: the
order in which the venue refuses.
"""

from __future__ import annotations

from engine.matching import BUY, SELL, Prevention
from engine.matching_terms import TimeInForce, lots_for_value
from workers.exchange import errors
from workers.exchange.accounts import Account
from workers.exchange.instruments import ORDER_TYPES, PERCENT_SCALE, Instrument
from workers.exchange.orders import Ask
from workers.exchange.params import Params, client_id, decimal_units, listed, optional, required
from workers.exchange.trading import Listing, Trading

SIDES = {"BUY": BUY, "SELL": SELL}
ANSWERS = ("ACK", "RESULT", "FULL")
UNSUPPORTED_TYPES = {
    "STOP_LOSS": "Stop loss orders are not supported for this symbol.",
    "STOP_LOSS_LIMIT": "Stop loss limit orders are not supported for this symbol.",
    "TAKE_PROFIT": "Take profit orders are not supported for this symbol.",
    "TAKE_PROFIT_LIMIT": "Take profit limit orders are not supported for this symbol.",
}
UNSUPPORTED_PARAMS = {
    "icebergQty": "Iceberg orders are not supported for this symbol.",
    "trailingDelta": "Trailing stop orders are not supported for this symbol.",
    "pegPriceType": "Pegged orders are not supported for this symbol.",
}
PLACE_PARAMS = frozenset(
    {
        "symbol",
        "side",
        "type",
        "timeInForce",
        "price",
        "quantity",
        "quoteOrderQty",
        "newClientOrderId",
        "newOrderRespType",
        "selfTradePreventionMode",
        "stopPrice",
        "strategyId",
        "strategyType",
        *UNSUPPORTED_PARAMS,
    }
)


def read_order(params: Params, trading: Trading, generated_id: str) -> Ask:
    """Reads a new order and checks it against its symbol's filters.

    Args:
        params: of the request, as text.
        trading: where the symbols are listed.
        generated_id: client order id for an order that brings none.

    Raises:
        ExchangeError: with the venue's code for the first thing that is wrong.
    """
    listing = listed(params, trading.listings)
    side = SIDES.get(required(params, "side"))
    if side is None:
        raise errors.bad_side()
    kind = _read_kind(params)
    ask = Ask(
        instrument=listing.instrument,
        side=side,
        kind=kind,
        time_in_force=_read_time_in_force(params, kind),
        price_ticks=_read_price(params, kind, listing.instrument),
        quantity_lots=_read_quantity(params, kind, listing.instrument),
        value_units=_read_value(params, kind),
        client_id=client_id(params, "newClientOrderId") or generated_id,
        answer=_read_answer(params, kind),
        prevention=_read_prevention(params),
    )
    return _size_by_value(listing, ask) if ask.value_units else ask


def check_filters(account: Account, trading: Trading, ask: Ask) -> None:
    """Holds an order against PERCENT_PRICE_BY_SIDE, NOTIONAL and MAX_NUM_ORDERS.

    Raises:
        ExchangeError: -1013, naming the filter.
    """
    instrument = ask.instrument
    listing = trading.listings[instrument.symbol]
    reference = listing.reference_ticks()
    price = ask.price_ticks or reference
    if ask.price_ticks and reference:
        scaled = price * PERCENT_SCALE
        if not reference * instrument.down_e4 <= scaled <= reference * instrument.up_e4:
            raise errors.filter_failure("PERCENT_PRICE_BY_SIDE")
    value = instrument.value_of(price, ask.quantity_lots)
    if value < instrument.value_units_min:
        raise errors.filter_failure("NOTIONAL")
    if ask.price_ticks and value > instrument.value_units_max:
        raise errors.filter_failure("NOTIONAL")
    symbol_orders = sum(
        order.ask.instrument is instrument for order in account.open_orders.values()
    )
    if symbol_orders >= instrument.orders_max:
        raise errors.filter_failure("MAX_NUM_ORDERS")


def _read_kind(params: Params) -> str:
    kind = required(params, "type")
    if kind in UNSUPPORTED_TYPES:
        raise errors.rejected(UNSUPPORTED_TYPES[kind])
    if kind not in ORDER_TYPES:
        raise errors.bad_order_type()
    for name, message in UNSUPPORTED_PARAMS.items():
        if name in params:
            raise errors.rejected(message)
    if "stopPrice" in params:
        raise errors.not_required("stopPrice")
    return kind


def _read_time_in_force(params: Params, kind: str) -> TimeInForce:
    if kind != "LIMIT":
        if "timeInForce" in params:
            raise errors.time_in_force_not_required()
        return TimeInForce.GTC
    text = required(params, "timeInForce")
    if text not in TimeInForce.__members__:
        raise errors.bad_time_in_force()
    return TimeInForce[text]


def _read_price(params: Params, kind: str, instrument: Instrument) -> int:
    if kind == "MARKET":
        if "price" in params:
            raise errors.not_required("price")
        return 0
    units = decimal_units("price", required(params, "price"))
    ticks, rest = divmod(units, instrument.tick_units)
    if rest or not 1 <= ticks <= instrument.price_ticks_max:
        raise errors.filter_failure("PRICE_FILTER")
    return ticks


def _read_quantity(params: Params, kind: str, instrument: Instrument) -> int:
    if kind == "MARKET" and "quantity" not in params:
        if not params.get("quoteOrderQty"):
            raise errors.missing_either("quantity", "quoteOrderQty")
        return 0
    units = decimal_units("quantity", required(params, "quantity"))
    lots, rest = divmod(units, instrument.lot_units)
    if rest or not 1 <= lots <= instrument.quantity_lots_max:
        raise errors.filter_failure("LOT_SIZE")
    return lots


def _read_value(params: Params, kind: str) -> int:
    text = optional(params, "quoteOrderQty")
    if text is None:
        return 0
    if kind != "MARKET":
        raise errors.not_required("quoteOrderQty")
    if "quantity" in params:
        raise errors.bad_combination()
    units = decimal_units("quoteOrderQty", text)
    if not units:
        raise errors.filter_failure("NOTIONAL")
    return units


def _read_answer(params: Params, kind: str) -> str:
    answer = optional(params, "newOrderRespType")
    if answer is None:
        return "ACK" if kind == "LIMIT_MAKER" else "FULL"
    if answer not in ANSWERS:
        raise errors.bad_data("newOrderRespType")
    return answer


def _read_prevention(params: Params) -> Prevention:
    mode = optional(params, "selfTradePreventionMode")
    if mode is None:
        return Prevention.EXPIRE_MAKER
    if mode not in Prevention.__members__:
        raise errors.bad_data("selfTradePreventionMode")
    return Prevention[mode]


def _size_by_value(listing: Listing, ask: Ask) -> Ask:
    """Turns a market order by value into one by quantity, from what the book shows."""
    if not listing.book.best_ticks(-ask.side):
        raise errors.rejected("Order book liquidity is less than symbol minimum quantity.")
    value = ask.value_units // ask.instrument.value_units
    lots = min(lots_for_value(listing.book, ask.side, value), ask.instrument.quantity_lots_max)
    if not lots:
        raise errors.filter_failure("NOTIONAL")
    return ask._replace(quantity_lots=lots)
