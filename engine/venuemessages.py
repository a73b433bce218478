"""engine room: what the venue says over the order connection, as typed records. Pure.

Fields that we do not use are skipped by the decoder. The classification of errors follows the
venue's own words: some codes say that the outcome of the request is not known.
"""

from __future__ import annotations

import msgspec

from engine.orders import Event

NO_SUCH_ORDER = -2013
CANCEL_REJECTED = -2011
# -1000 unknown error, -1001 disconnected inside, -1006 unexpected response, -1007 timeout: the
# venue's documentation says that the order may have been taken.
AMBIGUOUS = frozenset({-1000, -1001, -1006, -1007})
SERVER_ERROR = 500
OK = 200

# Codes of our own in a report's venue_code, beside the venue's negative ones.
NO_SESSION = 1  # the order never left: there was no connection
TABLE_FULL = 2  # the order never left: every row holds a live order
UNKNOWN_ORDER = 3  # a cancel of an order that is not in the table, or over
REQUESTS_FULL = 4  # the order never left: too many requests wait for answers
STALE_ORDER = 5  # the order never left: it had waited longer than the venue's receive window


class VenueError(msgspec.Struct):
    """A refusal."""

    code: int = 0
    msg: str = ""


class ExecutionReport(
    msgspec.Struct,
    rename={
        "kind": "e", "event_ms": "E", "symbol": "s", "client_id": "c", "side": "S", "type": "o",
        "time_in_force": "f", "quantity": "q", "price": "p", "original_client_id": "C",
        "execution": "x", "status": "X", "reason": "r", "order_id": "i", "last_quantity": "l",
        "cumulative": "z", "last_price": "L", "fee": "n", "fee_asset": "N", "trade_id": "t",
        "is_maker": "m",
    },
):  # fmt: skip
    """One event of the user data stream; of other kinds only `kind` is meaningful."""

    kind: str = ""
    event_ms: int = 0
    symbol: str = ""
    client_id: str = ""
    side: str = ""
    type: str = ""
    time_in_force: str = ""
    quantity: str = "0"
    price: str = "0"
    original_client_id: str = ""
    execution: str = ""
    status: str = ""
    reason: str = ""
    order_id: int = 0
    last_quantity: str = "0"
    cumulative: str = "0"
    last_price: str = "0"
    fee: str | None = "0"
    fee_asset: str | None = None
    trade_id: int = -1
    is_maker: bool = False


class Message(msgspec.Struct):
    """Anything that comes over the order connection: an answer, or an event."""

    id: str | int | None = None
    status: int = 0
    result: msgspec.Raw = msgspec.Raw(b"")
    error: VenueError | None = None
    event: ExecutionReport | None = None


class OrderResult(msgspec.Struct, rename="camel"):
    """What order.place, order.cancel, order.status and openOrders.status say about an order."""

    symbol: str = ""
    order_id: int = 0
    client_order_id: str = ""
    orig_client_order_id: str = ""
    price: str = "0"
    orig_qty: str = "0"
    executed_qty: str = ""
    status: str = ""
    time_in_force: str = ""
    type: str = ""
    side: str = ""


class Trade(msgspec.Struct, rename="camel"):
    """One of our trades as myTrades tells it."""

    symbol: str = ""
    id: int = -1
    order_id: int = 0
    price: str = "0"
    qty: str = "0"
    commission: str = "0"
    commission_asset: str = ""
    is_maker: bool = False


decode_message = msgspec.json.Decoder(Message).decode
decode_order = msgspec.json.Decoder(OrderResult).decode
decode_orders = msgspec.json.Decoder(list[OrderResult]).decode
decode_trades = msgspec.json.Decoder(list[Trade]).decode

EVENT_OF_STATUS = {
    "NEW": Event.WORKING,
    "PENDING_NEW": Event.WORKING,
    "PARTIALLY_FILLED": Event.WORKING,
    "PENDING_CANCEL": Event.WORKING,
    "CANCELED": Event.CANCELED,
    "REJECTED": Event.REJECT,
    "EXPIRED": Event.EXPIRED,
    "EXPIRED_IN_MATCH": Event.EXPIRED,
}


def is_ambiguous(status: int, code: int) -> bool:
    """Says whether a refusal leaves open what became of the request."""
    return status >= SERVER_ERROR or code in AMBIGUOUS
