"""workers room: the commands that start an engine, or say whether it could be started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from config import placement
from config.topology import rings, workers
from workers.arguments import seconds_of
from workers.cli_options import (
    AsJson,
    Capture,
    Config,
    DataDir,
    Faults,
    For,
    Loop,
    Speed,
    cores,
    examples,
    playback_of,
    print_json,
    recorded_sections,
    refuse_what_cannot_start,
    require_recording,
    settings_of,
    table,
)
from workers.exchange.capture import scan
from workers.run import EngineRun


def run(
    config: Config = None,
    for_: For = "",
    data_dir: DataDir = None,
    capture: Capture = None,
    speed: Speed = None,
    loop: Loop = None,
    faults: Faults = None,
    as_json: AsJson = False,
) -> None:
    """Start everything, show what flows, and on Ctrl-C stop in order with a summary.

    With --json the last line on standard output is the summary as one JSON object.
    """
    seconds = seconds_of(for_) if for_ else None
    playback = playback_of(capture, speed, loop, faults)
    found = scan(capture) if capture else None
    market, venue = recorded_sections(found) if found else ({}, {})
    settings, folder = settings_of(config, data_dir, exchange=playback, market=market, venue=venue)
    require_recording(settings, playback)
    refuse_what_cannot_start(config, settings, folder, found)
    for warning in placement.host_warnings(settings, cores()):
        sys.stderr.write(f"tickring: {warning}\n")
    raise typer.Exit(EngineRun(settings, folder, as_json=as_json).run(seconds))


def check(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check whether a configuration can start on this host; show its processes and rings."""
    settings, folder = settings_of(config, data_dir)
    refuse_what_cannot_start(config, settings, folder)
    warnings = list(placement.host_warnings(settings, cores()))
    document: dict[str, Any] = {
        "data_dir": str(folder),
        "rooms": str(Path(__file__).resolve().parent.parent),
        "workers": [
            {"name": w.name, "core": w.core, "idle": w.idle, "agents": list(w.agents)}
            for w in workers(settings)
        ],
        "rings": [
            {"name": r.name, "writer": r.writer, "readers": list(r.readers), "records": r.capacity}
            for r in rings(settings)
        ],
        "warnings": warnings,
    }
    if as_json:
        print_json(document)
        return
    console = Console()
    console.print(table("workers", document["workers"]))
    console.print(table("rings", document["rings"]))
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    console.print(f"data folder {folder}", markup=False, highlight=False, soft_wrap=True)
    console.print("the configuration is good")


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command(
        "run",
        epilog=examples(
            "tickring run --for 15s",
            "tickring run --config paper.toml --data-dir var/paper",
            "tickring run --capture btc.gz eth.gz --speed max --json",
        ),
    )(run)
    app.command("check", epilog=examples("tickring check --config paper.toml"))(check)
