"""engine room: every record that crosses a ring, as one numpy dtype a kind, and their words.

All trading records are 128 bytes: 16 words of int64, of which the first five are the same in every
kind. Compiled code sees a row as (16,) int64 and uses the word constants below, which are computed
from the dtypes, so that a dtype is the only place where a layout is written. Prices are ticks,
quantities lots (see `engine/instruments.py`), times int64 ns.

    word 0  sequence      of this record in its ring
    word 1  tag           kind | flags << 16 | instrument << 32 | source << 48, each 16 bits
    word 2  publish_ns    CLOCK_MONOTONIC when it was written
    word 3  trigger_ns    CLOCK_MONOTONIC when the socket bytes that caused the chain were read
    word 4  trigger       sequence of the market (or report) record that caused the chain
    word 5 ..             payload of the kind

`trigger_ns` and `trigger` are carried unchanged through every hop.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from shm.jit import jit
from shm.segment import Words

ROW_BYTES = 128
ROW_WORDS = 16
SEQUENCE, TAG, PUBLISH_NS, TRIGGER_NS, TRIGGER = range(5)
PAYLOAD = 5


class Kind(IntEnum):
    """What a record says. Values are stable: they are in journals."""

    QUOTE = 1  # best bid and ask
    TRADE = 2  # one public trade
    DEPTH = 3  # some changed levels of one depth frame
    BOOK_STATE = 4  # an instrument's book became SYNCED or STALE
    MARK = 5  # mark price, index price and funding of a perpetual
    SIGNAL = 16  # a strategy's own number, for outside subscribers
    INTENT_NEW = 17  # a strategy wants an order
    INTENT_CANCEL = 18  # a strategy wants an order cancelled
    ORDER_NEW = 32  # risk let an order pass
    ORDER_CANCEL = 33  # risk let a cancel pass
    DENIAL = 48  # risk refused an intent
    RISK_STATE = 49  # halt, resume, limits loaded
    REPORT = 64  # execution: what became of a request or an order
    STEP = 80  # a decision worker took this input at this clock


class Side(IntEnum):
    """Of an order or level."""

    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    """As the venue names them."""

    LIMIT = 1
    MARKET = 2
    LIMIT_MAKER = 3


class TimeInForce(IntEnum):
    """As the venue names them; NONE for market and limit maker orders."""

    NONE = 0
    GTC = 1
    IOC = 2
    FOK = 3


class OrderState(IntEnum):
    """Where an order stands, FIX words; UNKNOWN counts as live at its worst."""

    PENDING_NEW = 1
    NEW = 2
    PARTIALLY_FILLED = 3
    FILLED = 4
    CANCELED = 5
    REJECTED = 6
    EXPIRED = 7
    UNKNOWN = 8


class RequestState(IntEnum):
    """Where the last request about an order stands: an axis of its own."""

    NONE = 0
    SENT = 1
    ACKED = 2
    REJECTED = 3
    TIMEOUT = 4
    DISCONNECTED = 5


class Reason(IntEnum):
    """Why a report was written."""

    SENT = 1  # request left; PENDING_NEW
    ACK = 2  # venue took the order
    FILL = 3  # venue traded it, fully or in part
    REJECT = 4  # venue refused the order
    CANCELED = 5
    EXPIRED = 6
    CANCEL_SENT = 7
    CANCEL_REJECT = 8  # never ends a working order
    UNKNOWN = 9  # a request without an answer
    RESOLVED = 10  # venue's query settled an UNKNOWN
    ADOPTED = 11  # an open order that we had not known


class BookState(IntEnum):
    """Whether a book may be trusted, and why not."""

    SYNCED = 1
    STALE_START = 2
    STALE_GAP = 3
    STALE_CROSSED = 4
    STALE_SILENT = 5
    STALE_DISCONNECTED = 6


TERMINAL = (OrderState.FILLED, OrderState.CANCELED, OrderState.REJECTED, OrderState.EXPIRED)

HEADER: list[tuple[str, str]] = [
    ("sequence", "<i8"),
    ("kind", "<i2"),
    ("flags", "<i2"),
    ("instrument", "<i2"),
    ("source", "<i2"),
    ("publish_ns", "<i8"),
    ("trigger_ns", "<i8"),
    ("trigger", "<i8"),
]


def _record(*fields: str) -> np.dtype[np.void]:
    """Makes a 128-byte dtype: the header, then these int64 payload words."""
    payload = [(name, "<i8") for name in fields]
    rest = ROW_WORDS - PAYLOAD - len(fields)
    padding = [("unused", "<i8", (rest,))] if rest else []
    dtype = np.dtype(HEADER + payload + padding)
    assert dtype.itemsize == ROW_BYTES, "every record fills its row"
    return dtype


# Word order within each list is the layout: append only.
QUOTE = _record("update_id", "bid_ticks", "bid_lots", "ask_ticks", "ask_lots", "venue_ns")
TRADE = _record("trade_id", "price_ticks", "quantity_lots", "aggressor_side", "venue_ns")
# Eight decimals whatever the grid: `_e8` are units of 10**-8. next_funding_ns 0: no funding.
MARK = _record("mark_e8", "index_e8", "settle_e8", "funding_e8", "next_funding_ns", "venue_ns")
# A depth frame is a run of records with the same update ids; first_id is the one behind the last_id
# of the frame before, in every market, so a reader checks continuity by one rule. flags: DEPTH_*
# bits; `levels` of the four (price, lots) pairs are used; lots 0 removes the level. One side a
# record.
DEPTH = _record(
    "first_id", "last_id", "levels_side",
    "price_0", "lots_0", "price_1", "lots_1", "price_2", "lots_2", "price_3", "lots_3",
)  # fmt: skip
BOOK_STATE = _record("state", "update_id", "reason_count", "detail_1", "detail_2")
SIGNAL = _record("strategy", "value_ppm", "reference_1", "reference_2")
# `terms` packs side | type << 16 | time in force << 32 | strategy << 48.
ORDER = _record(
    "client_id", "terms", "price_ticks", "quantity_lots", "intent", "clock_ns", "venue_order_id"
)
DENIAL = _record("client_id", "terms", "code", "limit", "observed", "intent", "clock_ns")
RISK_STATE = _record("state", "reason", "version", "clock_ns")
# flags hold the side, source the strategy. `status` packs order state | request state << 16 |
# reason << 32 | liquidity << 48 (1 maker, 2 taker). Price and quantity are the fill's, or else the
# order's; leaves is what never traded, also of an ended order. fee in 1e-8 of the asset
# `fee_asset` (0 base, 1 quote, 2 other).
REPORT = _record(
    "client_id", "status", "venue_order_id", "trade_id", "price_ticks", "quantity_lots",
    "cumulative_lots", "leaves_lots", "fee_e8", "fee_asset", "venue_code",
)  # fmt: skip
STEP = _record("input", "first", "count", "clock_ns", "output_cursor", "state_hash")

DTYPES: dict[Kind, np.dtype[np.void]] = {
    Kind.QUOTE: QUOTE, Kind.TRADE: TRADE, Kind.DEPTH: DEPTH, Kind.BOOK_STATE: BOOK_STATE,
    Kind.MARK: MARK,
    Kind.SIGNAL: SIGNAL, Kind.INTENT_NEW: ORDER, Kind.INTENT_CANCEL: ORDER,
    Kind.ORDER_NEW: ORDER, Kind.ORDER_CANCEL: ORDER, Kind.DENIAL: DENIAL,
    Kind.RISK_STATE: RISK_STATE, Kind.REPORT: REPORT, Kind.STEP: STEP,
}  # fmt: skip

DEPTH_LEVELS_MAX = 4
DEPTH_FIRST = 1  # first record of a frame
DEPTH_LAST = 2  # last record of a frame: the book is whole again after it
DEPTH_SNAPSHOT = 4  # this run replaces the book
TRADE_OFF_BOOK = 1  # flag of a TRADE: a liquidation, an insurance fund's or the like
FLAG_REPLAYED = 8  # written again after a restart


def _word(dtype: np.dtype[np.void], name: str) -> int:
    fields = dtype.fields
    assert fields is not None, "records are structured"
    return int(fields[name][1]) // 8


UPDATE_ID, BID_TICKS, BID_LOTS, ASK_TICKS, ASK_LOTS, QUOTE_VENUE_NS = (
    _word(QUOTE, n)
    for n in ("update_id", "bid_ticks", "bid_lots", "ask_ticks", "ask_lots", "venue_ns")
)
TRADE_ID, TRADE_TICKS, TRADE_LOTS, AGGRESSOR_SIDE, TRADE_VENUE_NS = (
    _word(TRADE, n)
    for n in ("trade_id", "price_ticks", "quantity_lots", "aggressor_side", "venue_ns")
)
MARK_E8, INDEX_E8, SETTLE_E8, FUNDING_E8, NEXT_FUNDING_NS, MARK_VENUE_NS = (
    _word(MARK, n)
    for n in ("mark_e8", "index_e8", "settle_e8", "funding_e8", "next_funding_ns", "venue_ns")
)
FIRST_ID, LAST_ID, LEVELS_SIDE, LEVEL_0 = (
    _word(DEPTH, n) for n in ("first_id", "last_id", "levels_side", "price_0")
)
STATE, STATE_UPDATE_ID = (_word(BOOK_STATE, n) for n in ("state", "update_id"))
SIGNAL_STRATEGY, SIGNAL_VALUE_PPM = (_word(SIGNAL, n) for n in ("strategy", "value_ppm"))
CLIENT_ID, TERMS, PRICE_TICKS, QUANTITY_LOTS, INTENT, CLOCK_NS, VENUE_ORDER_ID = (
    _word(ORDER, n)
    for n in (
        "client_id", "terms", "price_ticks", "quantity_lots", "intent", "clock_ns",
        "venue_order_id",
    )
)  # fmt: skip
DENIAL_CODE, DENIAL_LIMIT, DENIAL_OBSERVED, DENIAL_INTENT = (
    _word(DENIAL, n) for n in ("code", "limit", "observed", "intent")
)
STATUS, REPORT_VENUE_ORDER_ID, REPORT_TRADE_ID, LAST_TICKS, LAST_LOTS = (
    _word(REPORT, n)
    for n in ("status", "venue_order_id", "trade_id", "price_ticks", "quantity_lots")
)
CUMULATIVE_LOTS, LEAVES_LOTS, FEE_E8, FEE_ASSET, VENUE_CODE = (
    _word(REPORT, n)
    for n in ("cumulative_lots", "leaves_lots", "fee_e8", "fee_asset", "venue_code")
)
STEP_INPUT, STEP_FIRST, STEP_COUNT, STEP_CLOCK_NS, STEP_OUTPUT_CURSOR = (
    _word(STEP, n) for n in ("input", "first", "count", "clock_ns", "output_cursor")
)


@jit
def tag(kind: int, flags: int, instrument: int, source: int) -> int:
    """Packs the tag word; every part is 0 .. 32767."""
    return kind | (flags << 16) | (instrument << 32) | (source << 48)


@jit
def kind_of(row: Words) -> int:
    """Answers a row's kind."""
    return int(row[TAG] & 0x7FFF)


@jit
def flags_of(row: Words) -> int:
    """Answers a row's flags."""
    return int((row[TAG] >> 16) & 0x7FFF)


@jit
def instrument_of(row: Words) -> int:
    """Answers a row's instrument index."""
    return int((row[TAG] >> 32) & 0x7FFF)


@jit
def source_of(row: Words) -> int:
    """Answers who wrote the row: the number of the ingest worker or of the strategy."""
    return int((row[TAG] >> 48) & 0x7FFF)


@jit
def pack(a: int, b: int, c: int, d: int) -> int:
    """Packs four parts of 16 bits, each 0 .. 32767: `terms` and `status` words."""
    return a | (b << 16) | (c << 32) | (d << 48)


@jit
def part(word: int, index: int) -> int:
    """Answers part `index` (0 .. 3) of a packed word."""
    return (word >> (16 * index)) & 0x7FFF


# Parts of `terms` and of `status`.
TERMS_SIDE, TERMS_TYPE, TERMS_TIME_IN_FORCE, TERMS_STRATEGY = range(4)
STATUS_ORDER, STATUS_REQUEST, STATUS_REASON, STATUS_LIQUIDITY = range(4)

# A client order id is the run (generation) and the sequence of the intent that caused it, so a
# decision made again after a restart carries the same id.
CLIENT_SEQUENCE_BITS = 40
CLIENT_TEXT_BYTES = 18


@jit
def client_id_of(generation: int, intent: int) -> int:
    """Answers the client order id of the order that intent number `intent` of this run asks for."""
    return (generation << CLIENT_SEQUENCE_BITS) | intent


def client_text(client_id: int) -> str:
    """Answers the id as the venue sees it: `TR` and 16 hexadecimal digits."""
    return f"TR{client_id:016X}"


def client_number(text: str) -> int:
    """Answers the id of one of our texts, -1 for anybody else's."""
    if len(text) != CLIENT_TEXT_BYTES or not text.startswith("TR"):
        return -1
    try:
        return int(text.removeprefix("TR"), base=16)
    except ValueError:
        return -1


def as_records(rows: Words, kind: Kind) -> np.ndarray:
    """Views (n, 16) int64 rows as structured records of one kind, without a copy."""
    return rows.reshape(-1).view(DTYPES[kind])
