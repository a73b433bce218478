"""engine room: the cold handle around the compiled market data path: makes it, fills it, asks it.

One feed decodes the streams of some instruments into one market ring. It owns the batch that
frames are copied into, the sync state and the frames held back; books, trade sums and tops lie in
shared memory that its caller hands in. Called by: one thread, the ring's producer.

    data     | frames of the batch, end to end                    | patch: one rewritten frame |
             0                                          DATA_BYTES_MAX      + FRAME_BYTES_MAX
    index    (frames_max, 2) int64: place behind the frame, when its bytes were read
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np

from engine import codec_layout as layout
from engine.book import copy_book, level_count
from engine.book_side import LEVELS_LIMIT
from engine.booksync import restart, want
from engine.codec import name_hash
from engine.codec_batch import announce, announce_silent, decode, go_on, take_snapshot
from engine.codec_exact import canonical, canonical_snapshot
from engine.codec_layout import DONE, ODD
from engine.codec_streams import FeedPlan, format_of_stream, stream_names
from engine.records import ROW_WORDS, BookState, tag
from shm.handles import Producer
from shm.ring import CAPACITY, CURSOR
from shm.segment import Bytes, Words
from shm.stats import Stats

DATA_BYTES_MAX = 8 << 20
FRAME_BYTES_MAX = 1 << 20
FRAMES_MAX = 65_536
HELD_RECORDS_MAX = 16_384  # an instrument's depth held back while its snapshot is on the way
STAGED_RECORDS_MAX = FRAME_BYTES_MAX // 40 + 2  # a level takes 10 bytes or more, four a record
REJECTED_MAX = 16  # rejected frames kept for inspection
REJECTED_BYTES_MAX = 4_096  # of each
_DEPTHS = (layout.SPOT_DEPTH, layout.USDM_DEPTH)
_SHUTDOWN = b'"serverShutdown"'


class FeedMemory(NamedTuple):
    """Shared memory that a feed writes."""

    books: Words  # (slots, book words)
    sums: Words  # (slots, SUMS_WORDS)
    tops: Words  # (instruments, TOPS_WORDS)


class Feed:
    """Frames in, records out. `data` and `index` hold the open batch, `words` says how much."""

    def __init__(
        self, plan: FeedPlan, memory: FeedMemory, producer: Producer, stats: Stats
    ) -> None:
        self.plan, self.producer = plan, producer
        self.names = [name for name, _ in stream_names(plan)]
        slots = len(plan.instruments)
        self._data = np.zeros(DATA_BYTES_MAX + FRAME_BYTES_MAX, np.uint8)
        self._index = np.zeros((FRAMES_MAX, layout.INDEX_WORDS), np.int64)
        self.sync = np.zeros((slots, layout.SYNC_WORDS), np.int64)
        self._held = np.zeros((slots, HELD_RECORDS_MAX, ROW_WORDS), np.int64)
        self._staged = np.zeros((STAGED_RECORDS_MAX, ROW_WORDS), np.int64)
        self._memory = memory
        self._streams = np.zeros((len(self.names), layout.STREAM_WORDS), np.int64)
        self._table = np.full(layout.TABLE_SLOTS, -1, np.int64)
        self._text = np.zeros(0, np.uint8)
        self._counters = [stats.counter("ingest_frames_total", stream=n) for n in self.names]
        self._records = stats.counter("ingest_records_total")
        self._rejects = stats.counter("ingest_rejected_frames_total")
        self._doubles = stats.counter("ingest_doubles_total")
        self.snapshots = stats.counter("ingest_frames_total", stream="REST depth snapshot")
        self.path = np.zeros(layout.PATH_WORDS, np.int64)
        self._fill_streams()
        self._fill_sync(stats)
        self._fill_path()
        self.data, self.index = self._data.data, self._index.reshape(-1).data
        self.words = self.path.data
        self.rejected: deque[bytes] = deque(maxlen=REJECTED_MAX)
        self.is_shutdown_told = False

    def _fill_streams(self) -> None:
        text = b""
        for number, (name, slot) in enumerate(stream_names(self.plan)):
            instrument = self.plan.instruments[slot]
            kind, written = format_of_stream(self.plan.market, name)
            start = len(text)
            text += name.encode() + instrument.symbol.encode()
            self._streams[number, : layout.STREAM_INSTRUMENT + 1] = (
                written, slot, tag(kind, 0, instrument.index, self.plan.source),
                self._counters[number].index, start, len(name), start + len(name),
                len(instrument.symbol), instrument.price_decimals, instrument.tick_units,
                instrument.quantity_decimals, instrument.lot_units, instrument.index,
            )  # fmt: skip
            self._streams[number, layout.STREAM_LAST : layout.STREAM_FENCE + 1] = layout.NO_ID
            place = name_hash(name)
            while self._table[place] >= 0:
                place = (place + 1) % layout.TABLE_SLOTS
            self._table[place] = number
        self._text = np.frombuffer(text, np.uint8).copy()

    def _fill_sync(self, stats: Stats) -> None:
        for slot, instrument in enumerate(self.plan.instruments):
            gaps = stats.counter("ingest_gaps_total", symbol=instrument.symbol)
            crossed = stats.counter("ingest_crossed_total", symbol=instrument.symbol)
            silent = stats.counter("ingest_silent_total", symbol=instrument.symbol)
            self.sync[slot, layout.SYNC_GAPS_COUNTER] = gaps.index
            self.sync[slot, layout.SYNC_CROSSED_COUNTER] = crossed.index
            self.sync[slot, layout.SYNC_SILENT_COUNTER] = silent.index
            self.sync[slot, layout.SYNC_INSTRUMENT] = instrument.index
            self._memory.books[slot, LEVELS_LIMIT] = self.plan.levels_max

    def _fill_path(self) -> None:
        m, words = self._memory, self._records.words
        arrays: dict[int, Words | Bytes] = {
            layout.CONTROL_AT: self.producer.control, layout.ROWS_AT: self.producer.rows,
            layout.DATA_AT: self._data, layout.INDEX_AT: self._index,
            layout.STREAMS_AT: self._streams, layout.TEXT_AT: self._text,
            layout.TABLE_AT: self._table, layout.SYNC_AT: self.sync, layout.HELD_AT: self._held,
            layout.STAGED_AT: self._staged, layout.BOOKS_AT: m.books, layout.SUMS_AT: m.sums,
            layout.TOPS_AT: m.tops, layout.STATS_AT: words,
        }  # fmt: skip
        for word, array in arrays.items():
            assert array.flags.c_contiguous, "compiled code walks the array by its address"
            self.path[word] = array.ctypes.data
        sizes = {
            layout.DATA_BYTES: len(self._data), layout.FRAMES_MAX: FRAMES_MAX,
            layout.STREAMS: len(self._streams), layout.TEXT_BYTES: len(self._text),
            layout.SLOTS: len(self.sync), layout.HELD_MAX: HELD_RECORDS_MAX,
            layout.STAGED_MAX: STAGED_RECORDS_MAX, layout.BOOK_LENGTH: m.books.shape[1],
            layout.STATS_WORDS: len(words), layout.RECORDS_COUNTER: self._records.index,
            layout.SOURCE: self.plan.source, layout.SILENCE_NS_MAX: self.plan.silence_ns_max,
            layout.HOLD_NS_MAX: self.plan.hold_ns_max,
            layout.SILENCE_NS_MIN: self.plan.silence_ns_min,
            layout.DOUBLES_COUNTER: self._doubles.index,
        }  # fmt: skip
        for word, size in sizes.items():
            self.path[word] = size

    def clear_books(self) -> None:
        """Empties the books: a predecessor may have been killed inside one."""
        restart(self.path)

    def has_room(self, size_bytes: int) -> bool:
        """Says whether one more frame fits into the batch, after moving it together if need be."""
        if self._fits(size_bytes):
            return True
        self._move_together()
        return self._fits(size_bytes)

    def _fits(self, size_bytes: int) -> bool:
        words = self.words
        return words[layout.COUNT] < FRAMES_MAX and words[layout.END] + size_bytes <= DATA_BYTES_MAX

    def append(self, payload: bytes | memoryview, read_ns: int) -> bool:
        """Copies a frame into the batch; False when it has no room."""
        if not self.has_room(len(payload)):
            return False
        words = self.words
        start, count = words[layout.END], words[layout.COUNT]
        end = start + len(payload)
        self.data[start:end] = payload
        self.index[2 * count] = end
        self.index[2 * count + 1] = read_ns
        words[layout.END], words[layout.COUNT] = end, count + 1
        return True

    @property
    def count(self) -> int:
        """How many frames the batch holds, taken or not."""
        return self.words[layout.COUNT]

    @property
    def waiting(self) -> int:
        """How many frames of the batch are not taken yet."""
        return self.words[layout.COUNT] - self.words[layout.NEXT]

    def _move_together(self) -> None:
        """Moves the frames that wait to the front, so that room appears behind them."""
        words = self.words
        taken, count, end = words[layout.NEXT], words[layout.COUNT], words[layout.END]
        if taken == 0:
            return
        start = self.index[2 * (taken - 1)]
        self._data[: end - start] = self._data[start:end].copy()
        self._index[: count - taken] = self._index[taken:count]
        self._index[: count - taken, 0] -= start
        words[layout.END], words[layout.COUNT] = end - start, count - taken
        words[layout.NEXT] = 0

    def decode(self, now_ns: int) -> int:
        """Takes the batch, in one compiled call when every frame is as the venue writes it.

        Returns:
            DONE, the batch is empty; FULL, the rest of it waits for room in the ring.
        """
        self.words[layout.NOW_NS] = now_ns
        return self.finish(decode(self.path))

    def finish(self, status: int) -> int:
        """Does what a compiled `decode` that answered `status` left over; answers as `decode`."""
        words = self.words
        while status == ODD:
            self._rewrite()
            status = decode(self.path)
        if status == DONE:
            words[layout.NEXT] = words[layout.END] = words[layout.COUNT] = 0
        return status

    def _rewrite(self) -> None:
        """Gives the odd frame at NEXT a second try in canonical form, or rejects it."""
        words = self.words
        number = words[layout.NEXT]
        start = self.index[2 * number - 2] if number else 0
        frame = bytes(self.data[start : self.index[2 * number]])
        again = canonical(frame, self.plan.market) if words[layout.PATCH_END] == 0 else None
        if again is None or not self._patch(again):
            words[layout.PATCH_END] = 0
            words[layout.NEXT] = number + 1
            self._reject(frame)

    def _patch(self, frame: bytes) -> bool:
        if len(frame) > FRAME_BYTES_MAX:
            return False
        self.data[DATA_BYTES_MAX : DATA_BYTES_MAX + len(frame)] = frame
        self.words[layout.PATCH_START] = DATA_BYTES_MAX
        self.words[layout.PATCH_END] = DATA_BYTES_MAX + len(frame)
        return True

    def _reject(self, frame: bytes) -> None:
        if _SHUTDOWN in frame[:REJECTED_BYTES_MAX]:
            self.is_shutdown_told = True
            return
        self._rejects.add()
        self.rejected.append(frame[:REJECTED_BYTES_MAX])

    def take_snapshot(self, slot: int, body: bytes, read_ns: int, now_ns: int) -> int:
        """Takes a REST depth snapshot of one instrument.

        Returns:
            DONE; FULL: come again with the same body; REFETCH: too old; ODD: not readable.
        """
        self.words[layout.NOW_NS] = now_ns
        status = self._try_snapshot(slot, body, read_ns)
        if status == ODD:
            again = canonical_snapshot(body)
            status = ODD if again is None else self._try_snapshot(slot, again, read_ns)
        if status == DONE:
            self.snapshots.add()
        return status

    def _try_snapshot(self, slot: int, body: bytes, read_ns: int) -> int:
        if not self._patch(body):
            return ODD
        return take_snapshot(self.path, self.depth_stream(slot), read_ns)

    def depth_stream(self, slot: int) -> int:
        """Answers the number of an instrument's depth stream, -1 when it has none."""
        is_depth = np.isin(self._streams[:, layout.STREAM_FORMAT], _DEPTHS)
        found = is_depth & (self._streams[:, layout.STREAM_SLOT] == slot)
        return int(np.argmax(found)) if found.any() else -1

    def go_on(self, slot: int, now_ns: int) -> int:
        """Goes on with an installed snapshot: DONE, FULL, or BROKEN when another is wanted."""
        self.words[layout.NOW_NS] = now_ns
        return go_on(self.path, slot)

    def announce(self, state: BookState, now_ns: int, slots: Iterable[int] | None = None) -> int:
        """Tells a state of the instruments that are in another; answers DONE or FULL.

        Without `slots`, of all of them.
        """
        self.words[layout.NOW_NS] = now_ns
        for slot in range(len(self.sync)) if slots is None else slots:
            if announce(self.path, slot, int(state)) != DONE:
                return layout.FULL
        return DONE

    def announce_silent(self, now_ns: int) -> int:
        """Tells which books became silent; answers DONE or FULL."""
        self.words[layout.NOW_NS] = now_ns
        return announce_silent(self.path)

    def fence(self, names: Collection[str]) -> None:
        """From now on another connection brings these streams: what it repeats is dropped.

        Called when all that the connection before it has brought is decoded.
        """
        for number, name in enumerate(self.names):
            if name in names:
                stream = self._streams[number]
                stream[layout.STREAM_FENCE] = stream[layout.STREAM_LAST]

    def unfence(self, names: Collection[str]) -> None:
        """A connection begins these streams anew: whatever ids it brings are taken."""
        for number, name in enumerate(self.names):
            if name in names:
                self._streams[number, layout.STREAM_FENCE] = layout.NO_ID

    def want_all(self, slots: Iterable[int] | None = None) -> None:
        """Asks for a snapshot of every instrument, or of some."""
        for slot in range(len(self.sync)) if slots is None else slots:
            want(self.path, slot)

    def last_id(self, name: str) -> int:
        """Answers the id that a stream brought last, NO_ID before the first."""
        return int(self._streams[self.names.index(name), layout.STREAM_LAST])

    def silent_names(self) -> list[str]:
        """Names the streams that have never brought anything."""
        taken = self._streams[:, layout.STREAM_LAST]
        return [name for number, name in enumerate(self.names) if taken[number] == layout.NO_ID]

    def wanted(self) -> list[int]:
        """Answers the slots whose snapshot is needed; cheap while there is none."""
        if self.words[layout.WANTED] == 0:
            return []
        slots = np.flatnonzero(self.sync[:, layout.SYNC_WANT]).tolist()
        self.words[layout.WANTED] = int(bool(slots))
        return slots

    @property
    def is_synced(self) -> bool:
        """Says whether every book may be trusted."""
        return bool((self.sync[:, layout.SYNC_STATE] == BookState.SYNCED).all())


def warm() -> None:
    """Compiles every call that a feed makes, on scratch memory."""
    scratch = np.zeros((16, 2048), np.int64)
    path = np.zeros(layout.PATH_WORDS, np.int64)
    addresses = (
        layout.CONTROL_AT, layout.ROWS_AT, layout.DATA_AT, layout.INDEX_AT, layout.STREAMS_AT,
        layout.TEXT_AT, layout.TABLE_AT, layout.SYNC_AT, layout.HELD_AT, layout.STAGED_AT,
        layout.BOOKS_AT, layout.SUMS_AT, layout.TOPS_AT, layout.STATS_AT,
    )  # fmt: skip
    for row, word in enumerate(addresses):
        path[word] = scratch[row].ctypes.data
    path[layout.BOOK_LENGTH], path[layout.STATS_WORDS] = 2048, 2048
    control, book = scratch[0], scratch[10]
    control[CAPACITY], control[CURSOR] = 64, -1
    book[LEVELS_LIMIT] = 16
    restart(path)
    want(path, 0)
    announce(path, 0, 0)
    go_on(path, 0)
    announce_silent(path)
    decode(path)
    take_snapshot(path, 0, 0)
    for side in (1, 2):
        level_count(book, side)
    copy_book(book, np.zeros(2048, np.int64))
