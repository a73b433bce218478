"""workers room: the commands that let a built-in exchange go wrong while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from config.topology import is_exchange_embedded
from shm.segment import SegmentError
from workers.cli_options import AsJson, Config, DataDir, examples, print_json, settings_of
from workers.context import opened
from workers.endpoints import EXCHANGE_WORDS, KEY_FILE, PORT, built_in
from workers.exchange.fault_client import ask
from workers.exchange.faults import read_script
from workers.exchange.keys import KeyPair, read_pair
from workers.memory import read_run

faults = typer.Typer(
    no_args_is_help=True,
    help="Let a running built-in exchange go wrong, and right again.\n\nWithout --url it is the"
    " one inside the engine of the data folder; `tickring exchange` prints --url (as stream_url)"
    " and --key-file of an exchange alone. What a script may say stands in"
    " workers/exchange/faults.py.",
)
Url = Annotated[
    str,
    typer.Option(
        "--url", metavar="URL", help="ws://HOST:PORT of an exchange alone.", show_default=False
    ),
]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", metavar="FILE", help="Its key file; goes with --url.")
]
ALONE = "--url ws://127.0.0.1:9100 --key-file key"
SCRIPT = """

\b
A script that loses the sixth frame of a stream, on every connection:
  [[faults]]
  kind = "drop"
  stream = "btcusdt@depth@100ms"
  index = 5"""


@faults.command(
    "arm",
    epilog=examples(
        "tickring faults arm drops.toml --data-dir var/paper",
        f"tickring faults arm drops.toml {ALONE}",
    )
    + SCRIPT,
)
def faults_arm(
    script: Annotated[
        Path, typer.Argument(metavar="FILE", help="TOML script, as --faults of `run` takes it.")
    ],
    url: Url = "",
    key_file: KeyFile = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Arm a fault script.

    It takes the place of what was armed; connections that are open feel it too.
    """
    read_script(script)  # what is wrong with it is said with its own name
    where, pair = _exchange_of(url, key_file, config, data_dir)
    counts = ask(where, pair, "faults.arm", {"script": script.read_text("utf-8")})
    _say(counts, f"armed {len(counts)} rules of {script}", as_json=as_json)


@faults.command("clear", epilog=examples("tickring faults clear", f"tickring faults clear {ALONE}"))
def faults_clear(
    url: Url = "",
    key_file: KeyFile = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Disarm every rule.

    From here on the exchange is right again; what was spoilt stays so.
    """
    where, pair = _exchange_of(url, key_file, config, data_dir)
    _say(ask(where, pair, "faults.clear", {}), "no rules are armed", as_json=as_json)


@faults.command(
    "counts", epilog=examples("tickring faults counts", "tickring faults counts --json")
)
def faults_counts(
    url: Url = "",
    key_file: KeyFile = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show how often each armed rule was injected."""
    where, pair = _exchange_of(url, key_file, config, data_dir)
    counts = ask(where, pair, "faults.counts", {})
    lines = [f"{name}: {count}" for name, count in counts.items()]
    _say(counts, "\n".join(lines) or "no rules are armed", as_json=as_json)


def _say(counts: dict[str, int], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(counts)
    else:
        typer.echo(text)


def _exchange_of(
    url: str, key_file: Path | None, config: Path | None, data_dir: Path | None
) -> tuple[str, KeyPair]:
    """Answers address and key of the exchange that is meant.

    Raises:
        ValueError: only one of --url and --key-file is given, or the engine trades elsewhere.
        OSError: no engine runs in the data folder, or the key cannot be read.
    """
    if bool(url) != (key_file is not None):
        given = f"url={url}" if url else f"key_file={key_file}"
        raise ValueError(
            f"--url and --key-file must come together: {given}; `tickring exchange` prints both"
        )
    if key_file is not None:
        return url, read_pair(key_file)
    _, folder = settings_of(config, data_dir)
    return _engine_url(folder), read_pair(folder / KEY_FILE)


def _engine_url(folder: Path) -> str:
    """Answers the address of the exchange inside the engine of a data folder."""
    run = read_run(folder)
    if not is_exchange_embedded(run.settings):
        raise ValueError(
            f"the engine must serve the built-in exchange: data_dir={folder}"
            f" rest_url={run.settings.venue.rest_url!r}; faults are for nobody else's"
        )
    try:
        with opened(run) as memory:
            port = int(memory.segment("exchange").words(0, EXCHANGE_WORDS)[PORT])
    except SegmentError:
        port = 0
    if not port:
        raise ConnectionError(
            f"an engine must be running: data_dir={folder}; start one with `tickring run`"
        )
    return built_in(run.settings.exchange.host, port).stream_url
