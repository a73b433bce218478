"""Bench: what machine a figure was measured on, and whether it can carry the topology."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

CLOCK_CALLS = 100_000


def cores_for(count: int) -> tuple[int, ...]:
    """Answers `count` cores to pin to, the last ones of this process; -1 for those that lack."""
    cores = sorted(os.sched_getaffinity(0))
    chosen = cores[-count:] if len(cores) >= count else [-1] * count
    return tuple(chosen)


def warn(cores: tuple[int, ...], count: int) -> None:
    """Says so when this machine has fewer cores than the topology needs."""
    if -1 in cores:
        sys.stderr.write(
            f"warning: this topology needs {count} cores, this process may use"
            f" {len(os.sched_getaffinity(0))}: nothing is pinned, the figures are not latencies\n"
        )


def clock_cost_ns() -> float:
    """Answers what one reading of the clock costs."""
    start = time.perf_counter_ns()
    for _ in range(CLOCK_CALLS):
        time.perf_counter_ns()
    return (time.perf_counter_ns() - start) / CLOCK_CALLS


def card(cores: tuple[int, ...]) -> dict[str, Any]:
    """Answers the facts that a figure means nothing without."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "pinned_to": list(cores),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "steal_ticks": steal_ticks(),
        "clock_ns": round(clock_cost_ns(), 1),
    }


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().splitlines()[0]
    except (OSError, IndexError):
        return "unknown"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "CPU part")):
            return line.partition(":")[2].strip()
    return platform.machine()


def steal_ticks() -> int:
    """Answers the ticks that the host has taken from us since boot."""
    return int(_first_line("/proc/stat").split()[8])
