"""engine room: price-time-priority matching of single orders.

A book side is a ladder of price levels; a level is a queue of orders in the order of their
arrival. An incoming order takes from the best level's oldest order first and leaves what it could
not take to its caller, who rests, expires or rejects it by the order's terms
(`engine/matching_terms.py`).

Every change of one level's total quantity is one update id, exactly as the venue counts, so depth
differences made from `take_changes` are contiguous by construction. Prices are int64 ticks,
quantities int64 lots. Nothing here reads a clock; time priority is the order of calls.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias

BUY = 1
SELL = -1
MARKET_BUY_TICKS = 2**62  # a limit no price reaches: the price of a market order to buy
MARKET_SELL_TICKS = 0  # ... and to sell


class Prevention(IntEnum):
    """What happens when an order would trade with another of its own account."""

    NONE = 0  # they trade
    EXPIRE_TAKER = 1
    EXPIRE_MAKER = 2
    EXPIRE_BOTH = 3


class BookOrder:
    """One order as the book sees it.

    Attributes:
        order_id: unique within its book.
        owner: account, 0 for the synthetic flow; equal owners never trade under a prevention mode.
        side: `BUY` or `SELL`.
        price_ticks: limit price.
        leaves_lots: what is still open; the book counts it down.
        queue_lots: what stands before it at its price, used by the replayed book only.
    """

    __slots__ = ("leaves_lots", "order_id", "owner", "price_ticks", "queue_lots", "side")

    def __init__(self, order_id: int, owner: int, side: int, price_ticks: int, lots: int) -> None:
        self.order_id = order_id
        self.owner = owner
        self.side = side
        self.price_ticks = price_ticks
        self.leaves_lots = lots
        self.queue_lots = 0


class Fill(NamedTuple):
    """One trade between two orders; a side that is not an order of ours or the flow's is None."""

    maker: BookOrder | None
    taker: BookOrder | None
    price_ticks: int
    quantity_lots: int
    taker_side: int


class Prevented(NamedTuple):
    """An order expired instead of trading with its own account; `counter` is the other one."""

    order: BookOrder
    counter: BookOrder
    price_ticks: int
    quantity_lots: int  # what would have traded


MatchEvent: TypeAlias = Fill | Prevented


class Matching(Protocol):
    """A market that orders can be sent into: the full book or the replayed one."""

    update_id: int

    def best_ticks(self, side: int) -> int:
        """Says the best price of a side in ticks, 0 when the side is empty."""

    def walk(self, side: int) -> Iterator[tuple[int, int]]:
        """Yields (price_ticks, lots) of a side that an order can take now, best first."""

    def take(self, taker: BookOrder, prevention: Prevention) -> list[MatchEvent]:
        """Fills `taker` as far as its price reaches and counts its leaves down."""

    def rest(self, order: BookOrder) -> None:
        """Puts an order's leaves at the end of the queue of its price."""

    def cancel(self, order: BookOrder) -> None:
        """Removes a resting order; it must be resting."""


class Level:
    """The queue of one price."""

    __slots__ = ("lots", "orders")

    def __init__(self) -> None:
        self.lots = 0
        self.orders: dict[int, BookOrder] = {}  # by order id, oldest first


class Ladder:
    """One side of a book: levels by price, and their prices sorted so that the best is last."""

    __slots__ = ("changed", "keys", "levels", "side")

    def __init__(self, side: int) -> None:
        self.side = side
        self.levels: dict[int, Level] = {}
        self.keys: list[int] = []  # price times side, ascending
        self.changed: dict[int, None] = {}  # prices touched since `take_changes`

    def best_ticks(self) -> int:
        """Says the best price in ticks, 0 when empty."""
        return self.keys[-1] * self.side if self.keys else 0

    def open(self, price_ticks: int) -> Level:
        """Answers the level of a price, making it when there is none."""
        level = self.levels.get(price_ticks)
        if level is None:
            level = self.levels[price_ticks] = Level()
            insort(self.keys, price_ticks * self.side)
        return level

    def close(self, price_ticks: int) -> None:
        """Removes an empty level."""
        del self.levels[price_ticks]
        key = price_ticks * self.side
        if self.keys[-1] == key:
            self.keys.pop()
        else:
            del self.keys[bisect_left(self.keys, key)]

    def prices(self) -> Iterator[int]:
        """Yields prices in ticks, best first."""
        side = self.side
        for key in reversed(self.keys):
            yield key * side


class MatchingBook:
    """A full book of single orders with price-time priority.

    Args:
        update_id: id of the book before its first change.
    """

    def __init__(self, update_id: int = 0) -> None:
        self.update_id = update_id
        self.bids = Ladder(BUY)
        self.asks = Ladder(SELL)
        self.orders_n = 0

    def ladder(self, side: int) -> Ladder:
        """Answers the ladder on which orders of a side rest."""
        return self.bids if side == BUY else self.asks

    def best_ticks(self, side: int) -> int:
        """Says the best price of a side in ticks, 0 when the side is empty."""
        return self.ladder(side).best_ticks()

    def level_lots(self, side: int, price_ticks: int) -> int:
        """Says the total quantity of a price in lots, 0 when nothing rests there."""
        level = self.ladder(side).levels.get(price_ticks)
        return 0 if level is None else level.lots

    def walk(self, side: int) -> Iterator[tuple[int, int]]:
        """Yields (price_ticks, lots) of a side, best first."""
        ladder = self.ladder(side)
        for price_ticks in ladder.prices():
            yield price_ticks, ladder.levels[price_ticks].lots

    def rest(self, order: BookOrder) -> None:
        """Puts an order's leaves at the end of the queue of its price."""
        assert order.leaves_lots > 0
        ladder = self.ladder(order.side)
        level = ladder.open(order.price_ticks)
        assert order.order_id not in level.orders
        level.orders[order.order_id] = order
        level.lots += order.leaves_lots
        self.orders_n += 1
        self._touch(ladder, order.price_ticks)

    def cancel(self, order: BookOrder) -> None:
        """Removes a resting order; its leaves stay as they were."""
        ladder = self.ladder(order.side)
        self._remove(ladder, ladder.levels[order.price_ticks], order)
        self._touch(ladder, order.price_ticks)

    def take(self, taker: BookOrder, prevention: Prevention) -> list[MatchEvent]:
        """Fills `taker` from the other side, best price first, oldest order first.

        Returns:
            Fills and prevented trades in the order they happened; `taker.leaves_lots` is counted
            down by the fills, and left as it was when a prevention mode expires the taker.
        """
        events: list[MatchEvent] = []
        ladder = self.ladder(-taker.side)
        reach = taker.price_ticks * ladder.side
        while taker.leaves_lots and ladder.keys and ladder.keys[-1] >= reach:
            price_ticks = ladder.keys[-1] * ladder.side
            expired = self._take_level(ladder, price_ticks, taker, prevention, events)
            if expired:
                break
        return events

    def _take_level(
        self,
        ladder: Ladder,
        price_ticks: int,
        taker: BookOrder,
        prevention: Prevention,
        events: list[MatchEvent],
    ) -> bool:
        """Works one level off; True when the taker must stop because it expired."""
        level = ladder.levels[price_ticks]
        expired = False
        while taker.leaves_lots and level.orders and not expired:
            maker = next(iter(level.orders.values()))
            lots = min(maker.leaves_lots, taker.leaves_lots)
            if prevention and maker.owner == taker.owner:
                expired = self._prevent(ladder, maker, taker, prevention, events)
                continue
            maker.leaves_lots -= lots
            taker.leaves_lots -= lots
            level.lots -= lots
            if not maker.leaves_lots:
                self._remove(ladder, level, maker)
            events.append(Fill(maker, taker, price_ticks, lots, taker.side))
            self._touch(ladder, price_ticks)
        return expired

    def _prevent(
        self,
        ladder: Ladder,
        maker: BookOrder,
        taker: BookOrder,
        prevention: Prevention,
        events: list[MatchEvent],
    ) -> bool:
        """Expires maker, taker or both; True when the taker is one of them."""
        lots = min(maker.leaves_lots, taker.leaves_lots)
        if prevention != Prevention.EXPIRE_TAKER:
            self._remove(ladder, ladder.levels[maker.price_ticks], maker)
            self._touch(ladder, maker.price_ticks)
            events.append(Prevented(maker, taker, maker.price_ticks, lots))
        if prevention != Prevention.EXPIRE_MAKER:
            events.append(Prevented(taker, maker, maker.price_ticks, lots))
            return True
        return False

    def take_changes(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Answers the levels changed since the last call as they are now, and forgets them.

        Returns:
            (price_ticks, lots) of bids and of asks, best first; 0 lots for a level that is gone.
        """
        return self._drain(self.bids), self._drain(self.asks)

    @staticmethod
    def _drain(ladder: Ladder) -> list[tuple[int, int]]:
        prices = sorted(ladder.changed, reverse=ladder.side == BUY)
        ladder.changed.clear()
        levels = ladder.levels
        return [(price, levels[price].lots if price in levels else 0) for price in prices]

    def _remove(self, ladder: Ladder, level: Level, order: BookOrder) -> None:
        del level.orders[order.order_id]
        level.lots -= order.leaves_lots
        self.orders_n -= 1
        if not level.orders:
            ladder.close(order.price_ticks)

    def _touch(self, ladder: Ladder, price_ticks: int) -> None:
        self.update_id += 1
        ladder.changed[price_ticks] = None
