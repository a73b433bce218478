"""workers room: orders meet the market: money is locked, moved and given back, and all is reported.

One `Trading` serves every account and symbol. What the market does by itself (a taker of the
synthetic flow, a recorded trade) comes in through `settle`; what clients do through `place` and
`cancel`. Events for the accounts gather in `outbox`, so that the answer to a request can leave
before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from engine.decimals import UNITS_PER_ONE
from engine.matching import (
    BUY,
    MARKET_BUY_TICKS,
    MARKET_SELL_TICKS,
    BookOrder,
    Fill,
    MatchEvent,
    Matching,
    Prevented,
)
from engine.matching_terms import (
    Execution,
    Outcome,
    Terms,
    TimeInForce,
    execute,
    reaches,
    taking_cost,
)
from workers.exchange.accounts import Account
from workers.exchange.errors import insufficient_balance, rejected, would_match
from workers.exchange.instruments import Instrument
from workers.exchange.limits import Limits, OrderCounter
from workers.exchange.orders import Ask, Order, Status, Trade
from workers.exchange.reports import Report, account_position, execution_report

RATE_UNITS_PER_BPS = 10_000  # a rate in units of 10**-8

_EXPIRY = {
    TimeInForce.IOC: "UNFILLED_IOC_QUANTITY_EXPIRED",
    TimeInForce.FOK: "UNFILLED_FOK_ORDER_EXPIRED",
    TimeInForce.GTC: "INSUFFICIENT_LIQUIDITY",  # only a market order expires under GTC
}


@dataclass(slots=True)
class Listing:
    """One symbol with its market."""

    instrument: Instrument
    book: Matching
    last_ticks: int = 0  # price of the last trade
    trade_id: int = 0

    def reference_ticks(self) -> int:
        """Says the price that filters compare with: the last trade's, else the best."""
        return self.last_ticks or self.book.best_ticks(BUY) or self.book.best_ticks(-BUY)


PrintTrade = Callable[[Listing, Fill, int], None]
Moved = Callable[[Listing, int], None]


class Trading:
    """Orders of all accounts on all symbols.

    Args:
        fees_bps: maker and taker commission in basis points of what is received.
        balances: what every account opens with.
        limits: order counts.
        first_id: where ids of orders, trades and reports begin, so that no run repeats another's.
    """

    def __init__(
        self,
        fees_bps: tuple[float, float],
        balances: Mapping[str, str],
        limits: Limits,
        first_id: int = 0,
    ) -> None:
        self.listings: dict[str, Listing] = {}
        self.accounts: dict[str, Account] = {}
        self.outbox: list[tuple[Account, Report]] = []
        self.counters: dict[int, OrderCounter] = {}
        self.orders_n = self.fills_n = self.cancels_n = 0
        self.fee_rates = tuple(round(bps * RATE_UNITS_PER_BPS) for bps in fees_bps)
        self.print_trade: PrintTrade = lambda listing, fill, now_ns: None
        self.moved: Moved = lambda listing, now_ns: None
        self._balances = dict(balances)
        self._limits = limits
        self._owners: dict[int, Account] = {}
        self._order_id = self._execution_id = self._first_id = first_id
        self._prevented_id = -1

    def list(self, listing: Listing) -> None:
        """Opens a symbol for trading."""
        listing.trade_id = self._first_id
        self.listings[listing.instrument.symbol] = listing

    def account(self, api_key: str) -> Account:
        """Answers the account of a key, opening it with the configured balances."""
        account = self.accounts.get(api_key)
        if account is None:
            account = Account(len(self.accounts) + 1, self._balances)
            self.accounts[api_key] = account
            self._owners[account.account_id] = account
            self.counters[account.account_id] = OrderCounter(self._limits)
        return account

    def place(self, account: Account, ask: Ask, now_ns: int) -> Order:
        """Sends a new order into its market.

        Raises:
            ExchangeError: the order is refused; nothing has changed then.
        """
        listing = self.listings[ask.instrument.symbol]
        if ask.client_id in account.open_by_client_id:
            raise rejected("Duplicate order sent.")
        book_order = self._book_order(account, ask)
        opposite = listing.book.best_ticks(-ask.side)
        if ask.kind == "LIMIT_MAKER" and reaches(ask.side, ask.price_ticks, opposite):
            raise would_match()
        locked = self._lock(account, listing, ask, book_order)
        self.counters[account.account_id].spend(now_ns)
        order = Order(
            book_order.order_id, ask, ask.client_id, book_order, ask.quantity_lots, now_ns, now_ns
        )
        order.locked_units = locked
        account.add_order(order)
        self.orders_n += 1
        by_terms = TimeInForce.IOC if ask.kind == "MARKET" else ask.time_in_force
        execution = execute(listing.book, book_order, Terms(by_terms, prevention=ask.prevention))
        self._report(account, order, "NEW", now_ns)
        self._finish(account, order, listing, execution, now_ns)
        return order

    def cancel(self, account: Account, order: Order, cancel_id: str, now_ns: int) -> None:
        """Cancels an open order."""
        listing = self.listings[order.ask.instrument.symbol]
        listing.book.cancel(order.book_order)
        order.status = Status.CANCELED
        self.cancels_n += 1
        account.close_order(order)
        self._report(account, order, "CANCELED", now_ns, cancel_id=cancel_id)
        self._report_balances(account, (order.spent_asset,), now_ns)
        self.moved(listing, now_ns)

    def settle(self, listing: Listing, events: Iterable[MatchEvent], now_ns: int) -> None:
        """Books what happened in a market: trades move money, prevented orders expire."""
        for event in events:
            if isinstance(event, Prevented):
                self._expire_prevented(event, now_ns)
                continue
            listing.trade_id += 1
            listing.last_ticks = event.price_ticks
            self.print_trade(listing, event, now_ns)
            for book_order, is_maker in ((event.maker, True), (event.taker, False)):
                if book_order is not None and book_order.owner:
                    account = self._owners[book_order.owner]
                    order = account.orders[book_order.order_id]
                    trade = self._fill(account, order, listing, event, now_ns, is_maker=is_maker)
                    self._report(account, order, "TRADE", now_ns, trade=trade)
                    instrument = listing.instrument
                    assets = (instrument.base, instrument.quote)
                    self._report_balances(account, assets, now_ns)

    def _book_order(self, account: Account, ask: Ask) -> BookOrder:
        self._order_id += 1
        price = ask.price_ticks
        if ask.kind == "MARKET":
            price = MARKET_BUY_TICKS if ask.side == BUY else MARKET_SELL_TICKS
        return BookOrder(self._order_id, account.account_id, ask.side, price, ask.quantity_lots)

    def _lock(self, account: Account, listing: Listing, ask: Ask, book_order: BookOrder) -> int:
        """Locks what the order can spend; answers how much, in units of 10**-8."""
        instrument = ask.instrument
        if ask.side != BUY:
            asset, units = instrument.base, ask.quantity_lots * instrument.lot_units
        elif ask.kind == "MARKET":
            asset = instrument.quote
            units = taking_cost(listing.book, book_order) * instrument.value_units
        else:
            asset = instrument.quote
            units = instrument.value_of(ask.price_ticks, ask.quantity_lots)
        balance = account.balance(asset)
        if units > balance.free:
            raise insufficient_balance()
        balance.free -= units
        balance.locked += units
        return units

    def _finish(
        self,
        account: Account,
        order: Order,
        listing: Listing,
        execution: Execution,
        now_ns: int,
    ) -> None:
        """Books an arrival's trades, and its end when it does not rest."""
        self.settle(listing, execution.events, now_ns)
        if execution.outcome is Outcome.EXPIRED:
            order.status = Status.EXPIRED
            order.expiry_reason = _EXPIRY[order.ask.time_in_force]
            account.close_order(order)
            self._report(account, order, "EXPIRED", now_ns)
        if not execution.events or execution.outcome is Outcome.EXPIRED:
            self._report_balances(account, (order.spent_asset,), now_ns)
        self.moved(listing, now_ns)

    def _fill(
        self,
        account: Account,
        order: Order,
        listing: Listing,
        fill: Fill,
        now_ns: int,
        *,
        is_maker: bool,
    ) -> Trade:
        """Moves the money of one trade for one of its sides; commission is in what is received."""
        instrument, lots = listing.instrument, fill.quantity_lots
        value = instrument.value_of(fill.price_ticks, lots)
        size = lots * instrument.lot_units
        is_buyer = order.ask.side == BUY
        asset, received = (instrument.base, size) if is_buyer else (instrument.quote, value)
        commission = received * self.fee_rates[0 if is_maker else 1] // UNITS_PER_ONE
        account.balance(asset).free += received - commission
        account.fees[asset] = account.fees.get(asset, 0) + commission
        spent = value if is_buyer else size
        released = spent
        if is_buyer and order.ask.kind != "MARKET":
            released = instrument.value_of(order.ask.price_ticks, lots)
        balance = account.balance(order.spent_asset)
        balance.locked -= released
        balance.free += released - spent
        order.locked_units -= released
        order.executed_lots += lots
        order.executed_units += value
        trade = Trade(
            trade_id=listing.trade_id,
            order_id=order.order_id,
            symbol=instrument.symbol,
            price_ticks=fill.price_ticks,
            quantity_lots=lots,
            value_units=value,
            commission_units=commission,
            commission_asset=asset,
            time_ns=now_ns,
            is_buyer=is_buyer,
            is_maker=is_maker,
        )
        order.fills.append(trade)
        account.trades.append(trade)
        self.fills_n += 1
        self._set_filled(account, order, now_ns)
        return trade

    def _set_filled(self, account: Account, order: Order, now_ns: int) -> None:
        if len(order.fills) == 1:
            self.counters[account.account_id].refund(now_ns)
        if order.executed_lots == order.quantity_lots:
            order.status = Status.FILLED
            account.close_order(order)
        else:
            order.status = Status.PARTIALLY_FILLED

    def _expire_prevented(self, event: Prevented, now_ns: int) -> None:
        account = self._owners[event.order.owner]
        order = account.orders[event.order.order_id]
        self._prevented_id += 1
        order.prevented_id = self._prevented_id
        order.prevented_lots = event.order.leaves_lots
        order.status = Status.EXPIRED_IN_MATCH
        account.close_order(order)
        self._report(account, order, "TRADE_PREVENTION", now_ns)
        self._report_balances(account, (order.spent_asset,), now_ns)

    def _report(
        self,
        account: Account,
        order: Order,
        kind: str,
        now_ns: int,
        *,
        trade: Trade | None = None,
        cancel_id: str = "",
    ) -> None:
        self._execution_id += 1
        order.update_ns = now_ns
        report = execution_report(order, kind, self._execution_id, trade=trade, cancel_id=cancel_id)
        self.outbox.append((account, report))

    def _report_balances(self, account: Account, assets: Iterable[str], now_ns: int) -> None:
        account.update_ns = now_ns
        self.outbox.append((account, account_position(account, assets)))
