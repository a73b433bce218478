"""Bench: from a market frame written by the exchange to the order frame read back by it.

                 core A                                    core B
    +---------------------------+   bookTicker   +---------------------------+
    |  built-in exchange with   | -------------> |  one engine at a time:    |
    |  a metronome for a market |   loopback     |    tickring, or           |
    |  (times both frames)      | <------------- |    asyncio single process |
    +---------------------------+   order.place  +---------------------------+

The metronome writes a quote every gap; each quote is one that the strategy must answer with an
immediate-or-cancel order at its ask. Quotes and orders pair by price. The engines take turns in
the same run, so what the host does to one it does to the other; ratios are of medians over the
turns. A regression here means that something slow came between socket and order.

tickring is the whole product: supervisor, recorder, store and logs run too, on nice cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.support.figures import PERCENTILES, percentiles
from bench.support.hops import Quotes, hops
from bench.support.machine import card, cores_for, warn
from bench.support.metronome import KEY_FILE
from bench.support.options import parser_of, show_drawing
from workers.exchange.keys import make_ed25519_pair, write_pair

RUN_S_MAX = 600.0
PROFILE = """
[engine]
name = "bench"
data_dir = "{data}"
[market]
streams = ["bookTicker"]
[venue]
rest_url = "http://127.0.0.1:{port}"
stream_url = "ws://127.0.0.1:{port}"
order_url = "ws://127.0.0.1:{port}/ws-api/v3"
secret_file = "{key}"
[exchange]
enabled = false
[risk]
order_value_max = "1000000"
position_max = "1000000"
open_orders_max = 1000
messages_per_s_max = 1000
price_collar_bps = 100.0
[[strategies]]
name = "race"
use = "bench.support.threshold:STRATEGY"
[[workers]]
name = "trader"
agents = ["ingest.0", "signal", "risk", "execution"]
core = {core}
idle = "spin"
[[workers]]
name = "rest"
agents = ["recorder", "logs"]
idle = "park"
linger_us = 5000
scheduler = "idle"
timer_slack_ns = 1000000
[[workers]]
name = "store"
agents = ["store"]
idle = "park"
scheduler = "idle"
timer_slack_ns = 1000000
[monitor]
enabled = false
"""


def _read_options() -> argparse.Namespace:
    parser = parser_of("tick-to-order", __doc__)
    parser.add_argument("--quotes", type=int, default=10_000, help="measured quotes in a turn")
    parser.add_argument("--gap-us", type=int, default=2_000, help="microseconds between quotes")
    parser.add_argument("--turns", type=int, default=3, help="turns of each engine")
    parser.add_argument("--plot", type=Path, help="also draw the distributions into this PNG file")
    options = parser.parse_args()
    if options.short:
        options.quotes, options.turns = 500, 1
    return options


@contextlib.contextmanager
def _exchange(folder: Path, options: argparse.Namespace, core: int) -> Iterator[int]:
    """Runs a metronome; yields its port."""
    write_pair(folder / KEY_FILE, make_ed25519_pair())
    words = [str(folder), str(options.quotes), str(options.gap_us), str(core)]
    process = subprocess.Popen([sys.executable, "-m", "bench.support.metronome", *words])
    try:
        port = folder / "port"
        while not port.exists():
            if process.poll() is not None:
                raise RuntimeError("the metronome must start: see the lines above")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        yield int(port.read_text())
        process.wait(RUN_S_MAX)
    finally:
        process.kill()
        process.wait()


def _run_asyncio(folder: Path, options: argparse.Namespace, cores: tuple[int, int]) -> None:
    with _exchange(folder, options, cores[0]):
        words = [sys.executable, "-m", "bench.rivals.asyncio_engine", str(folder), str(cores[1])]
        engine = subprocess.Popen(words)
        try:
            engine.wait(RUN_S_MAX)
        finally:
            engine.kill()
            engine.wait()


def _run_tickring(folder: Path, options: argparse.Namespace, cores: tuple[int, int]) -> None:
    with _exchange(folder, options, cores[0]) as port:
        profile = folder / "bench.toml"
        data, key = folder / "data", folder / KEY_FILE
        profile.write_text(PROFILE.format(data=data, key=key, port=port, core=cores[1]))
        words = [sys.executable, "-m", "workers.cli"]
        engine = subprocess.Popen(
            [*words, "run", "--config", str(profile)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert engine.stderr is not None, "the pipe was asked for"
        said = []
        for line in engine.stderr:
            said.append(line)
            if "Ctrl-C stops" in line:
                break
        else:
            raise RuntimeError("tickring must start: " + "".join(said[-3:]))
        (folder / "go").touch()
        _await(folder / "round_trips.npy", engine)
        engine.terminate()
        engine.communicate(timeout=RUN_S_MAX)


def _await(path: Path, engine: subprocess.Popen[str]) -> None:
    while not path.exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.wait(0.1)
            raise RuntimeError("tickring must outlive the quotes: see its log")


def _percentiles(round_trips_ns: npt.NDArray[np.int64]) -> dict[str, Any]:
    came = round_trips_ns[round_trips_ns > 0]
    return {"count": len(came), "missed": int(len(round_trips_ns) - len(came)), **percentiles(came)}


def _measure(options: argparse.Namespace, cores: tuple[int, int]) -> dict[str, list[Any]]:
    """Lets the engines take turns; answers round trips of every turn and the hops inside."""
    turns: dict[str, list[Any]] = {"tickring": [], "asyncio": [], "hops": []}
    for turn in range(options.turns):
        for name, run in (("tickring", _run_tickring), ("asyncio", _run_asyncio)):
            with tempfile.TemporaryDirectory(prefix="tickring-bench-") as text:
                folder = Path(text)
                run(folder, options, cores)
                turns[name].append(np.load(folder / "round_trips.npy"))
                if name == "tickring":
                    turns["hops"].append(hops(folder / "data", Quotes.load(folder)))
            shown = _percentiles(turns[name][-1])
            sys.stderr.write(f"turn {turn + 1} {name:9s} {_line(shown)}\n")
    return turns


def _line(shown: dict[str, Any]) -> str:
    times = "  ".join(f"{name} {shown[name] / 1_000:8.1f} us" for name in PERCENTILES)
    return f"{times}  orders {shown['count']}  missed {shown['missed']}"


def _median_of(turns: list[Any], name: str) -> float:
    return float(np.median([_percentiles(turn)[name] for turn in turns]))


def main() -> None:
    """Measures, prints every turn, and ends with the ratios."""
    options = _read_options()
    cores = cores_for(2)
    show_drawing(__doc__)
    warn(cores, 2)
    turns = _measure(options, (cores[0], cores[1]))
    names = ("p50", "p99", "p99_9")
    result = {
        "ratio_to_asyncio": {
            name: round(_median_of(turns["tickring"], name) / _median_of(turns["asyncio"], name), 4)
            for name in names
        },
        "tickring_ns": _percentiles(np.concatenate(turns["tickring"])),
        "asyncio_ns": _percentiles(np.concatenate(turns["asyncio"])),
        "hops_ns": turns["hops"][-1],
        "gap_us": options.gap_us,
        "turns": options.turns,
        "machine": card(cores),
    }
    for name, ratio in result["ratio_to_asyncio"].items():
        sys.stderr.write(f"tickring / asyncio  {name:6s} {ratio:.3f}\n")
    if options.plot:
        from bench.support.plot import distributions  # noqa: PLC0415 - needs the extra [bench]

        distributions(options.plot, {name: turns[name] for name in ("tickring", "asyncio")})
    if options.json:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
