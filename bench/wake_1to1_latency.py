"""Bench: how long a waiting reader takes to wake, and what its waiting costs.

            core A                                       core B
    +----------------------+     ring, 64 bytes    +-----------------------------+
    | writer: one record   | --------------------> | reader: poll, else its idle |
    | every gap, with the  |   (futex when the     | strategy: spin, yield,      |
    | time of its publish  |    reader is parked)  | backoff or park             |
    +----------------------+                       +-----------------------------+

The reference is a bare futex beside it in the same run: one process stores a word and wakes, the
other waits on that word, nothing else. A parked reader should cost a few microseconds more than
that. Then, with no writer at all, the CPU time that each strategy burns in a second. A regression
here means that an engine which should sleep does not, or that it wakes late.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import secrets
import select
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.support.figures import percentiles
from bench.support.machine import card, cores_for, warn
from bench.support.options import parser_of, show_drawing
from shm import park, ring, segment
from shm.handles import Consumer, Producer
from shm.jit import jit, load_acquire, now_ns, pause, store_release, syscall
from shm.ring import FUTEX_CALL, FUTEX_WAKE, GATING
from shm.segment import Segment, Words

STRATEGIES = ("spin", "yield", "backoff", "park")
FUTEX = "futex_alone"
CAPACITY = 1024
BODY_BYTES, LAYOUT = 1 << 20, segment.fingerprint("bench-wake", 1)
TIMES_AT = 64  # words of the scratch segment: the futex word, then a latency for each record
_WAIT, _ALL = 0, 1 << 30
_STAMP = 1  # word of a record: CLOCK_MONOTONIC when it was published


@jit
def _wait_and_time(words: Words, count: int) -> None:
    """Waits for the futex word to change `count` times; notes how late it saw each."""
    for seen in range(count):
        # Pairs with _change_and_wake: the time was stored before the word.
        while load_acquire(words, 0) == seen:
            syscall(FUTEX_CALL, words.ctypes.data, _WAIT, seen, 0, 0, 0)
        words[TIMES_AT + seen] = now_ns() - words[2]


@jit
def _change_and_wake(words: Words, value: int) -> None:
    """Changes the futex word and wakes who waits on it."""
    words[2] = now_ns()
    store_release(words, 0, value)  # pairs with _wait_and_time
    syscall(FUTEX_CALL, words.ctypes.data, FUTEX_WAKE, _ALL, 0, 0, 0)


@jit
def _until(end_ns: int) -> None:
    while now_ns() < end_ns:
        pause()


def _read_options() -> argparse.Namespace:
    parser = parser_of("wake", __doc__)
    parser.add_argument("--records", type=int, default=500, help="records in a turn")
    parser.add_argument("--gap-us", type=int, default=1_000, help="microseconds between records")
    parser.add_argument("--turns", type=int, default=9, help="turns of each strategy")
    parser.add_argument("--idle-s", type=float, default=2.0, help="seconds of waiting for nothing")
    options = parser.parse_args()
    if options.short:
        options.records, options.turns, options.idle_s = 100, 1, 0.1
    return options


def _pin(core: int) -> None:
    if core >= 0:
        os.sched_setaffinity(0, {core})


def _read(made: Segment, scratch: Segment, name: str, count: int, core: int) -> None:
    """Is the reader's life: notes for each record how late it was seen."""
    _pin(core)
    words = scratch.words(0, BODY_BYTES // 8)
    if name == FUTEX:
        words[3] = 1
        _wait_and_time(words, count)
        return
    consumer = Consumer(made, 0)
    idle = park.strategy(name, [consumer])
    words[3] = 1
    seen = 0
    while seen < count:
        rows = consumer.poll(1)
        if len(rows):
            words[TIMES_AT + seen] = now_ns() - rows[0, _STAMP]
            consumer.release(int(rows[0, 0]))
            seen += 1
        idle.idle(len(rows))


def _wait_idle(made: Segment, scratch: Segment, name: str, seconds: float, core: int) -> None:
    """Waits for nothing; leaves the CPU time it took, in ns."""
    _pin(core)
    consumer = Consumer(made, 0)
    idle = park.strategy(name, [consumer])
    idle.idle(0)
    before_s, end_s = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end_s:
        idle.idle(len(consumer.poll(1)))
    scratch.words(0, 8)[4] = int((time.process_time() - before_s) / seconds * 1e9)


def _publisher(made: Segment, scratch: Segment, name: str) -> Callable[[int], None]:
    """Answers what publishes record `number`."""
    words = scratch.words(0, BODY_BYTES // 8)
    if name == FUTEX:
        return lambda number: _change_and_wake(words, number + 1)
    producer = Producer(made)

    def publish(_number: int) -> None:
        sequence = producer.claim(1)
        row = producer.row(sequence)
        row[0], row[_STAMP] = sequence, now_ns()
        producer.publish(sequence)

    return publish


class Bench:
    """The memory of a run, and its measurements."""

    def __init__(self, options: argparse.Namespace, cores: tuple[int, ...]) -> None:
        self._options, self._cores = options, cores
        self._context = multiprocessing.get_context("fork")

    def latencies(self, name: str) -> Words:
        """Answers ns from publish to seen, for every record of one turn."""
        count = self._options.records
        with _memory(is_parkable=name == "park") as (made, scratch):
            words = scratch.words(0, BODY_BYTES // 8)
            publish = _publisher(made, scratch, name)
            arguments = (made, scratch, name, count, self._cores[1])
            reader = self._context.Process(target=_read, args=arguments)
            reader.start()
            while words[3] == 0:
                select.select([], [], [], 0.001)
            due_ns = now_ns()
            for number in range(count):
                due_ns = max(due_ns, now_ns()) + self._options.gap_us * 1_000
                _until(due_ns)
                publish(number)
            reader.join()
            assert reader.exitcode == 0, "the reader must reach the last record"
            result: Words = words[TIMES_AT : TIMES_AT + count].copy()
            return result

    def idle_percent(self, name: str) -> float:
        """Answers the share of a core that waiting for nothing takes."""
        with _memory(is_parkable=name == "park") as (made, scratch):
            arguments = (made, scratch, name, self._options.idle_s, self._cores[1])
            waiter = self._context.Process(target=_wait_idle, args=arguments)
            waiter.start()
            waiter.join()
            assert waiter.exitcode == 0, "the waiter must reach the end"
            return float(scratch.words(0, 8)[4]) / 1e7


class _memory:  # noqa: N801 - a context manager, used like a function
    """A ring and a scratch segment that leave no name behind."""

    def __init__(self, *, is_parkable: bool) -> None:
        prefix = f"tickring-bench-{os.getpid()}-{secrets.token_hex(4)}"
        self._made = ring.create(
            f"{prefix}-ring", 1,
            capacity=CAPACITY, row_bytes=64, kinds=(GATING,), parkable=is_parkable,
        )  # fmt: skip
        self._scratch = segment.create(f"{prefix}-scratch", BODY_BYTES, LAYOUT, 1)

    def __enter__(self) -> tuple[Segment, Segment]:
        return self._made, self._scratch

    def __exit__(self, *_: object) -> None:
        for one in (self._made, self._scratch):
            one.unlink()
            one.close()


def _warm(bench: Bench, options: argparse.Namespace) -> None:
    """Compiles what the processes call before they are forked."""
    full = options.records, options.idle_s
    options.records, options.idle_s = 2, 0.001
    for name in (FUTEX, *STRATEGIES):
        bench.latencies(name)
    options.records, options.idle_s = full


def _measure(bench: Bench, turns: int) -> dict[str, list[Words]]:
    found: dict[str, list[Words]] = {name: [] for name in (FUTEX, *STRATEGIES)}
    for turn in range(turns):
        for name, results in found.items():
            results.append(bench.latencies(name))
            times = "  ".join(
                f"{key} {value / 1_000:9.1f} us" for key, value in percentiles(results[-1]).items()
            )
            sys.stderr.write(f"turn {turn + 1} {name:12s} {times}\n")
    return found


def main() -> None:
    """Measures, prints every turn, and ends with what each strategy takes and costs."""
    options = _read_options()
    cores = cores_for(2)
    show_drawing(__doc__)
    warn(cores, 2)
    assert TIMES_AT + options.records <= BODY_BYTES // 8, "a latency is kept for each record"
    bench = Bench(options, cores)
    _warm(bench, options)
    _pin(cores[0])
    found = _measure(bench, options.turns)
    subjects: dict[str, Any] = {}
    futex_ns = float(np.median([np.median(turn) for turn in found[FUTEX]]))
    for name, turns in found.items():
        p50_ns = float(np.median([np.median(turn) for turn in turns]))
        subjects[name] = {
            "wake_ns": percentiles(np.concatenate(turns)),
            "over_futex_ns": round(p50_ns - futex_ns),
        }
        if name != FUTEX:
            subjects[name]["idle_cpu_percent"] = round(bench.idle_percent(name), 3)
            sys.stderr.write(
                f"{name:8s} p50 {p50_ns / 1_000:8.1f} us, {(p50_ns - futex_ns) / 1_000:+8.1f} us to"
                f" the futex alone, waiting takes {subjects[name]['idle_cpu_percent']:7.3f} %"
                " of a core\n"
            )
    usage = resource.getrusage(resource.RUSAGE_SELF)
    machine = card(cores) | {"involuntary_switches": usage.ru_nivcsw}
    if options.json:
        print(json.dumps({"subjects": subjects, "machine": machine}), flush=True)


if __name__ == "__main__":
    main()
