"""workers room: everything the engine counts, as Prometheus reads it, straight from shared memory.

Reading costs the workers nothing. Names: the metrics that dashboards are promised have the names of
`PLAIN`; all others begin with `tickring_`. Each sample of a worker carries the label `worker`,
except where its own labels have one.

Histograms in shared memory are log-linear with 32 buckets for each power of two; they are exported
as cumulative Prometheus histograms over the fixed bounds of `BOUNDS_NS`. A value counts as below a
bound when its whole bucket is, so a count may lag by the 3 % that a bucket is wide.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from config.topology import workers
from engine.control import halt_level
from shm.histogram import BUCKETS, FIRST_BUCKET, TOTAL, lower_bound
from shm.ring import (
    CURSOR,
    DROPPED_COUNT,
    FULL_COUNT,
    OVERRUN_COUNT,
    READER_BASE,
    READER_WORDS,
    RELEASED,
)
from shm.segment import Words
from shm.stats import GAUGE, HISTOGRAM
from workers import reading
from workers.board import WorkerState
from workers.context import Memory
from workers.patience import silence_ns_max
from workers.timing import timed

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
PREFIX: Final = "tickring_"
PLAIN: Final = {
    "order_execution_latency_seconds": "Order frame sent to the venue's answer.",
    "signal_generation_time_seconds": "Market record taken in to decisions made.",
    "db_write_latency_seconds": "Batch of rows handed to the database to its commit.",
    "risk_check_time_seconds": "Intent taken in to passed or denied.",
    "tick_to_order_latency_seconds": "Socket bytes read to the order frame handed to the socket.",
}
RATE_NAME: Final = "websocket_message_rate"
FRAMES: Final = "ingest_frames_total"
HELP: Final = {
    "ingest_frames_total": "WebSocket frames read, by stream.",
    "ingest_records_total": "Market records published.",
    "ingest_gaps_total": "Holes found in a depth stream, by symbol.",
    "ingest_resyncs_total": "Books built anew from a snapshot, by symbol.",
    "ingest_rejected_frames_total": "Frames that were not understood.",
    "ingest_reconnects_total": "Connections to market data made again.",
    "ingest_rotations_total": "Connections that took over from another without a gap.",
    "ingest_doubles_total": "Frames dropped because the connection before had brought them.",
    "ingest_crossed_total": "Books found crossed, by symbol.",
    "ingest_silent_total": "Depth streams that fell silent, by symbol.",
    "orders_sent_total": "Orders sent to the venue.",
    "cancels_sent_total": "Cancels sent to the venue.",
    "acks_total": "Orders that the venue took.",
    "rejects_total": "Orders that the venue refused.",
    "fills_total": "Fills, whole and in part.",
    "unknown_total": "Requests without an answer in time.",
    "risk_denials_total": "Intents that risk refused, by reason.",
    "risk_passed_total": "Intents that risk let pass.",
    "journal_records_total": "Records appended to the journal, by ring.",
    "stored_rows_total": "Rows committed to the database, by table.",
    "store_connected": "1 while the database takes the journal.",
    "bus_published_total": "Messages published to Redis, by channel.",
    "bus_connected": "1 while the last publication to Redis succeeded.",
    "log_records_total": "Log lines written.",
    "log_dropped_total": "Log messages dropped because a ring was full, by worker.",
}
_UNITS: Final = (1, 2, 5)
BOUNDS_NS: Final = (*(unit * 10**power for power in range(3, 10) for unit in _UNITS), 10**10)
_EDGES: Final = [lower_bound(bucket + 1) - 1 for bucket in range(BUCKETS)]
# How many of the shared buckets lie wholly at or below each bound.
_BELOW: Final = [sum(1 for edge in _EDGES if edge <= bound) for bound in BOUNDS_NS]
RATE_NS: Final = 1_000_000_000
SAMPLES_MAX: Final = 64
_NS: Final = 1e9


class FrameRate:
    """How many WebSocket frames came in over the last second or so."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._samples: deque[tuple[int, int]] = deque(maxlen=SAMPLES_MAX)
        self._hosts = [
            worker.name
            for worker in workers(memory.run.settings)
            if any(agent.startswith("ingest.") for agent in worker.agents)
        ]

    def sample(self, now_ns: int) -> None:
        """Takes the count of frames. Called by: the monitor, about once a second."""
        found = [one for name in self._hosts for one in self._memory.stats(name).samples()]
        self._samples.append((now_ns, reading.total(found, FRAMES)))
        while len(self._samples) > 2 and self._samples[1][0] <= now_ns - RATE_NS:  # noqa: PLR2004
            self._samples.popleft()

    @property
    def per_second(self) -> float:
        """Frames per second between the oldest and the newest sample."""
        if len(self._samples) <= 1:
            return 0.0
        (start_ns, first), (end_ns, last) = self._samples[0], self._samples[-1]
        return max(0, last - first) * _NS / max(1, end_ns - start_ns)


Labels = tuple[tuple[str, str], ...]


def exported(name: str) -> str:
    """Answers the name that a metric of shared memory has outside."""
    return name if name in PLAIN or name == RATE_NAME else PREFIX + name


def bucket_counts(words: Words) -> tuple[list[tuple[str, float]], float]:
    """Answers the cumulative buckets of a histogram, bounds in seconds as text, and its sum."""
    copy = words.copy()
    running = copy[FIRST_BUCKET:].cumsum()
    counts = [float(running[below - 1]) if below else 0.0 for below in _BELOW]
    pairs = [(repr(bound / _NS), n) for bound, n in zip(BOUNDS_NS, counts, strict=True)]
    return [*pairs, ("+Inf", float(running[-1]))], float(copy[TOTAL]) / _NS


class EngineCollector(Collector):
    """Makes Prometheus's metric families of a run's shared memory."""

    def __init__(self, memory: Memory, rate: FrameRate) -> None:
        self._memory = memory
        self._rate = rate

    def describe(self) -> Iterable[Metric]:
        """Answers nothing: the families are only known when they are read."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yields every family. Called by: the registry, for each scrape."""
        yield GaugeMetricFamily(
            RATE_NAME, "WebSocket frames from the venue per second.", self._rate.per_second
        )
        yield from self._numbers()
        yield from self._rings()
        yield from self._workers()
        level = halt_level(self._memory.control())
        yield GaugeMetricFamily(
            PREFIX + "halt_level", "0 trading, 1 no new orders, 2 cancel all.", level
        )

    def _numbers(self) -> Iterator[Metric]:
        values: dict[tuple[str, int], dict[Labels, int]] = {}
        histograms: dict[str, dict[Labels, Words]] = {name: {} for name in PLAIN}
        for worker in reading.process_names(self._memory):
            for sample in self._memory.stats(worker).samples():
                name, labels = reading.parts(sample.label)
                key = tuple(sorted({"worker": worker, **labels}.items()))
                if sample.kind == HISTOGRAM:
                    histograms.setdefault(name, {})[key] = sample.words
                else:
                    rows = values.setdefault((name, sample.kind), {})
                    rows[key] = rows.get(key, 0) + sample.value
        for (name, kind), rows in sorted(values.items()):
            yield _family(name, kind, rows)
        for name, found in sorted(histograms.items()):
            yield _histogram_family(name, found)

    def _rings(self) -> Iterator[Metric]:
        ring, reader = ["ring"], ["ring", "reader"]
        lag = GaugeMetricFamily(
            PREFIX + "ring_lag", "Records published that a reader has not released.", labels=reader
        )
        overruns = CounterMetricFamily(
            PREFIX + "ring_overruns", "Records that a reader lost by being lapped.", labels=reader
        )
        published = CounterMetricFamily(PREFIX + "ring_records", "Records published.", labels=ring)
        dropped = CounterMetricFamily(
            PREFIX + "ring_dropped", "Records given up because a ring was full.", labels=ring
        )
        full = CounterMetricFamily(
            PREFIX + "ring_full", "Times that a writer found its ring full.", labels=ring
        )
        capacity = GaugeMetricFamily(
            PREFIX + "ring_capacity_records", "Records that a ring holds.", labels=ring
        )
        fill = GaugeMetricFamily(
            PREFIX + "ring_fill_ratio", "Part of a ring that its slowest reader holds.", labels=ring
        )
        for plan in self._memory.ring_plans:
            control = self._memory.observe(plan.name)
            lags = []
            for index, name in enumerate(plan.readers):
                base = READER_BASE + READER_WORDS * index
                lags.append(max(0, int(control[CURSOR] - control[base + RELEASED])))
                lag.add_metric([plan.name, name], lags[-1])
                overruns.add_metric([plan.name, name], int(control[base + OVERRUN_COUNT]))
            published.add_metric([plan.name], int(control[CURSOR]) + 1)
            dropped.add_metric([plan.name], int(control[DROPPED_COUNT]))
            full.add_metric([plan.name], int(control[FULL_COUNT]))
            capacity.add_metric([plan.name], plan.capacity)
            fill.add_metric([plan.name], max(lags, default=0) / plan.capacity)
        yield from (lag, overruns, published, dropped, full, capacity, fill)

    def _workers(self) -> Iterator[Metric]:
        labels = ["worker"]
        age = GaugeMetricFamily(
            PREFIX + "heartbeat_age_seconds", "Since a worker's last sign of life.", labels=labels
        )
        allowed = GaugeMetricFamily(
            PREFIX + "heartbeat_age_max_seconds",
            "Age of a sign of life from which on the supervisor kills a worker.",
            labels=labels,
        )
        restarts = CounterMetricFamily(
            PREFIX + "worker_restarts", "Restarts of a worker in this run.", labels=labels
        )
        up = GaugeMetricFamily(PREFIX + "worker_up", "1 while a worker is READY.", labels=labels)
        memory = GaugeMetricFamily(
            PREFIX + "worker_resident_memory_bytes", "Resident memory.", labels=labels
        )
        processor = GaugeMetricFamily(
            PREFIX + "worker_processor_seconds",
            "Processor time of a worker's present process.",
            labels=labels,
        )
        errors = CounterMetricFamily(
            PREFIX + "errors", "Errors that a worker has recorded.", labels=labels
        )
        now_ns, settings = time.monotonic_ns(), self._memory.run.settings
        for worker in workers(settings):
            silence_ns = silence_ns_max(worker, settings.engine)
            allowed.add_metric([worker.name], silence_ns / _NS)
        for row in self._memory.board().rows():
            if row.heartbeat_ns:
                age.add_metric([row.name], max(0, now_ns - row.heartbeat_ns) / _NS)
            restarts.add_metric([row.name], row.restarts)
            up.add_metric([row.name], int(row.state == WorkerState.READY))
            used = process_use(row.pid)
            if used is not None:
                memory.add_metric([row.name], used[0])
                processor.add_metric([row.name], used[1])
        for name in reading.process_names(self._memory):
            count = sum(error.times for error in self._memory.stats(name).errors())
            errors.add_metric([name], count)
        yield from (age, allowed, restarts, up, memory, processor, errors)


def process_use(pid: int) -> tuple[int, float] | None:
    """Answers resident bytes and processor seconds of a process, None when it is gone."""
    if pid <= 0:
        return None
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return process.memory_info().rss, times.user + times.system
    except psutil.Error:
        return None


def _label_names(rows: Iterable[Labels]) -> list[str]:
    return sorted({name for labels in rows for name, _ in labels})


def _label_values(names: list[str], labels: Labels) -> list[str]:
    known = dict(labels)
    return [known.get(name, "") for name in names]


def _family(name: str, kind: int, rows: dict[Labels, int]) -> Metric:
    names = _label_names(rows)
    text = HELP.get(name, f"{name.removesuffix('_total').replace('_', ' ').capitalize()}.")
    make = GaugeMetricFamily if kind == GAUGE else CounterMetricFamily
    family = make(exported(name), text, labels=names)
    for labels, value in sorted(rows.items()):
        family.add_metric(_label_values(names, labels), value)
    return family


def _histogram_family(name: str, found: dict[Labels, Words]) -> Metric:
    text = PLAIN.get(name, f"{name.removesuffix('_seconds').replace('_', ' ').capitalize()}.")
    names = _label_names(found)
    family = HistogramMetricFamily(exported(name), text, labels=names or None)
    for labels, words in sorted(found.items(), key=lambda one: one[0]):
        buckets, total = bucket_counts(words)
        family.add_metric(_label_values(names, labels), buckets, total)
    if not found:
        zeros = [(repr(bound / _NS), 0.0) for bound in BOUNDS_NS]
        family.add_metric([], [*zeros, ("+Inf", 0.0)], 0.0)
    return family


class Exposition:
    """Answers scrapes."""

    def __init__(self, memory: Memory, rate: FrameRate) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(EngineCollector(memory, rate))

    def text(self) -> bytes:
        """Answers every metric in Prometheus's text format, version 0.0.4."""
        return expose(self._registry)


@timed("metrics_scrape_seconds")
def expose(registry: CollectorRegistry) -> bytes:
    """Answers the text of a registry; measured once it is bound."""
    return generate_latest(registry)
