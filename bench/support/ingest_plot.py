"""Bench: a picture of what a batch window costs in latency and saves in work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from shm.segment import Words

FLOOR = 1e-4  # the rarest shown share of quotes


def windows(path: Path, latencies_ns: dict[int, Words], rates_per_s: dict[int, float]) -> None:
    """Draws latency and throughput by batch window.

    Args:
        path: of the PNG file.
        latencies_ns: by window in ms, (n,) ns from a quote's sending to its record on the ring.
        rates_per_s: by window in ms, messages a second at load.
    """
    figure = Figure(figsize=(11, 4.5))
    times, rates = figure.subplots(1, 2, width_ratios=(2, 1))
    for window, taken in latencies_ns.items():
        values = np.sort(taken) / 1_000
        times.plot(values, 1.0 - np.arange(len(values)) / len(values), label=f"{window} ms")
    times.set(xscale="log", yscale="log", ylim=(FLOOR, 1.0))
    times.set(xlabel="quote sent to record on the ring, microseconds")
    times.set(ylabel="share of quotes that took longer")
    times.grid(visible=True, which="both", alpha=0.3)
    times.legend(title="batch window")
    rates.bar([f"{window} ms" for window in rates_per_s], [r / 1e6 for r in rates_per_s.values()])
    rates.set(xlabel="batch window", ylabel="million bookTicker messages a second at load")
    rates.grid(visible=True, axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
