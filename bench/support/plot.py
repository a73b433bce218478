"""Bench: pictures of distributions, for people who would rather look than read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

FLOOR = 1e-5  # the rarest shown share of orders


def distributions(path: Path, turns: dict[str, list[Any]]) -> None:
    """Draws, for each engine, the share of orders that took longer than a time."""
    figure = Figure(figsize=(8, 4.5))  # drawn to a file: no window, no backend to choose
    axes = figure.subplots()
    for name, arrays in turns.items():
        values = np.sort(np.concatenate(arrays))
        values = values[values > 0] / 1_000
        axes.plot(values, 1.0 - np.arange(len(values)) / len(values), label=name)
    axes.set(xscale="log", yscale="log", ylim=(FLOOR, 1.0))
    axes.set(xlabel="market frame written to order frame read, microseconds")
    axes.set(ylabel="share of orders that took longer")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
