"""workers room: the state of a running engine as one JSON object."""

from __future__ import annotations

import time
from typing import Any

from engine.control import halt_level
from workers.board import WorkerState
from workers.context import Memory
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
        "halt_text": HALT_NAMES[level],
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
    return f"http://{settings.host}:{port}/metrics" if port else ""


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
