"""The engine as a whole, on its embedded defaults: what a new user meets first."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from typing import Any

import pytest

from tests.system import sequences
from tests.system.conftest import Starter

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

CONTRACT = {
    "records", "fills", "rejects", "journal_records", "stored", "messages", "trades", "books",
    "tick_to_order_ns", "restarts", "lost",
}  # fmt: skip


def _assert_nothing_is_missing(summary: dict[str, Any]) -> None:
    assert summary["lost"] == 0
    assert sum(summary["records"].values()) == summary["journal_records"]
    assert sum(summary["stored"].values()) == summary["journal_records"]


def test_a_short_run_trades_and_accounts_for_every_record(start: Starter) -> None:
    engine = start("--for", "8s")
    summary = engine.summary()

    assert CONTRACT <= set(summary)
    assert {"market", "signals", "intents", "orders", "reports"} <= set(summary["records"])
    assert {"count", "p50", "p99", "p99_9", "max"} == set(summary["tick_to_order_ns"])
    assert summary["fills"] > 0
    assert summary["tick_to_order_ns"]["count"] > 0
    assert summary["restarts"] == 0
    _assert_nothing_is_missing(summary)
    with contextlib.closing(sqlite3.connect(engine.data_dir / "tickring.db")) as database:
        rings = database.execute(sequences.RINGS).fetchall()
        positions = database.execute(sequences.POSITIONS).fetchall()
        rows = {
            table: database.execute(sequences.TABLE.format(table)).fetchone()
            for table in summary["stored"]
        }
    sequences.assert_every_sequence_is_everywhere(engine, summary, rings, positions)
    assert rows == {table: (count, count) for table, count in summary["stored"].items()}
    assert sum(summary["denials"].values()) == summary["stored"]["denials"]
    assert summary["stored"]["risk_states"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_in_order_with_a_summary(start: Starter, number: signal.Signals) -> None:
    engine = start()
    engine.wait_trading()

    _assert_nothing_is_missing(engine.stop(number))


def test_status_names_every_worker_and_where_its_metrics_are(start: Starter) -> None:
    engine = start()
    engine.wait_trading()
    status = json.loads(engine.command("status", "--json").stdout)
    engine.stop()

    names = {row["name"] for row in status["workers"]}
    assert {"trader", "exchange", "recorder", "store", "logs", "monitor"} == names
    assert all(
        {"name", "pid", "core", "state", "restarts"} <= set(row) for row in status["workers"]
    )
    assert {row["state"] for row in status["workers"]} == {"ready"}
    assert status["metrics_url"].startswith("http://127.0.0.1:")


def test_halt_stops_orders_and_resume_lets_them_flow(start: Starter) -> None:
    engine = start()
    engine.wait_trading()
    assert engine.command("halt").returncode == 0
    engine.wait(lambda: engine.status()["halt_text"] == "no new orders", "halted")
    assert engine.command("resume").returncode == 0
    engine.wait(lambda: engine.status()["halt_text"] == "trading", "resumed")
    before = engine.status()["records"]["reports"]
    engine.wait(lambda: engine.status()["records"]["reports"] > before, "orders flow again")
    summary = engine.stop()

    _assert_nothing_is_missing(summary)


def test_two_engines_in_one_folder_are_refused(start: Starter) -> None:
    engine = start()
    engine.wait_trading()
    second = engine.command("run", "--for", "1s")
    engine.stop()

    assert second.returncode == 2
    assert "a data folder must have one engine" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_second_run_in_the_same_folder_is_a_new_generation(start: Starter) -> None:
    engine = start("--for", "3s")
    first = engine.summary()
    done = engine.command("run", "--for", "3s", "--json")
    second = json.loads(done.stdout.splitlines()[-1])

    assert done.returncode == 0
    _assert_nothing_is_missing(first)
    _assert_nothing_is_missing(second)
    assert engine.command("journal", "verify").returncode == 0


def test_a_supervisor_that_hangs_is_told_from_none_and_acts_on_nothing_stale(
    start: Starter,
) -> None:
    engine = start()
    engine.wait_trading()
    engine.process.send_signal(signal.SIGSTOP)
    status, stopped = engine.command("status", "--json"), engine.command("stop")
    halted = engine.command("halt")
    resumed = engine.command("resume")
    engine.process.send_signal(signal.SIGCONT)
    after = engine.status()  # the request to stop was given up; it must not end the engine now
    summary = engine.stop()

    assert (status.returncode, stopped.returncode) == (0, 2)
    assert "the engine does not answer" in status.stderr
    assert "the engine does not answer" in stopped.stderr
    assert json.loads(status.stdout)["workers"]
    assert (halted.returncode, resumed.returncode) == (0, 2)
    assert after["halt_text"] == "no new orders"
    _assert_nothing_is_missing(summary)
