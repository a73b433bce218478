"""The frame walk: any cut of a lawful stream gives the same messages; the rest is refused."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec_feed import FRAME_BYTES_MAX
from engine.records import UPDATE_ID, Kind, kind_of
from tests.engine.scratch_feed import BTCUSDT, Scratch, quote_frame, scratch_feed
from tests.workers.small_venue import connected, run, small_venue, until
from workers.framesession import FrameSession
from workers.framewalk import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client_frame, refusal

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SIZES = (0, 1, 125, 126, 127, 65_535, 65_536, 70_000)


def frame(kind: int, payload: bytes, *, is_last: bool = True, wide: int = 0) -> bytes:
    """A server's frame; `wide` forces 2 or 8 bytes of length."""
    size, first = len(payload), bytes([(0x80 if is_last else 0) | kind])
    if wide == 8 or size >= 1 << 16:
        return first + b"\x7f" + size.to_bytes(8, "big") + payload
    if wide == 2 or size > 125:
        return first + b"\x7e" + size.to_bytes(2, "big") + payload
    return first + bytes([size]) + payload


class Line(asyncio.Transport):
    """A transport that keeps what is written and forgets nothing."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__({"socket": connection})
        self.written = b""
        self.is_ended = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.is_ended = True

    close = abort

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Rig:
    """A session behind its handshake, fed by hand."""

    def __init__(self, scratch: Scratch) -> None:
        self.feed, self.ends = scratch.feed, socket.socketpair()
        self.session = FrameSession(self.feed, lambda: None, lambda: None)
        self.line = Line(self.ends[0])
        self.session.connection_made(self.line)
        key = self.session._key
        accept = b64encode(hashlib.sha1(key + GUID).digest())
        self.head = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + accept
        self.head += b"\r\n\r\n"

    def push(self, data: bytes, cuts: list[int] | None = None) -> None:
        at = 0
        for size in [*(cuts or []), len(data)]:
            part = data[at : at + size]
            at += len(part)
            while part:
                space = self.session.get_buffer(-1)
                taken = min(len(space), len(part))
                space[:taken] = part[:taken]
                self.session.buffer_updated(taken)
                part = part[taken:]

    def messages(self) -> list[bytes]:
        ends = [0, *(self.feed.index[2 * number] for number in range(self.feed.count))]
        return [bytes(self.feed.data[a:b]) for a, b in itertools.pairwise(ends)]


@contextmanager
def rigged(scratch: Scratch) -> Iterator[Rig]:
    """Runs on a loop, with an empty batch."""

    async def make() -> Rig:
        return Rig(scratch)

    with asyncio.Runner() as runner:
        rig = runner.run(make())
        rig.push(rig.head)
        try:
            yield rig
        finally:
            scratch.feed.finish(0)  # an empty batch for the next example
            for end in rig.ends:
                end.close()


@pytest.fixture(scope="module")
def scratch() -> Iterator[Scratch]:
    with scratch_feed(f"test-framewalk-{os.getpid()}", BTCUSDT) as made:
        yield made


PARTS = st.lists(
    st.tuples(
        st.sampled_from(SIZES),
        st.integers(1, 4),  # fragments
        st.sampled_from([0, 2, 8]),  # bytes of length
        st.sampled_from([None, PING, PONG]),  # between the fragments
    ),
    max_size=6,
)


@given(PARTS, st.lists(st.integers(0, 200), max_size=60))
def test_any_cut_of_a_lawful_stream_gives_the_same_messages(
    scratch: Scratch, parts: list[tuple[int, int, int, int | None]], cuts: list[int]
) -> None:
    wire, want, pings = b"", [], []
    for number, (size, pieces, wide, control) in enumerate(parts):
        body = bytes([65 + number]) * size
        want.append(body)
        step = max(1, -(-size // pieces))
        for place in range(pieces):
            piece = body[place * step :] if place == pieces - 1 else body[place * step :][:step]
            kind = TEXT if place == 0 else CONTINUATION
            is_last = place == pieces - 1
            wide_now = wide if not (wide == 2 and len(piece) >= 1 << 16) else 8
            wire += frame(kind, piece, is_last=is_last, wide=wide_now)
            if control is not None:
                wire += frame(control, b"x%d" % number)
                pings += [b"x%d" % number] * (control == PING)
    with rigged(scratch) as rig:
        rig.line.written = b""
        rig.push(wire, cuts)

        assert rig.messages() == want
        assert not rig.line.is_ended
        assert rig.line.written.count(bytes([0x80 | PONG])) >= len(pings)


@given(st.binary(max_size=400), st.lists(st.integers(0, 50), max_size=10))
def test_no_bytes_whatever_crash_the_walk(scratch: Scratch, wire: bytes, cuts: list[int]) -> None:
    with rigged(scratch) as rig:
        rig.push(frame(TEXT, b"{}") + wire, cuts)

        assert rig.messages()[:1] == [b"{}"]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(client_frame(PONG, b"x"), id="masked"),
        pytest.param(b"\xc1\x01x", id="reserved bit"),
        pytest.param(frame(3, b""), id="unknown data kind"),
        pytest.param(frame(11, b""), id="unknown control kind"),
        pytest.param(frame(PING, b"x" * 126), id="long control frame"),
        pytest.param(frame(PING, b"x", is_last=False), id="control frame in fragments"),
        pytest.param(b"\x81\x7f" + (FRAME_BYTES_MAX + 1).to_bytes(8, "big"), id="oversized"),
        pytest.param(b"\x81\x7f" + b"\xff" * 8, id="oversized beyond 63 bits"),
        pytest.param(frame(CONTINUATION, b"x"), id="continuation of nothing"),
        pytest.param(frame(TEXT, b"x", is_last=False) + frame(TEXT, b"y"), id="message in another"),
        pytest.param(
            frame(TEXT, b"x" * FRAME_BYTES_MAX, is_last=False) + frame(CONTINUATION, b"y"),
            id="fragments that are too long together",
        ),
    ],
)
def test_what_a_server_must_not_send_ends_the_connection(scratch: Scratch, wrong: bytes) -> None:
    with rigged(scratch) as rig:
        rig.push(frame(TEXT, b"{}") + wrong + frame(TEXT, b"never"))

        assert rig.line.is_ended
        assert rig.messages() == [b"{}"]


def test_a_message_of_the_greatest_size_and_a_binary_one_are_taken(scratch: Scratch) -> None:
    with rigged(scratch) as rig:
        rig.push(frame(TEXT, b"x" * FRAME_BYTES_MAX) + frame(BINARY, b"y"))

        assert [len(message) for message in rig.messages()] == [FRAME_BYTES_MAX, 1]


def test_nothing_behind_a_close_is_taken(scratch: Scratch) -> None:
    with rigged(scratch) as rig:
        rig.push(frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"never"))

        assert rig.messages() == []
        assert rig.line.is_ended
        assert bytes([0x80 | CLOSE, 0x82]) in rig.line.written


def test_what_was_read_waits_while_paused(scratch: Scratch) -> None:
    with rigged(scratch) as rig:
        rig.session.pause()
        rig.push(frame(TEXT, b"a") + frame(TEXT, b"b"))
        assert rig.messages() == []
        rig.session.resume()

        assert rig.messages() == [b"a", b"b"]


def test_handshakes_that_prove_nothing_are_refused() -> None:
    key = b64encode(b"k" * 16)
    accept = b64encode(hashlib.sha1(key + GUID).digest())
    good = b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: " + accept

    assert refusal(good, key) == ""
    assert "must upgrade" in refusal(b"HTTP/1.1 404 Not Found", key)
    assert "accept is wrong" in refusal(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x", key)
    assert "extension" in refusal(good + b"\r\nSec-WebSocket-Extensions: permessage-deflate", key)


def test_frames_of_a_real_server_become_records_in_order(segment_prefix: str) -> None:
    async def test() -> None:
        async with connected(segment_prefix) as (venue, made, session):
            await venue.send(*(quote_frame(u) for u in range(1_000)))
            whole = quote_frame(1_000).decode()
            await venue.connections[-1].send([whole[:30], whole[30:31], whole[31:]])
            await until(lambda: made.feed.count == 1_001, lambda: None)
            session.drain()
            await until(lambda: session.is_drained, lambda: None)
            waiter = await venue.connections[-1].ping(b"are you there")
            await waiter
            made.feed.decode(1)

            found = [int(row[UPDATE_ID]) for row in made.rows() if kind_of(row) == Kind.QUOTE]
            assert found == list(range(1_001))

    run(test)


def test_a_server_that_refuses_is_an_error_that_says_so(segment_prefix: str) -> None:
    async def test() -> None:
        with scratch_feed(segment_prefix, BTCUSDT) as made:
            async with small_venue() as venue:
                session = FrameSession(made.feed, lambda: None, lambda: None)
                with pytest.raises(ConnectionError, match="must upgrade to WebSocket"):
                    await session.connect(f"{venue.stream_url}/nowhere", 20)

    run(test)
