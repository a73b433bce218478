r"""workers room: journal records as PostgreSQL's binary COPY format, made by numpy.

    header    "PGCOPY\n\xff\r\n\0", int32 flags 0, int32 extension length 0
    a row     int16 number of columns, then for each an int32 length (-1: NULL, no bytes follow) and
              the value: int16, int64, text, or a time as int64 microseconds since 2000
    trailer   int16 -1

All integers are big-endian. Rows of one kind in one ring have the same width, so such a row is a
structured dtype: lengths and constants are written once into a template of CHUNK_ROWS rows, and a
chunk only fills the columns that vary. A COPY may take chunks of different widths in any order.

Source: PostgreSQL manual, "COPY", section "Binary Format".
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator

import numpy as np
import numpy.typing as npt

from engine.records import Kind
from workers.tables import Part, Slice, Table, Type, values

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
CHUNK_ROWS = 1_000  # measured: encoding is fastest while a chunk stays in the cache
EPOCH_US = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970
_DTYPES = {Type.BIGINT: ">i8", Type.SMALLINT: ">i2", Type.TIME: ">i8"}

Rows = npt.NDArray[np.void]
Bytes = npt.NDArray[np.uint8]


class Template:
    """Rows of one table, kind, ring and run, of which only varying columns must be filled."""

    def __init__(self, table: Table, kind: Kind, part: Part) -> None:
        empty = part.rows[:0]
        self._kind = kind
        self._varying = []
        fields: list[tuple[str, str]] = [("columns", ">i2")]
        constants: dict[str, int | bytes] = {"columns": len(table.columns)}
        for column in table.columns:
            fields.append((f"size_{column.name}", ">i4"))
            found = values(column, kind, part, empty)
            if found is None:
                constants[f"size_{column.name}"] = -1
                continue
            raw = found.encode() if isinstance(found, str) else b""
            fields.append((column.name, f"S{len(raw)}" if raw else _DTYPES[column.type]))
            constants[f"size_{column.name}"] = np.dtype(fields[-1][1]).itemsize
            if isinstance(found, np.ndarray):
                self._varying.append(column)
            else:
                constants[column.name] = raw or int(found)
        self._rows: Rows = np.zeros(CHUNK_ROWS, np.dtype(fields))
        for name, constant in constants.items():
            self._rows[name] = constant
        self._bytes: Bytes = self._rows.view(np.uint8)
        self._width = self._rows.dtype.itemsize

    def chunks(self, piece: Slice) -> Iterator[bytes]:
        """Yields the encoded rows of a slice, at most CHUNK_ROWS at a time."""
        for start in range(0, len(piece.rows), CHUNK_ROWS):
            rows = piece.rows[start : start + CHUNK_ROWS]
            count = len(rows)
            for column in self._varying:
                found = values(column, self._kind, piece.part, rows)
                if column.type == Type.TIME:
                    found = found - EPOCH_US  # type: ignore[operator]
                self._rows[column.name][:count] = found
            yield self._bytes[: count * self._width].tobytes()


@functools.lru_cache(maxsize=256)
def _template(table: Table, kind: Kind, ring: str, generation: int) -> Template:
    nothing = np.empty((0, 16), np.int64)
    return Template(table, kind, Part(generation, ring, 0, 0, nothing))


def encode(table: Table, pieces: list[Slice]) -> Iterator[bytes]:
    """Yields a whole COPY of these records."""
    yield SIGNATURE
    for piece in pieces:
        template = _template(table, piece.kind, piece.part.ring, piece.part.generation)
        yield from template.chunks(piece)
    yield TRAILER


async def stream(table: Table, pieces: list[Slice]) -> AsyncIterator[bytes]:
    """Yields a whole COPY, chunk by chunk, as asyncpg's `source`."""
    for chunk in encode(table, pieces):
        yield chunk
