"""Bench: pictures of distributions, for people who would rather look than read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

FLOOR = 1e-5  # the rarest shown share of orders
TRIP_BINS = 160
COLOURS = 10


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


def ring_pictures(
    path: Path, round_trips_ns: dict[str, Any], curves: dict[str, list[dict[str, Any]]]
) -> None:
    """Draws the round trips of every subject and, beside them, latency against offered load."""
    figure = Figure(figsize=(12, 5))
    trips, loads = figure.subplots(1, 2)
    low = min(float(values.min()) for values in round_trips_ns.values())
    high = max(float(np.percentile(values, 99.9)) for values in round_trips_ns.values())
    bins = np.geomspace(max(low, 1.0), 2 * high, TRIP_BINS)
    for number, (name, values) in enumerate(round_trips_ns.items()):
        shares = np.full(len(values), 1.0 / len(values))
        style = ("-", "--", ":")[number // COLOURS % 3]  # colours begin again after ten
        label = f"{name}, p50 {np.median(values):,.0f} ns"
        trips.hist(values, bins, weights=shares, histtype="step", linestyle=style, label=label)
    trips.set(
        xscale="log",
        xlim=(bins[0], bins[-1]),
        xlabel="round trip, nanoseconds",
        ylabel="share of round trips",
    )
    for (name, curve), style in zip(curves.items(), ("-", "--"), strict=False):
        for shown, colour in zip(("p50", "p99", "p99_9"), ("C0", "C1", "C3"), strict=True):
            loads.plot(
                [100.0 * point["load"] for point in curve],
                [point[shown] for point in curve],
                style,
                color=colour,
                marker=".",
                label=f"{name} {shown}",
            )
    loads.set(yscale="log", xlabel="offered load, percent of the greatest rate")
    loads.set(ylabel="due to read, nanoseconds")
    for axes in (trips, loads):
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
