"""Metrics as a scrape over real HTTP sees them, from real shared memory."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from shm.histogram import HISTOGRAM_WORDS, record
from shm.ring import OVERRUN_COUNT, READER_BASE, READER_WORDS
from tests.workers.fake_processes import with_nice
from tests.workers.monitored import PLANS, fetch, mark, served
from tests.workers.observed_run import (
    observed_run,
    small_settings,
    tell_instruments,
)
from workers import board
from workers.board import WorkerState
from workers.context import Memory
from workers.metrics import BOUNDS_NS, FrameRate, bucket_counts

PROMISED = (
    "order_execution_latency_seconds", "signal_generation_time_seconds",
    "db_write_latency_seconds", "risk_check_time_seconds", "tick_to_order_latency_seconds",
)  # fmt: skip


@pytest.fixture
def memory(segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    with observed_run(small_settings(segment_prefix), tmp_path, *PLANS) as memory:
        tell_instruments(memory)
        mark(memory)
        yield memory


def scrape(memory: Memory) -> str:
    status, headers, body = served(memory, lambda port: fetch(port, "/metrics"))
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    text: str = body.decode()
    return text


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class TestMetrics:
    def test_promised_names_are_there_before_anything_happened(self, memory: Memory) -> None:
        families = {
            family.name: family for family in text_string_to_metric_families(scrape(memory))
        }

        assert {families[name].type for name in PROMISED} == {"histogram"}
        assert families["websocket_message_rate"].type == "gauge"
        assert all(family.documentation for family in families.values())

    def test_numbers_of_every_worker_are_told_with_their_labels(self, memory: Memory) -> None:
        memory.stats("trader").counter("ingest_frames_total", stream="trade").add(7)
        memory.stats("trader").counter("fills_total").add(3)
        memory.stats("keeper").counter("fills_total").add(4)
        memory.stats("keeper").gauge("journal_lag", ring="orders").set(9)
        memory.stats("watcher").counter("log_dropped_total", worker="trader").add(2)
        memory.stats("trader").error("venue must answer")

        found = samples(scrape(memory))
        frames = (("stream", "trade"), ("worker", "trader"))
        assert found["tickring_ingest_frames_total", frames] == 7
        assert found["tickring_fills_total", (("worker", "trader"),)] == 3
        assert found["tickring_fills_total", (("worker", "keeper"),)] == 4
        assert found["tickring_journal_lag", (("ring", "orders"), ("worker", "keeper"))] == 9
        assert found["tickring_log_dropped_total", (("worker", "trader"),)] == 2
        assert found["tickring_errors_total", (("worker", "trader"),)] == 1

    def test_histogram_is_told_in_seconds(self, memory: Memory) -> None:
        words = memory.stats("trader").histogram("risk_check_time_seconds")
        for value_ns in (500, 1_500, 1_500, 3_000_000, 60_000_000_000):
            record(words, value_ns)

        found = samples(scrape(memory))
        worker = ("worker", "trader")
        name = "risk_check_time_seconds"
        assert found[f"{name}_count", (worker,)] == 5
        assert found[f"{name}_sum", (worker,)] == pytest.approx(60.0030035)
        assert found[f"{name}_bucket", (("le", "1e-06"), worker)] == 1
        assert found[f"{name}_bucket", (("le", "2e-06"), worker)] == 3
        assert found[f"{name}_bucket", (("le", "0.005"), worker)] == 4
        assert found[f"{name}_bucket", (("le", "10.0"), worker)] == 4
        assert found[f"{name}_bucket", (("le", "+Inf"), worker)] == 5

    @given(st.lists(st.integers(0, 1 << 43), max_size=200))
    def test_bucket_counts_are_within_the_width_of_a_shared_bucket(self, values: list[int]) -> None:
        words = np.zeros(HISTOGRAM_WORDS, np.int64)
        for value in values:
            record(words, value)

        buckets, total = bucket_counts(words)
        counts = [count for _, count in buckets]
        assert counts == sorted(counts)
        assert counts[-1] == len(values)
        assert total == pytest.approx(sum(values) / 1e9)
        for bound_ns, count in zip(BOUNDS_NS, counts, strict=False):
            sure = sum(1 for value in values if value <= bound_ns * 31 / 32)
            assert sure <= count <= sum(1 for value in values if value <= bound_ns)

    def test_rings_tell_lag_fill_and_overruns_by_reader(self, memory: Memory) -> None:
        producer = memory.producer("orders")
        for _ in range(16):
            producer.append(np.zeros(16, np.int64))
        memory.consumer("orders", "execution").release(9)
        memory.observe("orders")[READER_BASE + READER_WORDS + OVERRUN_COUNT] = 5

        found = samples(scrape(memory))
        orders = ("ring", "orders")
        assert found["tickring_ring_lag", (("reader", "execution"), orders)] == 6
        assert found["tickring_ring_lag", (("reader", "recorder"), orders)] == 16
        assert found["tickring_ring_overruns_total", (("reader", "recorder"), orders)] == 5
        assert found["tickring_ring_records_total", (orders,)] == 16
        assert found["tickring_ring_capacity_records", (orders,)] == 64
        assert found["tickring_ring_fill_ratio", (orders,)] == 0.25

    def test_workers_tell_how_long_they_may_be_silent(
        self, segment_prefix: str, tmp_path: Path
    ) -> None:
        settings = with_nice(small_settings(segment_prefix), "keeper", 19)
        with observed_run(settings, tmp_path, *PLANS) as memory:
            tell_instruments(memory)
            found = samples(scrape(memory))

        name = "tickring_heartbeat_age_max_seconds"
        assert found[name, (("worker", "trader"),)] == 2
        assert found[name, (("worker", "keeper"),)] == 20

    def test_workers_tell_heartbeat_restarts_and_state(self, memory: Memory) -> None:
        memory.board().set(1, board.STATE, WorkerState.BACKOFF)

        found = samples(scrape(memory))
        keeper = (("worker", "keeper"),)
        assert 0 <= found["tickring_heartbeat_age_seconds", keeper] < 60
        assert found["tickring_worker_restarts_total", keeper] == 1
        assert found["tickring_worker_up", keeper] == 0
        assert found["tickring_worker_up", (("worker", "trader"),)] == 1
        assert found["tickring_halt_level", ()] == 0

    def test_odd_label_values_are_escaped(self, memory: Memory) -> None:
        memory.stats("trader").counter("ingest_gaps_total", symbol='B"T\\C\n').add(1)
        memory.stats("trader").counter("ingest_gaps_total", symbol="1000é").add(2)

        found = samples(scrape(memory))
        labels = {
            dict(key)["symbol"] for name, key in found if name == "tickring_ingest_gaps_total"
        }
        assert labels == {"B_T_C_", "1000é"}

    def test_frame_rate_is_that_of_the_last_second(self, memory: Memory) -> None:
        frames = memory.stats("trader").counter("ingest_frames_total", stream="trade")
        rate = FrameRate(memory)
        for step in range(9):
            rate.sample(step * 250_000_000)
            frames.add(10 if step < 4 else 100)

        assert rate.per_second == pytest.approx(400.0)

    def test_promtool_has_nothing_to_say(self, memory: Memory, promtool: str) -> None:
        for worker in ("trader", "keeper"):
            stats = memory.stats(worker)
            for name in PROMISED:
                record(stats.histogram(name), 1_000)
            record(stats.histogram("bus_encode_seconds"), 1_000)
            for name in ("ingest_frames_total", "acks_total", "unknown_total"):
                stats.counter(name).add(1)
            stats.counter("ingest_resyncs_total", symbol="BTCUSDT").add(1)
            stats.gauge("bus_connected").set(1)
        text = scrape(memory)

        done = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
