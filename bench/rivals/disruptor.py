"""Bench rival: LMAX Disruptor in a Java process of its own (DisruptorRing.java), if both are here.

Between two threads, not two processes: that is all it offers. The process may use the same two
cores; Java gives no way to pin a thread.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shm.segment import Words

SOURCE = Path(__file__).with_name("DisruptorRing.java")
JAR_VARIABLE = "TICKRING_DISRUPTOR_JAR"
RUN_S_MAX = 120.0


@dataclass(frozen=True)
class Found:
    """What one run measured: records a second, and (n,) ns of round trips."""

    throughput_per_s: float
    throughput_batch64_per_s: float
    round_trips_ns: Words


def jar() -> Path | None:
    """Answers where the jar is: named by the environment, in Maven's folder, or from Debian."""
    named = os.environ.get(JAR_VARIABLE)
    if named:
        return Path(named) if Path(named).is_file() else None
    kept = Path.home() / ".m2" / "repository" / "com" / "lmax" / "disruptor"
    places = [*sorted(kept.glob("*/disruptor-*.jar")), Path("/usr/share/java/disruptor.jar")]
    return next((place for place in reversed(places) if place.is_file()), None)


def why_not() -> str:
    """Answers why it cannot run here, "" when it can."""
    if shutil.which("javac") is None or shutil.which("java") is None:
        return "no JDK: java and javac must be on PATH"
    if jar() is None:
        return f"no jar: fetch com.lmax:disruptor with Maven, or name the file in {JAR_VARIABLE}"
    return ""


def run(seconds: float, round_trips: int, cores: Sequence[int]) -> Found:
    """Runs it once, warm-up included.

    Raises:
        RuntimeError: when the program fails.
    """
    with tempfile.TemporaryDirectory(prefix="tickring-bench-") as folder:
        times = Path(folder) / "round_trips"
        words = ["java", "-XX:+UseSerialGC", "-cp", str(jar()), str(SOURCE)]
        words += [str(seconds), str(round_trips), str(times)]
        pinned = [core for core in cores if core >= 0]
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, pinned or before)  # what it inherits
            done = subprocess.run(
                words, check=False, capture_output=True, text=True, timeout=RUN_S_MAX
            )
        finally:
            os.sched_setaffinity(0, before)
        if done.returncode:
            raise RuntimeError(f"Disruptor must run: {done.stderr.strip()[-400:]}")
        singly, batched = (float(word) for word in done.stdout.split())
        return Found(singly, batched, np.fromfile(times, ">i8").astype(np.int64))
