"""workers room: the engine's control socket, served by the supervisor's main loop.

One request a connection: a line of JSON in, a line of JSON out. The socket file is 0600 in the data
folder, and the peer's user id is checked as well: only the user that runs the engine controls it.
The kill switch does not need this socket (see engine/control.py); resuming the supervisor's own
halt does.

The main loop never waits for a peer. Connections are few and short-lived: what has not sent its
request and taken its reply within REPLY_S_MAX is dropped, and so is the oldest one too many. A
request whose peer has gone is not acted upon: it gave up, and must not stop or resume anything
when a supervisor that hung comes back.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REQUEST_BYTES_MAX = 4096
REPLY_S_MAX = 2.0
PEERS_MAX = 16
SOCKET_NAME = "control.sock"
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_PATH_BYTES_MAX = 99  # sun_path holds 108
_STRANGER = {"error": "control must be asked for by the engine's own user"}
Handler = Callable[[dict[str, Any]], dict[str, Any]]


class NoAnswerError(TimeoutError):
    """There is an engine, and it does not answer."""


class _Peer:
    """One connection: its request on the way in, then its reply on the way out."""

    def __init__(self, connection: socket.socket, deadline_s: float) -> None:
        self.connection = connection
        self.deadline_s = deadline_s
        self._received = bytearray()
        self.reply = b""

    def read(self) -> bytes:
        """Answers the request, nothing while it is not whole; raises BlockingIOError likewise."""
        some = self.connection.recv(REQUEST_BYTES_MAX + 1 - len(self._received))
        self._received += some
        if some and b"\n" not in some and len(self._received) <= REQUEST_BYTES_MAX:
            return b""
        if not self._received:
            raise ConnectionResetError("a peer must send a request")
        return bytes(self._received)

    def is_gone(self) -> bool:
        """Says whether nobody waits for a reply; one that only ends its sending still does."""
        look = select.poll()
        look.register(self.connection, 0)
        return bool(look.poll(0))  # POLLHUP and POLLERR come unasked

    def is_ours(self) -> bool:
        """Says whether the peer is this user's, or root's."""
        raw = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(raw)
        return uid in {os.getuid(), 0}


class ControlServer:
    """Answers control requests; `poll` never blocks and never raises what a request holds."""

    def __init__(
        self,
        data_dir: Path,
        handlers: dict[str, Handler],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = data_dir / SOCKET_NAME
        self.path.unlink(missing_ok=True)
        self._handlers = handlers
        self._clock = clock
        self._peers: list[_Peer] = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            with _address(self.path) as address:
                self.listener.bind(address)
        finally:
            os.umask(mask)
        self.listener.listen(PEERS_MAX)
        self.listener.settimeout(0)

    def poll(self) -> None:
        """Takes new connections and moves every one on as far as it goes without waiting."""
        now_s = self._clock()
        self._accept(now_s + REPLY_S_MAX)
        kept = []
        for peer in self._peers:
            if now_s < peer.deadline_s and self._move(peer):
                kept.append(peer)
            else:
                peer.connection.close()
        self._peers = kept

    def _accept(self, deadline_s: float) -> None:
        for _ in range(PEERS_MAX):
            try:
                connection, _ = self.listener.accept()
            except OSError:  # nobody waits, or there is no descriptor left: the next turn tries
                return
            connection.settimeout(0)
            self._peers.append(_Peer(connection, deadline_s))
            if len(self._peers) > PEERS_MAX:
                self._peers.pop(0).connection.close()

    def _move(self, peer: _Peer) -> bool:
        """Reads, acts and answers as far as it goes; says whether the peer is still needed."""
        try:
            if not peer.reply:
                line = peer.read()
                if not line:
                    return True
                if peer.is_gone():
                    return False
                peer.reply = self._answer(line) if peer.is_ours() else _encoded(_STRANGER)
            peer.reply = peer.reply[peer.connection.send(peer.reply) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(peer.reply)

    def _answer(self, line: bytes) -> bytes:
        if len(line) > REQUEST_BYTES_MAX:
            return _encoded({"error": f"a request must be short: bytes_max={REQUEST_BYTES_MAX}"})
        try:
            request = json.loads(line)
            command = request["command"]
            handler = self._handlers[command]
        except (ValueError, LookupError, TypeError, RecursionError):
            known = ", ".join(sorted(self._handlers))
            return _encoded({"error": f"command must be one of: {known}"})
        try:
            return _encoded(handler(request))
        except ValueError as error:
            return _encoded({"error": str(error)})
        except Exception as error:  # noqa: BLE001 - no request may end the supervisor's main loop
            text = f"{type(error).__name__}: {error}"
            return _encoded({"error": f"a command must not fail: command={command} error={text}"})

    def close(self) -> None:
        """Stops listening, drops every connection and removes the socket file."""
        self.listener.close()
        for peer in self._peers:
            peer.connection.close()
        self._peers.clear()
        self.path.unlink(missing_ok=True)


def _encoded(reply: dict[str, Any]) -> bytes:
    return json.dumps(reply).encode() + b"\n"


def request(data_dir: Path, command: str, **fields: object) -> dict[str, Any]:
    """Sends one request to a running engine; answers its reply.

    Raises:
        ConnectionError: when no engine runs in `data_dir`.
        NoAnswerError: when one does, and says nothing within REPLY_S_MAX.
    """
    line = json.dumps({"command": command, **fields}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(REPLY_S_MAX)
        try:
            with _address(data_dir / SOCKET_NAME) as address:
                peer.connect(address)
        except (TimeoutError, BlockingIOError):  # so many wait already that nobody may join them
            raise _no_answer(data_dir) from None
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise ConnectionError(
                f"an engine must be running: data_dir={data_dir} error={reason};"
                " start one with `tickring run`"
            ) from None
        try:
            peer.sendall(line)
            with peer.makefile("rb") as stream:
                reply: dict[str, Any] = json.loads(stream.readline())
        except (OSError, ValueError):
            raise _no_answer(data_dir) from None
    return reply


def _no_answer(data_dir: Path) -> NoAnswerError:
    return NoAnswerError(
        f"the engine does not answer: data_dir={data_dir} waited_s_max={REPLY_S_MAX};"
        " `tickring halt` works all the same, `tickring status` reads past it"
    )


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """Gives a path that fits into a socket address, through our own open folder if need be."""
    if len(str(path).encode()) <= _PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
