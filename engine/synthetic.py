"""engine room: a seeded flow of orders that keeps a full book alive like a real one.

Three well-known shapes of real order flow, and nothing cleverer:

- Arrivals cluster. Each event raises the rate of the next ones, and the raise decays
  exponentially (a self-exciting process after Hawkes, 1971). Gaps are drawn exactly, without
  thinning, by the method of Dassios and Zhao, "Exact simulation of Hawkes process with
  exponentially decaying intensity", 2013.
- Orders arrive at, inside and behind the best price, with a heavy tail of distances, so that
  depth thins out with distance; sizes are log-normal; most orders are canceled, mostly near the
  best price.
- Takers repeat their side more often than not, and lean weakly towards a slowly moving anchor
  price, so prices trend for a while and never run away.

Every draw comes from one generator seeded by the caller, so equal seeds and equal calls make
equal books. The flow takes no clock: `Arrivals.gap_ns` says how long after one event the next one
comes. Orders of the flow have owner 0 and negative ids; any other order in the book is somebody's
own.
"""

from __future__ import annotations

from math import exp, inf, log, tanh
from typing import NamedTuple

import numpy as np

from engine.matching import (
    BUY,
    MARKET_BUY_TICKS,
    MARKET_SELL_TICKS,
    SELL,
    BookOrder,
    MatchEvent,
    MatchingBook,
    Prevention,
)

FLOW_OWNER = 0
DRAWS_PER_BATCH = 4096
TRIES_MAX = 8  # picks of a resting order before a cancel is given up
LEVELS_TAKEN_MAX = 10  # a synthetic market order reaches at most this many levels
ANCHOR_STEP = 3e-6  # standard deviation of the anchor's logarithm per event
LEAN_DISTANCE = 5e-5  # distance from the anchor, of the price, that is felt strongly
BEST_SHARE_MAX = 3  # queue positions from the best price that a near cancel may pick


class FlowProfile(NamedTuple):
    """What one symbol's flow looks like; fractions are of all events unless said otherwise."""

    mid_ticks: int  # where the book opens
    rate_per_s: float  # mean events per second
    size_lots: float  # median size of a limit order
    orders_target: int = 3_000  # resting orders that the book settles at
    caused_share: float = 0.6  # events caused by earlier events
    decay_ratio: float = 5.0  # how fast a cause fades, in multiples of the mean rate
    taker_share: float = 0.12
    cancel_share: float = 0.44  # when the book holds its target
    repeat_share: float = 0.65  # takers that repeat the last taker's side
    taker_size: float = 0.3  # median size of a taker, of a limit order's


class Draws:
    """Uniform and normal draws from one seeded generator, made a batch at a time."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._uniforms: list[float] = []
        self._normals: list[float] = []

    def uniform(self) -> float:
        """Draws from (0, 1]."""
        if not self._uniforms:
            self._uniforms = (1.0 - self._generator.random(DRAWS_PER_BATCH)).tolist()
        return self._uniforms.pop()

    def normal(self) -> float:
        """Draws from the standard normal distribution."""
        if not self._normals:
            self._normals = self._generator.standard_normal(DRAWS_PER_BATCH).tolist()
        return self._normals.pop()


class Arrivals:
    """Times between events of a self-exciting process; see the module for the source."""

    def __init__(self, profile: FlowProfile, draws: Draws) -> None:
        assert 0 <= profile.caused_share < 1
        assert profile.rate_per_s > 0
        self._draws = draws
        self._base_per_s = profile.rate_per_s * (1 - profile.caused_share)
        self._decay_per_s = profile.decay_ratio * profile.rate_per_s
        self._jump_per_s = profile.caused_share * self._decay_per_s
        self._excess_per_s = self._base_per_s

    def gap_ns(self) -> int:
        """Draws the time from the last event to the next one, in ns."""
        draws, decay = self._draws, self._decay_per_s
        gap_s = -log(draws.uniform()) / self._base_per_s
        if self._excess_per_s > 0:
            left = 1.0 + decay * log(draws.uniform()) / self._excess_per_s
            gap_s = min(gap_s, -log(left) / decay if left > 0 else inf)
        self._excess_per_s = self._excess_per_s * exp(-decay * gap_s) + self._jump_per_s
        return int(gap_s * 1e9)


class OrderFlow:
    """Sends limit orders, cancels and takers into one book.

    Args:
        book: an empty book; the flow opens it at once.
        profile: what the flow looks like.
        draws: where every choice comes from.
    """

    def __init__(self, book: MatchingBook, profile: FlowProfile, draws: Draws) -> None:
        self._book = book
        self._profile = profile
        self._draws = draws
        self._live: list[BookOrder] = []  # resting orders of the flow; filled ones leave lazily
        self._last_id = 0
        self._taker_side = BUY
        self._anchor_ticks = float(profile.mid_ticks)
        self._last_ticks = {BUY: profile.mid_ticks, SELL: profile.mid_ticks + 1}
        self._scale_ticks = max(25.0, profile.mid_ticks * 1e-5)
        self._distance_ticks_max = max(50, profile.mid_ticks // 50)
        self._open()

    def step(self) -> list[MatchEvent]:
        """Does one event: a limit order, a cancel, or a taker whose fills are answered."""
        profile = self._profile
        self._anchor_ticks *= exp(ANCHOR_STEP * self._draws.normal())
        choice = self._draws.uniform()
        if choice < profile.taker_share:
            return self._take()
        crowding = min(2.0, self._book.orders_n / profile.orders_target)
        if choice < profile.taker_share + profile.cancel_share * crowding:
            return self._cancel()
        return self._place()

    def _open(self) -> None:
        """Fills the empty book with its usual number of orders."""
        mid = self._profile.mid_ticks
        for index in range(self._profile.orders_target):
            side = BUY if index % 2 == 0 else SELL
            best = mid if side == BUY else mid + 1
            behind = 0 if index < 2 * BEST_SHARE_MAX else self._distance()
            self._rest(side, best - side * behind, self._size(1.0))

    def _best(self, side: int) -> int:
        """Says the best price of a side, or the last one known when the side is empty."""
        best = self._book.best_ticks(side)
        if best:
            self._last_ticks[side] = best
        return self._last_ticks[side]

    def _lean_side(self, weight: float) -> int:
        """Draws the side that moves the price towards the anchor somewhat more often."""
        gap = (self._anchor_ticks - self._best(BUY)) / (self._anchor_ticks * LEAN_DISTANCE)
        return BUY if self._draws.uniform() <= 0.5 + weight * tanh(gap) else SELL

    def _place(self) -> list[MatchEvent]:
        side = self._lean_side(0.2)
        best, other = self._best(side), self._best(-side)
        choice = self._draws.uniform()
        tightest = other - side
        if choice < 0.15:  # noqa: PLR2004 - narrows the spread
            price = tightest
        elif choice < 0.45:  # noqa: PLR2004 - joins the best price
            price = best
        else:
            price = best - side * (1 + self._distance())
        if (price - tightest) * side > 0:
            price = tightest
        if price > 0:
            self._rest(side, price, self._size(1.0))
        return []

    def _cancel(self) -> list[MatchEvent]:
        order = self._near_order() if self._draws.uniform() <= 0.5 else self._any_order()  # noqa: PLR2004 - half of the cancels are near the best price
        if order is not None and order.leaves_lots:
            self._book.cancel(order)
            order.leaves_lots = 0
        return []

    def _take(self) -> list[MatchEvent]:
        draws, profile = self._draws, self._profile
        if draws.uniform() > profile.repeat_share:
            self._taker_side = self._lean_side(0.35)
        side = self._taker_side
        lots = min(self._size(profile.taker_size), self._reachable_lots(side))
        if not lots:
            return []
        self._last_id -= 1
        price = MARKET_BUY_TICKS if side == BUY else MARKET_SELL_TICKS
        taker = BookOrder(self._last_id, FLOW_OWNER, side, price, lots)
        return self._book.take(taker, Prevention.NONE)

    def _reachable_lots(self, side: int) -> int:
        """Says how much a taker may take without emptying the other side."""
        levels = self._book.walk(-side)
        reachable = [lots for (_, lots), _ in zip(levels, range(LEVELS_TAKEN_MAX), strict=False)]
        return sum(reachable[:-1])

    def _near_order(self) -> BookOrder | None:
        """Picks one of the flow's newest orders at the best price of a random side."""
        ladder = self._book.ladder(-self._lean_side(0.2))
        if not ladder.keys:
            return None
        queue = ladder.levels[ladder.best_ticks()].orders
        for order, _ in zip(reversed(queue.values()), range(BEST_SHARE_MAX), strict=False):
            if order.owner == FLOW_OWNER:
                return order
        return None

    def _any_order(self) -> BookOrder | None:
        """Picks one of the flow's resting orders, dropping dead ones on the way."""
        live = self._live
        for _ in range(TRIES_MAX):
            if not live:
                break
            index = int(self._draws.uniform() * len(live)) % len(live)
            live[index], live[-1] = live[-1], live[index]
            order = live.pop()
            if order.leaves_lots:
                return order
        return None

    def _rest(self, side: int, price_ticks: int, lots: int) -> None:
        self._last_id -= 1
        order = BookOrder(self._last_id, FLOW_OWNER, side, price_ticks, lots)
        self._book.rest(order)
        self._live.append(order)
        if len(self._live) > 3 * self._profile.orders_target:
            self._live = [order for order in self._live if order.leaves_lots]

    def _distance(self) -> int:
        """Draws a distance behind the best price in ticks, with a heavy tail."""
        distance = int(self._scale_ticks * (1.0 / self._draws.uniform() - 1.0))
        return distance % self._distance_ticks_max

    def _size(self, scale: float) -> int:
        """Draws a quantity in lots; one in four is a round number."""
        lots = self._profile.size_lots * scale * exp(1.2 * self._draws.normal())
        lots = min(lots, self._profile.size_lots * 200)
        if lots >= 10 and self._draws.uniform() <= 0.25:  # noqa: PLR2004 - people like round sizes
            digits = 10 ** (len(str(int(lots))) - 1)
            lots = round(lots / digits) * digits
        return max(1, int(lots))
