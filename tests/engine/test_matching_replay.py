"""Our orders against a recorded book."""

from hypothesis import given
from hypothesis import strategies as st

from engine.matching import BUY, SELL, BookOrder, Fill, MatchEvent, Prevented, Prevention
from engine.matching_replay import ReplayBook
from engine.matching_terms import Outcome, Terms, TimeInForce, execute

BIDS = [(100, 10), (99, 20)]
ASKS = [(101, 4), (102, 6), (103, 50)]


def opened() -> ReplayBook:
    book = ReplayBook()
    book.load_snapshot(10, BIDS, ASKS)
    return book


def order(order_id: int, side: int, price: int, lots: int, owner: int = 1) -> BookOrder:
    return BookOrder(order_id, owner, side, price, lots)


def traded(events: list[MatchEvent]) -> list[tuple[int, int]]:
    return [(event.price_ticks, event.quantity_lots) for event in events if isinstance(event, Fill)]


def test_a_taker_walks_the_displayed_levels() -> None:
    book = opened()

    execution = execute(book, order(1, BUY, 102, 8), Terms())

    assert traded(execution.events) == [(101, 4), (102, 4)]
    assert execution.outcome is Outcome.FILLED


def test_what_was_taken_stays_gone_until_the_record_changes_the_level() -> None:
    book = opened()
    execute(book, order(1, BUY, 101, 4), Terms())

    assert book.best_ticks(SELL) == 102
    book.apply_depth(11, [(99, 21)], [])
    assert book.best_ticks(SELL) == 102
    book.apply_depth(12, [], [(101, 3)])
    assert next(book.walk(SELL)) == (101, 3)


def test_a_best_price_that_repeats_itself_gives_nothing_back() -> None:
    book = opened()
    book.apply_top(11, (100, 10), (101, 4))
    execute(book, order(1, BUY, 101, 4), Terms())

    book.apply_top(12, (100, 11), (101, 4))
    assert book.best_ticks(SELL) == 102
    book.apply_top(13, (100, 11), (101, 5))
    assert next(book.walk(SELL)) == (101, 5)


def test_newer_best_prices_hide_levels_that_are_gone() -> None:
    book = opened()

    book.apply_top(11, (100, 10), (102, 6))

    assert list(book.walk(SELL)) == [(102, 6), (103, 50)]
    assert list(book.levels(SELL)) == ASKS


def test_a_resting_order_waits_for_the_queue_before_it() -> None:
    book = opened()
    resting = order(1, BUY, 100, 5)
    execute(book, resting, Terms())

    assert book.apply_trade(100, 10, BUY) == []
    assert traded(book.apply_trade(100, 3, BUY)) == [(100, 3)]
    assert traded(book.apply_trade(100, 9, BUY)) == [(100, 2)]
    assert book.bids.resting == {}


def test_one_trade_uses_up_the_queue_and_then_fills() -> None:
    book = opened()
    execute(book, order(1, BUY, 100, 5), Terms())

    assert traded(book.apply_trade(100, 12, BUY)) == [(100, 2)]


def test_our_orders_at_one_price_fill_in_the_order_of_their_coming() -> None:
    book = opened()
    first, second = order(1, BUY, 100, 2), order(2, BUY, 100, 5)
    execute(book, first, Terms())
    execute(book, second, Terms())

    events = book.apply_trade(100, 13, BUY)

    assert [(e.maker, e.quantity_lots) for e in events if isinstance(e, Fill)] == [
        (first, 2),
        (second, 1),
    ]


def test_a_trade_through_the_price_fills_without_a_queue() -> None:
    book = opened()
    execute(book, order(1, BUY, 100, 5), Terms())

    assert traded(book.apply_trade(99, 3, BUY)) == [(100, 3)]


def test_a_trade_on_the_other_side_or_behind_the_price_fills_nothing() -> None:
    book = opened()
    execute(book, order(1, BUY, 100, 5), Terms())

    assert book.apply_trade(101, 50, SELL) == []
    assert book.apply_trade(101, 50, BUY) == []


def test_a_shrunken_level_shortens_the_queue() -> None:
    book = opened()
    resting = order(1, BUY, 100, 5)
    execute(book, resting, Terms())

    book.apply_depth(11, [(100, 3)], [])

    assert resting.queue_lots == 3
    assert traded(book.apply_trade(100, 4, BUY)) == [(100, 1)]


def test_a_crossed_resting_order_fills_at_its_own_price_by_what_is_shown() -> None:
    book = opened()
    execute(book, order(1, BUY, 100, 9), Terms())

    events = book.apply_top(11, (98, 5), (99, 4))

    assert traded(events) == [(100, 4)]
    assert book.apply_top(12, (98, 6), (99, 4)) == []
    assert traded(book.apply_top(13, (98, 6), (99, 7))) == [(100, 5)]


def test_an_order_that_takes_and_rests_is_not_crossed_by_what_it_took() -> None:
    book = opened()
    execution = execute(book, order(1, BUY, 101, 9), Terms())

    assert traded(execution.events) == [(101, 4)]
    assert book.apply_depth(11, [(99, 22)], []) == []
    assert book.best_ticks(BUY) == 101


def test_our_own_resting_order_is_liquidity_for_another_account_only() -> None:
    book = opened()
    ours = order(1, SELL, 101, 5, owner=1)
    execute(book, ours, Terms())

    other = execute(book, order(2, BUY, 101, 6, owner=2), Terms(prevention=Prevention.EXPIRE_MAKER))
    assert traded(other.events) == [(101, 4), (101, 2)]
    assert ours.leaves_lots == 3
    mine = execute(book, order(3, BUY, 101, 6, owner=1), Terms(prevention=Prevention.EXPIRE_MAKER))
    assert isinstance(mine.events[0], Prevented)
    assert book.asks.resting == {}


def test_a_depth_difference_that_is_in_the_snapshot_is_ignored() -> None:
    book = opened()

    book.apply_depth(10, [(100, 1)], [])

    assert list(book.levels(BUY)) == BIDS


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "rest", "trade", "depth"]),
            st.sampled_from([BUY, SELL]),
            st.integers(97, 104),
            st.integers(1, 15),
        ),
        max_size=40,
    )
)
def test_quantity_is_conserved_whatever_the_record_does(
    steps: list[tuple[str, int, int, int]],
) -> None:
    book = opened()
    orders: dict[int, BookOrder] = {}
    placed: dict[int, int] = {}
    filled: dict[int, int] = {}
    for number, (what, side, price, lots) in enumerate(steps):
        if what in {"take", "rest"}:
            orders[number], placed[number] = order(number, side, price, lots), lots
            terms = Terms(TimeInForce.IOC if what == "take" else TimeInForce.GTC)
            events = execute(book, orders[number], terms).events
        elif what == "trade":
            events = book.apply_trade(price, lots, side)
        else:
            levels = [(price, lots - 1)]
            events = book.apply_depth(
                book.update_id + 1, levels if side == BUY else [], levels if side == SELL else []
            )
        for event in events:
            assert isinstance(event, Fill)
            assert event.quantity_lots > 0
            for entry in (event.maker, event.taker):
                if entry is not None:
                    count = filled.get(entry.order_id, 0)
                    filled[entry.order_id] = count + event.quantity_lots
                    assert (entry.price_ticks - event.price_ticks) * entry.side >= 0

    for number, entry in orders.items():
        assert filled.get(number, 0) + entry.leaves_lots == placed[number]
        is_resting = number in book.ladder(entry.side).resting
        assert not is_resting or entry.leaves_lots > 0
