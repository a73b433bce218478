"""Bench: from socket bytes to a record on the ring, at load, per quote and per depth level.

             core A                                      core B
    +----------------------+     WebSocket     +---------------------------+
    |  sender: frames      | ----------------> |  one reader at a time:    |
    |  encoded beforehand  |     loopback      |    tickring onto a ring,  |
    |                      |                   |    websockets + json,     |
    |                      |                   |    picows + msgspec       |
    +----------------------+                   +---------------------------+

The sender writes as fast as the reader takes. Costs are CPU time of the reader's process, the
kernel's part of it included, from the first message behind a warm tenth to the last; wall time
stands beside it. tickring checks, scales exactly, keeps the book and publishes; the rivals make
floats and keep them in a deque or in dictionaries. Readers take turns; ratios are medians over the
turns of how many times cheaper tickring is. Batch windows are measured at load, and with a quote
every gap for the time from its sending to its record. Session and feed are the product's; the
agent's loop around them is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.rivals import ingest_picows_msgspec, ingest_websockets_json
from bench.support import crew
from bench.support.figures import percentiles
from bench.support.ingest_load import (
    MESSAGES_STEP,
    Load,
    depths,
    listening,
    metronome,
    quotes,
    sender,
)
from bench.support.ingest_reader import CPU_NS, SAMPLES, WALL_NS, Way, tickring
from bench.support.machine import card, cores_for, warn
from bench.support.options import parser_of, show_drawing
from engine import codec_feed
from shm.segment import Words
from workers import framewalk

OURS = "tickring"
RIVALS = {
    "websockets_json": ingest_websockets_json.reader,
    "picows_msgspec": ingest_picows_msgspec.reader,
}
WINDOWS_MS = (0, 1, 5, 10)


def _read_options() -> argparse.Namespace:
    parser = parser_of("ingest", __doc__)
    parser.add_argument("--quotes", type=int, default=300_000, help="bookTicker messages a turn")
    parser.add_argument("--depths", type=int, default=20_000, help="depth messages a turn")
    parser.add_argument("--paced", type=int, default=20_000, help="quotes a window, one each gap")
    parser.add_argument("--gap-us", type=int, default=200, help="microseconds between those")
    parser.add_argument("--turns", type=int, default=5, help="turns of each reader")
    parser.add_argument("--plot", type=Path, help="also draw the batch windows into this PNG file")
    options = parser.parse_args()
    if options.short:
        options.quotes, options.depths, options.paced, options.turns = 5_000, 500, 500, 1
    for name in ("quotes", "depths"):
        if (count := getattr(options, name)) < MESSAGES_STEP or count % MESSAGES_STEP:
            parser.error(f"--{name} must be a multiple of {MESSAGES_STEP}: given={count}")
    return options


def _take_turn(name: str, load: Load, window_ms: int, cores: tuple[int, ...]) -> dict[str, float]:
    """Runs one reader against a sender; answers ns of a message or level."""
    with listening() as server:
        port = server.getsockname()[1]
        messages = (load.messages, load.warm)
        if name == OURS:
            reader = tickring(port, load.stream, messages, Way(window_ms))
        else:
            reader = RIVALS[name](port, load.stream, messages)
        words = crew.run((sender(server, load), reader), cores, SAMPLES)
    units = (load.messages - load.warm) * load.units / load.messages
    return {"cpu_ns": words[CPU_NS] / units, "wall_ns": words[WALL_NS] / units}


def _race(load: Load, turns: int, cores: tuple[int, ...]) -> dict[str, list[dict[str, float]]]:
    """Lets the readers take turns; answers every turn of each."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (OURS, *RIVALS)}
    for turn in range(1, turns + 1):
        for name, figures in found.items():
            figures.append(_take_turn(name, load, 0, cores))
            _tell(f"turn {turn} {load.stream:12s} {name:18s}", figures[-1])
    return found


def _tell(what: str, figures: dict[str, float]) -> None:
    sys.stderr.write(f"{what} cpu {figures['cpu_ns']:9.1f} ns  wall {figures['wall_ns']:9.1f} ns\n")


def _medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(float(np.median([turn[key] for turn in turns])), 1) for key in turns[0]}


def _ratios(found: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Answers how many times cheaper we are than each rival."""
    return {
        name: round(
            float(
                np.median(
                    [
                        rival["cpu_ns"] / own["cpu_ns"]
                        for rival, own in zip(found[name], found[OURS], strict=True)
                    ]
                )
            ),
            2,
        )
        for name in RIVALS
    }


def _windows(
    options: argparse.Namespace, load: Load, cores: tuple[int, ...]
) -> tuple[dict[int, dict[str, Any]], dict[int, Words]]:
    """Measures every batch window at load and paced; answers figures and latencies, ns."""
    figures: dict[int, dict[str, Any]] = {}
    latencies: dict[int, Words] = {}
    turns: dict[int, list[dict[str, float]]] = {window: [] for window in WINDOWS_MS}
    for _ in range(options.turns):
        for window, found in turns.items():
            found.append(_take_turn(OURS, load, window, cores))
    for window in WINDOWS_MS:
        with listening() as server:
            beat = metronome(server, options.paced, options.gap_us)
            port = server.getsockname()[1]
            reader = tickring(port, load.stream, (options.paced, 0), Way(window, is_timed=True))
            words = crew.run((beat, reader), cores, SAMPLES + options.paced + 1)
        latencies[window] = words[SAMPLES : SAMPLES + int(words[-1])]
        at_load = _medians(turns[window])
        figures[window] = at_load | {
            "rate_per_s": round(1e9 / at_load["wall_ns"]),
            "latency_ns": percentiles(latencies[window]),
        }
        _tell(f"window {window:2d} ms", at_load)
        shown = figures[window]["latency_ns"].items()
        times = "  ".join(f"{name} {ns / 1_000:.1f} us" for name, ns in shown)
        sys.stderr.write(f"window {window:2d} ms sent to ring: {times}\n")
    return figures, latencies


def main() -> None:
    """Measures, prints every turn, and ends with the ratios."""
    options = _read_options()
    cores = cores_for(2)
    show_drawing(__doc__)
    warn(cores, 2)
    framewalk.warm()
    codec_feed.warm()  # before the readers are forked, so that none of them compiles
    load = quotes(options.quotes)
    tops = _race(load, options.turns, cores)
    levels = _race(depths(options.depths), options.turns, cores)
    windows, latencies = _windows(options, load, cores)
    result: dict[str, Any] = {"ratios": _ratios(tops), "depth_ratios": _ratios(levels)}
    for name in (OURS, *RIVALS):
        result[f"{name}_ns"] = {"message": _medians(tops[name]), "level": _medians(levels[name])}
    result |= {
        "windows_ms": {str(window): figures for window, figures in windows.items()},
        "messages": options.quotes,
        "turns": options.turns,
        "machine": card(cores),
    }
    for kind, ratios in (("message", result["ratios"]), ("level", result["depth_ratios"])):
        for name, ratio in ratios.items():
            sys.stderr.write(f"tickring is {ratio:6.2f} times cheaper a {kind} than {name}\n")
    if options.plot:
        from bench.support.ingest_plot import windows as draw  # noqa: PLC0415 - needs extra [bench]

        rates = {window: figures["rate_per_s"] for window, figures in windows.items()}
        draw(options.plot, latencies, rates)
    if options.json:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
