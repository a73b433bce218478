"""Bench: rings with more ends than two: several readers, steps in a row, readers of both kinds.

Every end spins on a core of its own. Where the cores do not suffice a run is refused: more spinning
processes than cores take turns by the scheduler's clock, and the figure is the scheduler's. With
`crowded` it runs all the same, to see that it works; what comes out is then marked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.support import crew, ring_loops, ring_runs
from bench.support.crew import Gate, Member
from bench.support.machine import cores_for
from bench.support.ring_runs import CAPACITY, HEAD, START_NS, Loops
from shm.jit import now_ns
from shm.ring import GATING, OBSERVING
from shm.segment import Segment

STEPS = 3
OBSERVED_MAX = 64
_TAKEN = HEAD - 1  # of the shared words: records that the observing reader took whole


@dataclass(frozen=True)
class Topology:
    """A number of agents and how to run them; `run` answers figures by name."""

    name: str
    agents: int
    run: Callable[[Loops, int, tuple[int, ...]], dict[str, float]]


def _fan_out(readers: int) -> Topology:
    def run(loops: Loops, count: int, cores: tuple[int, ...]) -> dict[str, float]:
        rate = ring_runs.throughput(loops, count, 1, cores, readers)
        batched = ring_runs.throughput(loops, count, 64, cores, readers)
        return {"throughput_per_s": rate, "throughput_batch64_per_s": batched}

    return Topology(f"1_to_{readers}_gating", 1 + readers, run)


def _step(source: Segment, sink: Segment, count: int) -> Member:
    def member(gate: Gate) -> None:
        ends = ring_runs.ports((source, 0), (sink, 0))
        gate.wait()
        assert ring_loops.forward(ends, count) == 0, "every word that was read must be right"

    return member


def _write(made: Segment, count: int) -> Member:
    def member(gate: Gate) -> None:
        end = ring_runs.ports((made, 0))
        gate.wait()
        gate.words[START_NS] = now_ns()
        ring_loops.write(end, count, 1)

    return member


def _read(made: Segment, count: int) -> Member:
    def member(gate: Gate) -> None:
        end, out = ring_runs.ports((made, 0)), np.zeros(2, np.int64)
        gate.wait()
        ring_loops.read(end, count, out)
        gate.words[HEAD] = now_ns()
        assert out[ring_loops.FAULTS] == 0, "every word that was read must be right"

    return member


def _pipeline(_loops: Loops, count: int, cores: tuple[int, ...]) -> dict[str, float]:
    """Runs a writer and three steps, the last of which only reads."""
    with ring_runs.rings(*((GATING,),) * STEPS) as made:
        members = [_write(made[0], count)]
        members += [_step(made[at], made[at + 1], count) for at in range(STEPS - 1)]
        members.append(_read(made[-1], count))
        words = crew.run(members, cores, HEAD + 1)
        return {"throughput_per_s": count * 1e9 / float(words[HEAD] - words[START_NS])}


def _mixed(_loops: Loops, count: int, cores: tuple[int, ...]) -> dict[str, float]:
    """Runs a writer, a gating reader, and an observing reader that may be lapped."""

    def watch(gate: Gate) -> None:
        end = ring_runs.ports((made, 1))
        out = np.zeros((OBSERVED_MAX, ring_loops.ROW_WORDS), np.int64)
        gate.wait()
        gate.words[_TAKEN] = ring_loops.watch(end, count, out)

    with ring_runs.rings((GATING, OBSERVING)) as (made,):
        words = crew.run([_write(made, count), _read(made, count), watch], cores, HEAD + 1)
        assert words[_TAKEN] >= 0, "what an observing reader takes must be whole"
        return {
            "throughput_per_s": count * 1e9 / float(words[HEAD] - words[START_NS]),
            "observed_share": float(words[_TAKEN]) / count,
        }


TOPOLOGIES = (
    _fan_out(2),
    _fan_out(4),
    Topology(f"pipeline_{STEPS}_steps", 1 + STEPS, _pipeline),
    Topology("gating_and_observing", 3, _mixed),
)


def measure(topology: Topology, loops: Loops, count: int, *, is_crowded: bool) -> dict[str, Any]:
    """Runs one topology, or says why not; `is_crowded` runs it without the cores it needs."""
    cores = cores_for(topology.agents)
    lacks_cores = -1 in cores
    if lacks_cores and not is_crowded:
        has = len(os.sched_getaffinity(0))
        return {"refused": f"needs {topology.agents} cores, this process may use {has}"}
    records = min(count, CAPACITY) if lacks_cores else count
    figures: dict[str, Any] = topology.run(loops, records, cores)
    if lacks_cores:
        figures["crowded"] = "more spinning processes than cores: it works, but this is no figure"
    return figures
