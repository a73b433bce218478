"""engine room: depth frames and depth snapshots as runs of DEPTH records, in compiled code.

A run is staged first and copied only when it is whole: a frame that turns out broken half way has
then changed nothing. Four levels lie in a record, bids before asks, one side a record. The
first record carries DEPTH_FIRST, the last DEPTH_LAST; a frame without levels still gives one.
"""

from __future__ import annotations

from engine.codec import literal, price, quantity, symbol, time_ns
from engine.codec_layout import (
    GRID_LOT_UNITS,
    GRID_PRICE_DECIMALS,
    GRID_QUANTITY_DECIMALS,
    GRID_TICK_UNITS,
    ODD,
    STAGED,
    STAGED_MAX,
    STREAM_FORMAT,
    USDM_DEPTH,
    VENUE_FIRST,
    data_of,
    staged_of,
)
from engine.codec_quick import QUICK_LEVEL_BYTES, is_quick_grid, quick_level
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
from shm.jit import inlined, jit
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
def _level(path: Words, stream: Words, at: int, end: int) -> tuple[int, int, int]:
    """Reads `["price","quantity"]`; answers ticks, lots and the place behind, -1 for neither."""
    data = data_of(path)
    ticks, at, _ = price(path, stream, match(data, at, end, _LEVEL), end)
    lots, at, _ = quantity(path, stream, match(data, at, end, _COMMA), end)
    return ticks, lots, match(data, at, end, _LIST_END)


@inlined
def _next_row(path: Words) -> int:
    """Answers the number of one more staged row, -1 when there is no room."""
    number = path[STAGED]
    if number >= path[STAGED_MAX]:
        return -1
    path[STAGED] = number + 1
    return number  # type: ignore[no-any-return]


@inlined
def _fill(row: Words, count: int, side: int) -> None:
    """Says how many levels a staged row has, and leaves nothing old behind them."""
    row[LEVELS_SIDE] = pack(count, side, 0, 0)
    for word in range(LEVEL_0 + 2 * count, LEVEL_0 + 2 * DEPTH_LEVELS_MAX):
        row[word] = 0


@jit
def _levels(path: Words, stream: Words, at: int, end: int, side: int) -> int:
    """Stages `["price","quantity"],...]` and answers the place behind, -1 when it is not that."""
    data, staged = data_of(path), staged_of(path)
    grid = stream[GRID_PRICE_DECIMALS], stream[GRID_QUANTITY_DECIMALS]
    is_quick = is_quick_grid(grid[0], stream[GRID_TICK_UNITS])
    is_quick = is_quick and is_quick_grid(grid[1], stream[GRID_LOT_UNITS])
    quick_end = len(data) - QUICK_LEVEL_BYTES if is_quick else -1
    behind = match(data, at, end, _LIST_END)
    number, inside = -1, DEPTH_LEVELS_MAX
    while behind < 0 and at >= 0:
        ticks, lots, after = 0, 0, -1
        if at <= quick_end:
            ticks, lots, after = quick_level(data, at, end, grid[0], grid[1])
        if after < 0:
            ticks, lots, after = _level(path, stream, at, end)
        if after < 0:
            return -1
        if inside == DEPTH_LEVELS_MAX:
            number, inside = _next_row(path), 0
            if number < 0:
                return -1
        staged[number, LEVEL_0 + 2 * inside] = ticks
        staged[number, LEVEL_0 + 2 * inside + 1] = lots
        inside += 1
        if inside == DEPTH_LEVELS_MAX:
            _fill(staged[number], inside, side)
        behind = match(data, after, end, _LIST_END)
        at = match(data, after, end, _COMMA)
    if number >= 0 and inside < DEPTH_LEVELS_MAX:
        _fill(staged[number], inside, side)
    return behind


@jit
def _finish(path: Words, first_id: int, venue_first: int, last_id: int, flags: int) -> int:
    """Fills ids and flags of the staged run; answers how many records it has."""
    staged = staged_of(path)
    if path[STAGED] == 0:
        path[STAGED] = 1
        _fill(staged[0], 0, _BUY)
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
