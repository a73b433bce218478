"""workers room: the commands that record a venue and look into recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.venues import CCXT_PREFIX, market_of
from workers.arguments import seconds_of
from workers.capture import Wanted, capture, output_of
from workers.capture_inspect import inspect
from workers.cli_options import AsJson, Config, For, examples, settings_of

group = typer.Typer(
    invoke_without_command=True,
    epilog=examples(
        "tickring capture --for 30s --out var/recordings",
        "tickring capture --config live.toml --market usdm --symbols BTCUSDT,ETHUSDT",
        "tickring capture inspect var/recordings/*.gz",
    ),
)


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


@group.callback()
def record(
    context: typer.Context,
    config: Config = None,
    market: Annotated[
        str, typer.Option(metavar="spot|usdm", help="Without it as [venue] kind says.")
    ] = "",
    symbols: Annotated[str, typer.Option(metavar="A,B", help="Without it as in [market].")] = "",
    streams: Annotated[
        str, typer.Option(metavar="A,B", help="bookTicker, trade, aggTrade, depth@100ms, ...")
    ] = "",
    for_: For = "",
    out: Annotated[
        Path, typer.Option(metavar="DIR|FILE.gz", help="One file a symbol; FILE.gz takes one.")
    ] = Path("var/recordings"),
    file_mib: Annotated[
        int, typer.Option(metavar="MIB", help="A file that large is followed by a new one.")
    ] = 256,
    file_time: Annotated[
        str, typer.Option(metavar="TIME", help="A file that old is followed by a new one.")
    ] = "1h",
    as_json: AsJson = False,
) -> None:
    """Record raw frames with their times, to be played by --capture; Ctrl-C ends it in order.

    Each file begins with its own depth snapshot behind the first difference, and can be played
    alone. Exit code 1 when anything is missing from the recording.
    """
    if context.invoked_subcommand is not None:
        return
    given: dict[str, object] = {}
    if symbols:
        given["symbols"] = [symbol.upper() for symbol in _words(symbols)]
    if streams:
        given["streams"] = _words(streams)
    kind: dict[str, object] = {}
    if market:  # a venue of ccxt's is refused further on, with what to do
        kind["kind"] = market if market.startswith(CCXT_PREFIX) else market_of(market).kind
    settings, _ = settings_of(config, None, market=given, venue=kind)
    wanted = Wanted(
        output_of(out.expanduser(), file_mib, seconds_of(file_time)),
        seconds_of(for_) if for_ else None,
        as_json,
    )
    raise typer.Exit(capture(settings, wanted))


@group.command("inspect", epilog=examples("tickring capture inspect btc.gz --json"))
def look(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings.")],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw rates and skew into this PNG file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what recordings hold: counts, rates, gaps, skew, silences; exit 1 when one is damaged."""
    raise typer.Exit(inspect(files, plot, as_json=as_json))


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.add_typer(group, name="capture")
