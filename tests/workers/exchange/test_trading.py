"""Money and orders: nothing is made or lost, whatever clients and markets do."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.matching import BUY, SELL, BookOrder, Fill, Matching, MatchingBook, Prevention
from engine.matching_replay import ReplayBook
from engine.matching_terms import Outcome, Terms, TimeInForce, execute
from workers.exchange.accounts import Account
from workers.exchange.errors import ExchangeError
from workers.exchange.instruments import known_instrument
from workers.exchange.limits import NS_PER_S, Limits, OrderCounter, WeightCounter
from workers.exchange.orders import Ask, Status
from workers.exchange.trading import Listing, Trading

BITCOIN = known_instrument("BTCUSDT")
FEES_BPS = (2.5, 10.0)
OPENING = {"BTC": "5", "USDT": "500000"}
SIDES = st.sampled_from([BUY, SELL])
KINDS = st.sampled_from(["LIMIT", "LIMIT_MAKER", "MARKET"])
PRICES = st.integers(6_000_000 - 4, 6_000_000 + 4)


class Exchange(RuleBasedStateMachine):
    """Two accounts and a synthetic crowd in one market; after every step the books must add up."""

    def make_book(self) -> Matching:
        raise NotImplementedError

    @initialize()
    def open(self) -> None:
        self.trading = Trading(FEES_BPS, OPENING, Limits())
        self.listing = Listing(BITCOIN, self.make_book())
        self.trading.list(self.listing)
        self.accounts = [self.trading.account(key) for key in ("a", "b")]
        self.opened = self._money()
        self.crowd: dict[str, int] = defaultdict(int)  # what others received less what they gave
        self.trading.print_trade = self._on_trade
        self.count = 0

    def _money(self) -> dict[str, int]:
        total: dict[str, int] = defaultdict(int)
        for account in self.accounts:
            for asset, balance in account.balances.items():
                total[asset] += balance.free + balance.locked
        return dict(total)

    def _on_trade(self, listing: Listing, fill: Fill, now_ns: int) -> None:
        """Counts the money of a trade's side that is nobody's account."""
        size = fill.quantity_lots * BITCOIN.lot_units
        value = BITCOIN.value_of(fill.price_ticks, fill.quantity_lots)
        for order, side in ((fill.maker, -fill.taker_side), (fill.taker, fill.taker_side)):
            if order is None or not order.owner:
                self.crowd["BTC"] += size * side
                self.crowd["USDT"] -= value * side

    @rule(
        who=st.integers(0, 1),
        side=SIDES,
        kind=KINDS,
        price=PRICES,
        lots=st.integers(1, 300_000),
        terms=st.tuples(st.sampled_from(TimeInForce), st.sampled_from(Prevention)),
    )
    def place(
        self,
        who: int,
        side: int,
        kind: str,
        price: int,
        lots: int,
        terms: tuple[TimeInForce, Prevention],
    ) -> None:
        self.count += 1
        ask = Ask(
            instrument=BITCOIN,
            side=side,
            kind=kind,
            time_in_force=terms[0] if kind == "LIMIT" else TimeInForce.GTC,
            price_ticks=0 if kind == "MARKET" else price,
            quantity_lots=lots,
            value_units=0,
            client_id=str(self.count),
            answer="ACK",
            prevention=terms[1],
        )
        before = self._money()
        refusal, order = None, None
        try:
            order = self.trading.place(self.accounts[who], ask, self.count)
        except ExchangeError as error:
            refusal = error
        if refusal is not None:
            assert refusal.code == -2010
            assert self._money() == before
        is_resting = kind != "MARKET" and ask.time_in_force is TimeInForce.GTC
        assert order is None or order.is_open <= is_resting

    @rule(who=st.integers(0, 1), data=st.data())
    def cancel(self, who: int, data: st.DataObject) -> None:
        account = self.accounts[who]
        if account.open_orders:
            order = data.draw(st.sampled_from(list(account.open_orders.values())))
            self.trading.cancel(account, order, "cancel", 1)

    @rule(side=SIDES, price=PRICES, lots=st.integers(1, 300_000))
    def others_act(self, side: int, price: int, lots: int) -> None:
        book = self.listing.book
        self.count += 1
        if isinstance(book, MatchingBook):
            order = BookOrder(-self.count, 0, side, price, lots)
            events = execute(book, order, Terms()).events
        else:
            assert isinstance(book, ReplayBook)
            levels = [(price, lots)]
            bids, asks = (levels, []) if side == BUY else ([], levels)
            events = book.apply_depth(book.update_id + 1, bids, asks)
            events += book.apply_trade(price, lots // 3 + 1, side)
        self.trading.settle(self.listing, events, self.count)

    @invariant()
    def money_is_conserved(self) -> None:
        money = self._money()
        for asset, opened in self.opened.items():
            fees = sum(account.fees.get(asset, 0) for account in self.accounts)
            assert money[asset] + fees + self.crowd[asset] == opened

    @invariant()
    def locked_money_is_what_open_orders_can_spend(self) -> None:
        for account in self.accounts:
            locked: dict[str, int] = defaultdict(int)
            for order in account.open_orders.values():
                leaves = order.quantity_lots - order.executed_lots
                assert order.book_order.leaves_lots == leaves > 0
                price = order.ask.price_ticks
                units = BITCOIN.value_of(price, leaves)
                if order.ask.side == SELL:
                    units = leaves * BITCOIN.lot_units
                assert order.locked_units == units
                locked[order.spent_asset] += units
            for asset, balance in account.balances.items():
                assert balance.locked == locked[asset]
                assert balance.free >= 0

    @invariant()
    def every_order_adds_up(self) -> None:
        for account in self.accounts:
            for order in account.orders.values():
                filled = sum(trade.quantity_lots for trade in order.fills)
                assert filled == order.executed_lots <= order.quantity_lots
                assert sum(trade.value_units for trade in order.fills) == order.executed_units
                assert (order.status is Status.FILLED) == (filled == order.quantity_lots)
                assert order.is_open == (order.order_id in account.open_orders)

    @invariant()
    def trades_are_numbered_without_gaps_or_repeats(self) -> None:
        for account in self.accounts:
            ids = [trade.trade_id for trade in account.trades]
            assert all(1 <= trade_id <= self.listing.trade_id for trade_id in ids)


class FullExchange(Exchange):
    def make_book(self) -> Matching:
        return MatchingBook()


class ReplayedExchange(Exchange):
    def make_book(self) -> Matching:
        return ReplayBook()


SHAPE = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestFullBook = FullExchange.TestCase
TestFullBook.settings = SHAPE
TestReplayedBook = ReplayedExchange.TestCase
TestReplayedBook.settings = SHAPE
del Exchange


@pytest.mark.parametrize(("fee_bps", "commission"), [(0.0, 0), (1.0, 1), (10.0, 10), (-1.0, -1)])
def test_the_commission_is_a_share_of_what_is_received(fee_bps: float, commission: int) -> None:
    trading = Trading((0.0, fee_bps), OPENING, Limits())
    book = MatchingBook()
    listing = Listing(BITCOIN, book)
    trading.list(listing)
    account = trading.account("a")
    book.rest(BookOrder(-1, 0, SELL, 6_000_000, 10_000))

    placed = trading.place(account, _market_buy(10_000), 1)

    (trade,) = placed.fills
    assert (trade.commission_units, trade.commission_asset) == (commission * 1_000, "BTC")
    assert account.balance("BTC").free == 500_000_000 + 10_000_000 - commission * 1_000


def test_a_market_order_expires_what_the_book_cannot_give() -> None:
    trading = Trading(FEES_BPS, OPENING, Limits())
    book = MatchingBook()
    trading.list(Listing(BITCOIN, book))
    book.rest(BookOrder(-1, 0, SELL, 6_000_000, 10))

    order = trading.place(trading.account("a"), _market_buy(25), 1)

    assert (order.status, order.executed_lots) == (Status.EXPIRED, 10)
    assert order.expiry_reason == "INSUFFICIENT_LIQUIDITY"
    assert Outcome.EXPIRED.name == order.status.name


def _market_buy(lots: int) -> Ask:
    return Ask(
        instrument=BITCOIN,
        side=BUY,
        kind="MARKET",
        time_in_force=TimeInForce.GTC,
        price_ticks=0,
        quantity_lots=lots,
        value_units=0,
        client_id="x",
        answer="FULL",
        prevention=Prevention.NONE,
    )


@given(st.lists(st.integers(0, 30 * NS_PER_S), max_size=60))
def test_windows_count_per_aligned_interval(gaps: list[int]) -> None:
    counter = OrderCounter(Limits(orders_per_10_s=3))
    now_ns, taken = 0, defaultdict[int, int](int)
    for gap in gaps:
        now_ns += gap
        window = now_ns // (10 * NS_PER_S)
        if taken[window] < 3:
            counter.spend(now_ns)
            taken[window] += 1
            continue
        with pytest.raises(ExchangeError) as refusal:
            counter.spend(now_ns)
        assert refusal.value.retry_after_ms == (window + 1) * 10_000


def test_weight_is_free_again_in_the_next_minute() -> None:
    counter = WeightCounter(Limits(weight_per_minute=5))
    counter.spend(5, 59 * NS_PER_S)
    with pytest.raises(ExchangeError, match="-1003"):
        counter.spend(1, 59 * NS_PER_S)

    counter.spend(1, 60 * NS_PER_S)
    assert counter.window.count == 1


def test_the_oldest_closed_orders_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.exchange.accounts.CLOSED_ORDERS_MAX", 3)
    trading = Trading(FEES_BPS, OPENING, Limits())
    trading.list(Listing(BITCOIN, MatchingBook()))
    account: Account = trading.account("a")
    for number in range(5):
        ask = _market_buy(1)._replace(kind="LIMIT", price_ticks=100 + number)
        order = trading.place(account, ask, 1)
        trading.cancel(account, order, "cancel", 1)

    assert [order.ask.price_ticks for order in account.orders.values()] == [102, 103, 104]
    assert account.last_by_client_id["BTCUSDT", "x"].ask.price_ticks == 104
