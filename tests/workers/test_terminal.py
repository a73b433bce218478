"""Output that goes away or stands still must not hold up an engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from typing import TextIO

from hypothesis import given
from hypothesis import strategies as st

from workers.terminal import PIECE_CHARACTERS, Lasting


@contextmanager
def _pipe() -> Iterator[tuple[int, TextIO]]:
    """Gives the reading end and a stream on the writing end."""
    read, write = os.pipe()
    stream = os.fdopen(write, "w")
    yield read, stream
    with suppress(OSError):
        stream.close()


def test_a_reader_that_left_is_no_fault() -> None:
    with _pipe() as (read, stream):
        os.close(read)
        lasting = Lasting(stream)
        lasting.write("x" * 100_000)
        lasting.flush()
        stream.flush()  # as the interpreter does at its end

        assert os.path.sameopenfile(stream.fileno(), os.open(os.devnull, os.O_WRONLY))


def test_a_reader_that_stands_still_is_not_waited_for() -> None:
    with _pipe() as (read, stream):
        lasting = Lasting(stream, wait_ms_max=1)
        lasting.write("x" * 1_000_000)  # a pipe holds 65,536 bytes
        held = len(os.read(read, 1_000_000))
        lasting.write("back")

        assert held < 1_000_000
        assert os.read(read, 100) == b"back"
        os.close(read)


@given(st.text(alphabet="ab\n\u2501", max_size=3 * PIECE_CHARACTERS))
def test_pieces_are_the_whole(text: str) -> None:
    with _pipe() as (read, stream):
        lasting = Lasting(stream, wait_ms_max=1_000)
        assert lasting.write(text) == len(text)
        stream.close()
        found = b""
        while some := os.read(read, 4_096):
            found += some
        os.close(read)

    assert found.decode() == text


def test_everything_else_is_the_streams_own() -> None:
    stream = StringIO()

    assert Lasting(stream).isatty is not None
    assert Lasting(stream).readable == stream.readable
