"""workers room: how long a worker may be silent, for supervisor, health check and metrics alike."""

from __future__ import annotations

from config.settings import EngineSettings, WorkerSettings

COLD_PATIENCE = 10  # times heartbeat_ms_max, for a worker that gives way to all others
_NS_PER_MS = 1_000_000


def silence_ns_max(worker: WorkerSettings, engine: EngineSettings) -> int:
    """Answers the age of a heartbeat, ns, from which on a worker counts as silent.

    A worker on background priority may wait long for a core without being ill.
    """
    is_cold = worker.nice > 0 or worker.scheduler == "idle"
    return engine.heartbeat_ms_max * _NS_PER_MS * (COLD_PATIENCE if is_cold else 1)
