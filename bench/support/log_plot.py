"""Bench: a picture of what a call costs its caller, logger by logger."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from shm.segment import Words

FLOOR = 1e-5  # the rarest shown share of calls


def costs(path: Path, times: dict[str, Words]) -> None:
    """Draws, for each logger, the share of calls that took longer than a time.

    Args:
        path: of the PNG file.
        times: by name, (n,) ns.
    """
    figure = Figure(figsize=(8, 4.5))  # drawn to a file: no window, no backend to choose
    axes = figure.subplots()
    for name, taken in times.items():
        values = np.sort(taken) / 1_000
        axes.plot(values, 1.0 - np.arange(len(values)) / len(values), label=name)
    axes.set(xscale="log", yscale="log", ylim=(FLOOR, 1.0))
    axes.set(xlabel="one message, microseconds of its caller")
    axes.set(ylabel="share of calls that took longer")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
