"""engine room: the compiled calls that the ingest worker makes; each publishes at most once.

`decode` takes all frames of a batch in one call. It stops early for two reasons only: FULL, when
the ring has no room (nothing of the frame in hand has happened, come again), and ODD, when a frame
is not written the way the venue writes it (see `engine/codec_exact.py`).
"""

from __future__ import annotations

from engine.booksync import drain, install, on_depth, tell_all, tell_silent
from engine.codec import lookup, quote, trade
from engine.codec_depth import stage_depth, stage_snapshot
from engine.codec_layout import (
    COUNT,
    DONE,
    NEXT,
    ODD,
    PATCH_END,
    PATCH_START,
    STREAM_COUNTER,
    STREAM_KIND,
    STREAM_SLOT,
    count_up,
    index_of,
    publish_written,
    stream_of,
)
from engine.records import Kind
from shm.jit import jit
from shm.segment import Words

_QUOTE, _TRADE = int(Kind.QUOTE), int(Kind.TRADE)


@jit
def _frame(path: Words, start: int, end: int, read_ns: int) -> int:
    """Takes one frame; answers DONE or more, FULL or ODD."""
    number, at = lookup(path, start, end)
    if number < 0:
        return ODD
    stream = stream_of(path, number)
    if stream[STREAM_KIND] == _QUOTE:
        result = quote(path, stream, at, end, read_ns)
    elif stream[STREAM_KIND] == _TRADE:
        result = trade(path, stream, at, end, read_ns)
    elif stage_depth(path, stream, at, end) < 0:
        result = ODD
    else:
        result = on_depth(path, stream[STREAM_SLOT], read_ns)
    if result >= 0:
        count_up(path, stream[STREAM_COUNTER], 1)
    return result


@jit
def decode(path: Words) -> int:
    """Takes frames NEXT .. COUNT of the batch; answers DONE, FULL or ODD with NEXT at the frame.

    While PATCH_END is set, the next frame's bytes lie at PATCH_START instead of in the batch.
    """
    index = index_of(path)
    result = DONE
    while path[NEXT] < path[COUNT]:
        frame = path[NEXT]
        start = index[frame - 1, 0] if frame > 0 else 0
        end = index[frame, 0]
        if path[PATCH_END] > 0:
            start, end = path[PATCH_START], path[PATCH_END]
        result = _frame(path, start, end, index[frame, 1])
        if result < 0:
            break
        path[PATCH_END] = 0
        path[NEXT] = frame + 1
        result = DONE
    publish_written(path)
    return result


@jit
def take_snapshot(path: Words, number: int, read_ns: int) -> int:
    """Takes the snapshot that lies at PATCH_START for the instrument of depth stream `number`.

    Answers:
        DONE, FULL or REFETCH as `install` does; ODD: it is no snapshot on the instrument's grid.
    """
    stream = stream_of(path, number)
    start, end = path[PATCH_START], path[PATCH_END]
    path[PATCH_END] = 0
    if stage_snapshot(path, stream, start, end) < 0:
        return ODD
    result = install(path, stream[STREAM_SLOT], read_ns)
    publish_written(path)
    return result


@jit
def go_on(path: Words, slot: int) -> int:
    """Goes on with an installed snapshot; answers as `drain` does."""
    result = drain(path, slot)
    publish_written(path)
    return result


@jit
def announce(path: Words, state: int) -> int:
    """Tells `state` of every instrument; answers DONE or FULL."""
    result = tell_all(path, state)
    publish_written(path)
    return result


@jit
def announce_silent(path: Words) -> int:
    """Tells which books have become silent; answers DONE or FULL."""
    result = tell_silent(path)
    publish_written(path)
    return result
