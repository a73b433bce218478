"""workers room: the SQL of tables and views, in the words of SQLite and of PostgreSQL.

A view shows what a person or a notebook wants: the symbol, exact decimals, names of sides and
states, client order ids as the venue sees them. In PostgreSQL a decimal is numeric: ticks times the
instrument's tick, exact. SQLite has no decimals, so there it is exact decimal text; CAST it to REAL
to compute.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from engine.records import BookState, Kind, OrderState, OrderType, Reason, RequestState, Side
from engine.records import TimeInForce as Times
from engine.risk import RiskReason
from workers.tables import KEY, TABLES, Column, Table, Type


class Liquidity(IntEnum):
    """Who took: as reports say it."""

    MAKER = 1
    TAKER = 2


_SQLITE_TYPES = {
    Type.BIGINT: "INTEGER", Type.SMALLINT: "INTEGER", Type.TEXT: "TEXT", Type.TIME: "INTEGER",
}  # fmt: skip
# Names of rings are compared by their bytes: no collation of the database's slows the key down.
_POSTGRES_TYPES = {it: it.value for it in Type} | {Type.TEXT: 'text COLLATE "C"'}
_NAMES: dict[tuple[str, str], type[IntEnum]] = {
    ("", "kind"): Kind, ("", "side"): Side, ("", "type"): OrderType, ("", "time_in_force"): Times,
    ("", "order_state"): OrderState, ("", "request_state"): RequestState,
    ("", "liquidity"): Liquidity, ("reports", "reason"): Reason,
    ("book_states", "state"): BookState, ("trades", "aggressor_side"): Side,
    ("risk_states", "reason"): RiskReason,
}  # fmt: skip

PLAIN_TABLES = {
    "schema_version": (("version", "bigint"),),
    "runs": (
        ("generation", "bigint"), ("engine", "text"), ("version", "text"), ("journal_id", "text"),
        ("started_ns", "bigint"), ("clock_offset_ns", "bigint"), ("is_stored", "bigint"),
    ),
    "instruments": (
        ("generation", "bigint"), ("instrument", "bigint"), ("symbol", "text"), ("base", "text"),
        ("quote", "text"), ("price_decimals", "bigint"), ("tick_units", "bigint"),
        ("quantity_decimals", "bigint"), ("lot_units", "bigint"), ("price_scale", "bigint"),
        ("quantity_scale", "bigint"), ("tick", "numeric"), ("lot", "numeric"),
    ),
    "journal_positions": (
        ("generation", "bigint"), ("ring", "text"), ("next_sequence", "bigint"),
    ),
}  # fmt: skip
_KEYS = {
    "schema_version": "version",
    "runs": "generation",
    "instruments": "generation, instrument",
    "journal_positions": "generation, ring",
}


def sqlite_schema() -> Iterator[str]:
    """Yields the statements that make everything in SQLite."""
    for name in PLAIN_TABLES:
        # Affinity NUMERIC would make a float of a decimal.
        yield plain_table(name).replace("numeric", "text") + " WITHOUT ROWID"
    key = ", ".join(column.name for column in KEY)
    for table in TABLES:
        columns = ", ".join(f"{it.name} {_SQLITE_TYPES[it.type]}" for it in table.columns)
        made = f"CREATE TABLE IF NOT EXISTS {table.name} ({columns}, PRIMARY KEY ({key}))"
        yield f"{made} WITHOUT ROWID"
        yield f"CREATE VIEW IF NOT EXISTS {table.name}_view AS {_view(table, _SqliteWords())}"


def postgres_schema(*, is_timescale: bool) -> Iterator[str]:
    """Yields the statements that make everything in PostgreSQL, hypertables with TimescaleDB."""
    for name in PLAIN_TABLES:
        yield plain_table(name)
    # TimescaleDB demands the time in every unique key; the first three columns are unique anyway.
    key = ", ".join([column.name for column in KEY] + ["published_at"] * is_timescale)
    for table in TABLES:
        columns = ", ".join(f"{it.name} {_POSTGRES_TYPES[it.type]}" for it in table.columns)
        yield f"CREATE TABLE IF NOT EXISTS {table.name} ({columns}, PRIMARY KEY ({key}))"
        if is_timescale:
            yield (
                f"SELECT create_hypertable('{table.name}', 'published_at', chunk_time_interval =>"
                " INTERVAL '1 day', if_not_exists => TRUE, create_default_indexes => FALSE)"
            )
        yield (
            f"CREATE INDEX IF NOT EXISTS {table.name}_published_at ON {table.name}"
            " USING brin (published_at)"
        )
        yield f"CREATE OR REPLACE VIEW {table.name}_view AS {_view(table, _PostgresWords())}"


def plain_table(name: str) -> str:
    """Answers the statement that makes a table which holds no records."""
    columns = ", ".join(f"{column} {kind}" for column, kind in PLAIN_TABLES[name])
    return f"CREATE TABLE IF NOT EXISTS {name} ({columns}, PRIMARY KEY ({_KEYS[name]}))"


class _PostgresWords:
    """Expressions in PostgreSQL's dialect. Products of numeric are exact, quotients are not."""

    def price(self, value: str) -> str:
        return f"{value} * i.tick"

    def quantity(self, value: str) -> str:
        return f"{value} * i.lot"

    def fee(self, value: str) -> str:
        return f"{value} * 0.00000001"

    def time(self, value: str) -> str:
        return value

    def client(self, value: str) -> str:
        return f"'TR' || upper(lpad(to_hex({value}), 16, '0'))"


class _SqliteWords:
    """Expressions in SQLite's dialect."""

    def price(self, value: str) -> str:
        return self._text(f"{value} * i.tick_units", "i.price_decimals", "i.price_scale")

    def quantity(self, value: str) -> str:
        return self._text(f"{value} * i.lot_units", "i.quantity_decimals", "i.quantity_scale")

    def fee(self, value: str) -> str:
        return self._text(value, "8", "100000000")

    def time(self, value: str) -> str:
        seconds = f"strftime('%Y-%m-%dT%H:%M:%S', {value} / 1000000, 'unixepoch')"
        return f"{seconds} || printf('.%06dZ', {value} % 1000000)"

    def client(self, value: str) -> str:
        return f"printf('TR%016X', {value})"

    def _text(self, number: str, decimals: str, scale: str) -> str:
        sign = f"CASE WHEN {number} < 0 THEN '-' ELSE '' END"
        whole, fraction = f"abs({number}) / {scale}", f"abs({number}) % {scale}"
        text = f"printf('%s%d.%0*d', {sign}, {whole}, {decimals}, {fraction})"
        known = f"CASE WHEN {decimals} > 0 THEN {text} ELSE CAST({number} AS TEXT) END"
        return f"CASE WHEN {scale} IS NULL THEN NULL ELSE {known} END"


def _view(table: Table, words: _PostgresWords | _SqliteWords) -> str:
    nowhere = f"{int(Kind.RISK_STATE)}, {int(Kind.STEP)}"  # these concern no instrument
    columns = [f"CASE WHEN t.kind IN ({nowhere}) THEN NULL ELSE i.symbol END AS symbol"]
    columns += [f"{_shown(table, it, words)} AS {_shown_name(it.name)}" for it in table.columns]
    joined = "LEFT JOIN instruments i ON i.generation = t.generation"
    # Every name is a constant of workers/tables.py; nothing comes from outside.
    selected = f"SELECT {', '.join(columns)} FROM {table.name} t"  # noqa: S608
    return f"{selected} {joined} AND i.instrument = t.instrument"


def _shown_name(name: str) -> str:
    """Answers what a column is called where it is a decimal: bid_ticks -> bid_price."""
    if name.endswith("_ticks"):
        stem = name.removesuffix("_ticks")
        return stem if stem.startswith("price") else f"{stem}_price"
    if name.endswith("_lots"):
        stem = name.removesuffix("_lots")
        return stem if stem.startswith("quantity") else f"{stem}_quantity"
    return {"fee_e8": "fee"}.get(name, name)


def _shown(table: Table, column: Column, words: _PostgresWords | _SqliteWords) -> str:
    value = f"t.{column.name}"
    names = _NAMES.get(("", column.name)) or _NAMES.get((table.name, column.name))
    if names is not None:
        cases = " ".join(f"WHEN {int(name)} THEN '{name.name}'" for name in names)
        shown = f"CASE {value} {cases} ELSE CAST({value} AS text) END"
    elif column.type == Type.TIME:
        return words.time(value)
    else:
        shown = _shown_number(column.name, value, words)
    if shown == value:
        return value
    return f"CASE WHEN {value} IS NULL THEN NULL ELSE {shown} END"


def _shown_number(name: str, value: str, words: _PostgresWords | _SqliteWords) -> str:
    if name.endswith("_ticks"):
        return words.price(value)
    if name.endswith("_lots"):
        return words.quantity(value)
    return {"client_id": words.client(value), "fee_e8": words.fee(value)}.get(name, value)
