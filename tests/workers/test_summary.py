"""What a run's summary says to people and to the exit code."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from workers.summary import failures, show, unstored

GOOD: dict[str, Any] = {
    "elapsed_s": 1.0, "records": {"orders": 4}, "fills": 1, "rejects": 0, "denials": {},
    "journal_records": 1_004, "stored": {"orders": 4, "quotes": 1_000}, "messages": {},
    "trades": {}, "books": {}, "profit": {}, "restarts": 0, "lost": 0, "forced": [],
    "tick_to_order_ns": {"count": 0},
    "workers": {
        "trader": {"restarts": 0, "failed": False}, "recorder": {"restarts": 1, "failed": False},
    },
}  # fmt: skip


def _shown(**changed: Any) -> str:
    text = StringIO()
    show(GOOD | changed, Console(file=text, width=200))
    return text.getvalue()


def test_a_run_as_it_must_be_has_no_failures() -> None:
    assert failures(GOOD) == []
    assert unstored(GOOD) == 0
    assert "stored: " not in _shown()
    assert "lost" not in _shown()


def test_every_kind_of_failure_is_told() -> None:
    workers = GOOD["workers"] | {"recorder": {"restarts": 20, "failed": True}}
    changed = {"lost": 8_182, "workers": workers, "forced": ["CLOSE", "EXIT"]}
    lines = [
        "8,182 records were lost",
        "worker recorder was given up",
        "stop phase CLOSE took too long and was cut short",
        "stop phase EXIT took too long and was cut short",
    ]

    assert failures(GOOD | changed) == lines
    assert [line for line in lines if line not in _shown(**changed)] == []


def test_what_the_database_does_not_have_is_told_and_is_no_failure() -> None:
    changed = {"stored": {"orders": 4, "quotes": 0}}

    assert unstored(GOOD | changed) == 1_000
    assert "not stored: 1,000 records" in _shown(**changed)
    assert failures(GOOD | changed) == []


def test_rows_of_an_earlier_run_are_not_counted_against_this_one() -> None:
    assert unstored(GOOD | {"stored": {"orders": 9_999}}) == 0
