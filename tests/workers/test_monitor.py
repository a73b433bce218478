"""The monitor over real HTTP and WebSocket connections, reading real shared memory."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from config.settings import MonitorSettings
from engine import control, positions
from shm.histogram import HISTOGRAM_WORDS, record
from shm.ring import OVERRUN_COUNT, READER_BASE, READER_WORDS
from tests.workers.observed_run import (
    agent_context,
    observed_run,
    small_settings,
    tell_instruments,
)
from workers import board, monitor, page
from workers.agent import Phase, SegmentPlan
from workers.board import WorkerState
from workers.books import TOPS_PLAN
from workers.context import Memory
from workers.metrics import BOUNDS_NS, FrameRate, bucket_counts
from workers.monitor import LIVE_MAX, MonitorAgent, is_host_allowed

PROMISED = (
    "order_execution_latency_seconds", "signal_generation_time_seconds",
    "db_write_latency_seconds", "risk_check_time_seconds", "tick_to_order_latency_seconds",
)  # fmt: skip
PLANS = (
    *MonitorAgent.segments(small_settings("x"), "monitor"),
    SegmentPlan("control", 8 * control.CONTROL_WORDS, control.LAYOUT),
    SegmentPlan(positions.SEGMENT, positions.SEGMENT_BYTES, positions.LAYOUT),
    TOPS_PLAN,
)


def mark(memory: Memory, state: WorkerState = WorkerState.READY) -> None:
    """Does what a supervisor and living workers do to the board."""
    table = memory.board()
    for index, name in enumerate(("trader", "keeper", "watcher")):
        table.name(index, name)
        table.set(index, board.STATE, state)
        table.set(index, board.RESTARTS, index)
        table.row(index)[board.HEARTBEAT_NS] = time.monotonic_ns()


@pytest.fixture
def memory(segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    with observed_run(small_settings(segment_prefix), tmp_path, *PLANS) as memory:
        tell_instruments(memory)
        mark(memory)
        yield memory


@asynccontextmanager
async def serving(memory: Memory) -> AsyncIterator[int]:
    """Runs the agent as its worker would; gives the port that it tells."""
    agent = MonitorAgent(agent_context(memory, "watcher", "monitor"))
    agent.on_start()
    await agent.open()
    port = int(memory.segment("monitor").words(0, 1)[0])
    agent.do_work()
    try:
        yield port
    finally:
        assert agent.on_phase(Phase.QUIET)
        await agent.close()
        agent.on_close()


async def fetch(port: int, path: str, *hosts: str) -> tuple[int, dict[str, str], bytes]:
    """Sends one plain request; answers status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    named = "".join(f"Host: {host}\r\n" for host in hosts or (f"127.0.0.1:{port}",))
    writer.write(f"GET {path} HTTP/1.1\r\n{named}\r\n".encode())
    raw = await reader.read()
    writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines[1:])
    headers = {name.lower(): value for name, value in pairs}
    return int(lines[0].split()[1]), headers, body


def served(memory: Memory, talk: Callable[[int], Coroutine[Any, Any, Any]]) -> Any:
    """Runs one conversation with a monitor."""

    async def run() -> Any:
        async with serving(memory) as port:
            return await talk(port)

    return asyncio.run(run())


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


class TestPages:
    def test_health_is_good_while_every_worker_is_ready_and_beats(self, memory: Memory) -> None:
        status, _, body = served(memory, lambda port: fetch(port, "/healthz"))

        assert (status, json.loads(body)) == (200, {"ok": True, "wrong": []})

    def test_health_names_who_is_not_well(self, memory: Memory) -> None:
        memory.board().set(0, board.STATE, WorkerState.FAILED)
        memory.board().row(1)[board.HEARTBEAT_NS] = 1
        status, _, body = served(memory, lambda port: fetch(port, "/healthz"))

        wrong = json.loads(body)["wrong"]
        assert status == 503
        assert wrong[0] == "worker must be READY: worker=trader state=FAILED"
        assert wrong[1].startswith("worker must beat: worker=keeper silent_ms=")

    def test_status_tells_the_whole_state(self, memory: Memory) -> None:
        memory.stats("trader").counter("risk_denials_total", code="PRICE_COLLAR").add(2)
        record(memory.stats("trader").histogram("tick_to_order_latency_seconds"), 13_000)
        memory.stats("keeper").error("database must be reachable")
        status, _, body = served(memory, lambda port: fetch(port, "/status.json"))

        state = json.loads(body)
        assert status == 200
        assert state["halt_text"] == "trading"
        assert [worker["name"] for worker in state["workers"]] == ["trader", "keeper", "watcher"]
        assert state["orders"]["denials"] == {"PRICE_COLLAR": 2}
        assert state["positions"]["BTCUSDT"]["position"] == "0"
        by_stage = {row["stage"]: row for row in state["latencies"]}
        assert by_stage["tick_to_order_latency"]["max"] == 13_000
        assert state["errors"][0]["text"] == "database must be reachable"
        assert {ring["name"] for ring in state["rings"]} >= {"orders", "market.0", "log.trader"}

    def test_page_is_whole_and_allows_only_its_own_script_and_style(self, memory: Memory) -> None:
        status, headers, body = served(memory, lambda port: fetch(port, "/?x=1"))

        text = body.decode()
        script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
        assert status == 200
        assert len(script) == 1
        assert script[0] == page.SCRIPT
        assert not re.search(r"(?:src|href)='?https?:|@import|url\(", text)
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        digest = base64.b64encode(sha256(script[0].encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy
        assert headers["x-frame-options"] == "DENY"

    def test_unknown_path_is_not_found(self, memory: Memory) -> None:
        assert served(memory, lambda port: fetch(port, "/etc/passwd"))[0] == 404


class TestWhoIsServed:
    @pytest.mark.parametrize("path", ["/", "/metrics", "/status.json", "/healthz", "/live"])
    def test_name_of_another_site_is_refused(self, memory: Memory, path: str) -> None:
        status, _, body = served(memory, lambda port: fetch(port, path, "evil.example:80"))

        assert (status, body) == (403, b"host is not served here\n")
        assert memory.stats("watcher").counter("monitor_refused_total").value == 1

    def test_two_host_names_are_refused(self, memory: Memory) -> None:
        hosts = ("127.0.0.1", "evil.example")

        assert served(memory, lambda port: fetch(port, "/", *hosts))[0] == 403

    @pytest.mark.parametrize(
        ("host", "path", "bound", "allowed"),
        [
            ("127.0.0.1:9464", "/", "127.0.0.1", True),
            ("localhost:9464", "/metrics", "127.0.0.1", True),
            ("[::1]:9464", "/", "::1", True),
            ("127.8.9.1", "/", "127.0.0.1", True),
            ("10.0.0.7:9464", "/", "127.0.0.1", False),
            ("localhost.evil.example", "/", "127.0.0.1", False),
            ("engine:9464", "/metrics", "0.0.0.0", True),
            ("engine:9464", "/", "0.0.0.0", False),
            ("engine:9464", "/", "engine", True),
            ("10.0.0.7:9464", "/", "0.0.0.0", True),
            ("127.0.0.1:9464", "/", "0.0.0.0", True),
            ("", "/", "127.0.0.1", False),
            ("[::1", "/", "127.0.0.1", False),
        ],
    )
    def test_hosts(self, host: str, path: str, bound: str, allowed: bool) -> None:  # noqa: FBT001
        assert is_host_allowed(host, path, bound) is allowed

    def test_listens_on_loopback_without_a_word_from_the_user(self) -> None:
        assert MonitorSettings().host == "127.0.0.1"

    def test_page_of_another_origin_cannot_watch(self, memory: Memory) -> None:
        async def talk(port: int) -> int:
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{port}/live", origin="http://evil.example")  # type: ignore[arg-type]
            return refused.value.response.status_code

        assert served(memory, talk) == 403

    def test_port_that_is_taken_is_one_clear_line(
        self, segment_prefix: str, tmp_path: Path, memory: Memory
    ) -> None:
        async def talk(port: int) -> None:
            settings = small_settings(segment_prefix, monitor=MonitorSettings(port=port))
            with observed_run(settings, tmp_path / "other", *PLANS) as other:
                async with serving(other):
                    pass

        with pytest.raises(OSError, match=r"monitor must be able to listen: .*EADDRINUSE"):
            served(memory, talk)


class TestLive:
    def test_state_comes_again_and_again(self, memory: Memory) -> None:
        async def talk(port: int) -> list[dict[str, Any]]:
            async with connect(
                f"ws://127.0.0.1:{port}/live",
                origin=f"http://127.0.0.1:{port}",  # type: ignore[arg-type]
            ) as live:
                first = json.loads(await live.recv())
                memory.stats("trader").counter("fills_total").add(5)
                return [first, json.loads(await live.recv())]

        first, second = served(memory, talk)
        counts = [
            {flow["name"]: flow["count"] for flow in state["flows"]}["fills"]
            for state in (first, second)
        ]
        assert counts == [0, 5]
        assert second["time_ns"] > first["time_ns"]

    def test_more_pages_than_allowed_are_sent_away(self, memory: Memory) -> None:
        async def talk(port: int) -> int:
            url = f"ws://127.0.0.1:{port}/live"
            pages = [await connect(url) for _ in range(LIVE_MAX)]
            for one in pages:
                await one.recv()
            late = await connect(url)
            with pytest.raises(ConnectionClosed) as closed:
                await late.recv()
            for one in pages:
                await one.close()
            assert closed.value.rcvd is not None
            return closed.value.rcvd.code

        assert served(memory, talk) == 1013

    def test_port_is_told_while_it_listens(self, memory: Memory) -> None:
        async def talk(port: int) -> int:
            return port

        assert served(memory, talk) > 0
        assert memory.segment("monitor").words(0, 1)[0] == 0


# A document that knows what the page's script uses, no more.
DOCUMENT = """
const shown = {};
function table(id) {
  return {
    rows: [], textContent: '', className: '', hidden: false, parentElement: {},
    querySelector: () => ({ replaceWith: body => { shown[id] = body.cells; } }),
  };
}
const parts = {};
globalThis.document = {
  getElementById: id => (parts[id] ??= table(id)),
  createElement: () => {
    const body = { cells: [], insertRow: () => {
      const row = []; body.cells.push(row);
      return { insertCell: () => { const cell = {}; row.push(cell); return cell; } };
    } };
    return body;
  },
};
globalThis.location = { protocol: 'http:', host: process.argv[2] };
setInterval(() => {
  if (parts.link && parts.link.textContent === 'live') {
    const text = Object.fromEntries(Object.entries(shown).map(
      ([id, rows]) => [id, rows.map(row => row.map(cell => String(cell.textContent)))]));
    console.log(JSON.stringify({ ...text, engine: parts.engine.textContent,
      halt: parts.halt.className }));
    process.exit(0);
  }
}, 20);
setTimeout(() => process.exit(3), 60000);
"""


WEBSOCKET = "--experimental-websocket"  # Node.js 20 has it behind this; later ones always


@pytest.mark.services
@pytest.mark.slow
def test_page_draws_what_the_server_sends(memory: Memory, tmp_path: Path) -> None:
    """The page's own script, run by Node.js, connected to the real server."""
    node = shutil.which("node")
    if (
        node is None
        or b"function"
        not in subprocess.run(
            [node, WEBSOCKET, "-p", "typeof WebSocket"], capture_output=True, check=False
        ).stdout
    ):
        pytest.skip("Node.js with WebSocket must be on PATH")
    memory.stats("trader").counter("fills_total").add(1_234)
    memory.stats("keeper").error("<script>alert(1)</script>")
    script = tmp_path / "page.js"
    script.write_text(DOCUMENT + page.SCRIPT)

    async def talk(port: int) -> bytes:
        process = await asyncio.create_subprocess_exec(
            node, WEBSOCKET, str(script), f"127.0.0.1:{port}", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return output

    drawn = json.loads(served(memory, talk))
    assert drawn["engine"].startswith("tickring test-")
    assert drawn["halt"] == "good"
    assert ["fills", "0", "1,234"] in drawn["flows"]
    assert [row[0] for row in drawn["workers"]] == ["trader", "keeper", "watcher"]
    assert drawn["errors"] == [["<script>alert(1)</script>", "keeper", "1"]]
    assert drawn["positions"][0][0] == "BTCUSDT"


def test_agent_owns_the_segment_that_tells_its_port() -> None:
    plan = MonitorAgent.segments(small_settings("x"), "monitor")[0]

    assert (plan.name, plan.body_bytes) == (monitor.SEGMENT, 8 * monitor.WORDS)
