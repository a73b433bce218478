r"""Bench: what a whole engine takes of a core while nothing happens at the venue.

    exchange (silent) ==ws==> ingest -> signal -> risk -> execution ==ws==> exchange
                                  \_________\________\_________\____> recorder, store, logs, ...

Every process of a real engine runs, its supervisor too; the built-in exchange has no order flow.
First each worker parks (sleeps on its rings and sockets), then each backs off. What counts is the
CPU time of all processes together over some seconds; the exchange, which stands in for the venue,
is shown but not counted. A regression here means that something polls.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.support.machine import card, cores_for
from bench.support.options import parser_of, show_drawing

PROFILE = """
[engine]
name = "idle"
data_dir = "{data}"
[exchange]
rate_per_s = 0.001
[[strategies]]
name = "taker"
use = "engine.strategies.imbalance:STRATEGY"
"""
WORKERS = (
    ("trader", ("ingest.0", "signal", "risk", "execution")),
    ("exchange", ("exchange",)),
    ("recorder", ("recorder",)),
    ("store", ("store",)),
    ("logs", ("logs",)),
    ("monitor", ("monitor",)),
)
START_S_MAX, SETTLE_S = 300.0, 2.0


def _read_options() -> argparse.Namespace:
    parser = parser_of("engine-idle", __doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each is watched")
    options = parser.parse_args()
    if options.short:
        options.seconds = 1.0
    return options


def _profile(folder: Path, idle: str) -> Path:
    text = PROFILE.format(data=folder / "data")
    for name, agents in WORKERS:
        text += f'[[workers]]\nname = "{name}"\nagents = {json.dumps(agents)}\nidle = "{idle}"\n'
    path = folder / "idle.toml"
    path.write_text(text)
    return path


def _status(profile: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "workers.cli", "status", "--json", "--config", str(profile)]
    answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(answer)
    return found


def _cpu_s(pids: dict[str, int]) -> dict[str, float]:
    """Answers what every process has run, all its threads; the kernel counts it to the ns."""
    return {
        name: sum(
            int(path.read_text().split()[0]) / 1e9
            for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
        )
        for name, pid in pids.items()
    }


def _watch(engine: subprocess.Popen[str], profile: Path, seconds: float) -> dict[str, float]:
    """Answers the share of a core of every process, in percent."""
    assert engine.stderr is not None, "the pipe was asked for"
    if not any("Ctrl-C stops" in line for line in engine.stderr):
        raise RuntimeError("the engine must start: see its log")
    workers = {worker["name"]: int(worker["pid"]) for worker in _status(profile)["workers"]}
    pids = {"supervisor": engine.pid, **workers}
    _wait(engine, SETTLE_S)
    before, began_s = _cpu_s(pids), time.monotonic()
    _wait(engine, seconds)
    after, elapsed_s = _cpu_s(pids), time.monotonic() - began_s
    return {name: 100 * (after[name] - before[name]) / elapsed_s for name in pids}


def _wait(engine: subprocess.Popen[str], seconds: float) -> None:
    try:
        engine.wait(seconds)
    except subprocess.TimeoutExpired:
        return
    raise RuntimeError("the engine must outlive the measurement: see its log")


def _measure(idle: str, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="tickring-bench-") as text:
        profile = _profile(Path(text), idle)
        words = [sys.executable, "-m", "workers.cli", "run", "--config", str(profile)]
        engine = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            found = _watch(engine, profile, seconds)
        finally:
            engine.terminate()
            engine.communicate(timeout=START_S_MAX)
        return found


def main() -> None:
    """Measures both and prints the share of a core of each process."""
    options = _read_options()
    show_drawing(__doc__)
    subjects = {}
    for idle in ("park", "backoff"):
        shares = _measure(idle, options.seconds)
        total = sum(share for name, share in shares.items() if name != "exchange")
        subjects[idle] = {"cpu_percent": round(total, 3), "by_process": shares}
        parts = "  ".join(f"{name} {share:.2f}" for name, share in shares.items())
        sys.stderr.write(f"{idle:8s} {total:6.2f} % of a core: {parts}\n")
    if options.json:
        print(json.dumps({"subjects": subjects, "machine": card(cores_for(1))}), flush=True)


if __name__ == "__main__":
    main()
