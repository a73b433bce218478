"""workers room: loads everything a worker needs before any worker exists.

The forkserver runs this before its first fork (workers/preload.py); what it has loaded and
compiled, every worker has at birth. The supervisor runs `compile_all` first with a progress bar, so
that a first start shows what takes its time; later, compiled code comes from the cache on disk.

A first start compiles for a minute or two. It shares that out: a process for each part that the
cache lacks, as many at once as there are cores; afterwards this process finds all of it in the
cache. `python -m workers.warm` does the same without starting anything.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from shm.cachekey import cache_folder
from shm.jit import watched

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
# Modules that take long, the longest first, each with the file whose cache tells whether it did.
LONG = (
    ("workers.signal", "engine.strategy_step"),
    ("workers.ingest", "engine.codec_batch"),
    ("workers.orderwarm", "workers.orderpath"),
    ("workers.risk", "engine.risk_step"),
)


def _ignore(_: str) -> None:
    """Tells nobody."""


def compile_all(
    told: Callable[[str], None] = _ignore, naming: Callable[[str], None] = _ignore
) -> None:
    """Imports every agent and compiles, or loads from the cache, every hot function.

    Args:
        told: hears the name of each module when it is done with.
        naming: hears the name of each function when its compilation begins.
    """
    with watched(naming):
        cold = _cold()
        if len(cold) > 1:
            _share_out(cold, naming)
        for name in LOADED:
            _warm(name)
            told(name)


def _warm(name: str) -> None:
    warm = getattr(import_module(name), "warm", None)
    if warm is not None:
        warm()


def _cold() -> list[str]:
    """Answers the long modules that this cache knows nothing of."""
    cold = []
    for name, key in LONG:
        spec = find_spec(key)
        assert spec is not None, "our own modules are there"
        assert spec.origin is not None, "our own modules are files"
        if not cache_folder(Path(spec.origin)).exists():
            cold.append(name)
    return cold


def _share_out(names: Sequence[str], naming: Callable[[str], None]) -> None:
    """Lets processes of their own fill the cache, as many at once as there are cores.

    One that fails is not mourned: what it did not compile is compiled, and fails, here.
    """
    waiting: list[str] = list(names)
    running: list[subprocess.Popen[str]] = []
    try:
        while waiting or running:
            while waiting and len(running) < len(os.sched_getaffinity(0)):
                running.append(_begin(waiting.pop(0)))
            with running[0] as first:
                assert first.stdout is not None, "the pipe was asked for"
                for line in first.stdout:  # the others' lines fit into their pipes meanwhile
                    naming(line.strip())
            running.pop(0)
    finally:
        for process in running:
            process.kill()
            process.communicate()


def _begin(name: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "workers.warm", name]
    return subprocess.Popen(  # noqa: S603 - our own module
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _say(name: str) -> None:
    sys.stdout.write(f"{name}\n")
    sys.stdout.flush()


def main() -> None:
    """Fills the cache: with the modules named on the command line, or with everything."""
    if len(sys.argv) == 1:
        compile_all(told=_say)
        return
    with watched(_say):
        for name in sys.argv[1:]:
            _warm(name)


if __name__ == "__main__":
    main()
