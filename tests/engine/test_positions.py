"""Positions: exact integers out of fills."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine import positions
from engine.instruments import Instrument
from engine.positions import (
    BOUGHT_LOTS,
    CASH,
    FEE_BASE,
    FEE_QUOTE,
    FEES_BASE_E8,
    FEES_OTHER_E8,
    FEES_QUOTE_E8,
    FILLS,
    POSITION_LOTS,
    POSITION_WORDS,
    SOLD_LOTS,
    apply_fill,
    net_profit,
    profit,
)
from engine.records import Side

BITCOIN = Instrument(
    index=0,
    symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    price_decimals=2,
    tick_units=1,
    quantity_decimals=5,
    lot_units=1,
)
FILL = st.tuples(
    st.sampled_from([Side.BUY, Side.SELL]),
    st.integers(1, 10_000_000),
    st.integers(1, 100_000),
    st.integers(-1000, 1_000_000),
    st.integers(0, 2),
)


def test_a_round_trip_earns_the_price_difference() -> None:
    row = np.zeros(POSITION_WORDS, np.int64)
    apply_fill(row, Side.BUY, 100, 7, 0, FEE_QUOTE)
    apply_fill(row, Side.SELL, 103, 7, 0, FEE_QUOTE)

    assert row[POSITION_LOTS] == 0
    assert profit(row, 999) == 21


def test_net_profit_takes_fees_off_in_the_quote_asset() -> None:
    row = np.zeros(POSITION_WORDS, np.int64)
    apply_fill(row, Side.BUY, 6_000_000, 100_000, 100_000, FEE_BASE)  # 1 BTC at 60,000, fee 0.001
    apply_fill(row, Side.SELL, 6_100_000, 50_000, 305_000_000, FEE_QUOTE)  # 0.5 at 61,000, 3.05

    assert net_profit(row, 6_100_000, BITCOIN) == Decimal(1000) - Decimal(61) - Decimal("3.05")


@given(st.lists(FILL, max_size=30), st.integers(0, 10_000_000))
def test_a_position_is_the_sum_of_its_fills(
    fills: list[tuple[Side, int, int, int, int]], mark: int
) -> None:
    row = np.zeros(POSITION_WORDS, np.int64)
    for side, ticks, lots, fee, asset in fills:
        apply_fill(row, side, ticks, lots, fee, asset)

    sign = {Side.BUY: 1, Side.SELL: -1}
    assert row[POSITION_LOTS] == sum(sign[f[0]] * f[2] for f in fills)
    assert row[BOUGHT_LOTS] - row[SOLD_LOTS] == row[POSITION_LOTS]
    assert row[CASH] == -sum(sign[f[0]] * f[1] * f[2] for f in fills)
    assert row[FILLS] == len(fills)
    assert profit(row, mark) == sum(sign[f[0]] * f[2] * (mark - f[1]) for f in fills)
    for asset, word in enumerate((FEES_BASE_E8, FEES_QUOTE_E8, FEES_OTHER_E8)):
        assert row[word] == sum(f[3] for f in fills if f[4] == asset)


def test_cells_do_not_overlap() -> None:
    words = np.zeros(positions.SEGMENT_BYTES // 8, np.int64)
    positions.cell(words, 3)[:] = 1

    assert words.sum() == 1 + POSITION_WORDS
    assert positions.cell(words, 2).sum() == 0
    assert positions.cell(words, 4).sum() == 0
