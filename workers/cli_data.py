"""workers room: the commands over files, the exchange alone, and the benchmarks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from workers import journal_cli, log_cli
from workers.arguments import existing, seconds_of, speed_of
from workers.cli_live import AsJson, Config, DataDir, settings_of
from workers.exchange.command import serve

BENCH = Path(__file__).resolve().parent.parent / "bench"

journal = typer.Typer(no_args_is_help=True, help="Read and check the journal, the truth of a run.")


@journal.command("ls")
def journal_ls(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List runs, rings and segment files with their records, sizes and times."""
    _, folder = settings_of(config, data_dir)
    journal_cli.ls(existing(folder, "the data folder"), as_json)


@journal.command("verify")
def journal_verify(
    config: Config = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Check every frame's checksum and that no sequence is missing; exit 1 when one is damaged."""
    _, folder = settings_of(config, data_dir)
    raise typer.Exit(journal_cli.verify(existing(folder, "the data folder"), as_json))


@journal.command("show")
def journal_show(
    ring: Annotated[str, typer.Argument(help="market.0, intents, orders, reports, ...")],
    first: Annotated[int, typer.Option(help="First sequence to show.")] = 0,
    last: Annotated[int, typer.Option(help="Last sequence to show; -1 for the end.")] = -1,
    kind: Annotated[str, typer.Option(help="Only this kind, for example QUOTE or REPORT.")] = "",
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print records with symbols and decimals, oldest first."""
    _, folder = settings_of(config, data_dir)
    folder = existing(folder, "the data folder")
    journal_cli.show(folder, ring, first, last, kind, as_json)


def exchange(
    config: Config = None,
    port: Annotated[int, typer.Option(help="0 takes a free one and prints it.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the synthetic market.")] = 7,
    capture: Annotated[list[Path] | None, typer.Option(help="Play these recordings.")] = None,
    speed: Annotated[str, typer.Option(help="Playback speed: 1, 20, ... or max.")] = "1",
    loop: Annotated[bool, typer.Option("--loop", help="Start the recordings again.")] = False,
    for_: Annotated[str, typer.Option("--for", help="Stop after 15s, 2m, ...")] = "",
    key_file: Annotated[
        Path | None, typer.Option(help="0600 file: API key, then an HMAC secret or Ed25519 PEM.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve the built-in exchange alone: Binance spot's protocol on loopback."""
    paths = [str(path) for path in capture or []]
    more = {
        "exchange": {
            "port": port, "seed": seed, "capture": paths, "speed": speed_of(speed), "loop": loop,
        }
    }  # fmt: skip
    settings, _ = settings_of(config, None, **more)
    seconds = seconds_of(for_) if for_ else None
    raise typer.Exit(serve(settings, key_file, seconds, as_json=as_json))


def logs(
    worker: Annotated[str, typer.Option(help="Only this worker's.")] = "",
    level: Annotated[str, typer.Option(help="Only from this level up.")] = "debug",
    follow: Annotated[bool, typer.Option("--follow", help="Go on as lines come.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print the collected logs of all workers, merged by time."""
    _, folder = settings_of(config, data_dir)
    log_cli.tail(existing(folder, "the data folder"), worker, level, follow, as_json)


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="For example tick-to-order; none lists them.")] = "",
) -> None:
    """Run a benchmark beside its rivals, in one run on this machine; see --help of each."""
    known = {path.stem.replace("_", "-"): path for path in sorted(BENCH.glob("[a-z]*.py"))}
    matches = [path for stem, path in known.items() if stem == name or stem.startswith(f"{name}-")]
    if not name or len(matches) != 1:
        listed = ", ".join(known) or f"none: folder {BENCH} is not part of an installed wheel"
        raise ValueError(f"a benchmark must be one of the known: given={name!r} known={listed}")
    paths = [str(BENCH.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    words = [sys.executable, "-m", f"bench.{matches[0].stem}", *context.args]
    os.execve(sys.executable, words, environment)  # noqa: S606 - our own script, no shell


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.add_typer(journal, name="journal")
    app.command("exchange")(exchange)
    app.command("logs")(logs)
    app.command(
        "bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
    )(bench)
