"""Bench: what recording one latency costs, and how far off the percentiles are afterwards.

             core A                               shared memory
    +----------------------+     record     +-----------------------+
    |  compiled loop, or   | -------------> |  histogram: words of  |
    |  Python              |                |  one writer           |
    +----------------------+                +-----------------------+

One writer, no reader. The values are 1,000 to about 10 million, log-normal as latencies are. Each
figure is the mean of a batch of 64 calls, so that reading the clock weighs little. The error is
that of the worst of p50, p90, p99 and p99.9 against numpy on the raw values. Rivals are called from
Python, as that is all they offer. A regression here is paid by every order and every frame.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.support.figures import fine_percentiles
from bench.support.log_load import pin
from bench.support.machine import card, cores_for, warn
from bench.support.options import parser_of, show_drawing
from shm.histogram import HISTOGRAM_WORDS, VALUE_MAX, percentile, record
from shm.jit import jit, now_ns
from shm.segment import Words

BATCH = 64
CHECKED = (50.0, 90.0, 99.0, 99.9)


class Recorded(NamedTuple):
    """What one subject did with the values.

    Attributes:
        cost_ns: (batches,) mean of a call.
        percentile: answers its percentile, None when it has none.
    """

    cost_ns: npt.NDArray[np.float64]
    percentile: Callable[[float], float] | None


@jit
def record_batches(histogram: Words, values: Words, times: Words) -> None:
    """Records all values; each of `times` gets the ns of its BATCH."""
    for index in range(len(times)):
        before_ns = now_ns()
        for place in range(index * BATCH, (index + 1) * BATCH):
            record(histogram, values[place])
        times[index] = now_ns() - before_ns


def _compiled(values: Words) -> Recorded:
    histogram, times = np.zeros(HISTOGRAM_WORDS, np.int64), np.zeros(len(values) // BATCH, np.int64)
    record_batches(histogram, values[:BATCH], times[:1])
    histogram[:] = 0
    record_batches(histogram, values, times)
    return Recorded(times / BATCH, lambda percent: percentile(histogram, percent))


def _called(values: Words, call: Callable[[Any], object]) -> npt.NDArray[np.float64]:
    """Calls from Python with plain integers; answers the mean of each batch."""
    costs = []
    for batch in values.reshape(-1, BATCH).tolist():
        before_ns = time.perf_counter_ns()
        for value in batch:
            call(value)
        costs.append((time.perf_counter_ns() - before_ns) / BATCH)
    return np.array(costs)


def _from_python(values: Words) -> Recorded:
    histogram = np.zeros(HISTOGRAM_WORDS, np.int64)
    costs = _called(values, lambda value: record(histogram, value))
    return Recorded(costs, lambda percent: percentile(histogram, percent))


def _hdrhistogram(values: Words) -> Recorded:
    histogram = import_module("hdrh.histogram").HdrHistogram(1, VALUE_MAX, 2)
    return Recorded(_called(values, histogram.record_value), histogram.get_value_at_percentile)


def _prometheus(values: Words) -> Recorded:
    library = import_module("prometheus_client")
    bounds = np.geomspace(1e3, 1e9, 20).tolist()
    histogram = library.Histogram(
        "bench", "one", registry=library.CollectorRegistry(), buckets=bounds
    )
    return Recorded(_called(values, histogram.observe), None)


SUBJECTS: dict[str, tuple[str, Callable[[Words], Recorded]]] = {  # name: needs, run
    "tickring": ("numba", _compiled),
    "tickring_from_python": ("numba", _from_python),
    "hdrhistogram": ("hdrh", _hdrhistogram),
    "prometheus_client": ("prometheus_client", _prometheus),
}


def _error(recorded: Recorded, values: Words) -> float | None:
    """Answers the worst relative error of the checked percentiles."""
    if recorded.percentile is None:
        return None
    true = np.percentile(values, CHECKED, method="inverted_cdf")
    found = np.array([recorded.percentile(percent) for percent in CHECKED])
    return round(float(np.max(np.abs(found - true) / true)), 5)


def _measure(name: str, values: Words) -> dict[str, Any]:
    recorded = SUBJECTS[name][1](values)
    cost_ns = fine_percentiles(recorded.cost_ns, 2)
    return {"record_ns": cost_ns, "error": _error(recorded, values)}


def _read_options() -> argparse.Namespace:
    parser = parser_of("histogram", __doc__)
    parser.add_argument("--values", type=int, default=640_000, help="recorded in a turn")
    parser.add_argument("--turns", type=int, default=3, help="turns of each histogram")
    options = parser.parse_args()
    if options.short:
        options.values, options.turns = 6_400, 1
    return options


def main() -> None:
    """Measures, prints every turn, and ends with the median turn of each."""
    options = _read_options()
    cores = cores_for(1)
    show_drawing(__doc__)
    warn(cores, 1)
    pin(0, cores[0])
    count = max(BATCH, options.values // BATCH * BATCH)
    values = np.exp(np.random.default_rng(1).normal(11.5, 1.5, count)).astype(np.int64) + 1_000
    names = [name for name, (needs, _) in SUBJECTS.items() if find_spec(needs)]
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(1, options.turns + 1):
        for name in names:
            figures = _measure(name, values)
            turns[name].append(figures)
            costs = "  ".join(f"{key} {ns:9.2f} ns" for key, ns in figures["record_ns"].items())
            error = "" if figures["error"] is None else f"  error {figures['error']:.2%}"
            sys.stderr.write(f"turn {turn} {name:20s} {costs}{error}\n")
    subjects = {
        name: sorted(found, key=lambda figures: figures["record_ns"]["p50"])[len(found) // 2]
        for name, found in turns.items()
    }
    if options.json:
        result = {"subjects": subjects, "values": count, "turns": options.turns}
        print(json.dumps({**result, "machine": card(cores)}), flush=True)


if __name__ == "__main__":
    main()
