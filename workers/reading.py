"""workers room: reads the numbers of a whole run from shared memory, for people and for scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from config.topology import SUPERVISOR, workers
from shm.histogram import HISTOGRAM_WORDS, merge
from shm.ring import CURSOR, DROPPED_COUNT, KIND, OVERRUN_COUNT, READER_BASE, READER_WORDS
from shm.segment import Words
from shm.stats import HISTOGRAM, Sample
from workers.context import Memory

_LABEL = re.compile(r'(\w+)="([^"]*)"')


def process_names(memory: Memory) -> tuple[str, ...]:
    """Answers every process that has stats: the workers and the supervisor."""
    return (*(worker.name for worker in workers(memory.run.settings)), SUPERVISOR)


def samples(memory: Memory) -> Iterator[Sample]:
    """Yields every slot of every process."""
    for name in process_names(memory):
        yield from memory.stats(name).samples()


def parts(label: str) -> tuple[str, dict[str, str]]:
    """Splits `name{key="value"}` into the name and its labels."""
    name, _, rest = label.partition("{")
    return name, dict(_LABEL.findall(rest))


def totals(found: list[Sample], name: str, key: str) -> dict[str, int]:
    """Sums the counters of a name by the value of one label."""
    result: dict[str, int] = {}
    for sample in found:
        known, labels = parts(sample.label)
        if known == name and sample.kind != HISTOGRAM and key in labels:
            result[labels[key]] = result.get(labels[key], 0) + sample.value
    return result


def total(found: list[Sample], name: str) -> int:
    """Sums the counters of a name over all labels and processes."""
    return sum(s.value for s in found if s.kind != HISTOGRAM and parts(s.label)[0] == name)


def histogram(found: list[Sample], name: str) -> Words:
    """Merges the histograms of a name, (HISTOGRAM_WORDS,) int64."""
    words = [s.words for s in found if s.kind == HISTOGRAM and parts(s.label)[0] == name]
    merged = merge(*words)
    assert len(merged) == HISTOGRAM_WORDS, "a merged histogram is a histogram"
    return merged


def counts(memory: Memory) -> dict[str, int]:
    """Answers how many records each ring but the log rings has carried."""
    return {
        plan.name: int(memory.observe(plan.name)[CURSOR]) + 1
        for plan in memory.ring_plans
        if not plan.name.startswith("log.")
    }


def lost(memory: Memory) -> int:
    """Answers the records that any ring but the log rings dropped or any reader missed."""
    gone = 0
    for plan in memory.ring_plans:
        if plan.name.startswith("log."):
            continue
        control = memory.observe(plan.name)
        gone += int(control[DROPPED_COUNT])
        for reader in range(len(plan.readers)):
            base = READER_BASE + READER_WORDS * reader
            assert control[base + KIND], "a planned reader was declared"
            gone += int(control[base + OVERRUN_COUNT])
    return gone
