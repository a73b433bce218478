"""workers room: the commands that talk to a running engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from engine.control import CANCEL_ALL, CONTROL_WORDS, NO_NEW, OPERATOR_HALT, TRADE, set_word
from engine.control import LAYOUT as CONTROL_LAYOUT
from shm import segment
from shm.segment import Words
from workers import controlsocket
from workers.cli_options import AsJson, Config, DataDir, examples, print_json, settings_of
from workers.context import opened, segment_prefix
from workers.memory import read_prefix, read_run
from workers.status import show, status


def show_status(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show a running engine: its workers, their cores and restarts, and where its metrics are."""
    _, folder = settings_of(config, data_dir)
    answer = _status(folder)
    if as_json:
        print_json(answer)
    else:
        show(answer, Console())


def _status(folder: Path) -> dict[str, Any]:
    try:
        return _ask(folder, "status")
    except controlsocket.NoAnswerError as error:
        sys.stderr.write(f"tickring: {error}\n")
    with opened(read_run(folder)) as memory:  # the supervisor hangs: read past it
        return status(memory)


def _ask(folder: Path, command: str, **fields: object) -> dict[str, Any]:
    """Answers a running engine's reply; raises ValueError when it refuses."""
    answer = controlsocket.request(folder, command, **fields)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer


def halt(
    config: Config = None,
    data_dir: DataDir = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel open orders as well.")] = False,
) -> None:
    """Stop order flow at once; works through shared memory even when every process hangs."""
    _, control = _control(config, data_dir)
    set_word(control, OPERATOR_HALT, CANCEL_ALL if cancel else NO_NEW)
    typer.echo("halted: no new orders" + (", open orders are cancelled" if cancel else ""))


def resume(config: Config = None, data_dir: DataDir = None) -> None:
    """Let orders flow again after a halt, whoever asked for it; refused while a worker is lost."""
    folder, control = _control(config, data_dir)
    _ask(folder, "resume")
    set_word(control, OPERATOR_HALT, TRADE)  # last: an engine that does not answer stays halted
    typer.echo("resumed: orders may flow")


def _control(config: Path | None, data_dir: Path | None) -> tuple[Path, Words]:
    """Answers the data folder and the control words of the engine that runs there.

    The run file in the folder names the engine, so that nothing but the folder need be known: a
    kill switch must not fail for a forgotten or broken configuration.

    Raises:
        ConnectionError: no engine runs there.
    """
    folder = settings_of(config, None)[1] if data_dir is None else data_dir.expanduser()
    try:
        prefix = read_prefix(folder)
    except (FileNotFoundError, ValueError):
        prefix = segment_prefix(settings_of(config, data_dir)[0], folder)
    if segment.names(prefix + "control"):
        found = segment.attach(prefix + "control", CONTROL_LAYOUT)
        if segment.process_start(found.owner_pid):
            return folder, found.words(0, CONTROL_WORDS)
    raise ConnectionError(
        f"an engine must be running: data_dir={folder}; start one with `tickring run`"
    )


def log_level(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="A name of `tickring status`.")],
    level: Annotated[
        str, typer.Argument(metavar="LEVEL", help="debug, info, warning, error or critical.")
    ],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Change what a running worker logs: everything from LEVEL up."""
    _, folder = settings_of(config, data_dir)
    _ask(folder, "log-level", worker=worker, level=level)
    typer.echo(f"{worker} logs from {level} up")


def stop(config: Config = None, data_dir: DataDir = None) -> None:
    """Ask a running engine to stop in order."""
    _, folder = settings_of(config, data_dir)
    _ask(folder, "stop")
    typer.echo("stopping in order")


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command("status", epilog=examples("tickring status", "tickring status --json"))(show_status)
    app.command("halt", epilog=examples("tickring halt --cancel --data-dir var/paper"))(halt)
    app.command("resume", epilog=examples("tickring resume --data-dir var/paper"))(resume)
    app.command("stop", epilog=examples("tickring stop --data-dir var/paper"))(stop)
    app.command("log-level", epilog=examples("tickring log-level trader debug"))(log_level)
