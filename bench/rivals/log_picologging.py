"""Bench rivals: picologging, the standard library's logging written again in C++.

Both write plain text, which is cheaper than JSON.
"""

from __future__ import annotations

import queue
from importlib import import_module
from typing import Any

from bench.rivals.log_stdlib import MESSAGE
from bench.support.log_load import Place, pin

FORMAT = "%(asctime)s %(levelname)s %(process)d %(name)s %(message)s"


class PicologgingFile:
    """A FileHandler."""

    def __init__(self, place: Place) -> None:
        library = import_module("picologging")
        self._path = place.folder / "rival.log"
        self._handler = library.FileHandler(str(self._path))
        self._handler.setFormatter(library.Formatter(FORMAT))
        self._logger = library.getLogger("bench")
        self._logger.setLevel(library.INFO)
        self._logger.propagate = False
        self._logger.addHandler(self.front(place))

    def front(self, place: Place) -> Any:
        """Answers the handler that the caller meets."""
        del place
        return self._handler

    def log(self, number: int) -> None:
        """Logs one message."""
        self._logger.info(MESSAGE, "TR1-17", number, 0.5)

    def backlog(self) -> int:
        """Answers 0: the caller has written each message itself."""
        return 0

    def close(self) -> None:
        """Closes the file."""
        self._handler.close()

    def lines(self) -> int:
        """Counts the messages in the file."""
        return self._path.read_bytes().count(b"order sent")


class PicologgingQueue(PicologgingFile):
    """A QueueHandler, and a QueueListener's thread in front of the FileHandler."""

    def front(self, place: Place) -> Any:
        """Starts the thread; answers the handler that the caller meets."""
        handlers = import_module("picologging.handlers")
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._listener = handlers.QueueListener(self._queue, self._handler)
        self._listener.start()
        thread = self._listener._thread  # noqa: SLF001 - it is pinned like every helper
        pin(thread.native_id, place.other_core)
        return handlers.QueueHandler(self._queue)

    def backlog(self) -> int:
        """Answers how many records wait for the thread."""
        return self._queue.qsize()

    def close(self) -> None:
        """Ends the thread with everything written."""
        self._listener.stop()
        super().close()
