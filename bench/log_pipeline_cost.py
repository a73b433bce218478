"""Bench: what a logged message costs its caller, and how many a second reach the file.

              core A                                     core B
    +------------------------+    ring of 512-byte rows    +----------------------------+
    |  tickring: the caller  | --------------------------> |  log collector, a process  | --> file
    +------------------------+                             +----------------------------+
    +------------------------+           queue             +----------------------------+
    |  rivals with a thread  | --------------------------> |  its thread, same process  | --> file
    +------------------------+                             +----------------------------+
    +------------------------+
    |  rivals without        | -----------------------------------------------------------> file
    +------------------------+

Every logger gets the same message, an event with a text, an integer and a float, in bursts as fast
as the caller can, and as many as the logger gets into its file: before a burst the caller waits
until the backlog is short, so nothing may be lost. The loggers take turns in one run. Each call is
timed alone, one reading of the clock and one call of a function included: `floor` shows what these
cost. `compiled` is an event code from a compiled loop, the mean of each batch of 64. tickring and
structlog write JSON lines, the others plain text, which is cheaper. A regression here means that
workers pay more for what they tell, or that a flood of messages drops some sooner.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.support.figures import fine_percentiles
from bench.support.log_load import SUBJECTS
from bench.support.machine import card, cores_for, warn
from bench.support.options import parser_of, show_drawing

TURN_S_MAX = 300.0
NEEDS = {  # what has to be installed beyond what tickring needs
    "picologging_file": ("picologging",),
    "picologging_queue": ("picologging",),
    "loguru": ("loguru",),
    "structlog_orjson": ("structlog", "orjson"),
}
OURS, FLOOR = "tickring", "floor"


def _read_options() -> argparse.Namespace:
    parser = parser_of("log", __doc__)
    parser.add_argument("--messages", type=int, default=50_000, help="measured ones in a turn")
    parser.add_argument("--turns", type=int, default=5, help="turns of each logger")
    parser.add_argument("--plot", type=Path, help="also draw the distributions into this PNG file")
    options = parser.parse_args()
    if options.short:
        options.messages, options.turns = 3_000, 1
    return options


def installed() -> list[str]:
    """Names the loggers that can take part here, ours first."""
    return [name for name in SUBJECTS if all(find_spec(needed) for needed in NEEDS.get(name, ()))]


def _take_turn(name: str, messages: int, cores: tuple[int, ...]) -> dict[str, Any]:
    """Puts one logger under load in a process of its own; answers its figures and its times."""
    with tempfile.TemporaryDirectory(prefix="tickring-bench-") as text:
        words = [sys.executable, "-m", "bench.support.log_load", name, text]
        done = subprocess.run(
            [*words, str(cores[0]), str(cores[1]), str(messages)],
            stdout=subprocess.PIPE, timeout=TURN_S_MAX, check=True,
        )  # fmt: skip
        figures: dict[str, Any] = json.loads(done.stdout)
        for times in Path(text).glob("*.npy"):
            figures[times.stem] = np.load(times)
    return figures


def _line(name: str, figures: dict[str, Any]) -> str:
    shown = "  ".join(
        f"{key} {value / 1_000:8.3f} us"
        for key, value in fine_percentiles(figures["caller"], 1).items()
    )
    rate = "" if name == FLOOR else f"  {figures['records_per_s']:9,.0f}/s  lost {figures['lost']}"
    return f"{name:18s} {shown}{rate}"


def _tell(turn: int, name: str, figures: dict[str, Any]) -> None:
    sys.stderr.write(f"turn {turn} {_line(name, figures)}\n")
    if "compiled" in figures:
        compiled = {"caller": figures["compiled"]}
        sys.stderr.write(f"turn {turn} {_line(FLOOR, compiled).replace(FLOOR, 'compiled', 1)}\n")


def _summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Answers one logger's figures: percentiles over all turns, the median of the rates."""
    caller = np.concatenate([figures["caller"] for figures in turns])
    result: dict[str, Any] = {
        "caller_ns": fine_percentiles(caller, 1),
        "caller_p50_ns_by_turn": [float(np.median(figures["caller"])) for figures in turns],
        "records_per_s": round(float(np.median([one["records_per_s"] for one in turns]))),
        "lost": sum(one["lost"] for one in turns),
    }
    if "compiled" in turns[0]:
        compiled = np.concatenate([figures["compiled"] for figures in turns])
        result["compiled_caller_ns"] = fine_percentiles(compiled, 1)
    return result


def _ratios(subjects: dict[str, Any]) -> dict[str, float]:
    """Answers our caller's median cost by each rival's."""
    ours = subjects[OURS]["caller_ns"]["p50"]
    return {
        name: round(ours / figures["caller_ns"]["p50"], 3)
        for name, figures in subjects.items()
        if name != OURS
    }


def main() -> None:
    """Measures, prints every turn, and ends with the ratios."""
    options = _read_options()
    cores = cores_for(2)
    show_drawing(__doc__)
    warn(cores, 2)
    names = installed()
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(1, options.turns + 1):
        for name in names:
            turns[name].append(_take_turn(name, options.messages, cores))
            _tell(turn, name, turns[name][-1])
    subjects = {name: _summary(turns[name]) for name in names}
    floor = subjects.pop(FLOOR)
    result = {
        "subjects": subjects,
        "ratio_to": _ratios(subjects),
        "floor_ns": floor["caller_ns"],
        "messages": options.messages,
        "turns": options.turns,
        "machine": card(cores),
    }
    for name, ratio in result["ratio_to"].items():
        sys.stderr.write(f"tickring / {name:18s} {ratio:.3f} of its median cost\n")
    if options.plot:
        from bench.support.log_plot import costs  # noqa: PLC0415 - needs the extra [bench]

        costs(options.plot, {n: np.concatenate([t["caller"] for t in turns[n]]) for n in subjects})
    if options.json:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
