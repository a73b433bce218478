"""workers room: the logger of every process, `log.info("event", key=value)`.

A call checks the level (one load from shared memory), packs the fields as msgpack and hands them to
one compiled call that writes a row into this process's log ring. It never blocks, never raises and
never touches a file: the collector (`workers/logs.py`) does the rest in another process.

A ring has one writer, so only the thread that made the logger writes. A message from another
thread, or from a signal handler that interrupted a message, waits in a short queue with its own
time stamps until the owner logs again or calls `flush`.

Values of fields named key, secret, password, signature or the like are masked before they reach
shared memory, and once more by the collector, which also looks inside nested values and texts.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
import traceback
from collections import deque
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from engine.eventcodes import CRITICAL, DEBUG, ERROR, INFO, WARNING
from shm.ring import DROPPED_COUNT, Producer
from shm.segment import Words
from workers.logrows import (
    FORM_FIELDS,
    FORM_TRUNCATED,
    MESSAGE_EPOCH_NS,
    MESSAGE_MONOTONIC_NS,
    MESSAGE_PAYLOAD,
    MESSAGE_TAG,
    PAYLOAD_BYTES,
    port_of,
    write_message,
)

MASK: Final = "***"
DEFERRED_MAX: Final = 256  # messages of other threads that may wait
EVENT_CHARACTERS_MAX: Final = 96
FRAMES_MAX: Final = 6  # of a traceback
_CUTS: Final = (160, 80, 40, 20, 8)  # characters a value may keep, tried in turn
_FIELDS_TAG: Final = FORM_FIELDS << 16
_TRUNCATED_TAG: Final = FORM_TRUNCATED << 16

SECRET_NAMES: Final = frozenset((
    "key", "secret", "password", "signature", "token", "api_key", "apikey", "api_secret", "apiKey",
    "passphrase", "private_key", "listenKey",
))  # fmt: skip
_SECRET_NAME: Final = re.compile(
    r"(?:^|[_.\-])(?:(?:api|private|listen|secret)?key|secret|password|passwd|passphrase|signature"
    r"|token)$",
    re.IGNORECASE,
)
_SECRET_TEXT: Final = re.compile(
    r"(?P<url>://[^/\s:@]*:)[^/\s@]+(?=@)"
    r"|(?P<pair>\b(?:signature|secret|password|passphrase|api_?key|listen_?key|token)"
    r"[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;}]+",
    re.IGNORECASE,
)


def mask_text(text: str) -> str:
    """Answers a text without passwords in addresses and without `signature=...` and the like."""
    if "://" not in text and "=" not in text and ":" not in text:
        return text
    return _SECRET_TEXT.sub(lambda found: f"{found['url'] or found['pair']}{MASK}", text)


def is_secret_name(name: str) -> bool:
    """Says whether a field of this name must not be shown."""
    return name in SECRET_NAMES or _SECRET_NAME.search(name) is not None


class _Deferred(NamedTuple):
    """A message that could not be written where it was made."""

    level: int
    event: str
    fields: dict[str, Any]
    epoch_ns: int
    monotonic_ns: int


def _plain(value: object) -> object:
    """Answers something msgpack has for a value it does not know."""
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def _text_of(value: object) -> str:
    """Answers any value as text that encodes, whatever its own methods do."""
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception as error:  # noqa: BLE001 - a foreign __str__ may raise anything
        text = f"<unprintable {type(value).__name__}: {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


def _masked(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: MASK if is_secret_name(key) else value for key, value in fields.items()}


# Bound once: each is a global load on the path of every message.
_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
_thread = threading.get_ident
_NO_SECRET = SECRET_NAMES.isdisjoint


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 3] + "..."


def encode(event: str, fields: dict[str, Any]) -> tuple[bytes, int]:
    """Answers the payload of a message and the tag that says how it is to be read.

    What is too long for a row is cut: first its longest texts, then its last fields.
    """
    try:
        payload = _encode((event, fields))
        if len(payload) <= PAYLOAD_BYTES:
            return payload, _FIELDS_TAG
    except Exception:  # noqa: BLE001 - logging must never break its caller
        fields = {_text_of(key): _text_of(value) for key, value in fields.items()}
        payload = _encode((_text_of(event), fields))
    if len(payload) <= PAYLOAD_BYTES:
        return payload, _FIELDS_TAG
    return _shortened(event, fields), _TRUNCATED_TAG


def _shortened(event: str, fields: dict[str, Any]) -> bytes:
    event = _cut(_text_of(event), EVENT_CHARACTERS_MAX)
    kept = {_cut(_text_of(key), _CUTS[2]): value for key, value in fields.items()}
    for characters in _CUTS:
        payload = _encode((event, _cut_values(kept, characters)))
        if len(payload) <= PAYLOAD_BYTES:
            return payload
    short = _cut_values(kept, _CUTS[-1])
    while short:
        short.popitem()
        payload = _encode((event, short))
        if len(payload) <= PAYLOAD_BYTES:
            return payload
    return _encode((_cut(event, _CUTS[-1]), {}))


def _cut_values(fields: dict[str, Any], characters: int) -> dict[str, Any]:
    return {
        key: value if isinstance(value, int | float) else _cut(_text_of(value), characters)
        for key, value in fields.items()
    }


def error_fields(error: BaseException) -> dict[str, str]:
    """Answers what a row can hold of an exception: type, message, and its last frames."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return {
        "error": mask_text(_text_of(f"{type(error).__name__}: {_text_of(error)}")),
        "at": " < ".join(reversed(places)),
    }


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
        self._words = self.port.data
        self._payload = self.port.data[MESSAGE_PAYLOAD:].cast("B")
        self._owner = threading.get_ident()
        self._busy = False
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
            self.write(DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Logs something the operator wants to know."""
        if self._level[0] <= INFO:
            self.write(INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Logs something that works but should be looked at."""
        if self._level[0] <= WARNING:
            self.write(WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Logs that something was lost."""
        if self._level[0] <= ERROR:
            self.write(ERROR, event, fields)

    def critical(self, event: str, /, **fields: object) -> None:
        """Logs why trading halts."""
        if self._level[0] <= CRITICAL:
            self.write(CRITICAL, event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """Logs an error with the exception that is being handled."""
        if self._level[0] <= ERROR:
            error = sys.exception()
            self.write(ERROR, event, {**fields, **(error_fields(error) if error else {})})

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        """Writes one message whatever the level in force."""
        if self._busy or _thread() != self._owner:
            self._defer(level, event, fields)
            return
        self._busy = True
        try:
            self._put(level, event, fields)
        finally:
            self._busy = False
        if self._deferred:
            self.flush()

    def _put(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if not _NO_SECRET(fields):
            fields = _masked(fields)
        payload, tag = encode(event, fields)
        size = len(payload)
        self._payload[:size] = payload
        self._words[MESSAGE_TAG] = level | tag | size << 32
        write_message(self.port)

    def _defer(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if len(self._deferred) >= DEFERRED_MAX:
            self._deferred_dropped += 1
            return
        now_ns = time.monotonic_ns()
        self._deferred.append(_Deferred(level, event, fields, time.time_ns(), now_ns))

    def flush(self) -> None:
        """Writes what other threads and signal handlers logged. Called by: the owner's runner."""
        if self._busy or _thread() != self._owner:
            return
        self._busy = True
        try:
            for _ in range(min(len(self._deferred), DEFERRED_MAX)):
                message = self._deferred.popleft()
                self._words[MESSAGE_EPOCH_NS] = message.epoch_ns
                self._words[MESSAGE_MONOTONIC_NS] = message.monotonic_ns
                self._put(message.level, message.event, message.fields)
            self._dropped[0] += self._deferred_dropped
            self._deferred_dropped = 0
        finally:
            self._words[MESSAGE_EPOCH_NS] = 0
            self._busy = False


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
            fields = {"message": _text_of(record.msg), "format_error": type(error).__name__}
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
