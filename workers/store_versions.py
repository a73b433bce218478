"""workers room: a database whose tables an older version made becomes one of this version.

    1 -> 2   risk states have a table of their own; they stood among the denials, in columns that
             only they used
    2 -> 3   mark prices have a table

A step runs in the transaction that makes the schema, so a database is of one version or the next.
SQLite before 3.35 cannot drop a column, so there the table is made again; PostgreSQL drops columns
in place, which TimescaleDB's hypertables take as well.
"""

from __future__ import annotations

from engine.records import Kind
from workers.store_database import StoreError
from workers.tables import DENIALS, RISK_STATES, SCHEMA_VERSION, Table

OLDEST = 1
_RISK_STATE = int(Kind.RISK_STATE)
_WITHOUT_MARKS = 2  # the schema makes the table that is missing
_GONE = ("state", "reason", "version")  # columns of denials before version 2


def version_of(found: list[tuple[int]]) -> int:
    """Answers which version's tables a database has; a new one has this version's.

    Args:
        found: the rows of schema_version.

    Raises:
        StoreError: a version that this one cannot bring up to its own, for example a later one.
    """
    version = found[0][0] if found else SCHEMA_VERSION
    if not OLDEST <= version <= SCHEMA_VERSION:
        raise StoreError(
            f"database tables must be of this version or an earlier one: known={SCHEMA_VERSION}"
            f" found={version}; give store.url another database"
        )
    return version


def sqlite_steps(version: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Answers the statements to run before and after SQLite's schema is made."""
    if version == SCHEMA_VERSION:
        return (), ()
    if version == _WITHOUT_MARKS:
        return (), (_renumbered(),)
    before = ("DROP VIEW IF EXISTS denials_view", "ALTER TABLE denials RENAME TO denials_before")
    after = (
        _moved(RISK_STATES, "denials_before", f"kind = {_RISK_STATE}"),
        _moved(DENIALS, "denials_before", f"kind <> {_RISK_STATE}"),
        "DROP TABLE denials_before",
        _renumbered(),
    )
    return before, after


def postgres_steps(version: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Answers the statements to run before and after PostgreSQL's schema is made."""
    if version == SCHEMA_VERSION:
        return (), ()
    if version == _WITHOUT_MARKS:
        return (), (_renumbered(),)
    after = (
        _moved(RISK_STATES, "denials", f"kind = {_RISK_STATE}"),
        f"DELETE FROM denials WHERE kind = {_RISK_STATE}",  # noqa: S608 - a constant of ours
        *(f"ALTER TABLE denials DROP COLUMN {name}" for name in _GONE),
        _renumbered(),
    )
    return ("DROP VIEW IF EXISTS denials_view",), after


def _moved(table: Table, source: str, which: str) -> str:
    columns = ", ".join(column.name for column in table.columns)
    # Every name is a constant of workers/tables.py; nothing comes from outside.
    chosen = f"SELECT {columns} FROM {source} WHERE {which}"  # noqa: S608
    return f"INSERT INTO {table.name} ({columns}) {chosen}"


def _renumbered() -> str:
    return f"UPDATE schema_version SET version = {SCHEMA_VERSION}"  # noqa: S608 - a constant
