"""workers room: positions and profit of a run in decimals, from shared memory."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from config.topology import takes_orders
from engine import positions
from engine.instruments import Instrument
from shm.latest import Latest
from shm.segment import Words
from workers.books import top_ticks
from workers.context import Memory


def position_rows(memory: Memory) -> list[tuple[Instrument, Words]]:
    """Answers each instrument with its position words, (POSITION_WORDS,) int64."""
    if not takes_orders(memory.run.settings):
        return []  # nobody trades, so nobody has positions
    words = memory.segment(positions.SEGMENT).words(0, positions.SEGMENT_BYTES // 8)
    return [(one, Latest(positions.cell(words, one.index)).read()) for one in memory.instruments()]


def profits(memory: Memory) -> dict[str, dict[str, Any]]:
    """Answers position and profit by symbol, exact decimals as text, marked at the mid price."""
    return {one.symbol: _profit(memory, one, row) for one, row in position_rows(memory)}


def _profit(memory: Memory, one: Instrument, row: Words) -> dict[str, Any]:
    bid_ticks, ask_ticks = top_ticks(memory, one.index)
    mark = one.price(bid_ticks + ask_ticks) / 2
    last = int(row[positions.LAST_FILL_TICKS])
    if not (bid_ticks and ask_ticks):
        mark = one.price(last)
    unit = one.tick * one.lot
    position = one.quantity(int(row[positions.POSITION_LOTS]))
    fees = positions.fees(row, int(mark / one.tick), one)
    gross = Decimal(int(row[positions.CASH])) * unit + position * mark
    return {
        "base": one.base,
        "quote": one.quote,
        "position": _text(position),
        "bought": _text(one.quantity(int(row[positions.BOUGHT_LOTS]))),
        "sold": _text(one.quantity(int(row[positions.SOLD_LOTS]))),
        "fills": int(row[positions.FILLS]),
        "fees": _text(round(fees, 8)),
        "profit": _text(round(gross - fees, 8)),
    }


def _text(value: Decimal) -> str:
    return f"{value.normalize():f}" if value else "0"
