"""workers room: what the commands share: options, examples, settings, tables."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from config import placement
from config.load import DEFAULT_PROFILE, load, shown_safely
from config.settings import Settings
from workers import preflight
from workers.arguments import speed_of
from workers.exchange.capture import Scan
from workers.terminal import stderr_console

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="TOML file; without one the built-in demo profile."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Where journal, database, logs and control live; without it data_dir of the"
        " configuration, var/demo in the demo profile.",
    ),
]
Capture = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE...", help="Play these recordings on the built-in exchange."),
]
Speed = Annotated[
    str | None,
    typer.Option(metavar="N|max", help="How much faster than recorded; 1 without a word."),
]
Loop = Annotated[
    bool | None, typer.Option("--loop/--no-loop", help="Start the recordings again at their end.")
]
Faults = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Let the built-in exchange go wrong by this TOML script."),
]
For = Annotated[
    str,
    typer.Option("--for", metavar="TIME", help="Stop after 15s, 2m, 1h ...", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def examples(*lines: str) -> str:
    """Answers the end of a command's help; the mark in front keeps its lines as they are."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def settings_of(
    config: Path | None, data_dir: Path | None, **more: dict[str, object]
) -> tuple[Settings, Path]:
    """Answers the checked settings and the data folder. Raises ConfigError with one line."""
    overrides: dict[str, object] = {name: section for name, section in more.items() if section}
    if data_dir is not None:
        overrides["engine"] = {"data_dir": str(data_dir)}
    settings = load(config, overrides)
    if config is None:  # the demo runs on any host; a file means the cores it names
        settings = placement.unpin_absent(settings, cores())
    return settings, Path(settings.engine.data_dir).expanduser()


def cores() -> frozenset[int]:
    """Answers the cores that this process may use."""
    return frozenset(os.sched_getaffinity(0))


def playback_of(
    capture: list[Path] | None,
    speed: str | None,
    loop: bool | None,  # noqa: FBT001 - the command line's own flag
    faults: Path | None,
) -> dict[str, object]:
    """Answers what these options change in `[exchange]`: nothing that was not given."""
    given: dict[str, object] = {} if faults is None else {"faults": str(faults)}
    if capture:
        given["capture"] = [str(path) for path in capture]
    if speed is not None:
        given["speed"] = speed_of(speed)
    if loop is not None:
        given["loop"] = loop
    return given


def recorded_sections(found: Scan) -> tuple[dict[str, object], dict[str, object]]:
    """Answers what recordings decide in `[market]` and `[venue]`: symbols, streams and market."""
    recorded = {name.partition("@")[2] for name in found.streams}
    streams = [stream for stream in found.market.streams if stream in recorded]
    return {"symbols": list(found.symbols), "streams": streams}, {"kind": found.market.kind}


def require_recording(settings: Settings, given: dict[str, object]) -> None:
    """Raises ValueError when playback was asked for and there is nothing to play."""
    asked = [f"--{name}" for name in ("speed", "loop") if name in given]
    if asked and not settings.exchange.capture:
        raise ValueError(
            f"{' and '.join(asked)} must come with a recording: capture='';"
            " give --capture FILE, or capture in [exchange]"
        )


def refuse_what_cannot_start(
    config: Path | None, settings: Settings, folder: Path, found: Scan | None = None
) -> None:
    """Says every reason why this configuration cannot start here, a line each, and exits with 2."""
    where = config or DEFAULT_PROFILE
    # The first time strategies are compiled here, which takes some seconds.
    with stderr_console().status("checking the configuration"):
        lines = list(preflight.problems(settings, folder, found))
    for line in lines:
        sys.stderr.write(f"tickring: {where}: {shown_safely(line)}\n")
    if lines:
        raise typer.Exit(2)


def table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Answers a table of equal rows that breaks long cells instead of cutting them."""
    made = Table(title=title, title_justify="left")
    for column in rows[0] if rows else ():
        made.add_column(column, overflow="fold")
    for row in rows:
        cells = (", ".join(v) if isinstance(v, list) else str(v) for v in row.values())
        made.add_row(*cells)
    return made


def print_json(document: object) -> None:
    """Prints one JSON object on one line."""
    typer.echo(json.dumps(document))
