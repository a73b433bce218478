"""workers room: the tables that journal records are stored in, the same in every database.

One record is one row. Prices are stored as ticks and quantities as lots, both bigint: exact, small,
and a fifth of the cost of numeric in a binary COPY. The table `instruments` holds the grids, and
beside every table stands a view `TABLE_view` (workers/store_views.py) with symbols, exact decimals
and names instead of numbers.

    quotes trades depth book_states          rings market.K
    signals intents orders reports           the rings of those names
    denials risk_states                      ring risk
    steps                                    rings steps.AGENT
    runs instruments                         what a row's generation and instrument mean
    journal_positions                        how far each ring of each run is stored

Columns that every record table begins with:

    generation, ring, sequence   which record; the primary key
    published_at                 when it was written: timestamptz in PostgreSQL, microseconds since
                                 1970 in SQLite; the run's CLOCK_MONOTONIC plus the run's offset
    publish_ns, trigger_ns       CLOCK_MONOTONIC, exact; their difference is a latency
    trigger_sequence             the record that caused the chain
    kind, flags, instrument, source
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np

from engine.records import DTYPES, PUBLISH_NS, SEQUENCE, TAG, TRIGGER, TRIGGER_NS, Kind
from shm.segment import Words

SCHEMA_VERSION = 3  # what changed with each: workers/store_versions.py
PART_MASK = 0x7FFF
MICROSECOND_NS = 1_000


class Type(Enum):
    """What a column holds; each database has its own word for it."""

    BIGINT = "bigint"
    SMALLINT = "smallint"
    TEXT = "text"
    TIME = "timestamptz"


class Column(NamedTuple):
    """One column and where its value lies in a record."""

    name: str
    type: Type
    field: str = ""  # of the record's dtype; a kind without it stores NULL
    part: int = -1  # of a packed field, see engine.records.pack


class Table(NamedTuple):
    """One table of records."""

    name: str
    columns: tuple[Column, ...]


class Part(NamedTuple):
    """Consecutive records of one ring, ready to be stored."""

    generation: int
    ring: str
    clock_offset_ns: int
    first: int
    rows: Words  # (n, 16) int64


class Slice(NamedTuple):
    """The records of one kind in a part."""

    part: Part
    kind: Kind
    rows: Words  # (n, 16) int64


class Batch(NamedTuple):
    """What one transaction stores: rows by table, and the journal positions it moves."""

    slices: dict[str, list[Slice]]
    moves: list[tuple[int, str, int, int]]  # generation, ring, from, to
    records: int


def _bigints(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, Type.BIGINT, name) for name in names)


def _parts(field: str, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, Type.SMALLINT, field, part) for part, name in enumerate(names))


KEY = (
    Column("generation", Type.BIGINT),
    Column("ring", Type.TEXT),
    Column("sequence", Type.BIGINT, "sequence"),
)
COMMON = (
    *KEY,
    Column("published_at", Type.TIME),
    Column("publish_ns", Type.BIGINT, "publish_ns"),
    Column("trigger_ns", Type.BIGINT, "trigger_ns"),
    Column("trigger_sequence", Type.BIGINT, "trigger"),
    Column("kind", Type.SMALLINT, "tag", 0),
    Column("flags", Type.SMALLINT, "tag", 1),
    Column("instrument", Type.SMALLINT, "tag", 2),
    Column("source", Type.SMALLINT, "tag", 3),
)
_TERMS = _parts("terms", "side", "type", "time_in_force", "strategy")
_ORDER = (
    *_bigints("client_id"),
    *_TERMS,
    *_bigints("price_ticks", "quantity_lots", "intent", "clock_ns", "venue_order_id"),
)
_LEVELS = tuple(
    column
    for level in range(4)
    for column in (
        Column(f"price_{level}_ticks", Type.BIGINT, f"price_{level}"),
        Column(f"quantity_{level}_lots", Type.BIGINT, f"lots_{level}"),
    )
)


def _table(name: str, *columns: Column) -> Table:
    return Table(name, (*COMMON, *columns))


QUOTES = _table(
    "quotes", *_bigints("update_id", "bid_ticks", "bid_lots", "ask_ticks", "ask_lots", "venue_ns")
)
TRADES = _table(
    "trades", *_bigints("trade_id", "price_ticks", "quantity_lots", "aggressor_side", "venue_ns")
)
DEPTH = _table(
    "depth", *_bigints("first_id", "last_id"), *_parts("levels_side", "levels", "side"), *_LEVELS
)
BOOK_STATES = _table(
    "book_states", *_bigints("state", "update_id", "reason_count", "detail_1", "detail_2")
)
MARKS = _table(
    "marks",
    *_bigints("mark_e8", "index_e8", "settle_e8", "funding_e8", "next_funding_ns", "venue_ns"),
)
SIGNALS = _table("signals", *_bigints("strategy", "value_ppm", "reference_1", "reference_2"))
INTENTS = _table("intents", *_ORDER)
DENIALS = _table(
    "denials", *_bigints("client_id"), *_TERMS,
    *_bigints("code"), Column("limit_value", Type.BIGINT, "limit"),
    *_bigints("observed", "intent", "clock_ns"),
)  # fmt: skip
RISK_STATES = _table("risk_states", *_bigints("state", "reason", "version", "clock_ns"))
ORDERS = _table("orders", *_ORDER)
REPORTS = _table(
    "reports", *_bigints("client_id"),
    *_parts("status", "order_state", "request_state", "reason", "liquidity"),
    *_bigints(
        "venue_order_id", "trade_id", "price_ticks", "quantity_lots", "cumulative_lots",
        "leaves_lots", "fee_e8", "fee_asset", "venue_code",
    ),
)  # fmt: skip
STEPS = _table(
    "steps", *_bigints("input"), Column("first_sequence", Type.BIGINT, "first"),
    Column("records", Type.BIGINT, "count"),
    *_bigints("clock_ns", "output_cursor", "state_hash"),
)  # fmt: skip

TABLES = (
    QUOTES, TRADES, DEPTH, BOOK_STATES, MARKS, SIGNALS, INTENTS, DENIALS, RISK_STATES, ORDERS,
    REPORTS, STEPS,
)  # fmt: skip
TABLE_OF: dict[Kind, Table] = {
    Kind.QUOTE: QUOTES, Kind.TRADE: TRADES, Kind.DEPTH: DEPTH, Kind.BOOK_STATE: BOOK_STATES,
    Kind.MARK: MARKS,
    Kind.SIGNAL: SIGNALS, Kind.INTENT_NEW: INTENTS, Kind.INTENT_CANCEL: INTENTS,
    Kind.ORDER_NEW: ORDERS, Kind.ORDER_CANCEL: ORDERS, Kind.DENIAL: DENIALS,
    Kind.RISK_STATE: RISK_STATES, Kind.REPORT: REPORTS, Kind.STEP: STEPS,
}  # fmt: skip
_COMMON_WORDS = {
    "sequence": SEQUENCE, "publish_ns": PUBLISH_NS, "trigger_ns": TRIGGER_NS, "trigger": TRIGGER,
    "tag": TAG,
}  # fmt: skip


def by_kind(rows: Words) -> list[tuple[Kind, Words]]:
    """Splits records by kind, each kind's in their order.

    Args:
        rows: (n, 16) int64.

    Raises:
        ValueError: a record is of a kind that this version does not know.
    """
    kinds = rows[:, TAG] & PART_MASK
    found = []
    for number in np.unique(kinds).tolist():
        try:
            kind = Kind(number)
        except ValueError:
            sequence = int(rows[np.flatnonzero(kinds == number)[0], SEQUENCE])
            raise ValueError(
                f"record kind must be known: kind={number} sequence={sequence};"
                " the journal is of another version"
            ) from None
        found.append((kind, rows[kinds == number]))
    return found


def batch_of(parts: list[Part]) -> Batch:
    """Sorts parts into tables; parts of one ring must follow each other. Raises as `by_kind`."""
    slices: dict[str, list[Slice]] = {}
    ends: dict[tuple[int, str], tuple[int, int]] = {}
    for part in parts:
        for kind, rows in by_kind(part.rows):
            slices.setdefault(TABLE_OF[kind].name, []).append(Slice(part, kind, rows))
        key = part.generation, part.ring
        first, end = ends.get(key, (part.first, part.first))
        assert end == part.first, "parts of one ring follow each other"
        ends[key] = first, end + len(part.rows)
    moves = [(*key, first, end) for key, (first, end) in ends.items()]
    return Batch(slices, moves, sum(len(part.rows) for part in parts))


def word_of(kind: Kind, field: str) -> int:
    """Answers the word of a record of this kind that holds a field, -1 when it has none."""
    if field in _COMMON_WORDS:
        return _COMMON_WORDS[field]
    fields = DTYPES[kind].fields
    assert fields is not None, "records are structured"
    return int(fields[field][1]) // 8 if field in fields else -1


def values(column: Column, kind: Kind, part: Part, rows: Words) -> Words | int | str | None:
    """Answers a column of these records: (n,) integers, or the one value that all of them have.

    Args:
        column: what is wanted; TIME comes as microseconds since 1970.
        kind: of every row.
        part: where the rows come from.
        rows: (n, 16) int64, contiguous.
    """
    constants: dict[str, int | str] = {
        "generation": part.generation, "ring": part.ring, "kind": int(kind),
    }  # fmt: skip
    if column.name in constants:
        return constants[column.name]
    if column.type == Type.TIME:
        return (rows[:, PUBLISH_NS] + part.clock_offset_ns) // MICROSECOND_NS
    word = word_of(kind, column.field)
    if word < 0:
        return None
    if column.part < 0:
        return rows[:, word]
    # Little-endian words, and parts never reach their sign bit: a part is an int16 in its place.
    parts: Words = rows.view("<i2")[:, 4 * word + column.part]
    return parts
