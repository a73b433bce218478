"""workers room: standard output and error of a run, which may go away or stand still meanwhile.

A terminal that was closed, or a pipe whose reader left, refuses every further write; one that is
held with Ctrl-S takes none. The supervisor goes on in both cases: what cannot be shown is dropped.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from typing import IO, TextIO, cast

from rich.console import Console

PIECE_CHARACTERS = 256  # a terminal or pipe that is ready takes so much without waiting
WAIT_MS_MAX = 200  # for a slow terminal; one that stands still is not waited for again


class Lasting:
    """A text stream whose writes neither fail nor wait for long.

    Args:
        stream: what to write to.
        wait_ms_max: how long to wait for room before dropping what is left; None for ever.
    """

    def __init__(self, stream: TextIO, wait_ms_max: int | None = None) -> None:
        self._stream = stream
        self._wait_ms_max = wait_ms_max
        self._is_stuck = False

    def write(self, text: str) -> int:
        """Writes what can be written; answers the length of all of it."""
        with self._going_on():
            if self._wait_ms_max is None:
                self._stream.write(text)
            else:
                self._write_pieces(text)
        return len(text)

    def _write_pieces(self, text: str) -> None:
        for start in range(0, len(text), PIECE_CHARACTERS):
            if not self._has_room():
                return
            self._stream.write(text[start : start + PIECE_CHARACTERS])
            self._stream.flush()

    def _has_room(self) -> bool:
        room = select.poll()
        room.register(self._stream, select.POLLOUT)
        self._is_stuck = not room.poll(0 if self._is_stuck else self._wait_ms_max)
        return not self._is_stuck

    def flush(self) -> None:
        """Writes what is buffered."""
        with self._going_on():
            self._stream.flush()

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            # What is left in the buffer has to go somewhere, or the interpreter's own flush at
            # the end fails as well, and with it the exit code.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def stderr_console() -> Console:
    """Answers a console on standard error, so that standard output stays for results."""
    stream = cast("IO[str]", Lasting(sys.stderr, WAIT_MS_MAX))
    return Console(file=stream, soft_wrap=not sys.stderr.isatty())


def stdout_console() -> Console:
    """Answers a console on standard output."""
    return Console(file=cast("IO[str]", Lasting(sys.stdout)))


def print_line(text: str) -> None:
    """Prints one line on standard output."""
    stream = Lasting(sys.stdout)
    stream.write(f"{text}\n")
    stream.flush()
