"""workers room: the commands that start an engine or talk to a running one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from config import placement
from config.load import load
from config.settings import Settings
from config.topology import rings, workers
from engine.control import CANCEL_ALL, CONTROL_WORDS, NO_NEW, OPERATOR_HALT, TRADE, set_word
from engine.control import LAYOUT as CONTROL_LAYOUT
from shm import segment
from workers import controlsocket
from workers.arguments import seconds_of, speed_of
from workers.context import opened, segment_prefix
from workers.exchange.capture import capture_symbols
from workers.memory import read_run
from workers.run import EngineRun
from workers.status import status

Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file; without one the built-in demo profile.")
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where journal, database, logs and control live.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def settings_of(
    config: Path | None, data_dir: Path | None, **more: dict[str, object]
) -> tuple[Settings, Path]:
    """Answers the checked settings and the data folder. Raises ConfigError with one line."""
    overrides: dict[str, object] = dict(more)
    if data_dir is not None:
        overrides["engine"] = {"data_dir": str(data_dir)}
    settings = load(config, overrides)
    if config is None:  # the demo runs on any host; a file means the cores it names
        settings = placement.unpin_absent(settings, _cores())
    return settings, Path(settings.engine.data_dir).expanduser()


def _cores() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0))


def run(
    config: Config = None,
    for_: Annotated[str, typer.Option("--for", help="Stop after 15s, 2m, 1h ...")] = "",
    data_dir: DataDir = None,
    capture: Annotated[
        list[Path] | None, typer.Option(help="Play these recordings on the built-in exchange.")
    ] = None,
    speed: Annotated[str, typer.Option(help="Playback speed: 1, 20, ... or max.")] = "1",
    loop: Annotated[bool, typer.Option("--loop", help="Start the recordings again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start everything, show what flows, and on Ctrl-C stop in order with a summary.

    With --json the last line on standard output is the summary as one JSON object.
    """
    seconds = seconds_of(for_) if for_ else None
    more: dict[str, dict[str, object]] = {}
    if capture:
        paths = [str(path) for path in capture]
        more["exchange"] = {"capture": paths, "speed": speed_of(speed), "loop": loop}
        more["market"] = {"symbols": list(capture_symbols(capture))}
    settings, folder = settings_of(config, data_dir, **more)
    for warning in placement.check_host(settings, _cores()):
        sys.stderr.write(f"tickring: {warning}\n")
    raise typer.Exit(EngineRun(settings, folder, as_json=as_json).run(seconds))


def check(config: Config = None, as_json: AsJson = False) -> None:
    """Check a configuration against this host; show the processes and rings it makes."""
    settings, folder = settings_of(config, None)
    warnings = list(placement.check_host(settings, _cores()))
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
        _print(document)
        return
    console = Console()
    console.print(_table("workers", document["workers"]))
    console.print(_table("rings", document["rings"]))
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False)
    console.print("the configuration is good")


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        cells = (", ".join(v) if isinstance(v, list) else str(v) for v in row.values())
        table.add_row(*cells)
    return table


def show_status(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show a running engine: its workers, their cores and restarts, and where its metrics are."""
    _, folder = settings_of(config, data_dir)
    answer = _status(folder)
    if as_json:
        _print(answer)
        return
    console = Console()
    console.print(f"engine {answer['engine']}, run {answer['generation']}: {answer['halt_text']}")
    console.print(f"metrics {answer['metrics_url'] or 'off'}")
    console.print(_table("workers", answer["workers"]))


def _status(folder: Path) -> dict[str, Any]:
    try:
        return controlsocket.request(folder, "status")
    except ConnectionError:
        if not (folder / controlsocket.SOCKET_NAME).exists():
            raise
    with opened(read_run(folder)) as memory:  # the supervisor hangs: read past it
        return status(memory)


def halt(
    config: Config = None,
    data_dir: DataDir = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel open orders as well.")] = False,
) -> None:
    """Stop order flow at once; works through shared memory even when every process hangs."""
    level = CANCEL_ALL if cancel else NO_NEW
    _operator_halt(config, data_dir, level)
    typer.echo("halted: no new orders" + (", open orders are cancelled" if cancel else ""))


def resume(config: Config = None, data_dir: DataDir = None) -> None:
    """Let orders flow again after a halt, whoever asked for it."""
    folder = _operator_halt(config, data_dir, TRADE)
    controlsocket.request(folder, "resume")
    typer.echo("resumed: orders may flow")


def _operator_halt(config: Path | None, data_dir: Path | None, level: int) -> Path:
    settings, folder = settings_of(config, data_dir)
    control = segment.attach(segment_prefix(settings, folder) + "control", CONTROL_LAYOUT)
    set_word(control.words(0, CONTROL_WORDS), OPERATOR_HALT, level)
    return folder


def log_level(worker: str, level: str, config: Config = None, data_dir: DataDir = None) -> None:
    """Change what a running worker logs: debug, info, warning, error or critical."""
    _, folder = settings_of(config, data_dir)
    answer = controlsocket.request(folder, "log-level", worker=worker, level=level)
    if "error" in answer:
        raise ValueError(answer["error"])
    typer.echo(f"{worker} logs from {level} up")


def stop(config: Config = None, data_dir: DataDir = None) -> None:
    """Ask a running engine to stop in order."""
    _, folder = settings_of(config, data_dir)
    controlsocket.request(folder, "stop")
    typer.echo("stopping in order")


def _print(document: object) -> None:
    typer.echo(json.dumps(document))


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command("run")(run)
    app.command("check")(check)
    app.command("status")(show_status)
    app.command("halt")(halt)
    app.command("resume")(resume)
    app.command("stop")(stop)
    app.command("log-level")(log_level)
