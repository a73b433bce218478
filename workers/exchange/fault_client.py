"""workers room: asks the control port of faults one question: connects, signs, waits, answers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from workers.exchange.fault_session import FAULTS_PATH
from workers.exchange.keys import KeyPair, payload
from workers.exchange.limits import Limits

REPLY_S_MAX: Final = 5.0
HEADER_BYTES_MAX: Final = 14  # of a WebSocket frame: RFC 6455, section 5.2
MESSAGE_BYTES_MAX: Final = Limits().request_bytes_max - HEADER_BYTES_MAX
REPLY_BYTES_MAX: Final = 1 << 20
OK: Final = 200


class _Question(WSListener):
    """One connection that sends one message and keeps the first that comes back."""

    def __init__(self, message: bytes) -> None:
        super().__init__()
        self._message = message
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Asks."""
        transport.send(WSMsgType.TEXT, self._message)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Keeps the answer; the exchange never sends it in fragments."""
        if frame.msg_type == WSMsgType.TEXT and not self.reply.done():
            self.reply.set_result(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Ends the waiting."""
        del transport
        if not self.reply.done():
            self.reply.set_exception(ConnectionResetError("connection lost"))


def ask(url: str, pair: KeyPair, method: str, params: Mapping[str, str]) -> dict[str, Any]:
    """Asks the exchange at `url` and answers the result; blocks up to twice REPLY_S_MAX.

    Args:
        url: ws://HOST:PORT of the built-in exchange.
        pair: a key that the exchange knows.
        method: as in workers/exchange/fault_session.py.
        params: of the method, all but what signing adds.

    Raises:
        ConnectionError: nobody answers there, or somebody who is no built-in exchange.
        ValueError: the address is none, the request is too long, or the exchange refuses it.
    """
    _check_address(url)
    signed = {"apiKey": pair.api_key, "timestamp": str(time.time_ns() // 1_000_000), **params}
    signed["signature"] = pair.sign(payload(signed))
    message = msgspec.json.encode({"id": 1, "method": method, "params": signed})
    if len(message) > MESSAGE_BYTES_MAX:
        raise ValueError(
            f"a request must be short: method={method} bytes={len(message)}"
            f" bytes_max={MESSAGE_BYTES_MAX}; give a long script to `--faults` at the start"
        )
    try:
        reply = msgspec.json.decode(asyncio.run(_exchange(url, message)), type=dict[str, Any])
    except (WSError, OSError, msgspec.MsgspecError) as error:
        raise ConnectionError(
            f"a built-in exchange must answer: url={url} error={_reason(error)};"
            " start one with `tickring run` or `tickring exchange`"
        ) from None
    if reply.get("status") != OK or not isinstance(reply.get("result"), dict):
        refusal = reply.get("error")
        reason = refusal.get("msg") if isinstance(refusal, dict) else refusal
        raise ValueError(
            f"the exchange must agree: url={url} method={method} error={str(reason)[:1_000]}"
        )
    return reply["result"]  # type: ignore[no-any-return]


async def _exchange(url: str, message: bytes) -> bytes:
    """Sends a message to the control port; answers the reply."""
    async with asyncio.timeout(2 * REPLY_S_MAX):  # finding and connecting, then the answer
        transport, question = await ws_connect(
            lambda: _Question(message),
            f"{url.rstrip('/')}{FAULTS_PATH}",
            websocket_handshake_timeout=REPLY_S_MAX,
            max_frame_size=REPLY_BYTES_MAX,
            max_redirects=0,
        )
        assert isinstance(question, _Question)
        try:
            async with asyncio.timeout(REPLY_S_MAX):
                return await question.reply
        finally:
            transport.disconnect(graceful=False)
            await transport.wait_disconnected()


def _reason(error: Exception) -> str:
    """Says in a few words why nobody answered."""
    if isinstance(error, TimeoutError) and not error.errno:
        return f"nothing came in {REPLY_S_MAX:.0f} s"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error)[:200] or type(error).__name__


def _check_address(url: str) -> None:
    """Raises ValueError when `url` is not ws://HOST:PORT."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme == "ws" and bool(parts.hostname) and bool(parts.port)
        is_good = is_good and parts.path in {"", "/"} and not (parts.query or parts.fragment)
    except ValueError:
        is_good = False
    if not is_good:
        raise ValueError(f"--url must be ws://HOST:PORT: given={url}; `tickring exchange` says it")
