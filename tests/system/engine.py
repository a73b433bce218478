"""A whole engine as a user runs it: the command in a process of its own, spoken to from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from config.load import load
from engine.control import CONTROL_WORDS, PHASE
from engine.control import LAYOUT as CONTROL_LAYOUT
from shm import segment
from workers import controlsocket
from workers.agent import Phase
from workers.context import segment_prefix

START_S_MAX = 300.0  # a first start compiles everything
STEP_S_MAX = 60.0


class Engine:
    """One `tickring run`; use as a context manager."""

    def __init__(self, folder: Path, *arguments: str, config: str = "") -> None:
        self.data_dir = folder / "data"
        self.config = folder / "engine.toml"
        self._stderr = (folder / "stderr.txt").open("w+")
        words = [sys.executable, "-m", "workers.cli", "run", "--data-dir", str(self.data_dir)]
        self._chosen: list[str] = []
        if config:
            self.config.write_text(config)
            self._chosen = ["--config", str(self.config)]
        self.process = subprocess.Popen(
            [*words, *self._chosen, *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            start_new_session=True,  # a group of its own, for signals to all of its processes
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._stderr.close()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs another tickring command against this engine."""
        return subprocess.run(
            [
                *(sys.executable, "-m", "workers.cli", *words, *self._chosen),
                *("--data-dir", str(self.data_dir)),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=STEP_S_MAX,
        )

    def status(self) -> dict[str, Any]:
        """Answers what `tickring status --json` prints, nothing while there is no engine."""
        with contextlib.suppress(OSError):  # without the second that starting a command takes
            return controlsocket.request(self.data_dir, "status")
        done = self.command("status", "--json")
        answer: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return answer

    def worker(self, name: str) -> dict[str, Any]:
        """Answers the status row of one worker."""
        rows: list[dict[str, Any]] = self.status().get("workers", [])
        return next((row for row in rows if row["name"] == name), {})

    def wait(self, holds: Callable[[], object], what: str, seconds: float = STEP_S_MAX) -> None:
        """Polls until `holds` answers something true."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, f"the engine ended early: {self.stderr()}"
            assert time.monotonic() < deadline, f"still not so: {what}: {self.stderr()}"
            time.sleep(0.05)  # noqa: TID251 - polling a real process from outside

    def wait_trading(self) -> None:
        """Waits until every worker is READY, and orders have reached the venue and come back.

        Orders do not wait for the store; one that is not READY at a stop stores at the next start.
        """
        self.wait(lambda: is_trading(self.status()), "all ready, reports flow", START_S_MAX)

    def kill(self, worker: str) -> int:
        """Kills a worker with SIGKILL; answers the pid it had."""
        pid = int(self.worker(worker)["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    def phase(self) -> Phase:
        """Answers how far a stop has come."""
        control = segment.attach(self._prefix() + "control", CONTROL_LAYOUT)
        return Phase(int(control.words(0, CONTROL_WORDS)[PHASE]))

    def stop(self, number: signal.Signals = signal.SIGINT) -> dict[str, Any]:
        """Sends a signal to the supervisor and answers the summary."""
        self.process.send_signal(number)
        return self.summary()

    def stop_all(self, number: signal.Signals) -> dict[str, Any]:
        """Sends a signal to every process, as a terminal does, and answers the summary."""
        os.killpg(self.process.pid, number)
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """Waits for an end without a fault and answers the last line of standard output."""
        code, out = self.ended()
        print(self.stderr())  # noqa: T201 - shown beside whatever a test finds wrong
        assert code == 0, f"exit {code}: {self.stderr()}"
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
        return answer

    def ended(self) -> tuple[int, str]:
        """Waits for the end; answers the exit code and what stood on standard output."""
        out, _ = self.process.communicate(timeout=START_S_MAX)
        return self.process.returncode, out

    def log(self, level: str) -> list[dict[str, Any]]:
        """Answers the log lines of a level."""
        lines = (self.data_dir / "logs" / "tickring.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["level"] == level]

    def stderr(self) -> str:
        """Answers what the engine has said so far, its end."""
        self._stderr.flush()
        return Path(self._stderr.name).read_text()[-3_000:]

    def segments(self) -> list[str]:
        """Answers what this engine has in /dev/shm."""
        return sorted(path.name for path in Path("/dev/shm").glob(f"{self._prefix()}*"))

    def _prefix(self) -> str:
        settings = load(self.config if self._chosen else None, {})
        return segment_prefix(settings, self.data_dir)


def is_trading(status: dict[str, Any]) -> bool:
    """Says whether every worker is READY and orders have come back; not of an empty status."""
    is_started = all(row["state"] == "ready" for row in status.get("workers", ()))
    return is_started and bool(status.get("records", {}).get("reports", 0) > 0)
