"""engine room: what an order's terms make of it in a market.

Time in force and post-only are rules about one order and the state of the market at its arrival;
they do not care whether the market is the full book or a replayed one. Terms follow the spot
venue: a limit order rests (GTC), takes and expires its rest (IOC), or trades whole or not at all
(FOK); a post-only order is refused when it would trade; a market order takes and expires its
rest.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from engine.matching import BookOrder, MatchEvent, Matching, Prevented, Prevention


class TimeInForce(IntEnum):
    """How long an order's leaves live."""

    GTC = 0  # until canceled
    IOC = 1  # not at all
    FOK = 2  # not at all, and only when the whole order can trade


class Outcome(IntEnum):
    """What became of an order on its arrival."""

    RESTING = 0  # its leaves are in the book
    FILLED = 1
    EXPIRED = 2  # its leaves expired by time in force or for want of liquidity
    PREVENTED = 3  # its leaves expired instead of trading with its own account
    WOULD_MATCH = 4  # post-only, refused: it would have traded


class Terms(NamedTuple):
    """An order's conditions."""

    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    prevention: Prevention = Prevention.NONE


class Execution(NamedTuple):
    """The outcome of an arrival and what happened on the way, in order."""

    outcome: Outcome
    events: list[MatchEvent]


def reaches(side: int, price_ticks: int, other_ticks: int) -> bool:
    """Says whether an order of `side` at `price_ticks` trades at the other side's `other_ticks`."""
    return other_ticks > 0 and (price_ticks - other_ticks) * side >= 0


def takeable_lots(market: Matching, order: BookOrder) -> int:
    """Says how much of `order` could trade now, at most its leaves."""
    found = 0
    for price_ticks, lots in market.walk(-order.side):
        if found >= order.leaves_lots or not reaches(order.side, order.price_ticks, price_ticks):
            break
        found += lots
    return min(found, order.leaves_lots)


def taking_cost(market: Matching, order: BookOrder) -> int:
    """Says what taking `order` now costs: the sum of price times quantity, in ticks x lots."""
    cost, leaves = 0, order.leaves_lots
    for price_ticks, lots in market.walk(-order.side):
        if not leaves or not reaches(order.side, order.price_ticks, price_ticks):
            break
        taken = min(lots, leaves)
        cost += taken * price_ticks
        leaves -= taken
    return cost


def lots_for_value(market: Matching, side: int, value: int) -> int:
    """Says how many lots an order of `side` can take for at most `value`, in ticks x lots."""
    total = 0
    for price_ticks, lots in market.walk(-side):
        taken = min(lots, value // price_ticks)
        total += taken
        value -= taken * price_ticks
        if taken < lots:
            break
    return total


def execute(market: Matching, order: BookOrder, terms: Terms) -> Execution:
    """Sends an order into a market under its terms."""
    if terms.post_only and reaches(order.side, order.price_ticks, market.best_ticks(-order.side)):
        return Execution(Outcome.WOULD_MATCH, [])
    if terms.time_in_force is TimeInForce.FOK and takeable_lots(market, order) < order.leaves_lots:
        return Execution(Outcome.EXPIRED, [])
    events = market.take(order, terms.prevention)
    outcome = _outcome_after_taking(order, terms, events)
    if outcome is Outcome.RESTING:
        market.rest(order)
    return Execution(outcome, events)


def _outcome_after_taking(order: BookOrder, terms: Terms, events: list[MatchEvent]) -> Outcome:
    last = events[-1] if events else None
    if isinstance(last, Prevented) and last.order is order:
        return Outcome.PREVENTED
    if not order.leaves_lots:
        return Outcome.FILLED
    if terms.time_in_force is TimeInForce.GTC:
        return Outcome.RESTING
    return Outcome.EXPIRED
