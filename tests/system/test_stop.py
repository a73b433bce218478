"""The ordered stop, whatever else happens to the engine meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from config.load import load
from shm import segment
from tests.system.conftest import Starter
from tests.system.engine import START_S_MAX, is_trading
from workers import controlsocket
from workers.agent import Phase
from workers.context import segment_prefix

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


def _assert_ordered(summary: dict[str, Any], restarts: int = 0) -> None:
    assert summary["lost"] == 0
    assert summary["restarts"] == restarts
    assert summary["forced"] == []
    assert sum(summary["records"].values()) == summary["journal_records"]
    assert sum(summary["stored"].values()) == summary["journal_records"]


def test_a_worker_that_dies_during_the_stop_comes_back_and_takes_part(start: Starter) -> None:
    engine = start()
    engine.wait_trading()
    pid = int(engine.worker("trader")["pid"])
    os.kill(pid, signal.SIGSTOP)
    engine.process.send_signal(signal.SIGTERM)
    engine.wait(lambda: engine.phase() >= Phase.QUIET, "the stop has begun")
    os.kill(pid, signal.SIGKILL)
    summary = engine.summary()

    _assert_ordered(summary, restarts=1)
    assert summary["workers"]["trader"] == {"restarts": 1, "failed": False}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_every_process_stops_in_order(start: Starter, number: signal.Signals) -> None:
    engine = start()
    engine.wait_trading()
    summary = engine.stop_all(number)

    _assert_ordered(summary)
    assert engine.segments() == []
    assert engine.log("warning") == []


def test_a_signal_to_every_process_at_any_moment_of_the_start_leaves_nothing(
    start: Starter,
) -> None:
    engine = start()
    engine.wait(engine.segments, "shared memory is there", START_S_MAX)
    os.killpg(engine.process.pid, signal.SIGTERM)
    code, _ = engine.ended()

    assert code == 0
    assert engine.segments() == []
    assert "running" not in engine.stderr()
    assert "Traceback" not in engine.stderr()


def test_a_terminal_that_is_closed_stops_in_order(tmp_path: Path) -> None:
    """The hang-up goes to every process, and nothing can be written from then on."""
    data_dir = tmp_path / "data"
    terminal, end = os.openpty()
    os.set_blocking(terminal, False)
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.cli", "run", "--data-dir", str(data_dir)],
        stdin=end, stdout=end, stderr=end, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one call
    )  # fmt: skip
    os.close(end)
    try:
        deadline = time.monotonic() + START_S_MAX
        while not _is_trading(data_dir):
            with contextlib.suppress(BlockingIOError):
                os.read(terminal, 1 << 16)
            assert process.poll() is None
            assert time.monotonic() < deadline
        os.close(terminal)
        code = process.wait(START_S_MAX)
    finally:
        process.kill()
        process.wait()

    assert code == 0  # nothing lost, no worker given up, no phase cut short
    assert segment.names(segment_prefix(load(None, {}), data_dir)) == []


def _is_trading(data_dir: Path) -> bool:
    with contextlib.suppress(OSError):  # not there yet, or busy with its start
        return is_trading(controlsocket.request(data_dir, "status"))
    return False
