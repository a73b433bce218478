"""workers room: an order as its account knows it, from its arrival to its end.

The book knows only what matters for matching (`engine.matching.BookOrder`); this record holds the
rest. `executed_lots` plus the book's leaves is always the order's quantity while it works.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from engine.matching import BUY, BookOrder, Prevention
from engine.matching_terms import TimeInForce
from workers.exchange.instruments import Instrument


class Status(Enum):
    """Order states by the venue's names."""

    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"


class Trade(NamedTuple):
    """One fill of one order, seen from its account."""

    trade_id: int
    order_id: int
    symbol: str
    price_ticks: int
    quantity_lots: int
    value_units: int
    commission_units: int
    commission_asset: str
    time_ns: int
    is_buyer: bool
    is_maker: bool


class Ask(NamedTuple):
    """What a client asks for in `order.place`, read and checked for shape but not for sense."""

    instrument: Instrument
    side: int
    kind: str  # LIMIT, LIMIT_MAKER or MARKET
    time_in_force: TimeInForce
    price_ticks: int  # 0 for a market order
    quantity_lots: int  # 0 for a market order by value
    value_units: int  # of a market order by value, else 0
    client_id: str
    answer: str  # ACK, RESULT or FULL
    prevention: Prevention


@dataclass(slots=True)
class Order:
    """One order of an account; quantities in lots, money in units of 10**-8."""

    order_id: int
    ask: Ask
    client_id: str
    book_order: BookOrder
    quantity_lots: int
    time_ns: int
    update_ns: int
    status: Status = Status.NEW
    executed_lots: int = 0
    executed_units: int = 0  # quote asset
    locked_units: int = 0  # of the asset the order spends
    prevented_lots: int = 0
    prevented_id: int = -1
    expiry_reason: str = ""
    fills: list[Trade] = field(default_factory=list)
    price_text: str = ""  # as every report repeats them
    quantity_text: str = ""

    def __post_init__(self) -> None:
        """Writes the texts that do not change."""
        instrument = self.ask.instrument
        self.price_text = instrument.price_text(self.ask.price_ticks)
        self.quantity_text = instrument.quantity_text(self.quantity_lots)

    @property
    def is_open(self) -> bool:
        """Says whether the order still works."""
        return self.status in {Status.NEW, Status.PARTIALLY_FILLED}

    @property
    def spent_asset(self) -> str:
        """Names the asset that the order gives away."""
        instrument = self.ask.instrument
        return instrument.quote if self.ask.side == BUY else instrument.base
