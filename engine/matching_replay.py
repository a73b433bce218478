"""engine room: matching our orders against a recorded market.

The recorded book cannot react to us, so three rules stand in for the reaction. They follow the
cautious queue model of backtesting practice: assume the worst place in the queue, and no help
from cancels that the record does not prove.

- An order that reaches the other side takes the displayed quantity. What it took stays gone until
  the record next changes that level, so no quantity is sold twice.
- An order that rests stands behind the whole quantity displayed at its price on arrival. Recorded
  trades at its price first use up that queue and then fill it; a trade at a worse price has gone
  through it and fills it at once. A displayed level smaller than the queue shortens the queue.
- A resting order that the displayed other side crosses is filled at its own price by the quantity
  displayed there, under the first rule.

Depth differences arrive every 100 ms and best prices at once, so the newer of the two says what
is displayed at the top: best prices with a higher update id override the levels at and above
them. Prices are int64 ticks, quantities int64 lots.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from heapq import merge

from engine.matching import (
    BUY,
    SELL,
    BookOrder,
    Fill,
    MatchEvent,
    Prevented,
    Prevention,
)

Levels = Iterable[tuple[int, int]]  # (price_ticks, lots)


class ReplaySide:
    """One side of the recorded book and of our orders in it."""

    __slots__ = ("consumed", "keys", "levels", "resting", "side", "top_lots", "top_ticks")

    def __init__(self, side: int) -> None:
        self.side = side
        self.levels: dict[int, int] = {}  # lots by price in ticks
        self.keys: list[int] = []  # price times side, ascending: the best is last
        self.consumed: dict[int, int] = {}  # lots that our orders took, by price
        self.resting: dict[int, BookOrder] = {}  # our orders by id, oldest first
        self.top_ticks = 0  # best price by the last bookTicker
        self.top_lots = 0

    def load(self, levels: Levels) -> None:
        """Replaces every level by a snapshot's."""
        self.levels = {price: lots for price, lots in levels if lots}
        self.keys = sorted(price * self.side for price in self.levels)
        self.consumed.clear()

    def update(self, price_ticks: int, lots: int) -> None:
        """Sets one level; 0 lots remove it."""
        levels, key = self.levels, price_ticks * self.side
        if lots:
            if price_ticks not in levels:
                insort(self.keys, key)
            levels[price_ticks] = lots
        elif levels.pop(price_ticks, 0):
            del self.keys[bisect_left(self.keys, key)]

    def displayed(self, *, top_is_newer: bool) -> Iterator[tuple[int, int]]:
        """Yields (price_ticks, lots) as recorded and not yet consumed by us, best first."""
        side, levels, consumed = self.side, self.levels, self.consumed
        keys: Iterator[int] = reversed(self.keys)
        if top_is_newer and self.top_ticks:
            left = self.top_lots - consumed.get(self.top_ticks, 0)
            if left > 0:
                yield self.top_ticks, left
            behind = bisect_left(self.keys, self.top_ticks * side)
            keys = (self.keys[index] for index in range(behind - 1, -1, -1))
        for key in keys:
            price_ticks = key * side
            left = levels[price_ticks] - consumed.get(price_ticks, 0)
            if left > 0:
                yield price_ticks, left

    def displayed_lots(self, price_ticks: int, *, top_is_newer: bool) -> int:
        """Says what is displayed at one price now."""
        if top_is_newer and self.top_ticks:
            if price_ticks == self.top_ticks:
                return self.top_lots
            if price_ticks * self.side > self.top_ticks * self.side:
                return 0
        return self.levels.get(price_ticks, 0)

    def queue(self) -> list[BookOrder]:
        """Answers our resting orders by priority: best price first, then the oldest."""
        return sorted(self.resting.values(), key=lambda order: -order.price_ticks * self.side)


class ReplayBook:
    """The recorded market of one symbol with our orders in it; see the module for the rules."""

    def __init__(self) -> None:
        self.update_id = 0  # of the last depth difference or snapshot
        self.top_id = 0  # of the last best prices
        self.bids = ReplaySide(BUY)
        self.asks = ReplaySide(SELL)

    def ladder(self, side: int) -> ReplaySide:
        """Answers the side on which orders of `side` rest."""
        return self.bids if side == BUY else self.asks

    @property
    def top_is_newer(self) -> bool:
        """Says whether the best prices are newer than the levels."""
        return self.top_id > self.update_id

    def best_ticks(self, side: int) -> int:
        """Says the best price of a side in ticks, ours included, 0 when there is none."""
        return next((price_ticks for price_ticks, _ in self.walk(side)), 0)

    def walk(self, side: int) -> Iterator[tuple[int, int]]:
        """Yields (price_ticks, lots) that an order can take, best first; a price may come twice."""
        for price_ticks, lots, _ in self._liquidity(side):
            yield price_ticks, lots

    def levels(self, side: int) -> Iterator[tuple[int, int]]:
        """Yields (price_ticks, lots) of the recorded book as of `update_id`, best first."""
        ladder = self.ladder(side)
        for key in reversed(ladder.keys):
            yield key * side, ladder.levels[key * side]

    def take(self, taker: BookOrder, prevention: Prevention) -> list[MatchEvent]:
        """Fills `taker` from what is displayed and from our own resting orders behind it."""
        events: list[MatchEvent] = []
        consumed = self.ladder(-taker.side).consumed
        reach = taker.price_ticks * -taker.side
        for price_ticks, lots, maker in self._liquidity(-taker.side):
            if not taker.leaves_lots or price_ticks * -taker.side < reach:
                break
            taken = min(lots, taker.leaves_lots)
            if maker is None:
                consumed[price_ticks] = consumed.get(price_ticks, 0) + taken
            elif prevention and maker.owner == taker.owner:
                if self._prevent(maker, taker, prevention, events):
                    break
                continue
            else:
                self._count_down(maker, taken)
            taker.leaves_lots -= taken
            events.append(Fill(maker, taker, price_ticks, taken, taker.side))
        return events

    def rest(self, order: BookOrder) -> None:
        """Puts an order behind everything displayed at its price."""
        assert order.leaves_lots > 0
        ladder = self.ladder(order.side)
        displayed = ladder.displayed_lots(order.price_ticks, top_is_newer=self.top_is_newer)
        order.queue_lots = max(0, displayed - ladder.consumed.get(order.price_ticks, 0))
        ladder.resting[order.order_id] = order

    def cancel(self, order: BookOrder) -> None:
        """Removes a resting order."""
        del self.ladder(order.side).resting[order.order_id]

    def load_snapshot(self, update_id: int, bids: Levels, asks: Levels) -> None:
        """Sets the book to a recorded snapshot; our resting orders stay, last in their queue."""
        self.update_id = update_id
        self.top_id = 0
        for ladder, levels in ((self.bids, bids), (self.asks, asks)):
            ladder.load(levels)
            ladder.top_ticks = ladder.top_lots = 0
            for order in ladder.resting.values():
                order.queue_lots = ladder.levels.get(order.price_ticks, 0)

    def apply_depth(self, last_id: int, bids: Levels, asks: Levels) -> list[MatchEvent]:
        """Applies a depth difference; one that the book already has is ignored."""
        if last_id <= self.update_id:
            return []
        self.update_id = last_id
        for ladder, levels in ((self.bids, bids), (self.asks, asks)):
            for price_ticks, lots in levels:
                ladder.update(price_ticks, lots)
                if ladder.consumed:
                    ladder.consumed.pop(price_ticks, None)
        return self._settle()

    def apply_top(
        self, update_id: int, bid: tuple[int, int], ask: tuple[int, int]
    ) -> list[MatchEvent]:
        """Applies best prices, each (price_ticks, lots)."""
        if update_id <= self.top_id:
            return []
        self.top_id = update_id
        for ladder, top in ((self.bids, bid), (self.asks, ask)):
            changed = top != (ladder.top_ticks, ladder.top_lots)
            ladder.top_ticks, ladder.top_lots = top
            if changed and ladder.consumed:
                ladder.consumed.pop(top[0], None)
        return self._settle()

    def apply_trade(self, price_ticks: int, lots: int, maker_side: int) -> list[MatchEvent]:
        """Applies a recorded trade: it takes from the queue of our orders, then from them."""
        ladder = self.ladder(maker_side)
        if not ladder.resting:
            return []
        events: list[MatchEvent] = []
        left = lots
        for order in ladder.queue():
            if not left or order.price_ticks * maker_side < price_ticks * maker_side:
                break
            ahead = order.queue_lots if order.price_ticks == price_ticks else 0
            order.queue_lots = max(0, ahead - left)
            taken = min(order.leaves_lots, left - ahead)
            if taken > 0:
                left -= taken
                self._count_down(order, taken)
                events.append(Fill(order, None, order.price_ticks, taken, -maker_side))
        return events

    def _settle(self) -> list[MatchEvent]:
        """Shortens queues to what is displayed and fills resting orders that are crossed."""
        events: list[MatchEvent] = []
        for ladder in (self.bids, self.asks):
            for order in ladder.queue() if ladder.resting else ():
                shown = ladder.displayed_lots(order.price_ticks, top_is_newer=self.top_is_newer)
                order.queue_lots = min(order.queue_lots, shown)
                self._fill_crossed(order, events)
        return events

    def _fill_crossed(self, order: BookOrder, events: list[MatchEvent]) -> None:
        other = self.ladder(-order.side)
        crossed = order.price_ticks * -order.side
        for price_ticks, lots in other.displayed(top_is_newer=self.top_is_newer):
            if not order.leaves_lots or price_ticks * -order.side < crossed:
                break
            taken = min(lots, order.leaves_lots)
            other.consumed[price_ticks] = other.consumed.get(price_ticks, 0) + taken
            self._count_down(order, taken)
            events.append(Fill(order, None, order.price_ticks, taken, -order.side))

    def _liquidity(self, side: int) -> Iterator[tuple[int, int, BookOrder | None]]:
        """Yields (price_ticks, lots, order or None): displayed before ours at each price."""
        ladder = self.ladder(side)
        shown: Iterator[tuple[int, int, BookOrder | None]] = (
            (price_ticks, lots, None)
            for price_ticks, lots in ladder.displayed(top_is_newer=self.top_is_newer)
        )
        if not ladder.resting:
            return shown
        ours: list[tuple[int, int, BookOrder | None]] = [
            (order.price_ticks, order.leaves_lots, order) for order in ladder.queue()
        ]
        return merge(shown, ours, key=lambda entry: -entry[0] * side)

    def _prevent(
        self,
        maker: BookOrder,
        taker: BookOrder,
        prevention: Prevention,
        events: list[MatchEvent],
    ) -> bool:
        """Expires maker, taker or both; True when the taker is one of them."""
        lots = min(maker.leaves_lots, taker.leaves_lots)
        if prevention != Prevention.EXPIRE_TAKER:
            self.cancel(maker)
            events.append(Prevented(maker, taker, maker.price_ticks, lots))
        if prevention != Prevention.EXPIRE_MAKER:
            events.append(Prevented(taker, maker, maker.price_ticks, lots))
            return True
        return False

    def _count_down(self, order: BookOrder, lots: int) -> None:
        order.leaves_lots -= lots
        if not order.leaves_lots:
            self.cancel(order)
