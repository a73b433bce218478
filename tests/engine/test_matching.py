"""The full book: price-time priority, and nothing made or lost."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.matching import BUY, SELL, BookOrder, Fill, MatchingBook, Prevented, Prevention
from engine.matching_terms import Outcome, Terms, TimeInForce, execute, lots_for_value, taking_cost

SIDES = st.sampled_from([BUY, SELL])
ARRIVALS = st.lists(
    st.tuples(SIDES, st.integers(95, 105), st.integers(1, 20), st.integers(1, 3)), max_size=60
)


class ModelBook:
    """Price-time priority in the plainest form: one sorted list a side, searched from the front."""

    def __init__(self) -> None:
        self.queues: dict[int, deque[list[int]]] = {BUY: deque(), SELL: deque()}

    def arrive(self, order_id: int, side: int, price: int, lots: int) -> list[tuple[int, int, int]]:
        fills = []
        other = self.queues[-side]
        while lots and other and (price - other[0][1]) * side >= 0:
            maker_id, maker_price, maker_lots = other[0]
            taken = min(lots, maker_lots)
            fills.append((maker_id, maker_price, taken))
            lots -= taken
            other[0][2] -= taken
            if not other[0][2]:
                other.popleft()
        if lots:
            self.queues[side].append([order_id, price, lots])
            self.queues[side] = deque(
                sorted(self.queues[side], key=lambda entry: (-entry[1] * side, entry[0]))
            )
        return fills


def order(order_id: int, side: int, price: int, lots: int, owner: int = 0) -> BookOrder:
    return BookOrder(order_id, owner, side, price, lots)


@given(ARRIVALS)
def test_fills_come_in_price_then_time_order_as_in_the_plain_model(
    arrivals: list[tuple[int, int, int, int]],
) -> None:
    book, model = MatchingBook(), ModelBook()
    for number, (side, price, lots, _) in enumerate(arrivals):
        execution = execute(book, order(number, side, price, lots), Terms())
        found = [
            (event.maker.order_id, event.price_ticks, event.quantity_lots)
            for event in execution.events
            if isinstance(event, Fill) and event.maker is not None
        ]

        assert found == model.arrive(number, side, price, lots)

    for side in (BUY, SELL):
        ladder = book.ladder(side)
        resting = [
            [entry.order_id, price, entry.leaves_lots]
            for price in ladder.prices()
            for entry in ladder.levels[price].orders.values()
        ]
        assert resting == list(model.queues[side])


@given(ARRIVALS, st.data())
def test_quantity_is_conserved_and_the_book_never_crosses(
    arrivals: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    book = MatchingBook()
    orders: dict[int, BookOrder] = {}
    placed: dict[int, int] = {}
    filled: dict[int, int] = {}
    gone: dict[int, int] = {}
    for number, (side, price, lots, owner) in enumerate(arrivals):
        arriving = order(number, side, price, lots, owner)
        time_in_force = data.draw(st.sampled_from(TimeInForce))
        terms = Terms(time_in_force, prevention=data.draw(st.sampled_from(Prevention)))
        orders[number], placed[number] = arriving, lots
        execution = execute(book, arriving, terms)
        for event in execution.events:
            if isinstance(event, Prevented):
                gone[event.order.order_id] = event.order.leaves_lots
                continue
            for side_order in (event.maker, event.taker):
                assert side_order is not None
                count = filled.get(side_order.order_id, 0)
                filled[side_order.order_id] = count + event.quantity_lots
        if execution.outcome is Outcome.EXPIRED:
            gone[number] = arriving.leaves_lots

    for number, entry in orders.items():
        assert filled.get(number, 0) + entry.leaves_lots == placed[number]
        assert entry.leaves_lots >= 0
    resting = sum(lots for side in (BUY, SELL) for _, lots in book.walk(side))
    assert resting + sum(filled.values()) + sum(gone.values()) == sum(placed.values())
    bid, ask = book.best_ticks(BUY), book.best_ticks(SELL)
    assert not bid or not ask or bid < ask


@given(ARRIVALS)
def test_depth_differences_rebuild_the_book_and_their_ids_are_contiguous(
    arrivals: list[tuple[int, int, int, int]],
) -> None:
    book = MatchingBook(100)
    rebuilt: dict[int, dict[int, int]] = {BUY: {}, SELL: {}}
    last_id = 100
    for number, (side, price, lots, _) in enumerate(arrivals):
        execute(book, order(number, side, price, lots), Terms())
        assert book.update_id > last_id
        last_id = book.update_id
        for changed_side, changes in zip((BUY, SELL), book.take_changes(), strict=True):
            for changed_price, changed_lots in changes:
                rebuilt[changed_side][changed_price] = changed_lots

    for side in (BUY, SELL):
        levels = {price: lots for price, lots in rebuilt[side].items() if lots}
        assert levels == dict(book.walk(side))


def test_a_cancel_removes_the_order_and_an_empty_level() -> None:
    book = MatchingBook()
    first, second = order(1, BUY, 100, 5), order(2, BUY, 99, 7)
    book.rest(first)
    book.rest(second)

    book.cancel(first)

    assert list(book.walk(BUY)) == [(99, 7)]
    assert first.leaves_lots == 5


def test_time_priority_survives_a_cancel_in_the_middle_of_a_queue() -> None:
    book = MatchingBook()
    queue = [order(number, SELL, 100, 1) for number in range(3)]
    for entry in queue:
        book.rest(entry)
    book.cancel(queue[1])

    events = book.take(order(9, BUY, 100, 2), Prevention.NONE)

    assert [event.maker for event in events if isinstance(event, Fill)] == [queue[0], queue[2]]


@pytest.mark.parametrize(
    ("prevention", "fills", "outcome", "resting"),
    [
        (Prevention.NONE, 1, Outcome.FILLED, 5),
        (Prevention.EXPIRE_TAKER, 0, Outcome.PREVENTED, 10),
        (Prevention.EXPIRE_MAKER, 1, Outcome.FILLED, 0),
        (Prevention.EXPIRE_BOTH, 0, Outcome.PREVENTED, 5),
    ],
)
def test_prevention_decides_who_expires_when_an_account_meets_itself(
    prevention: Prevention, fills: int, outcome: Outcome, resting: int
) -> None:
    book = MatchingBook()
    book.rest(order(1, SELL, 100, 5, owner=7))
    book.rest(order(2, SELL, 100, 5, owner=8))

    execution = execute(book, order(3, BUY, 100, 5, owner=7), Terms(prevention=prevention))

    assert sum(isinstance(event, Fill) for event in execution.events) == fills
    assert execution.outcome is outcome
    assert sum(lots for _, lots in book.walk(SELL)) == resting


@pytest.mark.parametrize(
    ("terms", "outcome", "traded", "resting"),
    [
        (Terms(TimeInForce.GTC), Outcome.RESTING, 5, 5),
        (Terms(TimeInForce.IOC), Outcome.EXPIRED, 5, 0),
        (Terms(TimeInForce.FOK), Outcome.EXPIRED, 0, 0),
        (Terms(post_only=True), Outcome.WOULD_MATCH, 0, 0),
    ],
)
def test_terms_decide_what_becomes_of_an_order_larger_than_the_market(
    terms: Terms, outcome: Outcome, traded: int, resting: int
) -> None:
    book = MatchingBook()
    book.rest(order(1, SELL, 100, 5))

    execution = execute(book, order(2, BUY, 100, 10), terms)

    assert execution.outcome is outcome
    assert sum(e.quantity_lots for e in execution.events if isinstance(e, Fill)) == traded
    assert sum(lots for _, lots in book.walk(BUY)) == resting


def test_fill_or_kill_trades_whole_when_the_market_is_large_enough() -> None:
    book = MatchingBook()
    book.rest(order(1, SELL, 100, 5))
    book.rest(order(2, SELL, 101, 5))

    execution = execute(book, order(3, BUY, 101, 10), Terms(TimeInForce.FOK))

    assert execution.outcome is Outcome.FILLED


def test_post_only_rests_below_the_other_side() -> None:
    book = MatchingBook()
    book.rest(order(1, SELL, 100, 5))

    execution = execute(book, order(2, BUY, 99, 5), Terms(post_only=True))

    assert execution.outcome is Outcome.RESTING


def test_cost_and_lots_for_value_agree_with_what_is_taken() -> None:
    book = MatchingBook()
    book.rest(order(1, SELL, 100, 5))
    book.rest(order(2, SELL, 110, 5))

    cost = taking_cost(book, order(3, BUY, 110, 7))

    assert cost == 5 * 100 + 2 * 110
    assert lots_for_value(book, BUY, cost) == 7
    assert lots_for_value(book, BUY, cost - 1) == 6
