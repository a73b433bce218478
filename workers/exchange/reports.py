"""workers room: orders, trades and balances in the venue's words.

Answers to requests and events of the user data stream describe the same order with different
field names; both are made here from the same record, as dictionaries that the session encodes
once.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.decimals import ZERO, text_from_units
from engine.matching import BUY
from workers.exchange.accounts import Account
from workers.exchange.instruments import Instrument
from workers.exchange.orders import Order, Status, Trade

Report = dict[str, object]


def side_text(side: int) -> str:
    """Names a side as the venue does."""
    return "BUY" if side == BUY else "SELL"


def time_of(time_ns: int) -> int:
    """Answers epoch milliseconds."""
    return time_ns // 1_000_000


def acknowledge(order: Order, time_ns: int) -> Report:
    """Describes a new order in the ACK form."""
    return {
        "symbol": order.ask.instrument.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_id,
        "transactTime": time_of(time_ns),
    }


def _amounts(order: Order) -> Report:
    ask, instrument = order.ask, order.ask.instrument
    return {
        "price": order.price_text,
        "origQty": order.quantity_text,
        "executedQty": instrument.quantity_text(order.executed_lots),
        "origQuoteOrderQty": text_from_units(ask.value_units),
        "cummulativeQuoteQty": text_from_units(order.executed_units),
        "status": order.status.value,
        "timeInForce": ask.time_in_force.name,
        "type": ask.kind,
        "side": side_text(ask.side),
    }


def _conditional(order: Order) -> Report:
    fields: Report = {"selfTradePreventionMode": order.ask.prevention.name}
    if order.prevented_id >= 0:
        fields["preventedMatchId"] = order.prevented_id
        fields["preventedQuantity"] = order.ask.instrument.quantity_text(order.prevented_lots)
    if order.expiry_reason:
        fields["expiryReason"] = order.expiry_reason
    return fields


def result(order: Order, time_ns: int) -> Report:
    """Describes a new order in the RESULT form."""
    working = {"workingTime": time_of(order.time_ns)}
    return acknowledge(order, time_ns) | _amounts(order) | working | _conditional(order)


def full(order: Order, time_ns: int) -> Report:
    """Describes a new order in the FULL form: RESULT and the trades it made at once."""
    instrument = order.ask.instrument
    fills = [
        {
            "price": instrument.price_text(trade.price_ticks),
            "qty": instrument.quantity_text(trade.quantity_lots),
            "commission": text_from_units(trade.commission_units),
            "commissionAsset": trade.commission_asset,
            "tradeId": trade.trade_id,
        }
        for trade in order.fills
    ]
    return result(order, time_ns) | {"fills": fills}


def canceled(order: Order, cancel_id: str, time_ns: int) -> Report:
    """Describes an order in the answer to its cancel, whose own client id is `cancel_id`."""
    return {
        "symbol": order.ask.instrument.symbol,
        "origClientOrderId": order.client_id,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": cancel_id,
        "transactTime": time_of(time_ns),
        **_amounts(order),
        **_conditional(order),
    }


def status(order: Order) -> Report:
    """Describes an order in the answer to a query."""
    return {
        "symbol": order.ask.instrument.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_id,
        **_amounts(order),
        "stopPrice": ZERO,
        "icebergQty": ZERO,
        "time": time_of(order.time_ns),
        "updateTime": time_of(order.update_ns),
        "isWorking": True,
        "workingTime": time_of(order.time_ns),
        **_conditional(order),
    }


def my_trade(instrument: Instrument, trade: Trade) -> Report:
    """Describes a trade in the answer to `myTrades`."""
    return {
        "symbol": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "orderListId": -1,
        "price": instrument.price_text(trade.price_ticks),
        "qty": instrument.quantity_text(trade.quantity_lots),
        "quoteQty": text_from_units(trade.value_units),
        "commission": text_from_units(trade.commission_units),
        "commissionAsset": trade.commission_asset,
        "time": time_of(trade.time_ns),
        "isBuyer": trade.is_buyer,
        "isMaker": trade.is_maker,
        "isBestMatch": True,
    }


def execution_report(
    order: Order, kind: str, execution_id: int, *, trade: Trade | None = None, cancel_id: str = ""
) -> Report:
    """Describes one change of an order as a user data event.

    Args:
        order: the order after the change.
        kind: execution type: NEW, TRADE, CANCELED, EXPIRED or TRADE_PREVENTION.
        execution_id: unique number of the change.
        trade: the fill, when `kind` is TRADE.
        cancel_id: the client id of the cancel, when `kind` is CANCELED.
    """
    ask, instrument = order.ask, order.ask.instrument
    time_ms = time_of(order.update_ns)
    event: Report = {
        "e": "executionReport",
        "E": time_ms,
        "s": instrument.symbol,
        "c": cancel_id or order.client_id,
        "S": side_text(ask.side),
        "o": ask.kind,
        "f": ask.time_in_force.name,
        "q": order.quantity_text,
        "p": order.price_text,
        "P": ZERO,
        "F": ZERO,
        "g": -1,
        "C": order.client_id if cancel_id else "",
        "x": kind,
        "X": order.status.value,
        "r": "NONE",
        "i": order.order_id,
        "l": instrument.quantity_text(trade.quantity_lots) if trade else ZERO,
        "z": instrument.quantity_text(order.executed_lots),
        "L": instrument.price_text(trade.price_ticks) if trade else ZERO,
        "n": text_from_units(trade.commission_units) if trade else "0",
        "N": trade.commission_asset if trade else None,
        "T": time_ms,
        "t": trade.trade_id if trade else -1,
        "I": execution_id,
        "w": order.is_open and not (kind == "NEW" and ask.kind == "MARKET"),
        "m": trade.is_maker if trade else False,
        "M": bool(trade),
        "O": time_of(order.time_ns),
        "Z": text_from_units(order.executed_units),
        "Y": text_from_units(trade.value_units) if trade else ZERO,
        "Q": text_from_units(ask.value_units),
        "W": time_of(order.time_ns),
        "V": ask.prevention.name,
    }
    if order.expiry_reason:
        event["eR"] = order.expiry_reason
    if order.status is Status.EXPIRED_IN_MATCH:
        event["v"] = order.prevented_id
        event["A"] = instrument.quantity_text(order.prevented_lots)
        event["B"] = instrument.quantity_text(order.prevented_lots)
    return event


def account_position(account: Account, assets: Iterable[str]) -> Report:
    """Describes changed balances as a user data event."""
    time_ms = time_of(account.update_ns)
    return {
        "e": "outboundAccountPosition",
        "E": time_ms,
        "u": time_ms,
        "B": [
            {
                "a": asset,
                "f": text_from_units(account.balance(asset).free),
                "l": text_from_units(account.balance(asset).locked),
            }
            for asset in assets
        ],
    }


def account_status(account: Account, fees_e8: tuple[int, int], *, omit_zero: bool) -> Report:
    """Describes an account in the answer to `account.status`.

    Args:
        account: whose.
        fees_e8: maker and taker commission rates in units of 10**-8.
        omit_zero: leave out assets without money.
    """
    maker, taker = fees_e8
    balances = [
        {
            "asset": asset,
            "free": text_from_units(balance.free),
            "locked": text_from_units(balance.locked),
        }
        for asset, balance in sorted(account.balances.items())
        if not omit_zero or balance.free or balance.locked
    ]
    return {
        "makerCommission": maker // 10_000,
        "takerCommission": taker // 10_000,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {
            "maker": text_from_units(maker),
            "taker": text_from_units(taker),
            "buyer": ZERO,
            "seller": ZERO,
        },
        "canTrade": True,
        "canWithdraw": False,
        "canDeposit": False,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": time_of(account.update_ns),
        "accountType": "SPOT",
        "balances": balances,
        "permissions": ["SPOT"],
        "uid": account.account_id,
    }
