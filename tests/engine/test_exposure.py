"""The order table against a plain dict."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.exposure import (
    ENTRY_WORDS,
    OPEN_BUY_LOTS,
    OPEN_ORDERS,
    PROBES_MAX,
    find,
    leaves_of,
    open_order,
    see_report,
)
from engine.records import OrderState, Reason, Side
from tests.engine.kernel_rig import report

ENTRIES = 64


@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.booleans()), max_size=120, unique_by=lambda one: one[0]
    )
)
def test_live_orders_are_found_however_many_have_ended(keys: list[tuple[int, bool]]) -> None:
    """Opens orders in any order of keys and ends some; every live one is found with its lots."""
    book, orders = np.zeros(16, np.int64), np.zeros(ENTRIES * ENTRY_WORDS, np.int64)
    live: dict[int, int] = {}
    for key, ends in keys:
        base = open_order(book, orders, key, int(Side.BUY), 100, key)
        if base < 0:
            assert sum(1 for other in live if (other - key) % ENTRIES < PROBES_MAX) > 0
            continue
        live[key] = key
        if ends:
            row = report(key, Side.BUY, OrderState.CANCELED, Reason.CANCELED, lots=key)
            assert see_report(book, orders, row)
            del live[key]
        for one, lots in live.items():
            assert lots == leaves_of(orders, find(orders, one))

    assert (sum(live.values()), len(live)) == (book[OPEN_BUY_LOTS], book[OPEN_ORDERS])


def test_a_full_table_refuses_rather_than_forgets() -> None:
    book, orders = np.zeros(16, np.int64), np.zeros(PROBES_MAX * ENTRY_WORDS, np.int64)
    for key in range(1, PROBES_MAX + 1):
        assert open_order(book, orders, key, int(Side.SELL), 100, 5) >= 0

    assert -1 == open_order(book, orders, PROBES_MAX + 1, int(Side.SELL), 100, 5)
    assert PROBES_MAX == book[OPEN_ORDERS]


def test_the_oldest_ended_order_makes_room() -> None:
    book, orders = np.zeros(16, np.int64), np.zeros(PROBES_MAX * ENTRY_WORDS, np.int64)
    for key in range(1, PROBES_MAX + 1):
        open_order(book, orders, key, int(Side.BUY), 100, 5)
    for key in (9, 4):
        see_report(book, orders, report(key, Side.BUY, OrderState.REJECTED, Reason.REJECT, lots=5))
    open_order(book, orders, 100, int(Side.BUY), 100, 5)

    assert (-1, True, True) == (find(orders, 4), find(orders, 9) >= 0, find(orders, 100) >= 0)


def test_an_order_that_comes_back_to_life_counts_again() -> None:
    """A venue may trade what it had rejected; the report then says UNKNOWN."""
    book, orders = np.zeros(16, np.int64), np.zeros(ENTRIES * ENTRY_WORDS, np.int64)
    open_order(book, orders, 7, int(Side.BUY), 100, 10)
    see_report(book, orders, report(7, Side.BUY, OrderState.REJECTED, Reason.REJECT, lots=10))
    fill = report(7, Side.BUY, OrderState.UNKNOWN, Reason.FILL, lots=10, cumulative=3, filled=3)
    see_report(book, orders, fill)

    assert [3, 7, 0, 1] == list(book[:4])
