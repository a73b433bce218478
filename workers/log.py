"""workers room: the logger of every process, `log.info("event", key=value)`.

A call checks the level (one load from shared memory), packs the fields as msgpack and hands the
bytes to one compiled call that writes a row into this process's log ring. It never blocks, never
raises and never touches a file: the collector (`workers/logs.py`) does the rest in another process.
A row is whole and published when the call returns, so a process that is killed loses no message.

What a call costs shows `tickring bench log`; most of it is Python's own: keyword arguments, packing
and the way into compiled code. Left out, measured with timeit: numbers in place of event names and
keys (the look-up of a call's names takes 120 ns, packing all of them 70 ns), and a row that Python
fills field by field (each store takes as long as packing a field).

A ring has one writer, so only the thread that made the logger writes. A message from another
thread waits in a short queue with its own time stamps until the owner logs again or calls `flush`.
A signal handler may log at any moment, also in the middle of a message.

Values of fields named key, secret, password, signature or the like are masked before they reach
shared memory, and once more by the collector, which also looks inside nested values and texts.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from typing import Any, Final, NamedTuple

from engine.eventcodes import CRITICAL, DEBUG, ERROR, INFO, WARNING
from shm.handles import Producer
from shm.ring import DROPPED_COUNT
from shm.segment import Words
from workers.logmask import SECRET_NAMES, mask_text, masked_names
from workers.logpack import encode, error_fields, pack, text_of
from workers.logrows import TOO_LONG, add_dropped, entries, port_of

DEFERRED_MAX: Final = 256  # messages of other threads that may wait


class _Deferred(NamedTuple):
    """A message that could not be written where it was made, or as it was.

    Attributes:
        place: address of the port | level.
        event: its name.
        fields: its fields, secrets masked.
        epoch_ns: when it was logged.
        monotonic_ns: same; 0 for now.
    """

    place: int
    event: str
    fields: dict[str, Any]
    epoch_ns: int = 0
    monotonic_ns: int = 0


_thread, _has_none = threading.get_ident, SECRET_NAMES.isdisjoint  # bound for every message


class Logger:
    """Writes this process's messages. Called by: any thread; only its maker's writes at once."""

    def __init__(self, producer: Producer, worker: str, level: Words) -> None:
        """Binds a log ring.

        Args:
            producer: of `log.<worker>`, whose one writer this process is.
            worker: its name.
            level: (1,) int64, shared word with the lowest level to write; `LogLevels.word`.
        """
        self.worker = worker
        self.port = port_of(producer, level)  # for `log_event` in compiled code
        self._kept = (producer, level)
        self._dropped = producer.control.data[DROPPED_COUNT : DROPPED_COUNT + 1]
        self._level = level.data
        self._write, self._write_again = entries()
        self._port = int(self.port.ctypes.data)
        self._debug, self._info = self._port | DEBUG, self._port | INFO
        self._warning, self._error = self._port | WARNING, self._port | ERROR
        self._critical = self._port | CRITICAL
        self._owner = threading.get_ident()
        self._deferred: deque[_Deferred] = deque()
        self._deferred_dropped = 0

    @property
    def dropped(self) -> int:
        """Messages given up because the ring was full, since the ring was made."""
        return self._dropped[0]

    @property
    def level(self) -> int:
        """The lowest level that is written at present."""
        return self._level[0]

    def debug(self, event: str, /, **fields: object) -> None:
        """Logs something that only we want to know."""
        if self._level[0] <= DEBUG:
            self._log(self._debug, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Logs something the operator wants to know."""
        if self._level[0] > INFO:
            return
        # What `_log` does when nothing is special, in place: a call more is a twentieth of all.
        if _has_none(fields) and _thread() == self._owner and not self._deferred:
            try:
                payload = encode((event, fields))
                if self._write(self._info, id(payload)) != TOO_LONG:
                    return
            except Exception:  # noqa: BLE001, S110 - `_log` puts it into words
                pass
        self._log(self._info, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Logs something that works but should be looked at."""
        if self._level[0] <= WARNING:
            self._log(self._warning, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Logs that something was lost."""
        if self._level[0] <= ERROR:
            self._log(self._error, event, fields)

    def critical(self, event: str, /, **fields: object) -> None:
        """Logs why trading halts."""
        if self._level[0] <= CRITICAL:
            self._log(self._critical, event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """Logs an error with the exception that is being handled."""
        if self._level[0] <= ERROR:
            error = sys.exception()
            self._log(self._error, event, {**fields, **(error_fields(error) if error else {})})

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        """Writes one message whatever the level in force; `level` is one of engine/eventcodes."""
        self._log(self._port | level, event, fields)

    def _log(self, place: int, event: str, fields: dict[str, Any]) -> None:
        if not _has_none(fields):
            fields = masked_names(fields)
        if _thread() != self._owner:
            self._defer(place, event, fields)
            return
        try:
            payload = encode((event, fields))
        except Exception:  # noqa: BLE001 - logging must never break its caller
            self._put(_Deferred(place, event, fields))
        else:
            if self._write(place, id(payload)) == TOO_LONG:
                self._put(_Deferred(place, event, fields))
        if self._deferred:
            self.flush()

    def _put(self, message: _Deferred) -> None:
        payload, form = pack(message.event, message.fields)
        self._write_again(message.place, id(payload), form, message.epoch_ns, message.monotonic_ns)

    def _defer(self, place: int, event: str, fields: dict[str, Any]) -> None:
        if len(self._deferred) >= DEFERRED_MAX:
            self._deferred_dropped += 1
            return
        now_ns = time.monotonic_ns()
        self._deferred.append(_Deferred(place, event, fields, time.time_ns(), now_ns))

    def flush(self) -> None:
        """Writes what other threads logged. Called by: the owner's runner."""
        if _thread() != self._owner:
            return
        for _ in range(DEFERRED_MAX):
            message = self._take()
            if message is None:
                break
            self._put(message)
        if self._deferred_dropped:
            count, self._deferred_dropped = self._deferred_dropped, 0
            add_dropped(self.port, count)

    def _take(self) -> _Deferred | None:
        try:
            return self._deferred.popleft()
        except IndexError:  # also when a signal handler has flushed in between
            return None


class Handler(logging.Handler):
    """Hands the standard library's log records to a Logger, and counts them."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self.logger = logger
        self.records_total = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record: event is the library's name, field `message` its text."""
        self.records_total += 1
        level = max(DEBUG, min(CRITICAL, record.levelno // 10 * 10))
        if level < self.logger.level:
            return
        try:
            fields: dict[str, Any] = {"message": mask_text(record.getMessage())}
        except Exception as error:  # noqa: BLE001 - a library's own format may not fit its values
            fields = {"message": text_of(record.msg), "format_error": type(error).__name__}
        if record.exc_info and record.exc_info[1] is not None:
            fields |= error_fields(record.exc_info[1])
        self.logger.write(level, record.name, fields)


def bridge(logger: Logger, level: int = WARNING) -> Handler:
    """Sends what libraries log (asyncio, websockets, redis, asyncpg, picows) to our logger.

    Args:
        logger: of this process.
        level: the lowest that libraries shall build messages for; theirs are slow and many.

    Called by: a worker once, after its logger was made. A second call replaces the first handler.
    """
    root = logging.getLogger()
    for handler in [known for known in root.handlers if isinstance(known, Handler)]:
        root.removeHandler(handler)
    handler = Handler(logger)
    root.addHandler(handler)
    root.setLevel(level)
    return handler
