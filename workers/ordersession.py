"""workers room: the socket of the order connection: connect, send, receive, come back.

What is said over it is the desk's business (workers/orderdesk.py); this file only keeps one
WebSocket connection up, with backoff and jitter between tries, and hands whole messages on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import numpy as np
from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from config.settings import VenueSettings
from workers.log import Logger

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
HANDSHAKE_S_MAX = 5.0
IDLE_S_MAX = 15.0  # silence after which we ping; the venue pings every 20 s by itself
PONG_S_MAX = 10.0
_TEXT = WSMsgType.TEXT


def _send_nothing(kind: WSMsgType, buffer: bytearray, at: int) -> None:
    raise AssertionError("orders are only written once there was a connection")


class SessionOwner(Protocol):
    """Who speaks over the connection."""

    def on_open(self) -> None:
        """A connection is up; nothing was said yet."""

    def on_message(self, data: bytes) -> None:
        """One whole text message."""

    def on_close(self) -> None:
        """The connection is gone; what was under way is lost."""


class _Listener(WSListener):
    """One connection's callbacks."""

    def __init__(self, session: OrderSession) -> None:
        super().__init__()
        self._session = session
        self._parts: list[bytes] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._session.opened(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind in {_TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION}:
            # The frame's memory is borrowed: it is copied before this returns.
            data = frame.get_payload_as_bytes()
            if not frame.fin or self._parts:
                self._parts.append(data)
                if sum(map(len, self._parts)) > MESSAGE_BYTES_MAX:
                    transport.disconnect(graceful=False)
                if not frame.fin:
                    return
                data = b"".join(self._parts)
                self._parts.clear()
            self._session.received(data)
        elif kind == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._session.closed(transport)


class OrderSession:
    """Keeps one connection up until `stop`.

    Args:
        address: answers the venue's address; asked again before every try.
        venue: how long to wait between tries.
        owner: who speaks over the connection.
        logger: of this worker.
        wake: steps the worker's agents when something came in.
    """

    def __init__(
        self,
        address: Callable[[], str],
        venue: VenueSettings,
        owner: SessionOwner,
        logger: Logger,
        wake: Callable[[], None],
    ) -> None:
        self._address, self._venue, self._owner = address, venue, owner
        self._logger, self._wake = logger, wake
        self._jitter = np.random.default_rng()
        self._delay_ms = venue.reconnect_ms
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._is_paused = False
        self.fault = ""  # why the last try failed; nothing while there is a connection
        self.transport: WSTransport | None = None
        self._send_buffer: Callable[[WSMsgType, bytearray, int], None] = _send_nothing

    def start(self) -> None:
        """Begins to connect, for ever. Called by: the agent, inside the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def send(self, data: bytes) -> None:
        """Sends one text message; nothing when there is no connection."""
        if self.transport is not None:
            self.transport.send(_TEXT, data)

    def send_buffer(self, buffer: bytearray, at: int) -> None:
        """Sends the message that lies in `buffer` from `at` to its end; its bytes are used up."""
        self._send_buffer(_TEXT, buffer, at)

    def settle(self) -> None:
        """Says that the connection works: the next loss begins with the shortest delay."""
        self._delay_ms = self._venue.reconnect_ms

    def drop(self) -> None:
        """Gives the connection up at once; a new one follows."""
        if self.transport is not None:
            self.transport.disconnect(graceful=False)

    def pause(self) -> None:
        """Stops reading; the venue's messages wait in the socket."""
        if self.transport is not None and not self._is_paused:
            self._is_paused = True
            self.transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if self.transport is not None and self._is_paused:
            self._is_paused = False
            self.transport.underlying_transport.resume_reading()

    def leave(self) -> None:
        """Says goodbye, once, and connects no more; a venue that leaves first is no news then."""
        is_first, self._is_stopping = not self._is_stopping, True
        if is_first and self.transport is not None:
            self.transport.send_close(WSCloseCode.OK)
            self.transport.disconnect()

    async def stop(self) -> None:
        """Leaves and waits until nothing is left running."""
        self.leave()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def opened(self, transport: WSTransport) -> None:
        """Called by the listener."""
        self.transport = transport
        self.fault = ""
        self._is_paused = False
        self._send_buffer = transport.send_reuse_external_bytearray
        self._owner.on_open()
        self._wake()

    def received(self, data: bytes) -> None:
        """Called by the listener."""
        self._owner.on_message(data)
        self._wake()

    def closed(self, transport: WSTransport) -> None:
        """Called by the listener."""
        if self.transport is transport:
            self.transport = None
            self._owner.on_close()
            self._wake()

    async def _run(self) -> None:
        while not self._is_stopping:
            try:
                await self._connect_once()
            except (TimeoutError, OSError, WSError) as error:
                self.fault = f"{type(error).__name__}: {str(error)[:200]}"
                self._logger.warning(
                    "order connection failed", error=type(error).__name__, detail=str(error)[:200]
                )
            if not self._is_stopping:
                await asyncio.sleep(self._next_delay_s())

    async def _connect_once(self) -> None:
        transport, _ = await ws_connect(
            lambda: _Listener(self),
            self._address(),
            websocket_handshake_timeout=HANDSHAKE_S_MAX,
            enable_auto_ping=True,
            auto_ping_idle_timeout=IDLE_S_MAX,
            auto_ping_reply_timeout=PONG_S_MAX,
            max_frame_size=MESSAGE_BYTES_MAX,
        )
        await transport.wait_disconnected()
        if not self._is_stopping:
            self._logger.warning("order connection lost")

    def _next_delay_s(self) -> float:
        delay = self._delay_ms * (0.5 + 0.5 * float(self._jitter.random()))
        self._delay_ms = min(2 * self._delay_ms, self._venue.reconnect_ms_max)
        return delay / 1000
