"""kill -9 of any worker: it is back, trading goes on, and the summary says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.conftest import Starter
from tests.system.engine import Engine

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

SPLIT = """
[engine]
name = "split"

[[strategies]]
name = "maker"
use = "engine.strategies.maker:STRATEGY"

[[strategies]]
name = "taker"
use = "engine.strategies.imbalance:STRATEGY"
""" + "".join(
    f'[[workers]]\nname = "{name}"\nagents = ["{agent}"]\nidle = "{idle}"\nnice = {nice}\n'
    for name, agent, idle, nice in (
        ("feed", "ingest.0", "backoff", 0),
        ("signal", "signal", "backoff", 0),
        ("risk", "risk", "park", 0),
        ("execution", "execution", "backoff", 0),
        ("exchange", "exchange", "backoff", 0),
        ("recorder", "recorder", "park", 0),
        ("store", "store", "backoff", 19),
        ("logs", "logs", "backoff", 19),
        ("monitor", "monitor", "backoff", 19),
    )
)


def _kill_and_await_return(engine: Engine, worker: str) -> None:
    restarts = engine.worker(worker)["restarts"]
    pid = engine.kill(worker)
    engine.wait(
        lambda: (
            (row := engine.worker(worker))["state"] == "ready"
            and row["pid"] != pid
            and row["restarts"] > restarts
        ),
        f"{worker} is back",
    )


def _kill_each(engine: Engine, workers: tuple[str, ...]) -> None:
    engine.wait_trading()
    for worker in workers:
        _kill_and_await_return(engine, worker)
        before = engine.status()["records"]["reports"]
        engine.wait(
            lambda before=before: engine.status()["records"]["reports"] > before,  # type: ignore[misc]
            f"orders flow after the death of {worker}",
        )
    summary = engine.stop()

    assert summary["restarts"] == len(workers)
    assert {name: w["restarts"] for name, w in summary["workers"].items() if w["restarts"]} == (
        dict.fromkeys(workers, 1)
    )
    assert summary["lost"] == 0
    assert sum(summary["records"].values()) == summary["journal_records"]
    assert sum(summary["stored"].values()) == summary["journal_records"]


def test_every_worker_of_the_demo_comes_back(start: Starter) -> None:
    _kill_each(start(), ("trader", "exchange", "recorder", "store", "logs", "monitor"))


def test_every_worker_comes_back_when_each_agent_has_its_own(start: Starter) -> None:
    workers = ("feed", "signal", "risk", "execution")  # the others are alone in the demo too
    _kill_each(start(config=SPLIT), workers)


def test_a_killed_supervisor_takes_its_workers_along(start: Starter) -> None:
    engine = start()
    engine.wait_trading()
    pids = [row["pid"] for row in engine.status()["workers"]]
    engine.process.kill()
    engine.process.wait()
    again = engine.command("run", "--for", "2s")  # it also removes what the dead one left

    assert again.returncode == 0
    assert [pid for pid in pids if _is_alive(pid)] == []
    assert engine.segments() == []


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
