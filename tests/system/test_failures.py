"""What goes wrong is said in one line, to a person and in the exit code, and never for ever."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest

from tests.system.conftest import Starter
from tests.system.profiles import demo

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

AWAY = """
[venue]
rest_url = "http://127.0.0.1:{port}"
stream_url = "ws://127.0.0.1:{port}"
order_url = "ws://127.0.0.1:{port}/ws-api/v3"
secret_file = "{secret}"
reconnect_ms = {first_ms}
reconnect_ms_max = {ms_max}
[exchange]
enabled = false
"""


def _away(folder: Path, port: int, first_ms: int, ms_max: int) -> str:
    """A profile whose venue nobody serves."""
    secret = folder / "secret"
    secret.write_text("k" * 64 + "\n" + "s" * 64 + "\n")
    secret.chmod(0o600)
    values = {"port": port, "secret": secret, "first_ms": first_ms, "ms_max": ms_max}
    return demo("away", more=AWAY.format(**values))


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("tickring:")]


def test_a_recorder_that_is_given_up_halts_trading_and_fails_the_run(start: Starter) -> None:
    engine = start(config=demo("given-up", engine="restarts_max = 0"))
    engine.wait_trading()
    engine.kill("recorder")
    engine.wait(lambda: engine.status()["halt_text"] == "cancel all", "trading is halted")
    engine.process.send_signal(signal.SIGINT)
    code, out = engine.ended()
    summary = json.loads(out.splitlines()[-1])

    assert code == 1
    assert summary["workers"]["recorder"] == {"restarts": 0, "failed": True}
    assert summary["lost"] > 0
    said = engine.stderr()
    assert "critical: trading is halted: level=cancel all reason=worker recorder died" in said
    assert f"{summary['lost']:,} records were lost" in said
    assert "worker recorder was given up" in said


def test_a_venue_that_cannot_be_reached_ends_the_first_start(
    start: Starter, tmp_path: Path, free_port: int
) -> None:
    engine = start(config=_away(tmp_path, free_port, 1, 2))
    code, out = engine.ended()
    said = engine.stderr()

    assert (code, out) == (1, "")
    assert len(_lines(said)) == 1
    assert "worker must become READY: worker=trader" in _lines(said)[0]
    assert f"http://127.0.0.1:{free_port}" in _lines(said)[0]
    assert "running" not in said
    assert "Traceback" not in said


def test_a_start_that_waits_for_its_venue_says_so_and_can_be_stopped(
    start: Starter, tmp_path: Path, free_port: int
) -> None:
    engine = start(config=_away(tmp_path, free_port, 5_000, 10_000))
    engine.wait(lambda: "the venue must be reachable" in engine.stderr(), "it says why it waits")
    summary = engine.stop(signal.SIGTERM)

    assert summary["forced"] == []
    assert "running" not in engine.stderr()


@pytest.mark.parametrize("section", ["monitor", "exchange"])
def test_a_taken_port_is_said_once_and_nothing_is_started(start: Starter, section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        engine = start(config=demo("taken", more=f"[{section}]\nport = {port}"))
        code, out = engine.ended()
    said = engine.stderr()

    assert (code, out) == (2, "")
    assert said.startswith(f"tickring: {section}.port must be free to listen on: ")
    assert f"{section}.port={port}" in said
    assert said.count("\n") == 1
