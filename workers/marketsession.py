"""workers room: one WebSocket connection that delivers market data frames into a feed's batch.

The listener copies each payload as it comes, with the time it was read, and nothing more. Decoding
happens once a batch, elsewhere.

Nothing is dropped in between. When the market ring is full, the owner pauses reading, the
kernel's buffers fill and the venue feels it. When even the batch has no room, the connection is
ended, which every book hears as STALE_DISCONNECTED.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from time import monotonic_ns

from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from engine.codec_feed import DATA_BYTES_MAX, FRAME_BYTES_MAX, FRAMES_MAX, Feed
from engine.codec_layout import COUNT, END

_OBJECT = ord("{")
_DRAIN = b"tickring-drain"
READ_BUFFER_BYTES = 256 * 1024
# picows reads as much at once as the kernel holds, and hands all of it over even when reading is
# paused meanwhile. The kernel doubles this number, so half a batch takes what one read can bring.
RECEIVE_BYTES_MAX = 1 << 20
BATCH_BYTES_HIGH, BATCH_FRAMES_HIGH = DATA_BYTES_MAX // 2, FRAMES_MAX // 2


class MarketSession(WSListener):
    """One connection, from its handshake to its end; a new one is made to reconnect."""

    def __init__(
        self, feed: Feed, wake: Callable[[], None], make_room: Callable[[], object]
    ) -> None:
        """Binds a feed.

        Args:
            feed: takes the frames.
            wake: called when a batch begins and at the end.
            make_room: called when the batch is half full; decodes it, or pauses the reading.
        """
        self._feed = feed
        self._words, self._data, self._index = feed.words, feed.data, feed.index
        self._wake, self._make_room = wake, make_room
        self._transport: WSTransport | None = None
        self._fragments = bytearray()
        self._is_broken = False
        self.is_paused = False
        self.is_drained = False
        self.overflow_count = 0
        self.closed = asyncio.Event()

    async def connect(self, url: str, idle_s: float) -> None:
        """Connects; a peer that is silent for `idle_s` is pinged, and given as long to answer.

        Raises:
            OSError, WSError, TimeoutError: the connection could not be made.
        """
        await ws_connect(
            lambda: self,
            url,
            max_frame_size=FRAME_BYTES_MAX,
            read_buffer_init_size=READ_BUFFER_BYTES,
            enable_auto_ping=True,
            auto_ping_idle_timeout=idle_s,
            auto_ping_reply_timeout=idle_s,
        )

    async def ended(self) -> str:
        """Waits for the connection's end; answers why, empty for an ordinary one."""
        await self.closed.wait()
        assert self._transport is not None, "what has ended was connected"
        try:
            await self._transport.wait_disconnected()
        except (WSError, OSError) as error:
            return str(error)
        return ""

    @property
    def is_open(self) -> bool:
        """Says whether frames may come."""
        return self._transport is not None and not self.closed.is_set()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keeps the transport, and bounds what the kernel may hold for it."""
        self._transport = transport
        connection = transport.underlying_transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES_MAX)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Copies a data frame into the batch.

        Measured side by side: asking picows for the kind of a frame costs 265 ns, for its payload
        as bytes 96, as a memoryview 203. So what looks like a whole JSON object is taken without
        asking for its kind: no other kind of frame that reaches us can begin like one.
        """
        payload = frame.get_payload_as_bytes()
        if not payload or payload[0] != _OBJECT or not frame.fin or self._fragments:
            self._on_other(transport, frame, payload)
            return
        words = self._words
        count, start = words[COUNT], words[END]
        end = start + len(payload)
        if end > BATCH_BYTES_HIGH or count >= BATCH_FRAMES_HIGH:
            self._append(payload)
            return
        self._data[start:end] = payload
        index = self._index
        index[2 * count] = end
        index[2 * count + 1] = monotonic_ns()
        words[END] = end
        words[COUNT] = count + 1
        if count == 0:
            self._wake()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tells whoever waits."""
        self.closed.set()
        self._wake()

    def is_user_specific_pong(self, frame: WSFrame) -> bool:
        """Says which pong answers the liveness ping: any but the one that `drain` asked for."""
        return frame.msg_type == WSMsgType.PONG and frame.get_payload_as_bytes() != _DRAIN

    def _append(self, payload: bytes | memoryview) -> None:
        """Takes a frame when the batch is half full; ends the connection when it cannot.

        The other half is for what has been read already when `make_room` pauses the reading.
        """
        if self._is_broken:
            return
        read_ns = monotonic_ns()
        if not self.is_paused:
            self._make_room()
        if not self._feed.append(payload, read_ns):
            self.overflow_count += 1
            self._is_broken = True
            self.disconnect()

    def _on_other(self, transport: WSTransport, frame: WSFrame, payload: bytes) -> None:
        if frame.msg_type == WSMsgType.PONG:
            self.is_drained = self.is_drained or payload == _DRAIN
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close()
            transport.disconnect()
        elif len(self._fragments) + len(payload) > FRAME_BYTES_MAX:
            self._is_broken = True
            self.disconnect()
        else:
            self._fragments += payload
            if frame.fin:
                self._append(bytes(self._fragments))
                self._fragments.clear()

    def pause(self) -> None:
        """Stops reading the socket."""
        if self._transport is not None and not self.is_paused:
            self.is_paused = True
            self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        """Reads the socket again."""
        if self._transport is not None and self.is_paused:
            self.is_paused = False
            if self.is_open:
                self._transport.underlying_transport.resume_reading()

    def drain(self) -> None:
        """Asks for a pong: all that the peer sent before it has been read when it is here."""
        if self._transport is not None and self.is_open:
            self._transport.send_ping(_DRAIN)

    def disconnect(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.disconnect()
