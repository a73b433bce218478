"""engine room: what fills have made of us in one instrument: position, cash, fees, profit.

A position is a row of whole numbers in ticks and lots, so nothing is rounded. Cash is what trading
alone brought in: minus `price * quantity` of every buy, plus that of every sell; the position
times a mark added to it is the profit before fees. Fees stay in the asset that the venue took them
in, in 1e-8 of it, because only a report may choose the price to convert them at.

The segment `positions` holds one cell an instrument, written by execution after each fill:

    word 32 i             version of the `latest` cell of instrument i (see shm/latest.py)
    words 32 i + 1 ..     POSITION_WORDS values as below
"""

from __future__ import annotations

from decimal import Decimal

from engine.instruments import INSTRUMENTS_MAX, Instrument
from engine.records import Side
from shm.jit import jit
from shm.segment import Words, fingerprint

POSITION_WORDS = 16
(
    POSITION_LOTS, CASH, BOUGHT_LOTS, SOLD_LOTS, FEES_BASE_E8, FEES_QUOTE_E8, FEES_OTHER_E8, FILLS,
    LAST_FILL_TICKS, LAST_FILL_LOTS, LAST_REPORT,
) = range(11)  # fmt: skip
# POSITION_LOTS: signed, bought minus sold; fees in the base asset are not taken off here.
# CASH: signed, in ticks * lots. LAST_REPORT: 1 + sequence of the report booked last, 0 for none.
FEE_BASE, FEE_QUOTE, FEE_OTHER = range(3)  # `fee_asset` of a report

CELL_WORDS = 32  # two pairs of cache lines for each instrument: 1 version word, values, padding
SEGMENT = "positions"
SEGMENT_BYTES = INSTRUMENTS_MAX * CELL_WORDS * 8
LAYOUT = fingerprint("positions", 1, INSTRUMENTS_MAX, CELL_WORDS, POSITION_WORDS)

_BUY = int(Side.BUY)


def cell(words: Words, instrument: int) -> Words:
    """Views the cell of one instrument, version word included.

    Args:
        words: the body of the segment, (INSTRUMENTS_MAX * CELL_WORDS,) int64.
        instrument: index.

    Returns:
        (1 + POSITION_WORDS,) int64, for shm.latest.
    """
    start = instrument * CELL_WORDS
    return words[start : start + 1 + POSITION_WORDS]


@jit
def apply_fill(
    row: Words, side: int, price_ticks: int, quantity_lots: int, fee_e8: int, fee_asset: int
) -> None:
    """Books one fill into a position. Called by: execution, once a trade id.

    Args:
        row: (POSITION_WORDS,) int64, changed in place.
        side: 1 buy, 2 sell.
        price_ticks: of the fill.
        quantity_lots: of the fill, positive.
        fee_e8: in 1e-8 of the fee asset; negative for a rebate.
        fee_asset: FEE_BASE, FEE_QUOTE or FEE_OTHER.
    """
    if side == _BUY:
        row[POSITION_LOTS] += quantity_lots
        row[CASH] -= price_ticks * quantity_lots
        row[BOUGHT_LOTS] += quantity_lots
    else:
        row[POSITION_LOTS] -= quantity_lots
        row[CASH] += price_ticks * quantity_lots
        row[SOLD_LOTS] += quantity_lots
    row[FEES_BASE_E8 + fee_asset] += fee_e8
    row[FILLS] += 1
    row[LAST_FILL_TICKS] = price_ticks
    row[LAST_FILL_LOTS] = quantity_lots


@jit
def profit(row: Words, mark_ticks: int) -> int:
    """Answers the profit before fees in ticks * lots, the open position valued at `mark_ticks`."""
    return row[CASH] + row[POSITION_LOTS] * mark_ticks  # type: ignore[no-any-return]


def fees(row: Words, mark_ticks: int, instrument: Instrument) -> Decimal:
    """Answers the fees in the quote asset, those taken in base valued at the mark; others not."""
    base = Decimal(int(row[FEES_BASE_E8])).scaleb(-8)
    quote = Decimal(int(row[FEES_QUOTE_E8])).scaleb(-8)
    return quote + base * instrument.price(mark_ticks)


def net_profit(row: Words, mark_ticks: int, instrument: Instrument) -> Decimal:
    """Answers the profit after fees in the quote asset, exactly."""
    gross = int(row[CASH]) + int(row[POSITION_LOTS]) * mark_ticks
    value = gross * instrument.tick * instrument.lot
    return value - fees(row, mark_ticks, instrument)
