"""engine room: depth frames and depth snapshots as runs of DEPTH records, in compiled code.

A run is staged first and copied only when it is whole: a frame that turns out broken half way has
then changed nothing. Four levels lie in a record, bids before asks, one side a record. The
first record carries DEPTH_FIRST, the last DEPTH_LAST; a frame without levels still gives one.
"""

from __future__ import annotations

from engine.codec import literal, price, quantity, symbol, time_ns
from engine.codec_layout import (
    ODD,
    STAGED,
    STREAM_FORMAT,
    USDM_DEPTH,
    VENUE_FIRST,
    data_of,
    staged_of,
)
from engine.codec_scan import match, whole
from engine.records import (
    DEPTH_FIRST,
    DEPTH_LAST,
    DEPTH_LEVELS_MAX,
    DEPTH_SNAPSHOT,
    FIRST_ID,
    LAST_ID,
    LEVEL_0,
    LEVELS_SIDE,
    TAG,
    Side,
    pack,
)
from shm.jit import jit
from shm.segment import Words

_DEPTH_HEAD = literal('","data":{"e":"depthUpdate","E":')
_FIRST = literal('","U":')
_LAST = literal(',"u":')
_PREVIOUS = literal(',"pu":')
_TIME = literal(',"T":')
_BIDS = literal(',"b":[')
_ASKS = literal(',"a":[')
_END = literal("}}")
_SNAPSHOT_HEAD = literal('{"lastUpdateId":')
_SNAPSHOT_BIDS = literal(',"bids":[')
_SNAPSHOT_ASKS = literal(',"asks":[')
_SNAPSHOT_END = literal("}")
_BUY, _SELL = int(Side.BUY), int(Side.SELL)
_LEVEL, _LIST_END, _COMMA = literal("["), literal("]"), literal(",")


@jit
def _stage_level(path: Words, level: int, side: int, ticks: int, lots: int) -> bool:
    """Puts level number `level` of a side into its record; False when there is no room."""
    staged = staged_of(path)
    inside = level % DEPTH_LEVELS_MAX
    if inside == 0:
        if path[STAGED] >= len(staged):
            return False
        path[STAGED] += 1
        staged[path[STAGED] - 1, TAG] = 0
        for word in range(LEVEL_0, LEVEL_0 + 2 * DEPTH_LEVELS_MAX):
            staged[path[STAGED] - 1, word] = 0
    row = staged[path[STAGED] - 1]
    row[LEVELS_SIDE] = pack(inside + 1, side, 0, 0)
    row[LEVEL_0 + 2 * inside] = ticks
    row[LEVEL_0 + 2 * inside + 1] = lots
    return True


@jit
def _level(path: Words, stream: Words, at: int, end: int) -> tuple[int, int, int]:
    """Reads `["price","quantity"]`; answers ticks, lots and the place behind, -1 for neither."""
    data = data_of(path)
    ticks, at, _ = price(path, stream, match(data, at, end, _LEVEL), end)
    lots, at, _ = quantity(path, stream, match(data, at, end, _COMMA), end)
    return ticks, lots, match(data, at, end, _LIST_END)


@jit
def _levels(path: Words, stream: Words, at: int, end: int, side: int) -> int:
    """Stages `["price","quantity"],...]` and answers the place behind, -1 when it is not that."""
    data = data_of(path)
    behind = match(data, at, end, _LIST_END)
    level = 0
    while behind < 0 and at >= 0:
        ticks, lots, at = _level(path, stream, at, end)
        if at < 0 or not _stage_level(path, level, side, ticks, lots):
            return -1
        level += 1
        behind = match(data, at, end, _LIST_END)
        at = match(data, at, end, _COMMA)
    return behind


@jit
def _finish(path: Words, first_id: int, venue_first: int, last_id: int, flags: int) -> int:
    """Fills ids and flags of the staged run; answers how many records it has."""
    staged = staged_of(path)
    if path[STAGED] == 0:
        path[STAGED] = 1
        staged[0, TAG] = 0
        staged[0, LEVELS_SIDE] = pack(0, _BUY, 0, 0)
        for word in range(LEVEL_0, LEVEL_0 + 2 * DEPTH_LEVELS_MAX):
            staged[0, word] = 0
    for index in range(path[STAGED]):
        staged[index, FIRST_ID] = first_id
        staged[index, VENUE_FIRST] = venue_first
        staged[index, LAST_ID] = last_id
        staged[index, TAG] = flags << 16
    staged[0, TAG] |= DEPTH_FIRST << 16
    staged[path[STAGED] - 1, TAG] |= DEPTH_LAST << 16
    return path[STAGED]  # type: ignore[no-any-return]


@jit
def stage_depth(path: Words, stream: Words, at: int, end: int) -> int:
    """Stages a depthUpdate frame from behind its stream name; answers its records, or ODD.

    USD-M frames say in `pu` which one they follow; the run then begins at the id behind that.
    """
    data = data_of(path)
    is_usdm = stream[STREAM_FORMAT] == USDM_DEPTH
    path[STAGED] = 0
    at = match(data, at, end, _DEPTH_HEAD)
    venue, at = whole(data, at, end)
    if is_usdm:
        at = match(data, at, end, _TIME)
        _, at = whole(data, at, end)
    at = symbol(path, stream, at, end)
    at = match(data, at, end, _FIRST)
    venue_first, at = whole(data, at, end)
    at = match(data, at, end, _LAST)
    last_id, at = whole(data, at, end)
    first_id = venue_first
    if is_usdm:
        previous_id, at = whole(data, match(data, at, end, _PREVIOUS), end)
        first_id = previous_id + 1
    at = match(data, at, end, _BIDS)
    at = _levels(path, stream, at, end, _BUY)
    at = match(data, at, end, _ASKS)
    at = _levels(path, stream, at, end, _SELL)
    if match(data, at, end, _END) != end or time_ns(venue) < 0:
        return ODD
    if first_id > venue_first or venue_first > last_id:
        return ODD
    return _finish(path, first_id, venue_first, last_id, 0)


@jit
def stage_snapshot(path: Words, stream: Words, at: int, end: int) -> int:
    """Stages the body of a REST depth snapshot in data[at:end]; answers its records, or ODD."""
    data = data_of(path)
    path[STAGED] = 0
    at = match(data, at, end, _SNAPSHOT_HEAD)
    last_id, at = whole(data, at, end)
    at = match(data, at, end, _SNAPSHOT_BIDS)
    at = _levels(path, stream, at, end, _BUY)
    at = match(data, at, end, _SNAPSHOT_ASKS)
    at = _levels(path, stream, at, end, _SELL)
    if match(data, at, end, _SNAPSHOT_END) != end:
        return ODD
    return _finish(path, last_id, last_id, last_id, DEPTH_SNAPSHOT)
