"""workers room: `tickring capture inspect`: what recordings hold, as tables, JSON or a picture."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from workers.capture_facts import MALFORMED_MAX, Facts, facts_of
from workers.terminal import print_line

EXIT_OK, EXIT_DAMAGED = 0, 1


def inspect(paths: list[Path], plot: Path | None, *, as_json: bool) -> int:
    """Says what recordings hold; answers 1 when one is damaged, out of order or has gaps.

    Raises:
        ValueError: a picture was asked for and matplotlib is not installed.
    """
    if plot is not None and find_spec("matplotlib") is None:
        raise ValueError("--plot must have matplotlib: pip install 'tickring[bench]'")
    found = [facts_of(path) for path in paths]
    if as_json:
        print_line(json.dumps({"files": [facts.document() for facts in found]}))
    else:
        for facts in found:
            _show(facts)
    for facts in found:
        sys.stderr.writelines(f"tickring: {problem}\n" for problem in facts.problems)
        hidden = facts.malformed - MALFORMED_MAX
        if hidden > 0:
            sys.stderr.write(f"tickring: file={facts.path}: {hidden} more bad lines\n")
    if plot is not None:
        _draw(plot, found)
    return EXIT_OK if all(facts.is_good for facts in found) else EXIT_DAMAGED


def _show(facts: Facts) -> None:
    document = facts.document()
    local, event = document["local_time"], document["event_time"]["unit"] or "none"
    print_line(
        f"{facts.path}: {facts.market or 'unknown market'}, {facts.lines} lines,"
        f" {document['span_s']:.1f} s; local time {local['digits']} digits ({local['unit']}),"
        f" event time {event}; snapshots at lines {facts.snapshots}"
    )
    for name, stream in document["streams"].items():
        longest = ", ".join(f"{seconds:.3f} s" for seconds in stream["silences_s"])
        print_line(
            f"  {name:28s} {stream['count']:8d}  {stream['rate_per_s']:9.1f}/s"
            f"  gaps {stream['gaps']}  longest silences {longest}"
        )
    if document["skew_ms"]:
        skew = "  ".join(f"{name} {ms:.1f} ms" for name, ms in document["skew_ms"].items())
        print_line(f"  local minus event time: {skew}")
    verdict = "good" if facts.is_good else "NOT GOOD"
    print_line(
        f"  {verdict}: gaps {facts.gaps}, time back {facts.time_back}, malformed {facts.malformed}"
    )


def _draw(path: Path, found: list[Facts]) -> None:
    """Draws messages a second of every stream and the distribution of the time skew."""
    figure = import_module("matplotlib.figure").Figure(figsize=(12, 4.5))
    rates, skews = figure.subplots(1, 2)
    for facts in found:
        for name, stream in facts.streams.items():
            seconds = (np.frombuffer(stream.times_ns, np.int64) - facts.first_ns) // 10**9
            rates.plot(np.bincount(seconds.clip(0)), label=name, linewidth=0.8)
        if facts.skew_ns:
            skews.hist(np.frombuffer(facts.skew_ns, np.int64) / 1e6, 100, label=facts.path.name)
    rates.set(xlabel="seconds", ylabel="messages a second", yscale="symlog")
    skews.set(xlabel="local minus event time, milliseconds", ylabel="messages")
    for axes in (rates, skews):
        if axes.has_data():
            axes.legend(fontsize=7)
        axes.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
