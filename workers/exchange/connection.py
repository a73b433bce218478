"""workers room: one WebSocket connection of a client, whatever it is used for.

picows hands frames over as borrowed memory; this class copies text out, puts fragments together,
answers pings, watches pongs and reports back-pressure. What the text means is the handler's
business, so market streams and the order API share one class and differ in what they are composed
with.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Protocol

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

PINGS_MAX = (
    8  # unanswered pings remembered; more than a connection can collect before it is dropped
)
HIGH_WATER_BYTES = 1 << 20  # a client that has so much unread is paused
LOW_WATER_BYTES = 1 << 18


class Handler(Protocol):
    """What a connection is for."""

    def on_open(self, connection: Connection) -> None:
        """Takes the connection into use."""

    def on_message(self, data: bytes) -> None:
        """Handles one text message."""

    def on_control(self) -> None:
        """Hears of a ping or pong frame from the client."""

    def on_close(self) -> None:
        """Forgets the connection."""


class Connection(WSListener):
    """One client connection; see the module.

    Args:
        handler: what it is for.
        clock: answers epoch ns.
        message_bytes_max: a longer message closes the connection.
        released: called when a paused connection takes data again, or is gone.
    """

    def __init__(
        self,
        handler: Handler,
        clock: Callable[[], int],
        message_bytes_max: int,
        released: Callable[[], None],
    ) -> None:
        super().__init__()
        self.handler = handler
        self.is_paused = False
        self.is_open = False
        self._is_half_closed = False
        self.opened_ns = clock()
        self._clock = clock
        self._bytes_max = message_bytes_max
        self._released = released
        self._transport: WSTransport | None = None
        self._parts: list[bytes] = []
        self._pings: dict[bytes, int] = {}  # sent and not answered, with the time of sending

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called by picows after the upgrade."""
        self._transport = transport
        self.is_open = True
        transport.underlying_transport.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        self.handler.on_open(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called by picows for every frame."""
        kind = frame.msg_type
        if kind in {WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION}:
            self._on_data(frame)
        elif kind == WSMsgType.PING:
            if not self._is_half_closed:
                transport.send_pong(frame.get_payload_as_bytes())
            self.handler.on_control()
        elif kind == WSMsgType.PONG:
            self._on_pong(frame.get_payload_as_bytes())
            self.handler.on_control()
        else:
            if not self._is_half_closed:
                transport.send_close(frame.get_close_code())
            transport.disconnect(graceful=not self._is_half_closed)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Called by picows when the connection is gone."""
        self.is_open = False
        self.is_paused = False
        self.handler.on_close()
        self._released()

    def pause_writing(self) -> None:
        """Called by the transport when the client reads too slowly."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """Called by the transport when the client has caught up."""
        self.is_paused = False
        self._released()

    def send(self, data: bytes) -> None:
        """Sends one text message; to a client that has just gone, nothing."""
        transport = self._transport
        if transport is None or self._is_half_closed or transport.underlying_transport.is_closing():
            return
        transport.send(WSMsgType.TEXT, data)

    def unsent_bytes(self) -> int:
        """Says how much the client has not taken yet."""
        if self._transport is None or not self.is_open:
            return 0
        return self._transport.underlying_transport.get_write_buffer_size()

    def close(self, code: WSCloseCode, reason: str) -> None:
        """Says goodbye and closes after what is buffered was sent."""
        if self._transport is not None and self.is_open:
            if not self._is_half_closed:
                self._transport.send_close(code, reason.encode())
            self._transport.disconnect(graceful=not self._is_half_closed)

    def abort(self) -> None:
        """Drops the connection at once."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def reset(self) -> None:
        """Drops the connection with a TCP reset."""
        if self._transport is not None and self.is_open:
            transport = self._transport.underlying_transport
            linger = struct.pack("ii", 1, 0)  # on, for no time: close sends a reset
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
            transport.abort()

    def half_close(self) -> None:
        """Ends the sending half of the connection."""
        if self._transport is not None and self.is_open and not self._is_half_closed:
            self._is_half_closed = True
            self._transport.underlying_transport.write_eof()

    def ping(self, pong_ns_max: int) -> None:
        """Pings the client, or drops it when a ping has waited too long for its pong."""
        now_ns = self._clock()
        oldest_ns = next(iter(self._pings.values()), now_ns)
        if now_ns - oldest_ns >= pong_ns_max or len(self._pings) >= PINGS_MAX:
            self.close(WSCloseCode.POLICY_VIOLATION, "Pong timeout")
            return
        if self._transport is not None and self.is_open and not self._is_half_closed:
            mark = b"%d" % (now_ns // 1_000_000)
            self._pings.setdefault(mark, now_ns)
            self._transport.send_ping(mark)

    def _on_pong(self, mark: bytes) -> None:
        """An answered ping answers the ones before it; a pong out of nowhere answers nothing."""
        if mark in self._pings:
            self._pings.clear()

    def _on_data(self, frame: WSFrame) -> None:
        data = frame.get_payload_as_bytes()
        if frame.fin and not self._parts:
            self._deliver(data)
            return
        self._parts.append(data)
        if sum(map(len, self._parts)) > self._bytes_max:
            self.close(WSCloseCode.MESSAGE_TOO_BIG, "Message too long")
        elif frame.fin:
            data = b"".join(self._parts)
            self._parts.clear()
            self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        if len(data) > self._bytes_max:
            self.close(WSCloseCode.MESSAGE_TOO_BIG, "Message too long")
        else:
            self.handler.on_message(data)
