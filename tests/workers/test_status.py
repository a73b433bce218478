"""The state of an engine for people: whole words in 80 columns, and what the host refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.workers.monitored import PLANS, mark
from tests.workers.observed_run import observed_run, small_settings
from workers import board
from workers.pinning import FAULT_AFFINITY, FAULT_MEMORY
from workers.status import show, status


def shown(answer: dict[str, Any]) -> list[str]:
    text = io.StringIO()
    show(answer, Console(file=text, width=80))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def row(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "pid": 4_194_303, "core": 1, "core_found": 1, "state": "starting",
        "restarts": 20, "heartbeat_age_ms": 123_456.789, "could_not_set": [],
    } | changes  # fmt: skip


def answer_of(*rows: dict[str, Any]) -> dict[str, Any]:
    url = "http://127.0.0.1:39177/metrics"
    return {
        "engine": "a" * 24, "generation": 123_456, "halt_text": "no new orders",
        "metrics_url": url, "workers": list(rows),
    }  # fmt: skip


def test_no_heading_and_no_cell_is_cut_at_80_columns() -> None:
    lines = shown(answer_of(row("a-name-of-24-characters-"), row("x", core=None, core_found=None)))
    text = "\n".join(lines)

    assert max(map(len, lines)) <= 80
    assert "…" not in text
    for word in ("worker", "pid", "core", "state", "restarts", "silent ms"):
        assert f" {word} " in text
    for cell in ("a-name-of-24-characters-", "4194303", "starting", "123456.8", "any"):
        assert f" {cell} " in text


def test_what_the_host_refused_stands_below_the_table() -> None:
    refused = row("trader", core_found=None, could_not_set=["core affinity", "memory lock"])
    lines = shown(answer_of(refused, row("store")))

    assert lines[-1] == "trader: this host refused core affinity, memory lock"
    assert " not 1 " in "".join(lines)


def test_a_status_of_real_memory_can_be_shown(segment_prefix: str, tmp_path: Path) -> None:
    with observed_run(small_settings(segment_prefix), tmp_path, *PLANS) as memory:
        mark(memory)
        memory.board().row(1)[board.FAULTS] = FAULT_AFFINITY | FAULT_MEMORY
        lines = shown(status(memory))

    assert lines[0] == f"engine {segment_prefix}, run 1: trading"
    assert lines[-1] == "keeper: this host refused core affinity, memory lock"
