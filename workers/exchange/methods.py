"""workers room: the signed methods of the WebSocket API, one function each.

A function takes the call and answers the venue's `result`. Reading the request, checking who
sends it and wrapping the answer is the session's work.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import NamedTuple

from workers.exchange import errors, reports
from workers.exchange.accounts import Account
from workers.exchange.exchange import Exchange
from workers.exchange.order_entry import PLACE_PARAMS, check_filters, read_order
from workers.exchange.orders import Order, Status, Trade
from workers.exchange.params import (
    Params,
    boolean,
    bounded_number,
    client_id,
    listed,
    whole_number,
)

TRADES_DEFAULT = 500
TRADES_MAX = 1_000
DAY_MS = 86_400_000
_ANSWERS = {"ACK": reports.acknowledge, "RESULT": reports.result, "FULL": reports.full}
_RESTRICTIONS = {"ONLY_NEW": Status.NEW, "ONLY_PARTIALLY_FILLED": Status.PARTIALLY_FILLED}


class Call(NamedTuple):
    """One signed request that has been checked."""

    exchange: Exchange
    account: Account
    params: Params
    now_ns: int


class Method(NamedTuple):
    """A method: what it does, which parameters it reads besides the signature's, and its weight."""

    perform: Callable[[Call], object]
    params: frozenset[str]
    weight: int
    counts_orders: bool = False


def new_id() -> str:
    """Makes a client order id for a request that brings none."""
    return secrets.token_hex(11)


def place(call: Call) -> object:
    """`order.place`."""
    trading = call.exchange.trading
    ask = read_order(call.params, trading, new_id())
    check_filters(call.account, trading, ask)
    order = trading.place(call.account, ask, call.now_ns)
    return _ANSWERS[ask.answer](order, call.now_ns)


def test(call: Call) -> object:
    """`order.test`: everything but the order."""
    ask = read_order(call.params, call.exchange.trading, new_id())
    check_filters(call.account, call.exchange.trading, ask)
    return {}


def cancel(call: Call) -> object:
    """`order.cancel`."""
    cancel_id = client_id(call.params, "newClientOrderId") or new_id()
    restriction = call.params.get("cancelRestrictions")
    if restriction is not None and restriction not in _RESTRICTIONS:
        message = "cancelRestrictions has to be either ONLY_NEW or ONLY_PARTIALLY_FILLED."
        raise errors.ExchangeError(-1145, message)
    order = _find_order(call)
    if order is None or not order.is_open:
        raise errors.cancel_rejected()
    if restriction is not None and order.status is not _RESTRICTIONS[restriction]:
        raise errors.cancel_rejected("Order was not canceled due to cancel restrictions.")
    call.exchange.trading.cancel(call.account, order, cancel_id, call.now_ns)
    return reports.canceled(order, cancel_id, call.now_ns)


def cancel_all(call: Call) -> object:
    """`openOrders.cancelAll`."""
    instrument = listed(call.params, call.exchange.trading.listings).instrument
    orders = [
        order for order in call.account.open_orders.values() if order.ask.instrument is instrument
    ]
    if not orders:
        raise errors.cancel_rejected()
    answers = []
    for order in orders:
        cancel_id = new_id()
        call.exchange.trading.cancel(call.account, order, cancel_id, call.now_ns)
        answers.append(reports.canceled(order, cancel_id, call.now_ns))
    return answers


def status(call: Call) -> object:
    """`order.status`."""
    order = _find_order(call)
    if order is None:
        raise errors.no_such_order()
    return reports.status(order)


def open_orders(call: Call) -> object:
    """`openOrders.status`."""
    orders = call.account.open_orders.values()
    if "symbol" not in call.params:
        return [reports.status(order) for order in orders]
    instrument = listed(call.params, call.exchange.trading.listings).instrument
    return [reports.status(order) for order in orders if order.ask.instrument is instrument]


def all_orders(call: Call) -> object:
    """`allOrders`: the newest orders of a symbol, or the oldest from an order id on."""
    instrument = listed(call.params, call.exchange.trading.listings).instrument
    first_id = whole_number(call.params, "orderId")
    limit = bounded_number(call.params, "limit", TRADES_DEFAULT, TRADES_MAX)
    orders = [
        order
        for order in call.account.orders.values()
        if order.ask.instrument is instrument and order.order_id >= (first_id or 0)
    ]
    chosen = orders[-limit:] if first_id is None else orders[:limit]
    return [reports.status(order) for order in chosen]


def account_status(call: Call) -> object:
    """`account.status`."""
    maker, taker = call.exchange.trading.fee_rates
    omit_zero = boolean(call.params, "omitZeroBalances") or False
    return reports.account_status(call.account, (maker, taker), omit_zero=omit_zero)


def order_limits(call: Call) -> object:
    """`account.rateLimits.orders`."""
    counter = call.exchange.trading.counters[call.account.account_id]
    return counter.describe(call.now_ns)


def my_trades(call: Call) -> object:
    """`myTrades`."""
    params = call.params
    symbol = listed(params, call.exchange.trading.listings).instrument.symbol
    order_id, from_id = whole_number(params, "orderId"), whole_number(params, "fromId")
    start_ms, end_ms = whole_number(params, "startTime"), whole_number(params, "endTime")
    limit = bounded_number(params, "limit", TRADES_DEFAULT, TRADES_MAX)
    is_timed = start_ms is not None or end_ms is not None
    if is_timed and (order_id is not None or from_id is not None):
        raise errors.bad_combination()
    if start_ms is not None and end_ms is not None and end_ms - start_ms > DAY_MS:
        raise errors.ExchangeError(-1127, "More than 24 hours between startTime and endTime.")
    trades = [
        trade
        for trade in call.account.trades
        if trade.symbol == symbol
        and (order_id is None or trade.order_id == order_id)
        and trade.trade_id >= (from_id or 0)
        and _is_between(trade, start_ms, end_ms)
    ]
    from_oldest = start_ms is not None or from_id is not None
    chosen = trades[:limit] if from_oldest else trades[-limit:]
    instrument = call.exchange.trading.listings[symbol].instrument
    return [reports.my_trade(instrument, trade) for trade in chosen]


def _is_between(trade: Trade, start_ms: int | None, end_ms: int | None) -> bool:
    time_ms = reports.time_of(trade.time_ns)
    return (start_ms is None or time_ms >= start_ms) and (end_ms is None or time_ms <= end_ms)


def _find_order(call: Call) -> Order | None:
    """Finds the order that a request names by order id, client order id or both."""
    instrument = listed(call.params, call.exchange.trading.listings).instrument
    order_id = whole_number(call.params, "orderId")
    wanted_id = client_id(call.params, "origClientOrderId")
    if order_id is None:
        if wanted_id is None:
            raise errors.missing_either("origClientOrderId", "orderId")
        return call.account.last_by_client_id.get((instrument.symbol, wanted_id))
    order = call.account.orders.get(order_id)
    if order is None or order.ask.instrument is not instrument:
        return None
    if wanted_id is not None and order.client_id != wanted_id:
        raise errors.ExchangeError(-2039, "Client order ID is not correct for this order ID.")
    return order


_NAMED_ORDER = frozenset({"symbol", "orderId", "origClientOrderId"})

METHODS = {
    "order.place": Method(place, PLACE_PARAMS, 0, counts_orders=True),
    "order.test": Method(test, PLACE_PARAMS | {"computeCommissionRates"}, 1),
    "order.cancel": Method(cancel, _NAMED_ORDER | {"newClientOrderId", "cancelRestrictions"}, 0),
    "order.status": Method(status, _NAMED_ORDER, 4),
    "openOrders.status": Method(open_orders, frozenset({"symbol"}), 6),
    "openOrders.cancelAll": Method(cancel_all, frozenset({"symbol"}), 0),
    "allOrders": Method(all_orders, frozenset({"symbol", "orderId", "limit"}), 20),
    "account.status": Method(account_status, frozenset({"omitZeroBalances"}), 20),
    "account.rateLimits.orders": Method(order_limits, frozenset(), 40),
    "myTrades": Method(
        my_trades,
        frozenset({"symbol", "orderId", "startTime", "endTime", "fromId", "limit"}),
        20,
    ),
}
