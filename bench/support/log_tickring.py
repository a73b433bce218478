"""Bench: our logger as a worker uses it: its ring, and the collector in a process of its own.

Run as a process, it is the collector: python -m bench.support.log_tickring FOLDER CORE
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from bench.support.log_load import BACKLOG_MAX, BURST, Means, Place, await_backlog, pin
from config.settings import EngineSettings, LogSettings, RingSettings, Settings, WorkerSettings
from engine.eventcodes import EVENT_RING_FULL
from shm.jit import jit, now_ns
from shm.park import Backoff
from shm.ring import CURSOR, READER_BASE, RELEASED
from shm.segment import Words
from workers import loglevels
from workers.agent import Phase
from workers.context import AgentContext, Memory, Run
from workers.logfile import existing, log_path
from workers.logrows import log_event
from workers.logs import LogsAgent
from workers.memory import create_all, remove_all

CALLER, COLLECTOR = "caller", "collector"
EVENT, BATCH = "order sent", 64
ENGINE_AGENTS = ("ingest.0", "signal", "risk", "execution", "recorder", "store")


def run_in(folder: Path) -> Run:
    """Answers an engine run with a caller and a collector, and with rings of the shipped size."""
    settings = Settings(
        engine=EngineSettings(name="bench-log"),
        rings=RingSettings(market=64, decisions=64),
        log=LogSettings(file_bytes_max=1 << 40),
        workers=(
            WorkerSettings(name=CALLER, agents=ENGINE_AGENTS),
            WorkerSettings(name=COLLECTOR, agents=("logs",)),
        ),
    )
    return Run(settings, folder, 1, (loglevels.segment_plan(),))


@jit
def log_events(port: Words, times: Words, batch: int) -> None:
    """Logs `batch` events for each of `times`, which gets the ns that they took together."""
    for index in range(len(times)):
        before_ns = now_ns()
        for number in range(batch):
            log_event(port, EVENT_RING_FULL, index, number, batch)
        times[index] = now_ns() - before_ns


class Tickring:
    """The subject."""

    def __init__(self, place: Place) -> None:
        self._folder = place.folder
        run = run_in(place.folder)
        self._segments = create_all(run)
        self._memory = Memory(run)
        self._memory.log_levels().set_all(run.settings)
        self._logger = self._memory.logger(CALLER)
        self._control = self._memory.observe(f"log.{CALLER}").data
        words = [sys.executable, "-m", "bench.support.log_tickring"]
        self._collector = subprocess.Popen(
            [*words, str(place.folder), str(place.other_core)], stdout=subprocess.PIPE
        )
        assert self._collector.stdout is not None, "the pipe was asked for"
        if self._collector.stdout.readline() != b"ready\n":
            raise RuntimeError("the collector must start: see the lines above")
        # Takes the ring's pages once, as a worker has after its first minutes.
        for number in range(0, run.settings.rings.log, BURST):
            await_backlog(self, BACKLOG_MAX)
            log_events(self._logger.port, np.zeros(BURST // BATCH, np.int64), BATCH)
            del number

    def log(self, number: int) -> None:
        """Logs one message."""
        self._logger.info(EVENT, order="TR1-17", price_ticks=number, ratio=0.5)

    def backlog(self) -> int:
        """Answers what the collector has not released, which it does when it has written."""
        lag: int = self._control[CURSOR] - self._control[READER_BASE + RELEASED]
        return lag

    def compiled_ns(self, calls: int) -> Means:
        """Answers the mean ns of an event's call from compiled code, one a batch."""
        times = np.zeros(max(1, calls // BATCH), np.int64)
        for first in range(0, len(times), BURST // BATCH):
            await_backlog(self, BACKLOG_MAX)
            log_events(self._logger.port, times[first : first + BURST // BATCH], BATCH)
        return times / BATCH

    def close(self) -> None:
        """Ends the collector in order and removes the memory."""
        await_backlog(self, 0)
        dropped = self._logger.dropped
        self._collector.terminate()
        self._collector.communicate(timeout=60)
        self._memory.close()
        remove_all(self._segments)
        if dropped:
            raise RuntimeError(f"a logger that waits for room must lose nothing: dropped={dropped}")

    def lines(self) -> int:
        """Counts the messages in the log files."""
        mark = f'"event":"{EVENT}"'.encode()
        files = existing(log_path(self._folder), 1_000)
        return sum(file.read_bytes().count(mark) for file in files)


def main() -> None:
    """Collects until it is told to end, or its parent is gone."""
    folder, core = Path(sys.argv[1]), int(sys.argv[2])
    pin(0, core)
    parent, is_over = os.getppid(), []
    signal.signal(signal.SIGTERM, lambda *_: is_over.append(True))
    memory = Memory(run_in(folder))
    logger = memory.logger(COLLECTOR)
    agent = LogsAgent(AgentContext(memory, COLLECTOR, "logs", logger))
    agent.on_start()
    print("ready", flush=True)
    idle = Backoff()
    while not is_over and os.getppid() == parent:
        idle.idle(agent.do_work())
    agent.on_phase(Phase.LOGS)
    agent.on_close()
    memory.close()


if __name__ == "__main__":
    main()
