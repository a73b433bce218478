"""The control socket: one request, one reply, only for the engine's own user, and never a wait."""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers import controlsocket
from workers.controlsocket import PEERS_MAX, REPLY_S_MAX, ControlServer, NoAnswerError, request


def _echo(fields: dict[str, Any]) -> dict[str, Any]:
    return {"echo": fields["word"]}


def _refuse(_: dict[str, Any]) -> dict[str, Any]:
    raise ValueError("this must hold: value=1")


def _break(_: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError("a bug")


def _unsayable(_: dict[str, Any]) -> dict[str, Any]:
    return {"thing": object()}


class Stepped:
    """A server that a test polls itself, on a clock that a test moves itself."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 0.0
        self.acted: list[Any] = []
        handlers = {
            "act": self._act, "refuse": _refuse, "break": _break, "unsayable": _unsayable,
            "large": lambda _: {"text": "x" * 2_000_000},
        }  # fmt: skip
        self.server = ControlServer(folder, handlers, lambda: self.now_s)
        self._peers: list[socket.socket] = []

    def _act(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.acted.append(fields.get("word"))
        return {"done": True}

    def peer(self, data: bytes = b"") -> socket.socket:
        """Connects, sends and does not wait."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.connect(str(self.server.path))
        peer.settimeout(0)
        peer.sendall(data)
        self._peers.append(peer)
        return peer

    def ask(self, data: bytes) -> Any:
        """Sends, polls once and reads the reply."""
        peer = self.peer(data)
        self.server.poll()
        return json.loads(peer.recv(1 << 20))

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        self.server.close()


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[Stepped]:
    one = Stepped(tmp_path)
    yield one
    one.close()


class Served:
    """A server polled by a thread until the test is over."""

    def __init__(self, folder: Path) -> None:
        self.server = ControlServer(folder, {"echo": _echo, "refuse": _refuse})
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def _poll(self) -> None:
        while not self._over.wait(0.001):
            self.server.poll()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.server.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    yield one
    one.close()


def test_a_request_is_answered_by_its_handler(served: Served, tmp_path: Path) -> None:
    assert request(tmp_path, "echo", word="halt") == {"echo": "halt"}


def test_an_unknown_command_names_the_known_ones(served: Served, tmp_path: Path) -> None:
    assert request(tmp_path, "format")["error"] == "command must be one of: echo, refuse"


def test_a_refusal_comes_back_as_its_line(served: Served, tmp_path: Path) -> None:
    assert request(tmp_path, "refuse") == {"error": "this must hold: value=1"}


def test_the_socket_belongs_to_its_user_alone(served: Served) -> None:
    assert stat.S_IMODE(served.server.path.stat().st_mode) == 0o600


def test_without_an_engine_the_caller_hears_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="start one with `tickring run`"):
        request(tmp_path, "status")


def test_a_socket_file_that_a_killed_engine_left_is_no_engine(stepped: Stepped) -> None:
    stepped.server.listener.close()

    with pytest.raises(ConnectionError, match="an engine must be running"):
        request(stepped.server.path.parent, "act")


def test_an_engine_that_hangs_is_said_to_hang(
    stepped: Stepped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody polls, as when the supervisor is stopped; the kernel takes connections as ever."""
    monkeypatch.setattr(controlsocket, "REPLY_S_MAX", 0.05)

    with pytest.raises(NoAnswerError, match="the engine does not answer"):
        request(stepped.server.path.parent, "act")


def test_an_engine_that_nobody_can_reach_any_more_is_said_to_hang(
    stepped: Stepped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controlsocket, "REPLY_S_MAX", 0.05)
    for _ in range(PEERS_MAX + 1):  # the kernel's queue holds one more than it was told
        stepped.peer()

    with pytest.raises(NoAnswerError, match="the engine does not answer"):
        request(stepped.server.path.parent, "act")


def test_a_folder_with_a_very_long_name_works(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    one = Served(folder)
    try:
        assert request(folder, "echo", word=1) == {"echo": 1}
    finally:
        one.close()


def test_a_silent_peer_holds_up_nobody(stepped: Stepped) -> None:
    stepped.peer()

    assert stepped.ask(b'{"command": "act"}\n') == {"done": True}


def test_a_request_may_come_in_pieces(stepped: Stepped) -> None:
    peer = stepped.peer(b'{"command"')
    stepped.server.poll()
    assert stepped.acted == []
    peer.sendall(b': "act", "word": 7}\n')
    stepped.server.poll()

    assert stepped.acted == [7]
    assert json.loads(peer.recv(100)) == {"done": True}


def test_a_request_may_end_without_a_newline_when_its_sender_ends_it(stepped: Stepped) -> None:
    peer = stepped.peer(b'{"command": "act"}')
    peer.shutdown(socket.SHUT_WR)
    stepped.server.poll()
    stepped.server.poll()

    assert json.loads(peer.recv(100)) == {"done": True}


def test_a_request_whose_peer_has_gone_does_not_act(stepped: Stepped) -> None:
    """What a hung supervisor finds when it comes back: requests that were given up long ago."""
    stepped.peer(b'{"command": "act"}\n').close()
    stepped.server.poll()
    stepped.server.poll()

    assert stepped.acted == []


def test_a_peer_that_says_nothing_is_dropped_in_time(stepped: Stepped) -> None:
    peer = stepped.peer()
    stepped.server.poll()
    stepped.now_s = REPLY_S_MAX
    stepped.server.poll()

    assert peer.recv(1) == b""


def test_peers_are_few_and_the_oldest_gives_way(stepped: Stepped) -> None:
    peers = [stepped.peer() for _ in range(PEERS_MAX)]
    stepped.server.poll()
    assert stepped.ask(b'{"command": "act"}\n') == {"done": True}

    assert peers[0].recv(1) == b""
    with pytest.raises(BlockingIOError):
        peers[1].recv(1)


def test_a_reply_that_its_peer_does_not_take_waits_and_loses_nothing(stepped: Stepped) -> None:
    peer = stepped.peer(b'{"command": "large"}\n')
    stepped.server.poll()
    assert stepped.ask(b'{"command": "act"}\n') == {"done": True}
    received = b""
    while not received.endswith(b"\n"):
        stepped.server.poll()
        received += peer.recv(1 << 16)

    assert json.loads(received) == {"text": "x" * 2_000_000}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\n", "command must be one of"),
        (b"hello\n", "command must be one of"),
        (b"\xff\xfe\n", "command must be one of"),
        (b"[" * 4_000 + b"\n", "command must be one of"),
        (b'{"command":' * 300 + b"\n", "command must be one of"),
        (b"[1]\n", "command must be one of"),
        (b'"act"\n', "command must be one of"),
        (b'{"command": ["act"]}\n', "command must be one of"),
        (b'{"command": {"act": 1}}\n', "command must be one of"),
        (b"9" * 4_000 + b"\n", "command must be one of"),
        (b'{"command": "act"' + b" " * 5_000 + b"}\n", "a request must be short: bytes_max=4096"),
        (b'{"command": "refuse"}\n', "this must hold: value=1"),
        (b'{"command": "break"}\n', "command=break error=ZeroDivisionError: a bug"),
        (b'{"command": "unsayable"}\n', "command=unsayable error=TypeError"),
    ],
)
def test_whatever_cannot_be_done_is_answered_with_an_error(
    stepped: Stepped, data: bytes, error: str
) -> None:
    assert error in stepped.ask(data)["error"]
    assert stepped.ask(b'{"command": "act"}\n') == {"done": True}


@given(data=st.binary(max_size=600))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_end_the_server(stepped: Stepped, data: bytes) -> None:
    stepped.peer(data + b"\n").shutdown(socket.SHUT_WR)
    stepped.server.poll()

    assert stepped.ask(b'{"command": "act"}\n') == {"done": True}
