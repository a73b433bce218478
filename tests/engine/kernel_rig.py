"""Runs a decision kernel on records without any ring: outputs land in plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from engine.decision import (
    DECISIONS,
    NOTES,
    OUTPUT_CAPACITY,
    OUTPUT_NEXT,
    OUTPUT_PUBLISHED,
    OUTPUT_ROWS,
    OUTPUT_WORDS,
    OUTPUTS_WORDS,
    Input,
)
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX, Instrument, to_words
from engine.records import (
    ASK_LOTS,
    ASK_TICKS,
    BID_LOTS,
    BID_TICKS,
    CLIENT_ID,
    CUMULATIVE_LOTS,
    LAST_LOTS,
    LEAVES_LOTS,
    REPORT_VENUE_ORDER_ID,
    ROW_WORDS,
    STATE,
    STATUS,
    STEP_CLOCK_NS,
    STEP_COUNT,
    STEP_FIRST,
    STEP_INPUT,
    TAG,
    TRIGGER,
    TRIGGER_NS,
    BookState,
    Kind,
    OrderState,
    Reason,
    RequestState,
    Side,
    pack,
    tag,
)
from engine.risk import LIMITS_VALUES
from shm.segment import Words

GENERATION = 3
CAPACITY = 1 << 13
BTC = Instrument(
    index=0, symbol="BTCUSDT", base="BTC", quote="USDT",
    price_decimals=2, tick_units=1, quantity_decimals=5, lot_units=1,
    price_ticks_min=100, price_ticks_max=10**8, quantity_lots_min=2, quantity_lots_max=10**6,
    market_lots_min=3, market_lots_max=5 * 10**5, notional_min=5 * 10**7, notional_max=10**14,
)  # fmt: skip


def record(kind: Kind, words: dict[int, int], *, flags: int = 0, instrument: int = 0) -> Words:
    """Answers a (16,) row."""
    row = np.zeros(ROW_WORDS, np.int64)
    row[TAG] = tag(int(kind), flags, instrument, 0)
    for word, value in words.items():
        row[word] = value
    return row


def quote(
    bid: int = 6_000_000,
    bid_lots: int = 100,
    ask_lots: int = 100,
    *,
    spread: int = 1,
    at_ns: int = 0,
) -> Words:
    """Answers a QUOTE whose bytes were read at `at_ns`."""
    return record(
        Kind.QUOTE,
        {
            BID_TICKS: bid, BID_LOTS: bid_lots, ASK_TICKS: bid + spread, ASK_LOTS: ask_lots,
            TRIGGER_NS: at_ns, TRIGGER: at_ns // 1_000,
        },
    )  # fmt: skip


def book_state(state: BookState = BookState.SYNCED) -> Words:
    """Answers a BOOK_STATE."""
    return record(Kind.BOOK_STATE, {STATE: int(state)})


def report(  # noqa: PLR0913 - everything a report can say
    client_id: int,
    side: Side,
    state: OrderState,
    reason: Reason,
    *,
    lots: int = 0,
    cumulative: int = 0,
    filled: int = 0,
    venue_id: int = 0,
) -> Words:
    """Answers a REPORT as execution writes it."""
    words = {
        CLIENT_ID: client_id,
        STATUS: pack(int(state), int(RequestState.ACKED), int(reason), 0),
        CUMULATIVE_LOTS: cumulative,
        LEAVES_LOTS: lots - cumulative,
        LAST_LOTS: filled or lots,
        REPORT_VENUE_ORDER_ID: venue_id,
    }
    return record(Kind.REPORT, words, flags=int(side))


def reference(instruments: Sequence[Instrument], limits: Words | None = None) -> Words:
    """Answers the words behind a REFERENCE step."""
    table = np.zeros((INSTRUMENTS_MAX, INSTRUMENT_WORDS), np.int64)
    for instrument in instruments:
        table[instrument.index] = to_words(instrument)
    values = np.zeros(LIMITS_VALUES, np.int64) if limits is None else limits
    return np.concatenate([table.reshape(-1), values])


class KernelRig:
    """A kernel, its state, and every record that it has written so far."""

    def __init__(self, kernel: Callable[..., int], parameters: Words, state_words: int) -> None:
        self.kernel, self.parameters = kernel, parameters
        self.state = np.zeros(state_words, np.int64)
        self.outputs = np.zeros(OUTPUTS_WORDS, np.int64)
        self._rows = [np.zeros((CAPACITY, ROW_WORDS), np.int64) for _ in range(2)]
        for output, rows in enumerate(self._rows):
            base = OUTPUT_WORDS * output
            self.outputs[base + OUTPUT_ROWS] = rows.ctypes.data
            self.outputs[base + OUTPUT_CAPACITY] = CAPACITY
            self.outputs[base + OUTPUT_PUBLISHED] = -1
        self.steps = 0

    def step(
        self,
        what: int,
        *rows: Words,
        clock_ns: int = 0,
        first: int = 0,
        behind: Words | None = None,
    ) -> tuple[Words, Words]:
        """Runs a step; answers what it wrote to decisions and to notes, (n, 16) each."""
        before = [int(self.outputs[OUTPUT_WORDS * o + OUTPUT_NEXT]) for o in (DECISIONS, NOTES)]
        step = np.zeros(ROW_WORDS, np.int64)
        step[TAG], step[STEP_INPUT], step[STEP_FIRST] = tag(int(Kind.STEP), 0, 0, 0), what, first
        step[STEP_COUNT], step[STEP_CLOCK_NS] = len(rows), clock_ns
        step[TRIGGER_NS], step[TRIGGER] = clock_ns, self.steps
        whole = step if behind is None else np.concatenate([step, behind])
        flat = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        self.steps += 1
        self.kernel(flat, whole, self.state, self.parameters, self.outputs)
        after = [int(self.outputs[OUTPUT_WORDS * o + OUTPUT_NEXT]) for o in (DECISIONS, NOTES)]
        first_rows, second_rows = (
            rows_[start:end].copy()
            for rows_, start, end in zip(self._rows, before, after, strict=True)
        )
        return first_rows, second_rows

    def load(
        self, *instruments: Instrument, limits: Words | None = None, version: int = 2
    ) -> tuple[Words, Words]:
        """Tells instruments and limits."""
        first = version | (version << 32 if limits is not None else 0)
        return self.step(Input.REFERENCE, first=first, behind=reference(instruments, limits))
