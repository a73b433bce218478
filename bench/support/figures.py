"""Bench: what many runs of a subject come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shm.segment import Words

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9, "max": 100.0}


def percentiles(values_ns: Words) -> dict[str, int]:
    """Answers p50 to max, whole ns."""
    return {name: int(np.percentile(values_ns, at)) for name, at in PERCENTILES.items()}


def fine_percentiles(values_ns: Words | npt.NDArray[np.float64], decimals: int) -> dict[str, float]:
    """Answers p50 to max, ns, for what takes few of them."""
    return {
        name: round(float(np.percentile(values_ns, at)), decimals)
        for name, at in PERCENTILES.items()
    }


@dataclass(frozen=True)
class Run:
    """One run of one subject: records a second, and (n,) ns of round trips."""

    throughput_per_s: float
    throughput_batch64_per_s: float
    round_trips_ns: Words

    def line(self) -> str:
        """Says it in one line."""
        times = "  ".join(
            f"{name} {value:,d}" for name, value in percentiles(self.round_trips_ns).items()
        )
        return (
            f"{self.throughput_per_s / 1e6:8.2f} M/s one at a time,"
            f" {self.throughput_batch64_per_s / 1e6:8.2f} in 64s; round trip ns  {times}"
        )


@dataclass
class Subject:
    """All runs of one subject, in the order of the turns."""

    name: str
    runs: list[Run] = field(default_factory=list)

    def rates(self, *, is_batched: bool) -> list[float]:
        """Answers records a second of each run."""
        if is_batched:
            return [run.throughput_batch64_per_s for run in self.runs]
        return [run.throughput_per_s for run in self.runs]

    def round_trips_ns(self) -> Words:
        """Answers the round trips of all runs, (n,) ns."""
        return np.concatenate([run.round_trips_ns for run in self.runs])

    def summary(self, reference: Subject | None) -> dict[str, Any]:
        """Answers medians over the runs, percentiles over all round trips, and ratios."""
        return {
            "throughput_per_s": round(float(np.median(self.rates(is_batched=False)))),
            "throughput_batch64_per_s": round(float(np.median(self.rates(is_batched=True)))),
            "round_trip_ns": percentiles(self.round_trips_ns()),
            "ratio_to_c": _ratios(self, reference),
            "runs": [
                {
                    "throughput_per_s": round(run.throughput_per_s),
                    "throughput_batch64_per_s": round(run.throughput_batch64_per_s),
                    "round_trip_ns": percentiles(run.round_trips_ns),
                }
                for run in self.runs
            ],
        }


def _ratios(subject: Subject, reference: Subject | None) -> dict[str, float | None]:
    """Answers medians of ratios run by run; None without a reference."""
    if reference is None:
        return dict.fromkeys(("throughput", "throughput_batch64", "round_trip", "round_trip_p99"))

    def median(own: list[float], other: list[float]) -> float:
        return round(float(np.median([a / b for a, b in zip(own, other, strict=True)])), 3)

    def trips(one: Subject, at: float) -> list[float]:
        return [float(np.percentile(run.round_trips_ns, at)) for run in one.runs]

    return {
        "throughput": median(subject.rates(is_batched=False), reference.rates(is_batched=False)),
        "throughput_batch64": median(
            subject.rates(is_batched=True), reference.rates(is_batched=True)
        ),
        "round_trip": median(trips(subject, 50.0), trips(reference, 50.0)),
        "round_trip_p99": median(trips(subject, 99.0), trips(reference, 99.0)),
    }
