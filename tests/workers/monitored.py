"""A monitor over the memory of a small run, and requests to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from engine import control, positions
from tests.workers.observed_run import (
    agent_context,
    observed_run,
    small_settings,
    tell_instruments,
)
from workers import board
from workers.agent import Phase, SegmentPlan
from workers.board import WorkerState
from workers.books import TOPS_PLAN
from workers.context import Memory
from workers.monitor import MonitorAgent

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


@contextmanager
def watched_run(name: str, data_dir: Path) -> Iterator[Memory]:
    """Gives the memory of a small run whose workers are all well."""
    with observed_run(small_settings(name), data_dir, *PLANS) as memory:
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
