"""workers room: a log row becomes a line, JSON for files and text for people.

A line of the file is one JSON object:

    time       UTC, ISO 8601 with nanoseconds
    level      debug, info, warning, error, critical
    worker     process that logged it
    pid        its pid then
    run        generation of the engine run
    sequence   of the row in the worker's log ring: a gap is a dropped message's place
    event      what happened
    fields     the rest, by name; what JSON has no form for is text: "nan", "inf", bytes
    truncated  true when the message did not fit its row; else absent
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from engine import eventcodes
from workers.loglevels import level_name
from workers.logmask import mask_text, masked_fields
from workers.logrows import FORM_CODE, FORM_TRUNCATED, PAYLOAD, PAYLOAD_BYTES, ROW_BYTES

_RESET: Final = "\x1b[0m"
_COLOURS: Final = {
    "debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m",
    "critical": "\x1b[1;41m",
}  # fmt: skip

_decode = msgspec.msgpack.Decoder(tuple[Any, dict[str, Any]]).decode
_level_name = lru_cache(maxsize=64)(level_name)


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """One line of the log file."""

    time: str
    level: str
    worker: str
    pid: int
    run: int
    sequence: int
    event: str
    fields: dict[str, Any]
    truncated: bool = False


encode_lines = msgspec.json.Encoder(enc_hook=str, order=None).encode_lines
decode_line = msgspec.json.Decoder(Line).decode


@lru_cache(maxsize=8)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def time_text(epoch_ns: int) -> str:
    """Answers a time as `2025-01-31T09:15:00.123456789Z`."""
    second, rest = divmod(epoch_ns, 1_000_000_000)
    return f"{_second_text(second)}.{rest:09d}Z"


def read_line(head: list[int], row: memoryview, worker: str, run: int) -> Line:
    """Makes the line of one row.

    Args:
        head: the row's first five words: sequence, epoch_ns, monotonic_ns, tag, pid.
        row: its 512 bytes.
        worker: whose ring it is.
        run: generation.
    """
    tag = head[3]
    form, size = tag >> 16 & 0xFFFF, min(tag >> 32 & 0xFFFF, PAYLOAD_BYTES)
    payload = row[8 * PAYLOAD : 8 * PAYLOAD + size]
    try:
        if form == FORM_CODE:
            event, fields = eventcodes.render(*payload[:32].cast("q"))
        else:
            event, fields = _decode(payload)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        event, fields = "log_row_unreadable", {"error": str(error), "form": form, "bytes": size}
    return Line(
        time_text(head[1]), _level_name(tag & 0xFFFF), worker, head[4], run, head[0],
        mask_text(str(event)),
        masked_fields(fields), form == FORM_TRUNCATED,
    )  # fmt: skip


def row_of(table: memoryview, index: int) -> memoryview:
    """Views row `index` of a table of rows."""
    return table[index * ROW_BYTES : (index + 1) * ROW_BYTES]


def console_text(line: Line, *, colour: bool) -> str:
    """Answers a line for people; nothing in it can steer a terminal."""
    fields = " ".join(f"{_safe(key)}={_value_text(value)}" for key, value in line.fields.items())
    level = f"{line.level:<8}"
    if colour:
        level = f"{_COLOURS.get(line.level, '')}{level}{_RESET}"
    mark = " (truncated)" if line.truncated else ""
    return (
        f"{line.time[11:26]} {level} {line.worker:<12} {_safe(line.event)} {fields}{mark}".rstrip()
    )


def _value_text(value: object) -> str:
    if isinstance(value, str):
        plain = value.isprintable() and value and " " not in value and '"' not in value
        return value if plain else json.dumps(value)
    return _safe(json.dumps(value, default=str))


def _safe(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]
