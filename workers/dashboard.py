"""workers room: the live view of a run: what flows where, how fast, at what profit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engine.control import OPERATOR_HALT, SUPERVISOR_HALT
from shm.histogram import COUNT, percentile
from workers import reading
from workers.board import WorkerState
from workers.context import Memory
from workers.notices import level_text
from workers.profit import profits
from workers.summary import records

REFRESH_S = 0.5
LINE_S = 10.0  # where nobody watches, in a log or a pipe
_STAGES = (
    ("signal", "signal_generation_time_seconds"),
    ("risk check", "risk_check_time_seconds"),
    ("tick to order", "tick_to_order_latency_seconds"),
    ("order to answer", "order_execution_latency_seconds"),
    ("database write", "db_write_latency_seconds"),
)


def alarms(memory: Memory, reason: str) -> list[str]:
    """Answers what must not be overlooked: trading that is halted, a database that is away.

    Args:
        memory: of the run.
        reason: why the supervisor halted trading, when it did.
    """
    control = memory.control()
    operator, supervisor = int(control[OPERATOR_HALT]), int(control[SUPERVISOR_HALT])
    lines = []
    if operator or supervisor:
        why = reason if supervisor and reason else "operator"
        lines.append(f"HALTED: {level_text(max(operator, supervisor))}: {why}")
    found = list(reading.samples(memory))
    behind = reading.total(found, "store_lag_records")
    if behind and not reading.total(found, "store_connected"):
        lines.append(f"STORE IS AWAY: {behind:,} records wait in the journal")
    return lines


class Dashboard:
    """Draws the state of a run; `poll` is called from the supervisor's loop.

    Args:
        memory: of the run.
        console: where to draw.
        note: heads the view.
        halt_reason: answers why the supervisor halted trading.
    """

    def __init__(
        self,
        memory: Memory,
        console: Console,
        note: str,
        halt_reason: Callable[[], str] = lambda: "",
    ) -> None:
        self._memory, self._console, self._note = memory, console, note
        self._halt_reason = halt_reason
        self._last: dict[str, int] = {}
        self._last_s = self._started_s = time.monotonic()
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._is_live = console.is_terminal

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self._live.stop()

    def poll(self) -> None:
        """Draws again when it is time: a table on a terminal, else a line now and then."""
        now = time.monotonic()
        wait_s = REFRESH_S if self._is_live else LINE_S
        if now - self._last_s < wait_s:
            return
        flows = self._rates(now)
        if self._is_live:
            self._live.update(self._draw(flows, now), refresh=True)
        else:
            self._print_line(flows, now)

    def _rates(self, now: float) -> dict[str, tuple[int, float]]:
        found = list(reading.samples(self._memory))
        counts = {"frames": sum(reading.totals(found, "ingest_frames_total", "stream").values())}
        counts |= records(self._memory)
        counts["fills"] = reading.total(found, "fills_total")
        counts["journal"] = reading.total(found, "journal_records_total")
        counts["stored"] = reading.total(found, "stored_rows_total")
        seconds = now - self._last_s
        flows = {
            name: (count, (count - self._last.get(name, 0)) / seconds)
            for name, count in counts.items()
        }
        self._last, self._last_s = counts, now
        return flows

    def _draw(self, flows: dict[str, tuple[int, float]], now: float) -> Group:
        rates = Table(title=f"{self._note}   {now - self._started_s:,.0f} s", title_justify="left")
        rates.add_column("what flows")
        rates.add_column("per second", justify="right")
        rates.add_column("so far", justify="right")
        for name, (count, rate) in flows.items():
            rates.add_row(name, f"{rate:,.0f}", f"{count:,}")
        alarming = [Text(line, style="bold red") for line in self._alarms()]
        return Group(*alarming, rates, self._latencies(), self._positions(), self._workers())

    def _alarms(self) -> list[str]:
        return alarms(self._memory, self._halt_reason())

    def _latencies(self) -> Table:
        found = list(reading.samples(self._memory))
        table = Table(title="latency, microseconds", title_justify="left")
        for column in ("stage", "count", "p50", "p99", "p99.9", "max"):
            table.add_column(column, justify="left" if column == "stage" else "right")
        for stage, name in _STAGES:
            words = reading.histogram(found, name)
            cells = [f"{percentile(words, p) / 1_000:,.1f}" for p in (50.0, 99.0, 99.9, 100.0)]
            table.add_row(stage, f"{int(words[COUNT]):,}", *cells)
        return table

    def _positions(self) -> Table:
        table = Table(title="positions", title_justify="left")
        for column in ("symbol", "fills", "position", "profit after fees"):
            table.add_column(column, justify="left" if column == "symbol" else "right")
        for symbol, row in profits(self._memory).items():
            profit = f"{row['profit']} {row['quote']}"
            table.add_row(symbol, str(row["fills"]), f"{row['position']} {row['base']}", profit)
        return table

    def _workers(self) -> Table:
        table = Table(title="workers", title_justify="left")
        for column in ("name", "pid", "core", "state", "restarts", "heartbeat"):
            table.add_column(column)
        now_ns = time.monotonic_ns()
        for row in self._memory.board().rows():
            age_ms = (now_ns - row.heartbeat_ns) / 1e6 if row.heartbeat_ns else 0.0
            core = str(row.core) if row.core >= 0 else "any"
            state = WorkerState(row.state).name.lower()
            table.add_row(
                row.name, str(row.pid), core, state, str(row.restarts), f"{age_ms:,.1f} ms"
            )
        return table

    def _print_line(self, flows: dict[str, tuple[int, float]], now: float) -> None:
        shown = "  ".join(f"{name} {count:,}" for name, (count, _) in flows.items())
        line = "  ".join([f"{now - self._started_s:6.1f} s", *self._alarms(), shown])
        self._console.print(line, markup=False, highlight=False)
