"""workers room: accounts of the exchange: money, orders and trades of one API key.

Money is counted in whole units of 10**-8, so a trade moves exactly what it says and nothing is
created or lost: what fees take is kept in `fees`, and a test adds everything up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from engine.decimals import units_from_text
from workers.exchange.orders import Order, Trade

CLOSED_ORDERS_MAX = 50_000  # ended orders that queries still see; the oldest are forgotten first
TRADES_MAX = 50_000


class Balance:
    """One asset of one account in units of 10**-8."""

    __slots__ = ("free", "locked")

    def __init__(self, free: int) -> None:
        self.free = free
        self.locked = 0


class Account:
    """Everything the exchange keeps about one API key.

    Args:
        account_id: positive, the owner of the account's orders in the books.
        balances: decimal text by asset.
    """

    def __init__(self, account_id: int, balances: Mapping[str, str]) -> None:
        self.account_id = account_id
        self.balances = {asset: Balance(units_from_text(text)) for asset, text in balances.items()}
        self.fees: dict[str, int] = {}  # units paid, by asset
        self.open_orders: dict[int, Order] = {}  # by order id, oldest first
        self.open_by_client_id: dict[str, Order] = {}
        self.closed_orders: deque[Order] = deque()
        self.orders: dict[int, Order] = {}  # open and closed, by order id
        self.last_by_client_id: dict[tuple[str, str], Order] = {}  # by symbol and client id
        self.trades: deque[Trade] = deque(maxlen=TRADES_MAX)
        self.update_ns = 0

    def balance(self, asset: str) -> Balance:
        """Answers the balance of an asset, opening it at zero."""
        balance = self.balances.get(asset)
        if balance is None:
            balance = self.balances[asset] = Balance(0)
        return balance

    def add_order(self, order: Order) -> None:
        """Records a new order as open."""
        self.open_orders[order.order_id] = order
        self.open_by_client_id[order.client_id] = order
        self.orders[order.order_id] = order
        self.last_by_client_id[order.ask.instrument.symbol, order.client_id] = order

    def close_order(self, order: Order) -> None:
        """Moves an ended order to the history and gives back what it still locks."""
        balance = self.balance(order.spent_asset)
        balance.locked -= order.locked_units
        balance.free += order.locked_units
        order.locked_units = 0
        del self.open_orders[order.order_id]
        del self.open_by_client_id[order.client_id]
        self.closed_orders.append(order)
        if len(self.closed_orders) > CLOSED_ORDERS_MAX:
            self._forget(self.closed_orders.popleft())

    def _forget(self, order: Order) -> None:
        del self.orders[order.order_id]
        key = (order.ask.instrument.symbol, order.client_id)
        if self.last_by_client_id.get(key) is order:
            del self.last_by_client_id[key]
