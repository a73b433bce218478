"""The synthetic order flow: equal seeds, plausible markets."""

import statistics

import pytest

from engine.matching import BUY, SELL, Fill, MatchingBook
from engine.synthetic import FLOW_OWNER, Arrivals, Draws, FlowProfile, OrderFlow

PROFILE = FlowProfile(mid_ticks=6_000_000, rate_per_s=400.0, size_lots=2_500.0, orders_target=400)


Trace = list[tuple[int, int, list[tuple[int, int]]]]  # best bid, best ask, trades


def run(seed: int, events: int) -> tuple[MatchingBook, Trace]:
    """Runs a flow; answers its book and a trace of best prices and trades."""
    draws, book = Draws(seed), MatchingBook()
    flow = OrderFlow(book, PROFILE, draws)
    trace: Trace = []
    for _ in range(events):
        fills = [(e.price_ticks, e.quantity_lots) for e in flow.step() if isinstance(e, Fill)]
        trace.append((book.best_ticks(BUY), book.best_ticks(SELL), fills))
    return book, trace


def test_equal_seeds_make_equal_markets() -> None:
    first, first_trace = run(7, 2_000)
    second, second_trace = run(7, 2_000)

    assert first_trace == second_trace
    assert list(first.walk(BUY)) == list(second.walk(BUY))


def test_other_seeds_make_other_markets() -> None:
    assert run(7, 500)[1] != run(8, 500)[1]


@pytest.mark.parametrize("seed", range(3))
def test_the_book_is_never_crossed_or_empty(seed: int) -> None:
    _, trace = run(seed, 5_000)

    assert all(0 < bid < ask for bid, ask, _ in trace)


def test_the_book_keeps_its_size_and_its_spread_is_mostly_tight() -> None:
    book, trace = run(7, 20_000)
    spreads = sorted(ask - bid for bid, ask, _ in trace)

    assert PROFILE.orders_target / 2 < book.orders_n < PROFILE.orders_target * 2
    assert spreads[len(spreads) // 2] <= 10
    assert spreads[-1] < PROFILE.mid_ticks // 100


def test_events_of_all_kinds_happen() -> None:
    book, trace = run(7, 5_000)
    trades = [fill for _, _, fills in trace for fill in fills]

    assert len(trades) > 200
    assert len({bid for bid, _, _ in trace}) > 10
    assert all(
        order.owner == FLOW_OWNER and order.order_id < 0
        for level in book.bids.levels.values()
        for order in level.orders.values()
    )


def test_arrivals_keep_the_mean_rate_and_cluster() -> None:
    arrivals = Arrivals(PROFILE, Draws(3))
    gaps = [arrivals.gap_ns() for _ in range(40_000)]
    mean = statistics.fmean(gaps)

    assert 1e9 / mean == pytest.approx(PROFILE.rate_per_s, rel=0.1)
    assert statistics.pstdev(gaps) > 1.3 * mean  # a Poisson process has 1.0
    assert min(gaps) >= 0
