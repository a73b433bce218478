"""The control socket: one request, one reply, only for the engine's own user."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.controlsocket import ControlServer, request


def _echo(fields: dict[str, Any]) -> dict[str, Any]:
    return {"echo": fields["word"]}


def _refuse(_: dict[str, Any]) -> dict[str, Any]:
    raise ValueError("this must hold: value=1")


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


def test_a_folder_with_a_very_long_name_works(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    one = Served(folder)
    try:
        assert request(folder, "echo", word=1) == {"echo": 1}
    finally:
        one.close()
