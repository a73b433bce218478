"""The risk kernel with an instrument, limits and a fresh book, for tests of what it lets pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.decision import Input
from engine.instruments import Instrument
from engine.records import (
    CLIENT_ID,
    DENIAL_CODE,
    DENIAL_LIMIT,
    DENIAL_OBSERVED,
    INTENT,
    PRICE_TICKS,
    QUANTITY_LOTS,
    TERMS,
    TRIGGER,
    TRIGGER_NS,
    Kind,
    OrderType,
    TimeInForce,
    client_id_of,
    kind_of,
    pack,
)
from engine.risk import (
    CANCEL_RESERVE,
    LIMIT_COLLAR_PPM,
    LIMIT_OPEN_ORDERS,
    LIMIT_ORDER_LOTS,
    LIMIT_ORDER_NOTIONAL,
    LIMIT_POSITION_LOTS,
    LIMIT_STALE_NS,
    LIMITS_HEADER,
    LIMITS_VALUES,
    LOADED,
    MESSAGES_MAX,
    DenialCode,
)
from engine.risk_step import book_of, parameters_of, risk_kernel, state_words
from shm.segment import Words
from tests.engine.kernel_rig import BTC, GENERATION, KernelRig, book_state, quote, record, report

BID, ASK = 6_000_000, 6_000_010
POSITION_MAX, ORDER_MAX, OPEN_MAX = 1_000, 500, 8
SECOND = 1_000_000_000
OLD = 2 * SECOND + 1


def limits(**changes: int) -> Words:
    words = np.zeros(LIMITS_VALUES, np.int64)
    words[LOADED], words[MESSAGES_MAX], words[CANCEL_RESERVE] = 1, 40, 10
    defaults = {
        "order_lots": ORDER_MAX, "order_notional": 4 * 10**9, "position_lots": POSITION_MAX,
        "open_orders": OPEN_MAX, "collar_ppm": 10_000, "stale_ns": 2 * SECOND,
    } | changes  # fmt: skip
    places = {
        "order_lots": LIMIT_ORDER_LOTS, "order_notional": LIMIT_ORDER_NOTIONAL,
        "position_lots": LIMIT_POSITION_LOTS, "open_orders": LIMIT_OPEN_ORDERS,
        "collar_ppm": LIMIT_COLLAR_PPM, "stale_ns": LIMIT_STALE_NS,
    }  # fmt: skip
    for name, place in places.items():
        words[LIMITS_HEADER + place] = defaults[name]
    return words


class RiskRig(KernelRig):
    """The risk kernel with an instrument, limits and a fresh book; it numbers the intents."""

    def __init__(
        self, instrument: Instrument = BTC, limit: Words | None = None, *, ready: bool = True
    ) -> None:
        parameters = parameters_of(GENERATION, 1, 256)
        super().__init__(risk_kernel, parameters, state_words(parameters))
        self.clock = 10 * SECOND
        self.sent = 0
        if ready:
            self.load(instrument, limits=limits() if limit is None else limit)
            self.market(book_state(), quote(BID, spread=ASK - BID, at_ns=self.clock))

    @property
    def book(self) -> Words:
        book: Words = book_of(self.state, 0)
        return book

    def market(self, *rows: Words) -> None:
        self.step(Input.MARKET, *rows, clock_ns=self.clock)

    def level(self, level: int) -> tuple[Words, Words]:
        return self.step(Input.CONTROL, first=level, clock_ns=self.clock)

    def report(self, *args: Any, **named: Any) -> None:
        self.step(Input.REPORTS, report(*args, **named), clock_ns=self.clock)

    def intent(self, lots: int = 100, price: int = BID, side: int = 1, **other: int) -> Words:
        terms = pack(
            side, other.get("order_type", OrderType.LIMIT), other.get("tif", TimeInForce.GTC), 5
        )
        client_id = other.get("client_id", client_id_of(GENERATION, self.sent))
        words = {
            CLIENT_ID: client_id, TERMS: terms, PRICE_TICKS: price, QUANTITY_LOTS: lots,
            INTENT: self.sent, TRIGGER_NS: 77, TRIGGER: 78,
        }  # fmt: skip
        self.sent += 1
        return record(Kind.INTENT_NEW, words)

    def ask(self, *args: int, **named: int) -> Words:
        """Asks for an order; answers the one row that came of it."""
        orders, notes = self.step(Input.INTENTS, self.intent(*args, **named), clock_ns=self.clock)
        rows: Words = np.concatenate([orders, notes])
        assert len(rows) == 1, "one intent gives one record"
        row: Words = rows[0]
        return row

    def cancel(self, client_id: int) -> Words:
        words = {CLIENT_ID: client_id, INTENT: self.sent}
        self.sent += 1
        row = record(Kind.INTENT_CANCEL, words)
        rows: Words = np.concatenate(self.step(Input.INTENTS, row, clock_ns=self.clock))
        row_: Words = rows[0]
        return row_


def verdict(row: Words) -> tuple[DenialCode, int, int]:
    assert kind_of(row) == Kind.DENIAL
    return DenialCode(row[DENIAL_CODE]), int(row[DENIAL_LIMIT]), int(row[DENIAL_OBSERVED])
