"""workers room: loads everything a worker needs before any worker exists.

The forkserver runs this before its first fork (workers/preload.py); what it has loaded and
compiled, every worker has at birth. The supervisor runs `compile_all` first with a progress bar, so
that a first start shows what takes its time; later, compiled code comes from the cache on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

# In the order of a first start; a module that has hot functions offers `warm()`, which calls each
# once on scratch memory.
LOADED = (
    "workers.ringwarm",
    "workers.logrows",
    "workers.ingest",
    "workers.signal",
    "workers.risk",
    "workers.orderwarm",
    "workers.exchange.agent",
    "workers.execution",
    "workers.recorder",
    "workers.store",
    "workers.bus",
    "workers.monitor",
    "workers.logs",
    "workers.runner",
)


def compile_all(told: Callable[[str], None] = lambda _: None) -> None:
    """Imports every agent and compiles, or loads from the cache, every hot function."""
    for name in LOADED:
        module = import_module(name)
        warm = getattr(module, "warm", None)
        if warm is not None:
            warm()
        told(name)
