"""engine room: where everything lies that the compiled market data path touches.

A call from Python into compiled code pays for every argument, so the whole path takes one: the
`path`, an int64 array of addresses, sizes and the few words that go in and out. Each function below
binds one array from it, which costs nothing once compiled. Whoever makes a path keeps the arrays
alive (`engine/codec_feed.py`).

A stream is a row of STREAM_WORDS words; an instrument's own words (its sync state, book, trade
sums) are found by its slot, the number of the symbol within this feed.
"""

from __future__ import annotations

from engine.records import PUBLISH_NS, ROW_WORDS, SEQUENCE, TAG, TRIGGER, TRIGGER_NS
from shm.jit import bytes_at, inlined, jit, rows_at, words_at
from shm.ring import CAPACITY, CONTROL_WORDS, CURSOR, claim, publish
from shm.segment import Bytes, Words

# Words of a path. Addresses and sizes are written once; the rest is the call's state. COUNT, END:
# frames and bytes of the open batch. DUE: 1 when it may be decoded as soon as WINDOW_NS have passed
# since its first frame, STATUS: what came of that (workers/ingest_stage.py).
(
    CONTROL_AT, ROWS_AT, DATA_AT, DATA_BYTES, INDEX_AT, FRAMES_MAX, STREAMS_AT, STREAMS,
    TEXT_AT, TEXT_BYTES, TABLE_AT, SYNC_AT, SLOTS, HELD_AT, HELD_MAX, STAGED_AT, STAGED_MAX,
    BOOKS_AT, BOOK_LENGTH, SUMS_AT, TOPS_AT, STATS_AT, STATS_WORDS, RECORDS_COUNTER, SOURCE,
    SILENCE_NS_MAX, HOLD_NS_MAX, WINDOW_NS, SILENCE_NS_MIN, DOUBLES_COUNTER,
) = range(30)  # fmt: skip
NOW_NS, NEXT, COUNT, PATCH_START, PATCH_END, WRITTEN, WANTED, STAGED, END, DUE, STATUS = range(
    32, 43
)
PATH_WORDS = 48

# Words of a stream. FORMAT: how its frames are written. LAST: the id taken last. FENCE: while a
# second connection takes over, frames up to this id came on the first. Both may be NO_ID.
(
    STREAM_FORMAT, STREAM_SLOT, STREAM_TAG, STREAM_COUNTER, NAME_START, NAME_LENGTH, SYMBOL_START,
    SYMBOL_LENGTH, GRID_PRICE_DECIMALS, GRID_TICK_UNITS, GRID_QUANTITY_DECIMALS, GRID_LOT_UNITS,
    STREAM_INSTRUMENT, STREAM_LAST, STREAM_FENCE,
) = range(15)  # fmt: skip
NO_ID = -1
# What STREAM_FORMAT may be.
(
    SPOT_QUOTE, SPOT_TRADE, SPOT_AGGREGATE, SPOT_DEPTH, USDM_QUOTE, USDM_TRADE, USDM_AGGREGATE,
    USDM_DEPTH, USDM_MARK,
) = range(9)  # fmt: skip
STREAM_WORDS = 16
TABLE_SLOTS = 1024  # streams by hash of their name, open addressing, -1 is free

# Words of an instrument's sync state.
(
    SYNC_STATE, SYNC_STRADDLE, SYNC_HELD, SYNC_HELD_NEXT, SYNC_DEPTH_NS, SYNC_WANT, SYNC_INSTALLED,
    SYNC_GAPS, SYNC_GAPS_COUNTER, SYNC_IGNORED, SYNC_OVERFLOWS, SYNC_INSTRUMENT, SYNC_MEAN_NS,
    SYNC_FRAMES, SYNC_CROSSED_COUNTER, SYNC_SILENT_COUNTER,
) = range(16)  # fmt: skip
SYNC_WORDS = 16

# An instrument's best bid and ask as another worker reads them: a `Latest` cell of TOPS_WORDS.
TOP_BID_TICKS, TOP_BID_LOTS, TOP_ASK_TICKS, TOP_ASK_LOTS, TOP_NOW_NS, TOP_STATE = range(6)
TOPS_WORDS = 16
TOP_VALUES = 6

# Exact trade sums of an instrument: a version, then two copies in turn; version & 1 is the valid
# one. `quote` is low + high * 2**62, in ticks x lots. Places are decimals as written on the wire.
(
    SUM_TRADES, SUM_BASE_LOTS, SUM_QUOTE_LOW, SUM_QUOTE_HIGH, SUM_BASE_PLACES, SUM_QUOTE_PLACES,
    SUM_LAST_ID, SUM_MAKER_BUYS,
) = range(8)  # fmt: skip
SUM_FIRST, SUM_COPY, SUMS_WORDS = 8, 8, 32

# What a call answers.
DONE, FULL, ODD, REFETCH, BROKEN = 0, -1, -2, -3, -4

# Word of a staged or held depth record, before it is stamped: the first id as the venue wrote it.
VENUE_FIRST = TRIGGER
INDEX_WORDS = 2  # of a frame: the place behind it, when its bytes were read


@inlined
def control_of(path: Words) -> Words:
    """Binds the ring's control words."""
    return words_at(path[CONTROL_AT], CONTROL_WORDS)


@inlined
def row_of(path: Words, sequence: int) -> Words:
    """Binds the ring's row of `sequence`, (ROW_WORDS,)."""
    place = sequence & (control_of(path)[CAPACITY] - 1)
    return words_at(path[ROWS_AT] + 8 * ROW_WORDS * place, ROW_WORDS)


@inlined
def data_of(path: Words) -> Bytes:
    """Binds the bytes that frames lie in."""
    return bytes_at(path[DATA_AT], path[DATA_BYTES])


@inlined
def text_of(path: Words) -> Bytes:
    """Binds the names of streams and symbols."""
    return bytes_at(path[TEXT_AT], path[TEXT_BYTES])


@inlined
def index_of(path: Words) -> Words:
    """Binds (FRAMES_MAX, INDEX_WORDS): where each frame ends and when it was read."""
    return rows_at(path[INDEX_AT], path[FRAMES_MAX], INDEX_WORDS)


@inlined
def stream_of(path: Words, stream: int) -> Words:
    """Binds the words of one stream."""
    return words_at(path[STREAMS_AT] + 8 * STREAM_WORDS * stream, STREAM_WORDS)


@inlined
def sync_of(path: Words, slot: int) -> Words:
    """Binds the sync words of one instrument."""
    return words_at(path[SYNC_AT] + 8 * SYNC_WORDS * slot, SYNC_WORDS)


@inlined
def book_of(path: Words, slot: int) -> Words:
    """Binds the book of one instrument."""
    return words_at(path[BOOKS_AT] + 8 * path[BOOK_LENGTH] * slot, path[BOOK_LENGTH])


@jit
def sums_of(path: Words, slot: int) -> Words:
    """Binds the trade sums of one instrument."""
    return words_at(path[SUMS_AT] + 8 * SUMS_WORDS * slot, SUMS_WORDS)


@jit
def top_of(path: Words, instrument: int) -> Words:
    """Binds the top cell of one instrument, by its index."""
    return words_at(path[TOPS_AT] + 8 * TOPS_WORDS * instrument, TOPS_WORDS)


@inlined
def held_of(path: Words, slot: int) -> Words:
    """Binds the depth records held back for one instrument, (HELD_MAX, ROW_WORDS)."""
    return rows_at(path[HELD_AT] + 8 * ROW_WORDS * path[HELD_MAX] * slot, path[HELD_MAX], ROW_WORDS)


@inlined
def staged_of(path: Words) -> Words:
    """Binds the records of the depth frame in hand, (STAGED_MAX, ROW_WORDS)."""
    return rows_at(path[STAGED_AT], path[STAGED_MAX], ROW_WORDS)


@inlined
def count_up(path: Words, counter: int, count: int) -> None:
    """Adds to a counter of the worker's stats."""
    words_at(path[STATS_AT], path[STATS_WORDS])[counter] += count


@jit
def is_double(path: Words, stream: Words, number: int) -> bool:
    """Says whether the connection before this one has brought the frame with this id already.

    Ids rise on one connection, so the first newer one ends the question.
    """
    if number <= stream[STREAM_FENCE]:
        count_up(path, path[DOUBLES_COUNTER], 1)
        return True
    stream[STREAM_FENCE] = NO_ID
    return False


@jit
def reserve(path: Words, count: int) -> int:
    """Answers the sequence of the next of `count` rows behind those written, FULL, or ODD.

    FULL: readers must release first. ODD: a ring of this capacity can never hold them.
    """
    control = control_of(path)
    if count > control[CAPACITY]:
        return ODD
    if claim(control, path[WRITTEN] + count) < 0:
        return FULL
    return control[CURSOR] + 1 + path[WRITTEN]  # type: ignore[no-any-return]


@inlined
def stamp(path: Words, row: Words, sequence: int, tag: int, read_ns: int) -> None:
    """Writes the header words of a market record, which is its own trigger."""
    row[SEQUENCE] = sequence
    row[TAG] = tag
    row[PUBLISH_NS] = path[NOW_NS]
    row[TRIGGER_NS] = read_ns
    row[TRIGGER] = sequence


@jit
def publish_written(path: Words) -> None:
    """Publishes every row written since the last time, with one release store."""
    if path[WRITTEN] > 0:
        control = control_of(path)
        publish(control, control[CURSOR] + path[WRITTEN])
        count_up(path, path[RECORDS_COUNTER], path[WRITTEN])
        path[WRITTEN] = 0
