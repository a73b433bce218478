"""Bench rival: structlog with orjson, set up as its page on performance advises: JSON lines."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

from bench.support.log_load import Place


class Structlog:
    """A filtering logger that is cached and writes bytes."""

    def __init__(self, place: Place) -> None:
        library: Any = import_module("structlog")
        self._path = place.folder / "rival.log"
        self._file = self._path.open("wb")
        library.configure(
            cache_logger_on_first_use=True,
            wrapper_class=library.make_filtering_bound_logger(logging.INFO),
            processors=[
                library.processors.add_log_level,
                library.processors.TimeStamper(fmt="iso", utc=True),
                library.processors.JSONRenderer(serializer=import_module("orjson").dumps),
            ],
            logger_factory=library.BytesLoggerFactory(self._file),
        )
        self._logger = library.get_logger()

    def log(self, number: int) -> None:
        """Logs one message."""
        self._logger.info("order sent", order="TR1-17", price_ticks=number, ratio=0.5)

    def backlog(self) -> int:
        """Answers 0: the caller has written each message itself."""
        return 0

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def lines(self) -> int:
        """Counts the messages in the file."""
        return self._path.read_bytes().count(b"order sent")
