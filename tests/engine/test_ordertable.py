"""The order table: bounded, findable, rebuildable."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import ordertable
from engine.orders import (
    ORDER_ENDED_NS,
    ORDER_ID,
    ORDER_LOTS,
    ORDER_STATE,
    Event,
    next_status,
    write_report,
)
from engine.ordertable import NOT_FOUND, ORDERS_MAX
from engine.records import PUBLISH_NS, ROW_WORDS, SEQUENCE, OrderState, client_id_of
from shm.segment import Words


def empty() -> tuple[Words, Words]:
    table, lookup = np.zeros(ordertable.TABLE_WORDS, np.int64), ordertable.new_lookup()
    ordertable.rebuild(table, lookup)
    return table, lookup


def add(table: Words, lookup: Words, client_id: int) -> int:
    row = ordertable.insert(table, lookup, client_id)
    if row != NOT_FOUND:
        words = ordertable.order_rows(table)[row]
        words[ORDER_STATE], words[ORDER_LOTS], words[ORDER_ID] = OrderState.NEW, 5, client_id
    return row


def end(table: Words, lookup: Words, row: int, sequence: int) -> None:
    words = ordertable.order_rows(table)[row]
    report = np.zeros(ROW_WORDS, np.int64)
    report[SEQUENCE], report[PUBLISH_NS] = sequence, 1000 + sequence
    write_report(words, next_status(words, Event.CANCELED, 0, -1), 0, report)
    ordertable.commit(table, lookup, row, report)


def test_a_full_table_of_live_orders_refuses() -> None:
    table, lookup = empty()
    for number in range(ORDERS_MAX):
        assert add(table, lookup, client_id_of(1, number)) != NOT_FOUND

    assert add(table, lookup, client_id_of(1, ORDERS_MAX)) == NOT_FOUND
    assert ordertable.live_count(lookup) == ORDERS_MAX


def test_the_order_that_ended_first_gives_its_row_up_first() -> None:
    table, lookup = empty()
    rows = [add(table, lookup, client_id_of(1, number)) for number in range(ORDERS_MAX)]
    end(table, lookup, rows[7], 0)
    end(table, lookup, rows[3], 1)

    assert add(table, lookup, client_id_of(2, 0)) == rows[7]
    assert ordertable.find(table, lookup, client_id_of(1, 7)) == NOT_FOUND
    assert ordertable.find(table, lookup, client_id_of(1, 3)) == rows[3]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=80))
def test_find_agrees_with_a_dict_through_inserts_ends_and_rebuilds(
    steps: list[tuple[int, int]],
) -> None:
    table, lookup = empty()
    for number in range(ORDERS_MAX - 12):  # leave little room, so that ended rows are used again
        add(table, lookup, client_id_of(9, number))
    held: dict[int, int] = {}
    ended: list[int] = []
    for sequence, (kind, number) in enumerate(steps):
        client_id = client_id_of(1, number)
        if kind == 0 and client_id not in held:
            row = add(table, lookup, client_id)
            if row != NOT_FOUND:
                for forgotten in [c for c in ended if held.get(c) == row]:
                    del held[forgotten]
                    ended.remove(forgotten)
                held[client_id] = row
        elif kind == 1 and client_id in held and client_id not in ended:
            end(table, lookup, held[client_id], sequence)
            ended.append(client_id)
        elif kind == 2:
            ordertable.rebuild(table, lookup)
        for other in range(31):
            wanted = client_id_of(1, other)
            assert ordertable.find(table, lookup, wanted) == held.get(wanted, NOT_FOUND)
    rows = ordertable.order_rows(table)
    assert sorted(int(rows[held[c], ORDER_ENDED_NS]) > 0 for c in held) == sorted(
        c in ended for c in held
    )


def test_trades_of_two_instruments_with_one_id_are_two_trades() -> None:
    keys = {ordertable.trade_key(i, t) for i in range(64) for t in (0, 1, 10**12)}

    assert len(keys) == 64 * 3
    assert 0 not in keys
