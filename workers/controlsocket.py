"""workers room: the engine's control socket, served by the supervisor's main loop.

One request a connection: a line of JSON in, a line of JSON out. The socket file is 0600 in the data
folder, and the peer's user id is checked as well: only the user that runs the engine controls it.
The kill switch does not need this socket (see engine/control.py); resuming the supervisor's own
halt does.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

REQUEST_BYTES_MAX = 4096
REPLY_S_MAX = 2.0
SOCKET_NAME = "control.sock"
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
Handler = Callable[[dict[str, Any]], dict[str, Any]]


class ControlServer:
    """Answers control requests; `poll` never blocks."""

    def __init__(self, data_dir: Path, handlers: dict[str, Handler]) -> None:
        self.path = data_dir / SOCKET_NAME
        self.path.unlink(missing_ok=True)
        self._handlers = handlers
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            self.listener.bind(_short(self.path))
        finally:
            os.umask(mask)
        self.listener.listen(8)
        self.listener.settimeout(0)

    def poll(self) -> None:
        """Answers at most one waiting request."""
        try:
            peer, _ = self.listener.accept()
        except BlockingIOError:
            return
        with peer, contextlib.suppress(OSError):
            peer.settimeout(REPLY_S_MAX)
            reply = self._answer(peer)
            peer.sendall(json.dumps(reply).encode() + b"\n")

    def _answer(self, peer: socket.socket) -> dict[str, Any]:
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(raw)
        if uid not in {os.getuid(), 0}:
            return {"error": f"control needs the engine's own user: uid={uid}"}
        try:
            request = json.loads(peer.recv(REQUEST_BYTES_MAX))
            handler = self._handlers[request["command"]]
        except (ValueError, KeyError, TypeError):
            return {"error": f"command must be one of: {', '.join(sorted(self._handlers))}"}
        try:
            return handler(request)
        except ValueError as error:
            return {"error": str(error)}

    def close(self) -> None:
        """Stops listening and removes the socket file."""
        self.listener.close()
        self.path.unlink(missing_ok=True)


def request(data_dir: Path, command: str, **fields: object) -> dict[str, Any]:
    """Sends one request to a running engine; answers its reply.

    Raises:
        ConnectionError: when no engine answers in `data_dir`.
    """
    path = data_dir / SOCKET_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(REPLY_S_MAX)
        try:
            peer.connect(_short(path))
            peer.sendall(json.dumps({"command": command, **fields}).encode() + b"\n")
            with peer.makefile("rb") as stream:
                reply: dict[str, Any] = json.loads(stream.readline())
        except (OSError, ValueError) as error:
            raise ConnectionError(
                f"an engine must be running: data_dir={data_dir} error={error};"
                " start one with `tickring run`"
            ) from None
    return reply


def _short(path: Path) -> str:
    """Answers a path that fits into a socket address, through our own open folder if need be."""
    text = str(path)
    if len(text.encode()) < 100:  # noqa: PLR2004 - sun_path holds 108 bytes
        return text
    folder = os.open(path.parent, os.O_RDONLY)
    return f"/proc/self/fd/{folder}/{path.name}"
