"""workers room: the thread of a capture that compresses, and the bounded queue in front of it.

    sockets (event loop) --put--> queue, ENTRIES_MAX and BYTES_MAX --> writer thread --> files

The loop never waits for a disk: what finds the queue full is dropped and counted. Each of the
queue's counters has one writer: the loop counts what went in, the thread what came out.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time_ns
from typing import NamedTuple

from engine.venues import Market
from workers.capture_file import RecordingFile
from workers.capture_plan import (
    first_update_id,
    joins,
    snapshot_update_id,
    stream_of_frame,
)

ENTRIES_MAX = 262_144
BYTES_MAX = 256 << 20
DRAIN_S, FLUSH_S = 0.02, 1.0
SNAPSHOT_TRIES_MAX = 12  # of one file


class Entry(NamedTuple):
    """What the queue carries: a frame, a symbol's snapshot, or with no body a new beginning."""

    time_ns: int
    body: bytes
    symbol: str = ""  # of a snapshot


class Queue:
    """From one event loop to one writer thread."""

    def __init__(self, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._entries: deque[Entry] = deque()
        self._entries_max, self._bytes_max = entries_max, bytes_max
        self._in_bytes = self._out_bytes = 0
        self.dropped = 0

    def put(self, entry: Entry) -> None:
        """Appends, or drops and counts. Called by: the loop."""
        size = len(entry.body)
        is_full = len(self._entries) >= self._entries_max
        if is_full or self._in_bytes - self._out_bytes + size > self._bytes_max:
            self.dropped += 1
            return
        self._in_bytes += size
        self._entries.append(entry)

    def take(self) -> Entry | None:
        """Takes the oldest, None when there is none. Called by: the thread."""
        if not self._entries:
            return None
        entry = self._entries.popleft()
        self._out_bytes += len(entry.body)
        return entry


@dataclass
class Counts:
    """What was written. One writer: the thread."""

    messages: dict[str, int] = field(default_factory=dict)  # by stream name
    snapshots: int = 0
    snapshots_old: int = 0  # not written: older than the file's first difference
    unrecordable: int = 0  # no combined-stream frame, or not one line
    clock_steps: int = 0  # the clock went back: the line carries the time of the one before
    raw_bytes: int = 0
    first_ns: int = 0
    last_ns: int = 0


class Output(NamedTuple):
    """Where a capture goes and when a file is full."""

    path: Path  # a folder, or one symbol's file when it ends in .gz
    file_bytes_max: int
    file_s_max: float


@dataclass
class _Open:
    """A symbol's open file."""

    file: RecordingFile
    begun_s: float
    last_ns: int = 0
    first_id: int = 0  # of its first depth difference
    is_synced: bool = False
    tries: int = 0


class Writer(threading.Thread):
    """Takes from a queue until it is stopped.

    Args:
        queue: where from.
        market: decides how a snapshot joins.
        output: where to.
        ask: called when a symbol's file needs a snapshot, with how many were too old before it;
            from this thread.
    """

    def __init__(
        self, queue: Queue, market: Market, output: Output, ask: Callable[[str, int], object]
    ) -> None:
        super().__init__(name="capture-writer", daemon=True)
        self._queue, self._market, self._output, self._ask = queue, market, output, ask
        self._is_ending = threading.Event()
        self._open: dict[str, _Open] = {}
        self._made = 0
        self.counts = Counts()
        self.files: list[tuple[str, RecordingFile, bool]] = []  # symbol, file, has what it needs
        self.error: OSError | None = None

    def run(self) -> None:
        """Writes until `stop`; an error of the disk ends it and stays in `error`."""
        try:
            self._write()
        except OSError as error:
            self.error = error

    def stop(self) -> None:
        """Lets everything queued be written and the files be finished, and waits for it."""
        self._is_ending.set()
        self.join()

    def _write(self) -> None:
        flushed_s = monotonic()
        is_last = False
        while not is_last:
            is_last = self._is_ending.wait(DRAIN_S)
            while (entry := self._queue.take()) is not None:
                self._take(entry)
                if monotonic() - flushed_s >= FLUSH_S:
                    self._flush()
                    flushed_s = monotonic()
            if monotonic() - flushed_s >= FLUSH_S:
                self._flush()
                flushed_s = monotonic()
        self._finish_all()

    def _flush(self) -> None:
        for symbol, one in tuple(self._open.items()):
            one.file.flush()
            age_s = monotonic() - one.begun_s
            output = self._output
            if one.file.size_bytes >= output.file_bytes_max or age_s >= output.file_s_max:
                self._finish(symbol)

    def _take(self, entry: Entry) -> None:
        if not entry.body:
            self._finish_all()
        elif entry.symbol:
            self._take_snapshot(entry)
        else:
            self._take_frame(entry)

    def _take_frame(self, entry: Entry) -> None:
        place = stream_of_frame(entry.body)
        if place is None or b"\n" in entry.body:
            self.counts.unrecordable += 1
            return
        symbol, stream = place
        one = self._open.get(symbol) or self._begin(symbol)
        self._add(one, entry)
        name = f"{symbol.lower()}@{stream}"
        self.counts.messages[name] = self.counts.messages.get(name, 0) + 1
        if not one.first_id and stream.startswith("depth"):
            one.first_id = first_update_id(entry.body)
            self._ask(symbol, 0)

    def _take_snapshot(self, entry: Entry) -> None:
        one = self._open.get(entry.symbol)
        if one is None or one.is_synced or not one.first_id:
            return  # asked for by a file that has ended meanwhile
        one.tries += 1
        if b"\n" in entry.body:
            self.counts.unrecordable += 1
        elif joins(self._market, snapshot_update_id(entry.body), one.first_id):
            self._add(one, entry)
            one.is_synced = True
            self.counts.snapshots += 1
        else:
            self.counts.snapshots_old += 1
            if one.tries < SNAPSHOT_TRIES_MAX:
                self._ask(entry.symbol, one.tries)

    def _add(self, one: _Open, entry: Entry) -> None:
        counts = self.counts
        counts.clock_steps += entry.time_ns < one.last_ns
        one.last_ns = max(one.last_ns, entry.time_ns)  # a reader refuses time that goes back
        one.file.add(one.last_ns, entry.body)
        counts.first_ns = counts.first_ns or one.last_ns
        counts.last_ns = one.last_ns
        counts.raw_bytes += len(entry.body)

    def _begin(self, symbol: str) -> _Open:
        path, number = self._output.path, self._made
        if path.suffix == ".gz":
            name = path.name if number == 0 else f"{path.stem}.{number}.gz"
            path = path.with_name(name)
        else:
            stamp = datetime.fromtimestamp(time_ns() / 1e9, UTC).strftime("%Y%m%dT%H%M%SZ")
            path = path / f"{self._market.name}_{symbol.lower()}_{stamp}_{number:04d}.gz"
        self._made += 1
        self._open[symbol] = one = _Open(RecordingFile(path), monotonic())
        return one

    def _finish(self, symbol: str) -> None:
        one = self._open.pop(symbol)
        one.file.finish()
        self.files.append((symbol, one.file, one.is_synced or not one.first_id))

    def _finish_all(self) -> None:
        for symbol in tuple(self._open):
            self._finish(symbol)
