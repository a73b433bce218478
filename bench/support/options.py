"""Bench: the options that every benchmark has, and the picture of its topology."""

from __future__ import annotations

import argparse
import sys


def parser_of(name: str, text: str | None) -> argparse.ArgumentParser:
    """Answers a parser that knows --short and --json and shows the benchmark's own text.

    Args:
        name: as in `tickring bench NAME`.
        text: the benchmark's docstring.
    """
    parser = argparse.ArgumentParser(
        prog=f"tickring bench {name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="a small run that proves it works")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    return parser


def show_drawing(text: str | None) -> None:
    """Prints the topology, the second paragraph of a benchmark's docstring, on standard error."""
    sys.stderr.write(str(text).split("\n\n")[1] + "\n\n")
