"""workers room: one WebSocket connection that delivers market data frames into a feed's batch.

asyncio reads straight into the buffer; one compiled call (workers/framewalk.py) takes every whole
frame of a read into the feed's batch, with the time it was read, and nothing more. Decoding happens
once a batch, elsewhere. Handshake and control frames are Python's.

Nothing is dropped in between. When the market ring is full, the owner pauses reading, the kernel's
buffers fill and the venue feels it. When even the batch has no room, the connection is ended,
which every book hears as STALE_DISCONNECTED.

A session that is held reads into its buffer and gives nothing to the feed until it is released:
that is how a new connection takes over from an old one (workers/ingest_line.py).
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from time import monotonic, monotonic_ns
from typing import cast
from urllib.parse import urlsplit

import numpy as np

from engine.codec_feed import DATA_BYTES_MAX, FRAME_BYTES_MAX, FRAMES_MAX, Feed
from engine.codec_layout import COUNT
from workers import framewalk
from workers.framewalk import (
    BAD,
    BINARY,
    BUFFER_BYTES,
    BYTES_HIGH,
    CLOSE,
    CONTINUATION,
    FRAMES_HIGH,
    FROM,
    FULL,
    IS_GATHERING,
    IS_LAST,
    KIND,
    MORE,
    PING,
    PONG,
    START,
    STOP,
    TEXT,
    TO,
    WALK_WORDS,
    client_frame,
    has_data,
    header,
    make_space,
    walk,
)

# The kernel doubles this number; so half a batch takes what it can hold.
RECEIVE_BYTES_MAX = 1 << 20
READ_BYTES_MAX = 1 << 17  # at once: what is read is decoded while the core's own cache has it
BATCH_BYTES_HIGH, BATCH_FRAMES_HIGH = DATA_BYTES_MAX // 2, FRAMES_MAX // 2
HEAD_BYTES_MAX = 16_384
OPEN_S_MAX = 10.0
_DRAIN, _ALIVE = b"tickring-drain", b"tickring-alive"
_END_OF_HEAD = b"\r\n\r\n"


class FrameSession(asyncio.BufferedProtocol):
    """One connection, from its handshake to its end; a new one is made to reconnect.

    Args:
        feed: takes the frames.
        wake: called when a batch begins and at the end.
        make_room: called when the batch is half full; decodes it, or pauses the reading.
    """

    def __init__(
        self, feed: Feed, wake: Callable[[], None], make_room: Callable[[], object]
    ) -> None:
        self._feed, self._wake, self._make_room = feed, wake, make_room
        self._buffer = np.zeros(BUFFER_BYTES, np.uint8)
        self._view = self._buffer.data
        self._state = np.zeros(WALK_WORDS, np.int64)
        self._state[BYTES_HIGH], self._state[FRAMES_HIGH] = BATCH_BYTES_HIGH, BATCH_FRAMES_HIGH
        self._words = self._state.data
        self._fragments = bytearray()
        self._transport: asyncio.Transport | None = None
        self._reason = ""
        self._key = b64encode(os.urandom(16))
        self._is_upgraded = asyncio.get_running_loop().create_future()
        self._heard_s = monotonic()
        self._is_asked = False
        self._timer: asyncio.TimerHandle | None = None
        self.is_paused = self._is_ending = self._is_held = False
        self.overflow_count = 0
        self.opened_s = self.data_s = self._heard_s  # the last one: when data came last
        self.is_fed = asyncio.Event()  # a frame of data has come
        self.drained = asyncio.Event()  # the ping of `drain` is answered
        self.closed = asyncio.Event()

    async def connect(self, url: str, idle_s: float) -> None:
        """Connects; a peer that is silent for `idle_s` is pinged, and given as long to answer.

        Raises:
            OSError, TimeoutError: the connection could not be made.
        """
        parts = urlsplit(url)
        is_secure = parts.scheme == "wss"
        host, port = parts.hostname or "", parts.port or (443 if is_secure else 80)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(OPEN_S_MAX):
            try:
                await loop.create_connection(lambda: self, host, port, ssl=is_secure or None)
            except ssl.SSLError as error:
                why = getattr(error, "verify_message", "") or error.reason
                raise ConnectionError(
                    f"the venue must show a certificate that is trusted: host={host}:{port} "
                    f"error={why}; SSL_CERT_FILE names a file of others to trust"
                ) from None
            assert self._transport is not None, "what is connected has told us"
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            self._transport.write(framewalk.request(parts.netloc, target, self._key))
            try:
                await self._is_upgraded
            except BaseException:
                self._transport.abort()
                raise
        self._watch(idle_s)

    async def ended(self) -> str:
        """Waits for the connection's end; answers why, empty for an ordinary one."""
        await self.closed.wait()
        return self._reason

    @property
    def is_open(self) -> bool:
        """Says whether frames may come."""
        return self._transport is not None and not self.closed.is_set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport, and bounds what the kernel may hold for it."""
        self._transport = cast("asyncio.Transport", transport)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES_MAX)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Answers where the next read goes; a frame is at most half of the buffer."""
        make_space(self._state, self._buffer)
        stop = self._words[STOP]
        return self._view[stop : stop + READ_BYTES_MAX]

    def buffer_updated(self, nbytes: int) -> None:
        """Takes what has been read."""
        self._words[STOP] += nbytes
        self._heard_s, self._is_asked = monotonic(), False
        if not (self._is_upgraded.done() or self._take_head()):
            return
        if self._is_held:
            self._keep()
        else:
            self._take()

    def _keep(self) -> None:
        """Leaves in the buffer what has been read, and reads no more once half of it is full."""
        if not self.is_fed.is_set() and has_data(self._state, self._buffer):
            self.is_fed.set()
        if self._words[STOP] > BUFFER_BYTES // 2:
            self.pause()

    def eof_received(self) -> bool:
        """Lets the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells whoever waits."""
        self._reason = self._reason or (str(exc) if exc else "")
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_upgraded.done():
            error = ConnectionError("the connection must last through the handshake")
            self._is_upgraded.set_exception(error)
        self._is_ending = True
        self.closed.set()
        self._wake()

    def _take_head(self) -> bool:
        words = self._words
        head, found, _ = bytes(self._view[: words[STOP]]).partition(_END_OF_HEAD)
        problem = ""
        if found:
            problem = framewalk.refusal(head, self._key)
        elif len(head) > HEAD_BYTES_MAX:
            problem = f"the answer to a handshake must be short: bytes_max={HEAD_BYTES_MAX}"
        if problem:
            self._is_upgraded.set_exception(ConnectionError(problem))
        elif found:
            words[START] = len(head) + len(_END_OF_HEAD)
            self._is_upgraded.set_result(None)
        return bool(found) and not problem

    def _take(self) -> None:
        """Walks until more bytes are needed, the batch has no room, or the connection ends."""
        feed, read_ns = self._feed, monotonic_ns()
        while not (self._is_ending or self.is_paused):
            before = feed.words[COUNT]
            status = walk(self._state, self._buffer, feed.path, read_ns)
            if feed.words[COUNT] != before:
                self._note_data(was_empty=before == 0)
            if status == MORE:
                return
            if status == BAD:
                self._fail("a frame must be as RFC 6455 has it, unmasked and not too long")
            elif status == FULL:
                before = feed.words[COUNT]
                self._make_room()
                is_stuck = feed.words[COUNT] == before
                if is_stuck and not self.is_paused:
                    self.overflow_count += 1
                    self._fail("the batch must have room for a frame")
            else:
                self._take_other(read_ns)

    def _note_data(self, *, was_empty: bool) -> None:
        self.data_s = self._heard_s
        if not self.is_fed.is_set():
            self.is_fed.set()
        if was_empty:
            self._wake()

    def _take_other(self, read_ns: int) -> None:
        words = self._words
        kind, payload = words[KIND], bytes(self._view[words[FROM] : words[TO]])
        if kind == PING:
            self._write(client_frame(PONG, payload))
        elif kind == PONG:
            if payload == _DRAIN:
                self.drained.set()
        elif kind == CLOSE:
            self._write(client_frame(CLOSE, payload[:2]))
            self.disconnect()
        elif (kind == CONTINUATION) != bool(words[IS_GATHERING]):
            self._fail("fragments must follow their beginning, and nothing else may")
        elif len(self._fragments) + len(payload) > FRAME_BYTES_MAX:
            self._fail(f"a message must be at most {FRAME_BYTES_MAX} bytes")
        else:
            self._fragments += payload
            words[IS_GATHERING] = not words[IS_LAST]
            if words[IS_LAST]:
                self._append(read_ns)

    def _append(self, read_ns: int) -> None:
        """Takes a message that came in fragments; the batch's other half is for it."""
        was_empty = self._feed.words[COUNT] == 0
        is_taken = self._feed.append(bytes(self._fragments), read_ns)
        self._fragments.clear()
        if not is_taken:
            self.overflow_count += 1
            self._fail("the batch must have room for a message")
        else:
            self._note_data(was_empty=was_empty)

    def _watch(self, idle_s: float) -> None:
        silent_s = monotonic() - self._heard_s
        if self.is_paused or silent_s < idle_s:
            pass
        elif self._is_asked:
            self._fail(f"the venue must answer a ping within {idle_s:.0f} s")
            return
        else:
            self._is_asked = True
            self._write(client_frame(PING, _ALIVE))
        wait_s = idle_s if self._is_asked else max(idle_s - silent_s, idle_s / 10)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._watch, idle_s)

    def _write(self, frame: bytes) -> None:
        if self._transport is not None and self.is_open:
            self._transport.write(frame)

    def _fail(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()
        self._is_ending = True

    @property
    def is_drained(self) -> bool:
        """Says whether the ping of `drain` has been answered."""
        return self.drained.is_set()

    def hold(self) -> None:
        """Gives nothing to the feed until `release`. Called by: the owner before `connect`."""
        self._is_held = True

    def held(self) -> Iterator[bytes]:
        """Yields the frames of data that are held back, as far as they are whole."""
        at, end = self._words[START], self._words[STOP]
        while at < end:
            place, size = header(self._buffer, at, end)
            if place < 0 or size < 0 or place + size > end:
                return
            if TEXT <= self._buffer[at] & 15 <= BINARY:
                yield bytes(self._view[place : place + size])
            at = place + size

    def release(self) -> None:
        """Gives the feed what was held, and goes on like any other session."""
        self._is_held = False
        self.data_s = monotonic()
        if self.is_paused:
            self.resume()
        else:
            self._take()

    def pause(self) -> None:
        """Stops reading the socket; what has been read waits in the buffer."""
        if self._transport is not None and not self.is_paused:
            self.is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Takes what waited, and reads the socket again."""
        if self._transport is not None and self.is_paused:
            self.is_paused = False
            self._take()
            if self.is_open and not (self._is_ending or self.is_paused):
                self._transport.resume_reading()

    def drain(self) -> None:
        """Asks for a pong: all that the peer sent before it has been read when it is here."""
        self._write(client_frame(PING, _DRAIN))

    def disconnect(self) -> None:
        """Ends the connection; what has been read and not walked is left."""
        self._is_ending = True
        if self._transport is not None:
            self._transport.close()
