"""workers room: the state of a running engine as one JSON object."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.control import halt_level
from workers.board import WorkerState
from workers.context import Memory
from workers.listening import authority
from workers.pinning import describe
from workers.summary import records

HALT_NAMES = ("trading", "no new orders", "cancel all")


def status(memory: Memory) -> dict[str, Any]:
    """Answers what runs where, how it is, and where its metrics are. Called by: any process."""
    level = halt_level(memory.control())
    return {
        "engine": memory.run.settings.engine.name,
        "generation": memory.run.generation,
        "data_dir": str(memory.run.data_dir),
        "halt": level,
        "halt_text": HALT_NAMES[min(max(level, 0), len(HALT_NAMES) - 1)],  # the highest known
        "metrics_url": metrics_url(memory),
        "records": records(memory),
        "workers": workers(memory),
    }


def metrics_url(memory: Memory) -> str:
    """Answers where Prometheus scrapes this engine, nothing when there is no monitor."""
    settings = memory.run.settings.monitor
    if not settings.enabled:
        return ""
    port = int(memory.segment("monitor").words(0, 1)[0])
    return f"http://{authority(settings.host, port)}/metrics" if port else ""


def workers(memory: Memory) -> list[dict[str, Any]]:
    """Answers every worker: name, pid, core, state, restarts, and what the host refused it."""
    now_ns = time.monotonic_ns()
    return [
        {
            "name": row.name,
            "pid": row.pid,
            "core": row.core if row.core >= 0 else None,
            "core_found": row.core_found if row.core_found >= 0 else None,
            "state": WorkerState(row.state).name.lower(),
            "restarts": row.restarts,
            "heartbeat_age_ms": round(max(0, now_ns - row.heartbeat_ns) / 1e6, 3),
            "could_not_set": describe(row.faults),
        }
        for row in memory.board().rows()
    ]


def show(answer: dict[str, Any], console: Console) -> None:
    """Prints a state for people; fits into 80 columns."""
    console.print(
        f"engine {answer['engine']}, run {answer['generation']}: {answer['halt_text']}",
        markup=False,
    )
    console.print(f"metrics {answer['metrics_url'] or 'off'}", markup=False, soft_wrap=True)
    table = Table(title="workers", title_justify="left")
    for column in ("worker", "pid", "core", "state", "restarts", "silent ms"):
        table.add_column(column, overflow="fold")
    for row in answer["workers"]:
        silent = f"{row['heartbeat_age_ms']:.1f}"
        table.add_row(
            row["name"], str(row["pid"]), _core(row), row["state"], str(row["restarts"]), silent
        )
    console.print(table)
    for row in answer["workers"]:
        if row["could_not_set"]:
            refused = ", ".join(row["could_not_set"])
            console.print(f"{row['name']}: this host refused {refused}", markup=False)


def _core(row: dict[str, Any]) -> str:
    if row["core"] is None:
        return "any"
    return f"{row['core']}" if row["core_found"] == row["core"] else f"not {row['core']}"
