"""workers room: HTTP answers that come late, over a WebSocket library that answers at once.

To picows such a request is an upgrade whose answer has no bytes: the connection stays open, nothing
is sent, and its listener writes the real answer when the time has come, then closes.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from picows import (
    WSFrame,
    WSListener,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

_UPGRADE: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
_waiting: set[SlowAnswer] = set()  # nobody else holds a listener while it waits


class SilentResponse(WSUpgradeResponse):
    """An upgrade that says nothing."""

    __slots__ = ()

    def to_bytes(self) -> bytearray:
        """Answers no bytes."""
        return bytearray()


class SlowAnswer(WSListener):  # type: ignore[misc, unused-ignore]
    """One answer that waits for its time.

    Args:
        content: the whole HTTP answer.
        delay_s: how long it waits.
    """

    def __init__(self, content: bytes, delay_s: float) -> None:
        super().__init__()
        self._content = content
        self._delay_s = delay_s
        self._timer: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Starts to wait."""
        _waiting.add(self)  # `on_ws_disconnected` takes it out
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._delay_s, self._answer, transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Ends a connection that sends more than its request."""
        transport.disconnect(graceful=False)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Forgets the answer."""
        _waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _answer(self, transport: WSTransport) -> None:
        transport.underlying_transport.write(self._content)
        transport.underlying_transport.close()


def slow_answer(
    request: WSUpgradeRequest, response: WSUpgradeResponse, delay_s: float
) -> WSUpgradeResponseWithListener:
    """Makes the answer of a request: nothing at first, `response` after `delay_s` seconds."""
    for name, value in _UPGRADE.items():  # picows holds the request against them afterwards
        request.headers[name] = value
    response.headers["Connection"] = "close"
    silent: Any = WSUpgradeResponse.create_101_response()
    silent.__class__ = SilentResponse
    listener = SlowAnswer(bytes(response.to_bytes()), delay_s)
    return WSUpgradeResponseWithListener(silent, listener)
