"""Bench: the shared-memory ring between pinned processes, beside the same ring in C and its rivals.

    one to one                 round trip                       one to many (2, 4), gating
    +---+  ring   +---+        +---+  ring   +---+                         ,--> R0
    | W | ------> | R |        | A | ------> | B |              W --ring--+---> R1
    +---+         +---+        |   | <------ |   |                         `--> ...
                               +---+  ring   +---+

    pipeline of three steps                          gating and observing
    W --ring--> S1 --ring--> S2 --ring--> S3         W --ring--+--> R gating, holds W up
                                                               `--> O observing, may be lapped

Each letter is a process that spins on a core of its own, compiled at both ends (tickring: numba,
c_reference: C over the same memory); the rivals and tickring_python run plain Python at both ends.
A record has 64 bytes, all written, all read. The subjects take turns, tickring and C several times
a turn and in changing order, so what the host does to one it does to the other; a run is the median
of its slices, a ratio the median of ratios run by run. A regression here means that the ring costs
more than it must.

One at a time is claim, write, publish for each record; the reader takes whatever is there, as a
reader does. A round trip is one record there and one back, and includes one reading of the clock.
Under load, a record's time runs from when it was due, whether or not it could be published then.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.rivals import disruptor, ring_reference
from bench.rivals.ring_rivals import RIVALS, TICKRING_PYTHON, Rival, why_not
from bench.support import channel_runs, python_face, ring_loops, ring_runs
from bench.support.figures import Run, Subject, percentiles
from bench.support.machine import card, cores_for, steal_ticks, warn
from bench.support.options import parser_of
from bench.support.ring_runs import Loops
from bench.support.ring_topologies import TOPOLOGIES, measure

BATCH = 64
CALIBRATION = 2_000  # records, to learn how many a rival moves in its time
RECORDS_MIN, RECORDS_MAX = 100_000, 20_000_000
CLOCK_CALLS = 100_000
C_NAME, OURS = "c_reference", "tickring"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    turns: int = 5
    slices: int = 6  # of tickring and C in a turn
    slice_s: float = 0.04
    round_trips: int = 40_000  # in a slice
    rival_s: float = 0.1
    java_s: float = 0.2
    load_s: float = 0.15
    loads: tuple[float, ...] = (0.01, 0.05, 0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95)


SHORT = Plan(1, 2, 0.005, 2_000, 0.005, 0.01, 0.005, (0.1, 0.5, 0.9))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _read_options() -> argparse.Namespace:
    parser = parser_of("ring", __doc__)
    parser.add_argument("--turns", type=int, default=Plan.turns, help="runs of each subject")
    parser.add_argument(
        "--plot", type=Path, help="also draw round trips and latency under load into this PNG file"
    )
    parser.add_argument("--no-rivals", action="store_true", help="only tickring and C")
    parser.add_argument(
        "--crowded",
        action="store_true",
        help="run topologies that lack cores all the same: they work, but give no figures",
    )
    return parser.parse_args()


class Bench:
    """The subjects of a benchmark and their turns."""

    def __init__(self, plan: Plan, cores: Sequence[int], compiled: list[Loops]) -> None:
        self._plan, self._cores = plan, tuple(cores)
        self._compiled = compiled
        self._counts: dict[tuple[str, bool], int] = {}
        self.subjects = {loops.name: Subject(loops.name) for loops in compiled}
        self.skipped: dict[str, str] = {}

    def _records(self) -> int:
        """Answers how many records fill a slice, alike for both compiled subjects."""
        if ("", False) not in self._counts:
            rates = [
                ring_runs.throughput(loops, RECORDS_MIN, 1, self._cores) for loops in self._compiled
            ]
            count = int(max(rates) * self._plan.slice_s)
            self._counts["", False] = min(max(count, RECORDS_MIN), RECORDS_MAX)
        return self._counts["", False]

    def compiled_turn(self) -> None:
        """Runs tickring and C in slices, once each way round."""
        count = self._records()
        found: dict[str, tuple[list[float], list[float], list[Any]]] = {
            loops.name: ([], [], []) for loops in self._compiled
        }
        for number in range(self._plan.slices):
            for loops in self._compiled if number % 2 == 0 else self._compiled[::-1]:
                singly, batched, trips = found[loops.name]
                singly.append(ring_runs.throughput(loops, count, 1, self._cores))
                batched.append(ring_runs.throughput(loops, count, BATCH, self._cores))
                trips.append(ring_runs.round_trips(loops, self._plan.round_trips, self._cores))
        for name, (singly, batched, trips) in found.items():
            run = Run(float(np.median(singly)), float(np.median(batched)), np.concatenate(trips))
            self._keep(name, run)

    def _keep(self, name: str, run: Run) -> None:
        subject = self.subjects.setdefault(name, Subject(name))
        subject.runs.append(run)
        _say(f"run {len(subject.runs)} {name:16s} {run.line()}")

    def rival_turn(self, rival: Rival) -> None:
        """Runs a rival once; one that fails is left out from then on, and the reason said."""
        if rival.name in self.skipped:
            return
        try:
            rates = [self._rival_rate(rival, is_batched=is_batched) for is_batched in (False, True)]
            count = max(int(self._plan.rival_s / self._trip_s(rival)), 100)
            trips = channel_runs.round_trips(rival.make, count, self._cores)
        except (RuntimeError, OSError, ValueError) as error:
            self.skip(rival.name, f"it failed: {' '.join(str(error).split())[:200]}")
            self.subjects.pop(rival.name, None)
            return
        self._keep(rival.name, Run(rates[0], rates[1], trips))

    def _rival_rate(self, rival: Rival, *, is_batched: bool) -> float:
        key = rival.name, is_batched
        if key not in self._counts:
            rate = channel_runs.throughput(
                rival.make, CALIBRATION, self._cores, is_batched=is_batched
            )
            count = int(rate * self._plan.rival_s) // BATCH * BATCH
            self._counts[key] = max(count, CALIBRATION // BATCH * BATCH)
        return channel_runs.throughput(
            rival.make, self._counts[key], self._cores, is_batched=is_batched
        )

    def _trip_s(self, rival: Rival) -> float:
        subject = self.subjects.get(rival.name)
        if subject is not None:
            return float(np.median(subject.runs[-1].round_trips_ns)) / 1e9
        trips = channel_runs.round_trips(rival.make, CALIBRATION // 20, self._cores)
        return float(np.median(trips)) / 1e9

    def java_turn(self) -> None:
        """Runs Disruptor once."""
        trips = self._plan.round_trips * self._plan.slices
        try:
            found = disruptor.run(self._plan.java_s, trips, self._cores)
        except (RuntimeError, OSError) as error:
            self.skip("disruptor", f"it failed: {' '.join(str(error).split())[:200]}")
            return
        self._keep(
            "disruptor",
            Run(found.throughput_per_s, found.throughput_batch64_per_s, found.round_trips_ns),
        )

    def skip(self, name: str, reason: str) -> None:
        """Leaves a rival out and says why."""
        self.skipped[name] = reason
        _say(f"left out: {name}: {reason}")

    def load_curve(self, loops: Loops) -> list[dict[str, Any]]:
        """Answers latencies under rates that are shares of the subject's own greatest rate."""
        most = float(np.median(self.subjects[loops.name].rates(is_batched=False)))
        curve = []
        for load in self._plan.loads:
            count = max(int(most * load * self._plan.load_s), 2 * ring_runs.CAPACITY)
            times = ring_runs.paced(loops, count, most * load, self._cores)
            shown = percentiles(times[times > 0])
            curve.append({"load": load, "offered_per_s": round(most * load), **shown})
            line = "  ".join(f"{name} {value:,d}" for name, value in shown.items())
            _say(f"load {load:4.0%} {loops.name:12s} {most * load / 1e6:8.2f} M/s; ns  {line}")
        return curve


def _compiled(folder: Path) -> tuple[list[Loops], str]:
    """Answers ours and C's loops, and why C's are missing if they are."""
    found = [ring_runs.tickring_loops()]
    try:
        found.append(ring_reference.build(folder))
    except RuntimeError as error:
        return found, str(error)
    return found, ""


def _turns(bench: Bench, turns: int, *, with_rivals: bool) -> None:
    rivals = [TICKRING_PYTHON, *(RIVALS if with_rivals else ())]
    for rival in rivals:
        if reason := why_not(rival):
            bench.skip(rival.name, reason)
    if with_rivals and (reason := disruptor.why_not()):
        bench.skip("disruptor", reason)
    for _ in range(turns):
        bench.compiled_turn()
        for rival in rivals:
            bench.rival_turn(rival)
        if with_rivals and "disruptor" not in bench.skipped:
            bench.java_turn()


def _topologies(loops: list[Loops], plan: Plan, *, is_crowded: bool) -> dict[str, Any]:
    count = RECORDS_MIN if plan is SHORT else 20 * RECORDS_MIN
    found: dict[str, Any] = {}
    for topology in TOPOLOGIES:
        found[topology.name] = measure(topology, loops[0], count, is_crowded=is_crowded)
        _say(f"topology {topology.name:22s} {found[topology.name]}")
    return found


def _summary(bench: Bench) -> dict[str, Any]:
    reference = bench.subjects.get(C_NAME)
    found = {name: subject.summary(reference) for name, subject in bench.subjects.items()}
    _say("\nmedians               one at a time        in 64s   round trip p50      p99   of C")
    for name, one in found.items():
        trips, ratios = one["round_trip_ns"], one["ratio_to_c"]
        _say(
            f"{name:20s} {one['throughput_per_s'] / 1e6:10.2f} M/s"
            f" {one['throughput_batch64_per_s'] / 1e6:10.2f} M/s"
            f" {trips['p50']:12,d} ns {trips['p99']:8,d}"
            f"   {ratios['throughput']} x, round trip {ratios['round_trip']} x"
        )
    return found


def main() -> None:
    """Measures, prints every run, and ends with medians and ratios."""
    options = _read_options()
    plan = SHORT if options.short else Plan(turns=options.turns)
    cores = cores_for(2)
    _say(str(__doc__).split("\n\n", 1)[1].split("\n\nEach letter")[0] + "\n")
    warn(cores, 2)
    steal_before = steal_ticks()
    with tempfile.TemporaryDirectory(prefix="tickring-bench-") as folder:
        compiled, reason = _compiled(Path(folder))
        face = python_face.costs()  # before any process is forked: it also loads what they call
        bench = Bench(plan, cores, compiled)
        if reason:
            bench.skip(C_NAME, reason)
        _turns(bench, plan.turns, with_rivals=not options.no_rivals)
        curves = {loops.name: bench.load_curve(loops) for loops in compiled}
        alone = {
            loops.name: round(ring_runs.publish_alone_ns(loops, RECORDS_MIN, cores[1]), 2)
            for loops in compiled
        }
        result = {
            "subjects": _summary(bench),
            "skipped": bench.skipped,
            "topologies": _topologies(compiled, plan, is_crowded=options.crowded),
            "load_curve": curves,
            "publish_alone_ns": alone,
            "python_face": face,
            "turns": plan.turns,
            "machine": card(cores)
            | {
                "clock_compiled_ns": ring_loops.clock_cost_ps(CLOCK_CALLS) / 1_000,
                "steal_ticks_during": steal_ticks() - steal_before,
            },
        }
    for name in ("publish_alone_ns", "python_face", "machine"):
        _say(f"{name}: {result[name]}")
    if options.plot:
        from bench.support.plot import ring_pictures  # noqa: PLC0415 - needs the extra [bench]

        trips = {name: subject.round_trips_ns() for name, subject in bench.subjects.items()}
        ring_pictures(options.plot, trips, curves)
    if options.json:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
