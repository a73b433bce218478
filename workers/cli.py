"""workers room: the command line. Each command says in `--help` what it is for and shows a use."""

from __future__ import annotations

import sys

import typer

from workers import cli_capture, cli_data, cli_faults, cli_live, cli_run
from workers.arguments import spread

app = typer.Typer(
    name="tickring",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A trading engine for one Linux host: pinned processes, shared-memory rings, and orders "
    "that stay right when something dies.\n\nFirst try: tickring run --for 15s",
)
cli_run.register(app)
cli_live.register(app)
cli_data.register(app)
cli_capture.register(app)
app.add_typer(cli_faults.faults, name="faults")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; what a user can mend is one line and exit code 2, no traceback."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app(spread(given), prog_name="tickring", standalone_mode=True)
    except (ValueError, OSError, RuntimeError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        sys.stderr.write(f"tickring: {text}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
