"""engine room: the compiled calls that the ingest worker makes; each publishes at most once.

`decode` takes all frames of a batch in one call. It stops early for two reasons only: FULL, when
the ring has no room (nothing of the frame in hand has happened, come again), and ODD, when a frame
is not written the way the venue writes it (see `engine/codec_exact.py`).
"""

from __future__ import annotations

from engine import codec_usdm
from engine.booksync import drain, install, on_depth, tell_other, tell_silent
from engine.codec import lookup, quote, trade
from engine.codec_depth import stage_depth, stage_snapshot
from engine.codec_layout import (
    COUNT,
    DONE,
    NEXT,
    ODD,
    PATCH_END,
    PATCH_START,
    SPOT_AGGREGATE,
    SPOT_DEPTH,
    SPOT_QUOTE,
    SPOT_TRADE,
    STREAM_COUNTER,
    STREAM_FORMAT,
    STREAM_LAST,
    STREAM_SLOT,
    USDM_AGGREGATE,
    USDM_DEPTH,
    USDM_QUOTE,
    USDM_TRADE,
    count_up,
    index_of,
    is_double,
    publish_written,
    staged_of,
    stream_of,
)
from engine.records import LAST_ID
from shm.jit import jit
from shm.segment import Words


@jit
def _depth(path: Words, stream: Words, at: int, end: int, read_ns: int) -> int:
    """Takes a depth frame from behind its stream name; answers DONE, FULL or ODD."""
    if stage_depth(path, stream, at, end) < 0:
        return ODD
    last_id = staged_of(path)[0, LAST_ID]
    if is_double(path, stream, last_id):
        return DONE
    result = on_depth(path, stream[STREAM_SLOT], read_ns)
    if result >= 0:
        stream[STREAM_LAST] = last_id
    return result


@jit
def _usdm(path: Words, stream: Words, at: int, end: int, read_ns: int) -> int:
    """Takes a USD-M frame that is no depth from behind its stream name; answers 1, FULL or ODD."""
    written = stream[STREAM_FORMAT]
    if written == USDM_QUOTE:
        return codec_usdm.quote(path, stream, at, end, read_ns)
    if written == USDM_TRADE:
        return codec_usdm.trade(path, stream, at, end, read_ns)
    if written == USDM_AGGREGATE:
        return codec_usdm.aggregate(path, stream, at, end, read_ns)
    return codec_usdm.mark(path, stream, at, end, read_ns)


@jit
def _frame(path: Words, start: int, end: int, read_ns: int) -> int:
    """Takes one frame; answers DONE or more, FULL or ODD."""
    number, at = lookup(path, start, end)
    if number < 0:
        return ODD
    stream = stream_of(path, number)
    written = stream[STREAM_FORMAT]
    if written == SPOT_QUOTE:
        result = quote(path, stream, at, end, read_ns)
    elif written in (SPOT_TRADE, SPOT_AGGREGATE):
        result = trade(path, stream, at, end, read_ns)
    elif written in (SPOT_DEPTH, USDM_DEPTH):
        result = _depth(path, stream, at, end, read_ns)
    else:
        result = _usdm(path, stream, at, end, read_ns)
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
def announce(path: Words, slot: int, state: int) -> int:
    """Tells `state` of an instrument; answers DONE or FULL."""
    result = tell_other(path, slot, state)
    publish_written(path)
    return result


@jit
def announce_silent(path: Words) -> int:
    """Tells which books have become silent; answers DONE or FULL."""
    result = tell_silent(path)
    publish_written(path)
    return result
