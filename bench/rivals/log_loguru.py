"""Bench rival: loguru with a file, plain text, which is cheaper than JSON."""

from __future__ import annotations

from importlib import import_module

from bench.support.log_load import Place

FORMAT = "{time:YYYY-MM-DDTHH:mm:ss.SSSSSS} {level} {process} {name} {message}"
MESSAGE = "order sent order={} price_ticks={} ratio={}"


class Loguru:
    """Its one logger with one sink, as its documentation begins."""

    def __init__(self, place: Place) -> None:
        self._logger = import_module("loguru").logger
        self._path = place.folder / "rival.log"
        self._logger.remove()
        self._sink = self._logger.add(self._path, format=FORMAT, level="INFO")

    def log(self, number: int) -> None:
        """Logs one message."""
        self._logger.info(MESSAGE, "TR1-17", number, 0.5)

    def backlog(self) -> int:
        """Answers 0: the caller has written each message itself."""
        return 0

    def close(self) -> None:
        """Closes the file."""
        self._logger.remove(self._sink)

    def lines(self) -> int:
        """Counts the messages in the file."""
        return self._path.read_bytes().count(b"order sent")
