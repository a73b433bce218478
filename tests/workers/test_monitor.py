"""The monitor over real HTTP and WebSocket connections, reading real shared memory."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from config.settings import MonitorSettings
from shm.histogram import record
from tests.workers.fake_processes import with_nice
from tests.workers.monitored import PLANS, fetch, mark, served, serving, watched_run
from tests.workers.observed_run import (
    observed_run,
    small_settings,
)
from workers import board, monitor, page
from workers.board import WorkerState
from workers.context import Memory
from workers.listening import ListenError
from workers.monitor import LIVE_MAX, MonitorAgent, health, is_host_allowed


@pytest.fixture
def memory(segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    with watched_run(segment_prefix, tmp_path) as memory:
        yield memory


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
        assert wrong[1].endswith(" silent_ms_max=2000")

    def test_health_is_as_patient_as_the_supervisor(
        self, segment_prefix: str, tmp_path: Path
    ) -> None:
        """Background priority may wait long for a core; restarting a container helps nobody."""
        settings = with_nice(small_settings(segment_prefix), "keeper", 19)
        with observed_run(settings, tmp_path, *PLANS) as memory:
            mark(memory)
            memory.board().row(1)[board.HEARTBEAT_NS] -= 10 * 10**9
            patient = health(memory)
            memory.board().row(1)[board.HEARTBEAT_NS] -= 10 * 10**9
            wrong = health(memory)

        assert patient == []
        assert [line.partition(" silent")[0] for line in wrong] == [
            "worker must beat: worker=keeper"
        ]

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

        with pytest.raises(ListenError, match=r"monitor\.port must be free .*EADDRINUSE"):
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


def test_agent_owns_the_segment_that_tells_its_port() -> None:
    plan = MonitorAgent.segments(small_settings("x"), "monitor")[0]

    assert (plan.name, plan.body_bytes) == (monitor.SEGMENT, 8 * monitor.WORDS)
