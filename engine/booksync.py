"""engine room: keeps an instrument's book continuous by its market's rule, in compiled code.

The venue numbers book changes; a depth frame says that it covers U .. u, on USD-M also which u it
follows (`pu`). engine/codec_depth.py makes one form of both: a run begins at the id behind the last
one of the run before it. The rule, at start and for ever after: hold frames back until a snapshot
with id L came; drop frames with u <= L; the first one kept must follow L exactly, or overlap it:
U <= L; from then on every run begins behind the one before it. Anything else is a gap, and the book
is STALE until the next snapshot. (USD-M keeps the frame with u = L where we drop it: it
changes nothing that the snapshot does not have, and the next one follows it by its `pu`.)

What goes on the ring is always in order for whoever builds the same book from it: a snapshot run
replaces the book, each run behind it follows without a gap, and BOOK_STATE says from where to where
the book may be trusted. Frames that came before the snapshot but are newer than it are
held and written behind it: without them the book would stay crossed.

Held frames are bounded. When they do not fit any more, the feed waits for the snapshot as it waits
for room in the ring, HOLD_NS_MAX at most, so that one slow answer costs nothing. After that all are
given up: the next snapshot will be found too old, or the next frame not to follow, so nothing wrong
comes of it, and the other instruments of the feed go on.

State of an instrument (words of `sync`): SYNC_STATE as on the ring; SYNC_STRADDLE while the next
frame may overlap the snapshot; SYNC_HELD records held, of which SYNC_HELD_NEXT are written already;
SYNC_WANT while a snapshot is needed; SYNC_INSTALLED between snapshot and SYNCED.
"""

from __future__ import annotations

from engine.book import UPDATE_ID as BOOK_ID
from engine.book import apply_row, clear, is_crossed
from engine.codec_layout import (
    BROKEN,
    DONE,
    FULL,
    HELD_MAX,
    HOLD_NS_MAX,
    NOW_NS,
    ODD,
    REFETCH,
    SILENCE_NS_MAX,
    SILENCE_NS_MIN,
    SLOTS,
    SOURCE,
    STAGED,
    SYNC_CROSSED_COUNTER,
    SYNC_DEPTH_NS,
    SYNC_FRAMES,
    SYNC_GAPS,
    SYNC_GAPS_COUNTER,
    SYNC_HELD,
    SYNC_HELD_NEXT,
    SYNC_IGNORED,
    SYNC_INSTALLED,
    SYNC_INSTRUMENT,
    SYNC_MEAN_NS,
    SYNC_OVERFLOWS,
    SYNC_SILENT_COUNTER,
    SYNC_STATE,
    SYNC_STRADDLE,
    SYNC_WANT,
    TOP_STATE,
    VENUE_FIRST,
    WANTED,
    WRITTEN,
    book_of,
    control_of,
    count_up,
    held_of,
    reserve,
    row_of,
    staged_of,
    stamp,
    sync_of,
    top_of,
)
from engine.records import (
    DEPTH_LAST,
    FIRST_ID,
    LAST_ID,
    PAYLOAD,
    ROW_WORDS,
    STATE,
    STATE_UPDATE_ID,
    TAG,
    TRIGGER_NS,
    BookState,
    Kind,
    tag,
)
from shm.jit import inlined, jit
from shm.latest import begin_change, end_change
from shm.ring import CAPACITY
from shm.segment import Words
from shm.vectors import BLOCK, copy_block

_DEPTH, _BOOK_STATE = int(Kind.DEPTH), int(Kind.BOOK_STATE)
_SYNCED, _GAP = int(BookState.SYNCED), int(BookState.STALE_GAP)
_CROSSED, _SILENT = int(BookState.STALE_CROSSED), int(BookState.STALE_SILENT)
_LAST_BIT = DEPTH_LAST << 16
_FLAGS = 0xFFFF << 16
assert ROW_WORDS == BLOCK, "records are copied as one block"
_LEARN_FRAMES = 32  # frames until the usual gap is known; later ones weigh one in so many
_GAPS_MAX = 20  # usual gaps without a frame are a silence


@inlined
def _write_run(path: Words, slot: int, rows: Words, first: int, count: int) -> None:
    """Copies rows[first : first + count] to the ring, where room was reserved, and to the book."""
    book = book_of(path, slot)
    kind = tag(_DEPTH, 0, sync_of(path, slot)[SYNC_INSTRUMENT], path[SOURCE])
    sequence = reserve(path, count)
    begin_change(book)
    for index in range(first, first + count):
        row = row_of(path, sequence)
        copy_block(row, rows[index])
        stamp(path, row, sequence, kind | (row[TAG] & _FLAGS), row[TRIGGER_NS])
        apply_row(book, row)
        sequence += 1
    path[WRITTEN] += count
    end_change(book)


@jit
def tell(path: Words, slot: int, state: int, found: int) -> int:
    """Writes a BOOK_STATE and takes the state on; answers DONE or FULL, which changes nothing.

    `found` is the first id of the frame that did not follow, 0 when that was not the reason.
    """
    sync = sync_of(path, slot)
    sequence = reserve(path, 1)
    if sequence < 0:
        return FULL
    book = book_of(path, slot)
    row = row_of(path, sequence)
    kind = tag(_BOOK_STATE, 0, sync[SYNC_INSTRUMENT], path[SOURCE])
    stamp(path, row, sequence, kind, path[NOW_NS])
    for word in range(PAYLOAD, ROW_WORDS):
        row[word] = 0
    row[STATE] = state
    row[STATE_UPDATE_ID] = book[BOOK_ID]
    row[STATE_UPDATE_ID + 1] = sync[SYNC_GAPS]
    row[STATE_UPDATE_ID + 2] = book[BOOK_ID] + 1
    row[STATE_UPDATE_ID + 3] = found
    path[WRITTEN] += 1
    sync[SYNC_STATE] = state
    cell = top_of(path, sync[SYNC_INSTRUMENT])
    begin_change(cell)
    cell[1 + TOP_STATE] = state
    end_change(cell)
    return DONE


@jit
def want(path: Words, slot: int) -> None:
    """Asks for a snapshot of one instrument; the session looks at WANTED."""
    sync_of(path, slot)[SYNC_WANT] = 1
    path[WANTED] = 1


@jit
def forget_held(path: Words, slot: int) -> None:
    """Gives up the frames held back and an installation under way."""
    sync = sync_of(path, slot)
    sync[SYNC_HELD] = sync[SYNC_HELD_NEXT] = sync[SYNC_INSTALLED] = 0


@jit
def _hold(path: Words, slot: int, read_ns: int) -> int:
    """Keeps the staged run until a snapshot came; answers DONE, or FULL to come again."""
    sync, held, staged = sync_of(path, slot), held_of(path, slot), staged_of(path)
    count = path[STAGED]
    if sync[SYNC_HELD] + count > path[HELD_MAX]:
        if path[NOW_NS] - held[0, TRIGGER_NS] < path[HOLD_NS_MAX]:
            return FULL
        sync[SYNC_OVERFLOWS] += 1
        forget_held(path, slot)
        want(path, slot)
    at = sync[SYNC_HELD]
    for index in range(count):
        copy_block(held[at + index], staged[index])
        held[at + index, TRIGGER_NS] = read_ns
    sync[SYNC_HELD] += count
    return DONE


@jit
def _follows(sync: Words, book: Words, row: Words) -> bool:
    """Says whether a newer run whose first record is `row` leaves nothing out."""
    expected = book[BOOK_ID] + 1
    is_overlap = sync[SYNC_STRADDLE] != 0 and row[VENUE_FIRST] < expected
    return row[FIRST_ID] == expected or is_overlap  # type: ignore[no-any-return]


@jit
def _hear(sync: Words, read_ns: int) -> None:
    """Notes a depth frame, and how far apart they usually are."""
    gap_ns = read_ns - sync[SYNC_DEPTH_NS]
    sync[SYNC_DEPTH_NS] = read_ns
    sync[SYNC_FRAMES] += 1
    if 1 < sync[SYNC_FRAMES] <= _LEARN_FRAMES:
        sync[SYNC_MEAN_NS] += (gap_ns - sync[SYNC_MEAN_NS]) // (sync[SYNC_FRAMES] - 1)
    elif sync[SYNC_FRAMES] > _LEARN_FRAMES:
        sync[SYNC_MEAN_NS] += (gap_ns - sync[SYNC_MEAN_NS]) // _LEARN_FRAMES


@jit
def _silence_ns(path: Words, sync: Words) -> int:
    """Answers how long this instrument's depth may say nothing: so many usual gaps, in bounds."""
    if sync[SYNC_FRAMES] < _LEARN_FRAMES:
        return path[SILENCE_NS_MAX]  # type: ignore[no-any-return]
    usual_ns = max(path[SILENCE_NS_MIN], _GAPS_MAX * sync[SYNC_MEAN_NS])
    return min(path[SILENCE_NS_MAX], usual_ns)  # type: ignore[no-any-return]


@jit
def _count_gap(path: Words, slot: int) -> None:
    sync = sync_of(path, slot)
    sync[SYNC_GAPS] += 1
    count_up(path, sync[SYNC_GAPS_COUNTER], 1)
    forget_held(path, slot)
    want(path, slot)


@jit
def on_depth(path: Words, slot: int, read_ns: int) -> int:
    """Takes the staged run of one instrument by the rule.

    Answers:
        DONE; FULL: no room now, nothing has changed, come again; ODD: there will never be room for
        this frame, which is lost (the next frame then finds the gap).
    """
    sync, book, staged = sync_of(path, slot), book_of(path, slot), staged_of(path)
    is_live = sync[SYNC_STATE] in (_SYNCED, _SILENT)
    is_new = staged[0, LAST_ID] > book[BOOK_ID]
    room = DONE
    if path[STAGED] >= min(control_of(path)[CAPACITY], path[HELD_MAX]):
        room = ODD
    elif not is_live:
        room = _hold(path, slot, read_ns)
    elif is_new:
        room = reserve(path, path[STAGED] + 1)
    if room < 0:
        return room
    _hear(sync, read_ns)
    if not is_live:
        return DONE
    if not is_new:
        sync[SYNC_IGNORED] += 1
    elif _follows(sync, book, staged[0]):
        for index in range(path[STAGED]):
            staged[index, TRIGGER_NS] = read_ns
        _write_run(path, slot, staged, 0, path[STAGED])
        sync[SYNC_STRADDLE] = 0
        _settle(path, slot)
    else:
        _count_gap(path, slot)
        tell(path, slot, _GAP, staged[0, FIRST_ID])
        _hold(path, slot, read_ns)
    return DONE


@jit
def _settle(path: Words, slot: int) -> None:
    """Says what the book is worth after a run; one row is reserved."""
    sync = sync_of(path, slot)
    if is_crossed(book_of(path, slot)):
        forget_held(path, slot)
        want(path, slot)
        tell(path, slot, _CROSSED, 0)
        count_up(path, sync[SYNC_CROSSED_COUNTER], 1)
    elif sync[SYNC_STATE] != _SYNCED:
        tell(path, slot, _SYNCED, 0)


@jit
def install(path: Words, slot: int, read_ns: int) -> int:
    """Takes the staged snapshot: writes it, then what was held and is newer.

    Answers:
        DONE; FULL: no room, nothing has changed; REFETCH: older than the first frame held, ask
        again; ODD: the ring is too small for it.
    """
    sync, staged, held = sync_of(path, slot), staged_of(path), held_of(path, slot)
    if sync[SYNC_HELD] > 0 and staged[0, LAST_ID] + 1 < held[0, FIRST_ID]:
        return REFETCH
    room = reserve(path, path[STAGED])
    if room < 0:
        return room
    for index in range(path[STAGED]):
        staged[index, TRIGGER_NS] = read_ns
    _write_run(path, slot, staged, 0, path[STAGED])
    sync[SYNC_STRADDLE] = sync[SYNC_INSTALLED] = 1
    sync[SYNC_WANT] = sync[SYNC_HELD_NEXT] = 0
    sync[SYNC_DEPTH_NS] = max(sync[SYNC_DEPTH_NS], read_ns)
    return DONE


@jit
def drain(path: Words, slot: int) -> int:
    """Goes on with an installation: writes held frames by the rule, then SYNCED.

    Answers:
        DONE; FULL: come again; BROKEN: the held frames had a gap, a snapshot is wanted again.
    """
    sync, held, book = sync_of(path, slot), held_of(path, slot), book_of(path, slot)
    while sync[SYNC_HELD_NEXT] < sync[SYNC_HELD]:
        first = sync[SYNC_HELD_NEXT]
        count = 1
        while held[first + count - 1, TAG] & _LAST_BIT == 0:
            count += 1
        if held[first, LAST_ID] > book[BOOK_ID]:
            if not _follows(sync, book, held[first]):
                _count_gap(path, slot)
                return BROKEN
            if reserve(path, count) < 0:
                return FULL
            _write_run(path, slot, held, first, count)
            sync[SYNC_STRADDLE] = 0
        sync[SYNC_HELD_NEXT] = first + count
    if reserve(path, 1) < 0:
        return FULL
    forget_held(path, slot)
    _settle(path, slot)
    return DONE


@jit
def tell_other(path: Words, slot: int, state: int) -> int:
    """Tells that an instrument is in `state` unless it is already; answers DONE or FULL.

    For STALE_START and STALE_DISCONNECTED: what was held is given up.
    """
    if sync_of(path, slot)[SYNC_STATE] != state and tell(path, slot, state, 0) < 0:
        return FULL
    forget_held(path, slot)
    return DONE


@jit
def tell_silent(path: Words) -> int:
    """Makes books STALE_SILENT whose last depth frame is too old; answers DONE or FULL.

    The book stays: if the next frame follows, it is SYNCED again without a snapshot.
    """
    for slot in range(path[SLOTS]):
        sync = sync_of(path, slot)
        is_late = path[NOW_NS] - sync[SYNC_DEPTH_NS] > _silence_ns(path, sync)
        if sync[SYNC_STATE] == _SYNCED and is_late:
            if tell(path, slot, _SILENT, 0) < 0:
                return FULL
            count_up(path, sync[SYNC_SILENT_COUNTER], 1)
    return DONE


@jit
def restart(path: Words) -> None:
    """Empties every book: a predecessor may have been killed inside one."""
    for slot in range(path[SLOTS]):
        book = book_of(path, slot)
        begin_change(book)
        clear(book)
        end_change(book)
