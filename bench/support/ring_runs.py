"""Bench: runs of two compiled ends over fresh rings: records a second, round trips, paced load.

Whose loops they are does not matter here: ours and C's take the same ports to the same memory, so
one run differs from the next in nothing but the machine code of its loops.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.support import crew, ring_loops
from bench.support.crew import Gate, Member
from shm import ring
from shm.handles import Handle
from shm.jit import now_ns
from shm.ring import GATING
from shm.segment import Segment, Words

CAPACITY = 1 << 14  # records: 1 MiB, which a second-level cache holds
ROW_BYTES = 64
WARM_LAPS = 4  # before the clock starts: pages mapped, branches learned
START_NS, END_NS = range(2)  # of the shared words; samples lie behind
HEAD = 16


@dataclass(frozen=True)
class Loops:
    """The compiled loops of one subject; `ports` as in bench/support/ring_loops.py."""

    name: str
    write: Callable[[Words, int, int, int], None]  # ports, records, batch, gating readers
    write_alone: Callable[[Words, int], None]  # ports, records
    read: Callable[[Words, int, Words], None]  # ports, records, (2,) faults and checksum
    ping: Callable[[Words, int, Words], int]  # ports, round trips, (n,) ns; answers faults
    pong: Callable[[Words, int], int]  # ports, round trips; answers faults
    write_paced: Callable[[Words, int, int], None]  # ports, records, picoseconds between them
    read_paced: Callable[[Words, int, Words], None]  # ports, records, (n,) ns of sampled records


def tickring_loops() -> Loops:
    """Answers the product's, compiled."""
    ring_loops.warm()

    def write(ports: Words, count: int, batch: int, _readers: int) -> None:
        ring_loops.write(ports, count, batch)  # the ring itself knows its readers

    return Loops(
        "tickring",
        write,
        ring_loops.write_singly,
        ring_loops.read,
        ring_loops.ping,
        ring_loops.pong,
        ring_loops.write_paced,
        ring_loops.read_paced,
    )


@contextlib.contextmanager
def rings(*kinds: tuple[int, ...]) -> Iterator[list[Segment]]:
    """Makes a ring for each tuple of reader kinds; leaves no name behind."""
    prefix = f"tickring-bench-{os.getpid()}-{secrets.token_hex(4)}"
    made: list[Segment] = []
    try:
        for number, readers in enumerate(kinds):
            made.append(
                ring.create(
                    f"{prefix}-{number}", 1,
                    capacity=CAPACITY, row_bytes=ROW_BYTES, kinds=readers, parkable=False,
                )
            )  # fmt: skip
        yield made
    finally:
        for segment in made:
            segment.unlink()
            segment.close()


def ports(*ends: tuple[Segment, int]) -> Words:
    """Attaches rings by name, as any process does; answers their ports, (n, PORT_WORDS)."""
    handles = [
        Handle(ring.attach(made.name, capacity=CAPACITY, row_bytes=ROW_BYTES)) for made, _ in ends
    ]
    _KEPT.extend(handles)  # the ports are addresses: the mappings live as long as this process
    return np.stack(
        [handle.port(reader) for handle, (_, reader) in zip(handles, ends, strict=True)]
    )


_KEPT: list[Handle] = []


def writer(loops: Loops, made: Segment, count: int, batch: int, readers: int) -> Member:
    """Answers a member that writes `count` records after warm-up; it starts the clock."""

    def member(gate: Gate) -> None:
        end = ports((made, 0))
        loops.write(end, WARM_LAPS * CAPACITY, batch, readers)
        gate.wait()
        gate.words[START_NS] = now_ns()
        loops.write(end, count, batch, readers)

    return member


def reader(loops: Loops, made: Segment, count: int, number: int) -> Member:
    """Answers a member that reads `count` records after warm-up; the last one stops the clock."""

    def member(gate: Gate) -> None:
        end, out = ports((made, number)), np.zeros(2, np.int64)
        loops.read(end, WARM_LAPS * CAPACITY, out)
        gate.wait()
        loops.read(end, count, out)
        gate.words[HEAD + number] = now_ns()
        assert out[ring_loops.FAULTS] == 0, "every word that was read must be right"

    return member


def throughput(
    loops: Loops, count: int, batch: int, cores: Sequence[int], readers: int = 1
) -> float:
    """Answers records a second from one writer to each of `readers` gating readers."""
    with rings((GATING,) * readers) as (made,):
        members = [writer(loops, made, count, batch, readers)]
        members += [reader(loops, made, count, number) for number in range(readers)]
        words = crew.run(members, cores, HEAD + readers)
        return count * 1e9 / float(words[HEAD:].max() - words[START_NS])


def round_trips(loops: Loops, count: int, cores: Sequence[int]) -> Words:
    """Answers ns of `count` round trips over two rings."""
    warm = count // 10 + 1

    def ping(gate: Gate) -> None:
        ends = ports((there, 0), (back, 0))
        faults = loops.ping(ends, warm, np.zeros(warm, np.int64))
        gate.wait()
        faults += loops.ping(ends, count, gate.words[HEAD:])
        assert faults == 0, "every answer must be the question"

    def pong(gate: Gate) -> None:
        ends = ports((there, 0), (back, 0))
        faults = loops.pong(ends, warm)
        gate.wait()
        faults += loops.pong(ends, count)
        assert faults == 0, "every word that was read must be right"

    with rings((GATING,), (GATING,)) as (there, back):
        return crew.run([ping, pong], cores, HEAD + count)[HEAD:]


def paced(loops: Loops, count: int, per_s: float, cores: Sequence[int]) -> Words:
    """Answers ns from due to read, of sampled records that were due at an even rate.

    A record that could not be published when it was due still counts from then.
    """
    samples = count // (ring_loops.SAMPLE_MASK + 1)

    def write(gate: Gate) -> None:
        end = ports((made, 0))
        loops.write(end, WARM_LAPS * CAPACITY, 1, 1)
        gate.wait()
        loops.write_paced(end, count, round(1e12 / per_s))

    def read(gate: Gate) -> None:
        end = ports((made, 0))
        loops.read(end, WARM_LAPS * CAPACITY, np.zeros(2, np.int64))
        gate.wait()
        loops.read_paced(end, count, gate.words[HEAD:])

    with rings((GATING,)) as (made,):
        return crew.run([write, read], cores, HEAD + samples)[HEAD:]


def publish_alone_ns(loops: Loops, count: int, core: int) -> float:
    """Answers what one publish costs where nobody reads."""

    def write(gate: Gate) -> None:
        end = ports((made, 0))
        loops.write_alone(end, CAPACITY)
        before_ns = now_ns()
        loops.write_alone(end, count)
        gate.words[START_NS], gate.words[END_NS] = before_ns, now_ns()

    with rings(()) as (made,):
        words = crew.run([write], (core,), HEAD)
        return float(words[END_NS] - words[START_NS]) / count
