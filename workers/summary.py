"""workers room: what a run did, as one JSON object (a contract) and as a page for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from shm.histogram import COUNT, percentile
from shm.segment import Words
from workers import reading
from workers.board import WorkerState
from workers.books import read_books, read_trades
from workers.context import Memory
from workers.profit import profits
from workers.store import stored_counts

_MICROSECOND_NS = 1_000


def latency(words: Words) -> dict[str, int]:
    """Answers count and percentiles of a histogram, ns."""
    return {
        "count": int(words[COUNT]),
        "p50": percentile(words, 50.0),
        "p99": percentile(words, 99.0),
        "p99_9": percentile(words, 99.9),
        "max": percentile(words, 100.0),
    }


def records(memory: Memory) -> dict[str, int]:
    """Answers how many records each kind of ring has carried."""
    by_kind: dict[str, int] = {}
    for name, count in reading.counts(memory).items():
        kind = name.partition(".")[0]
        by_kind[kind] = by_kind.get(kind, 0) + count
    return by_kind


def collect(memory: Memory, elapsed_s: float, forced: Sequence[str] = ()) -> dict[str, Any]:
    """Answers the summary of a run.

    Args:
        memory: of the run.
        elapsed_s: how long it traded.
        forced: stop phases that took too long.

    Called by: the supervisor, when the workers have ended.
    """
    found = list(reading.samples(memory))
    carried = reading.counts(memory)
    journaled = reading.totals(found, "journal_records_total", "ring")
    unjournaled = sum(carried.values()) - sum(journaled.values())
    rows = memory.board().rows()
    return {
        "elapsed_s": round(elapsed_s, 3),
        "records": records(memory),
        "fills": reading.total(found, "fills_total"),
        "rejects": reading.total(found, "rejects_total"),
        "denials": {
            code: count
            for code, count in reading.totals(found, "risk_denials_total", "code").items()
            if count
        },
        "journal_records": sum(journaled.values()),
        "stored": stored_counts(memory),
        "messages": dict(sorted(reading.totals(found, "ingest_frames_total", "stream").items())),
        "trades": read_trades(memory),
        "books": read_books(memory),
        "tick_to_order_ns": latency(reading.histogram(found, "tick_to_order_latency_seconds")),
        "profit": profits(memory),
        "restarts": sum(row.restarts for row in rows),
        "workers": {
            row.name: {"restarts": row.restarts, "failed": row.state == WorkerState.FAILED}
            for row in rows
        },
        "lost": reading.lost(memory) + abs(unjournaled),
        "forced": list(forced),
    }


def failures(summary: dict[str, Any]) -> list[str]:
    """Answers why a run has failed, a line each; nothing when it was as it must be."""
    failed = [name for name, worker in summary["workers"].items() if worker["failed"]]
    return [
        *([f"{summary['lost']:,} records were lost"] if summary["lost"] else []),
        *(f"worker {name} was given up" for name in failed),
        *(f"stop phase {phase} took too long and was cut short" for phase in summary["forced"]),
    ]


def unstored(summary: dict[str, Any]) -> int:
    """Answers how many records of the journal the database does not have yet."""
    journaled = int(summary["journal_records"])
    return max(0, journaled - int(sum(summary["stored"].values())))


def show(summary: dict[str, Any], console: Console) -> None:
    """Prints a summary for people."""
    console.print(_facts(summary))
    for symbol, book in summary["books"].items():
        console.print(
            f"  book {symbol}: update {book['u']}, {book['bids']} bids, {book['asks']} asks,"
            f" sha256 {book['sha256'][:16]}"
        )
    for symbol, profit in summary["profit"].items():
        console.print(
            f"  position {symbol}: {profit['position']} {profit['base']}, bought"
            f" {profit['bought']}, sold {profit['sold']}, profit {profit['profit']}"
            f" {profit['quote']} after fees"
        )
    if waiting := unstored(summary):
        console.print(
            f"[yellow]  not stored: {waiting:,} records; they are in the journal, and the next"
            " start stores them[/]"
        )
    for line in failures(summary):
        console.print(f"[bold red]  {line}[/]")


def _facts(summary: dict[str, Any]) -> Table:
    table = Table(title="This run", show_header=False, title_justify="left")
    ticks = summary["tick_to_order_ns"]
    lines = {
        "time": f"{summary['elapsed_s']} s",
        "frames in": f"{sum(summary['messages'].values()):,}",
        "records": ", ".join(f"{name} {n:,}" for name, n in summary["records"].items()),
        "fills": f"{summary['fills']:,}",
        "rejected by the venue": f"{summary['rejects']:,}",
        "denied by risk": ", ".join(f"{c} {n}" for c, n in summary["denials"].items()) or "0",
        "journal": f"{summary['journal_records']:,} records",
        "stored": ", ".join(f"{name} {n:,}" for name, n in summary["stored"].items()),
        "tick to order": _latency_text(ticks),
        "restarts": ", ".join(
            f"{name} {worker['restarts']}"
            for name, worker in summary["workers"].items()
            if worker["restarts"]
        )
        or "0",
    }
    for name, text in lines.items():
        table.add_row(name, text)
    return table


def _latency_text(ticks: dict[str, int]) -> str:
    if not ticks["count"]:
        return "no order was sent"
    shown = "  ".join(
        f"{name} {ticks[name] / _MICROSECOND_NS:,.1f} us" for name in ("p50", "p99", "p99_9", "max")
    )
    return f"{shown}  ({ticks['count']:,} orders)"
