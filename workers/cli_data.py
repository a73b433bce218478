"""workers room: the commands over files, the exchange alone, and the benchmarks."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from workers import journal_cli, log_cli
from workers.arguments import existing, seconds_of
from workers.cli_options import (
    AsJson,
    Capture,
    Config,
    DataDir,
    Faults,
    For,
    Loop,
    Speed,
    examples,
    playback_of,
    require_recording,
    settings_of,
)
from workers.exchange.command import serve

BENCH = Path(__file__).resolve().parent.parent / "bench"
HELP = "--help"

journal = typer.Typer(no_args_is_help=True, help="Read and check the journal, the truth of a run.")


@journal.command("ls", epilog=examples("tickring journal ls --data-dir var/paper"))
def journal_ls(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List runs, rings and segment files with their records, sizes and times."""
    _, folder = settings_of(config, data_dir)
    journal_cli.ls(existing(folder, "the data folder"), as_json)


@journal.command("verify", epilog=examples("tickring journal verify --data-dir var/paper"))
def journal_verify(
    config: Config = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Check every frame's checksum and that no sequence is missing; exit 1 when one is damaged."""
    _, folder = settings_of(config, data_dir)
    raise typer.Exit(journal_cli.verify(existing(folder, "the data folder"), as_json))


@journal.command(
    "show",
    epilog=examples(
        "tickring journal show reports --kind REPORT",
        "tickring journal show market.0 --first 100 --last 119 --json",
    ),
)
def journal_show(
    ring: Annotated[
        str, typer.Argument(metavar="RING", help="market.0, intents, orders, reports, ...")
    ],
    first: Annotated[int, typer.Option(metavar="SEQUENCE", help="First record to show.")] = 0,
    last: Annotated[
        int, typer.Option(metavar="SEQUENCE", help="Last record to show; -1 for the end.")
    ] = -1,
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="Only this kind, for example QUOTE or REPORT.")
    ] = "",
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
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="0 takes a free one and prints it.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Of the synthetic market.")
    ] = None,
    capture: Capture = None,
    speed: Speed = None,
    loop: Loop = None,
    faults: Faults = None,
    for_: For = "",
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="0600 file: API key, then an HMAC secret or Ed25519 PEM."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve the built-in exchange alone: Binance spot's protocol on loopback.

    What is not given here is as in [exchange] of the configuration; its [venue] does not matter.
    """
    playback = playback_of(capture, speed, loop, faults)
    given: dict[str, object] = {"enabled": True, **playback}
    given |= {name: n for name, n in (("port", port), ("seed", seed)) if n is not None}
    nowhere: dict[str, object] = dict.fromkeys(("rest_url", "stream_url", "order_url"), "")
    settings, _ = settings_of(config, None, exchange=given, venue=nowhere)
    require_recording(settings, playback)
    seconds = seconds_of(for_) if for_ else None
    raise typer.Exit(serve(settings, key_file, seconds, as_json=as_json))


def logs(
    worker: Annotated[str, typer.Option(metavar="WORKER", help="Only this worker's.")] = "",
    level: Annotated[str, typer.Option(metavar="LEVEL", help="Only from this level up.")] = "debug",
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
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its beginning is enough; none lists them.")
    ] = "",
) -> None:
    """Run a benchmark beside its rivals, in one run on this machine.

    What follows the name goes to the benchmark: `tickring bench NAME --help` lists its options.
    """
    known = {path.stem.replace("_", "-"): path for path in sorted(BENCH.glob("[a-z]*.py"))}
    if name == HELP:
        typer.echo(context.get_help())
        return
    if not known:
        raise ValueError(f"benchmarks must be there: an installed wheel has no folder {BENCH}")
    if not name:
        for stem, path in known.items():
            typer.echo(f"{stem:<32} {_first_line(path)}")
        return
    matches = [path for stem, path in known.items() if stem == name or stem.startswith(f"{name}-")]
    if len(matches) != 1:
        listed = ", ".join(known)
        raise ValueError(f"a benchmark must be one of the known: given={name!r} known={listed}")
    paths = [str(BENCH.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    words = [sys.executable, "-m", f"bench.{matches[0].stem}", *context.args]
    os.execve(sys.executable, words, environment)  # noqa: S606 - our own script, no shell


def _first_line(path: Path) -> str:
    """Answers what a benchmark says it measures, without importing it."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.partition("\n")[0].removeprefix("Bench: ")


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.add_typer(journal, name="journal")
    app.command(
        "exchange",
        epilog=examples(
            "tickring exchange --port 9100 --seed 7",
            "tickring exchange --capture btc.gz --speed 20 --loop",
        ),
    )(exchange)
    app.command(
        "logs", epilog=examples("tickring logs --follow --level warning", "tickring logs --json")
    )(logs)
    app.command(
        "bench",
        context_settings={
            "allow_extra_args": True,
            "ignore_unknown_options": True,
            "help_option_names": [],  # --help behind a name is the benchmark's
        },
        epilog=examples("tickring bench", "tickring bench tick-to-order --help"),
    )(bench)
