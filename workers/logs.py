"""workers room: the log collector, which merges every worker's log ring into one file by time.

A row is stamped and published in one call, so once all rings were polled at time t, every row with
a stamp before t - HOLD_NS is there (the hold covers a writer that lost its core in between). Those
rows are sorted, written, and only then released: a collector that is killed starts again behind the
last released row. What it wrote but did not release stands in the file with its sequence, and is
skipped: no line is lost and none is repeated.

The merge keeps no row of its own: rows that are not yet due stay in their ring. A ring that is half
full is not made to wait for the hold, so a burst costs order before it costs messages.
"""

from __future__ import annotations

import select
import sys
import time
from typing import Final, NamedTuple, TextIO

import numpy as np

from config.settings import Settings
from config.topology import rings
from shm.handles import Consumer
from shm.ring import CURSOR, DROPPED_COUNT, READER_BASE, READER_WORDS, RELEASED, poll
from shm.segment import Words
from shm.stats import Counter
from workers.agent import Phase, SegmentPlan
from workers.context import AgentContext
from workers.logfile import RotatingFile, log_path
from workers.loglines import Line, console_text, encode_lines, read_line, row_of
from workers.logrows import MONOTONIC_NS, PID, ROW_WORDS, SEQUENCE

HOLD_NS: Final = 20_000_000
COLLECT_NS: Final = 10_000_000  # between merges while no ring is a quarter full
BATCH_MAX: Final = 512  # rows of one ring in one duty cycle
RETRY_NS: Final = 1_000_000_000  # after the disk refused
DROPS_NS: Final = 250_000_000  # between looks at what was dropped
FILL_SOON: Final = 0.25  # a ring this full is merged in every cycle
FILL_NOW: Final = 0.5  # and this full, without the hold
_CONSOLE_BYTES: Final = 4_096
_LOG_PREFIX: Final = "log."


class Source:
    """One worker's log ring, and how far it is written."""

    def __init__(self, worker: str, consumer: Consumer, dropped: Counter) -> None:
        self.worker = worker
        self.consumer = consumer
        self.dropped = dropped
        self.pid = 0
        self._floor_ns = 0
        self._control = consumer.control.data
        self._released = READER_BASE + READER_WORDS * consumer.reader + RELEASED

    def poll(self) -> Words:
        """Views the next rows, (n, ROW_WORDS), n <= BATCH_MAX."""
        return self.consumer.poll(BATCH_MAX)

    def see(self) -> None:
        """Notes what is published without reading it, so that a parked collector may sleep."""
        poll(self.consumer.control, self.consumer.reader)

    def has_more(self, rows: Words) -> bool:
        """Says whether rows behind these are published already."""
        return self.consumer.released + len(rows) < self.consumer.cursor

    def times(self, rows: Words) -> Words:
        """Answers the times to merge by, (n,) ns: never earlier than a row before it."""
        if len(rows) == 0:
            return rows[:, MONOTONIC_NS]
        times: Words = np.maximum.accumulate(rows[:, MONOTONIC_NS])
        return np.maximum(times, self._floor_ns)

    def take(self, rows: Words, run: int) -> list[Line]:
        """Makes the lines of some rows."""
        table = memoryview(rows.tobytes())
        lines = []
        for index, head in enumerate(rows[:, : PID + 1].tolist()):
            if head[PID] == 0:
                head[PID] = self.pid
            self.pid = head[PID]
            lines.append(read_line(head, row_of(table, index), self.worker, run))
        return lines

    def release(self, rows: Words, times: Words) -> None:
        """Gives written rows back to their writer."""
        if len(rows):
            self._floor_ns = int(times[-1])
            self.consumer.release(int(rows[-1, SEQUENCE]))

    def fill(self) -> float:
        """Answers which part of the ring is not written yet: two loads, for idle cycles."""
        lag: int = self._control[CURSOR] - self._control[self._released]
        return lag / self.consumer.capacity

    def drops(self) -> int:
        """Answers how many messages were dropped since the last call, and counts them."""
        fresh = int(self.consumer.control[DROPPED_COUNT]) - self.dropped.value
        if fresh:
            self.dropped.add(fresh)
        return fresh


class Due(NamedTuple):
    """Rows of one source that may be written now."""

    source: Source
    rows: Words
    times: Words


def due(sources: list[Source], cutoff_ns: int) -> list[Due]:
    """Answers the rows that nothing still to come can precede.

    Args:
        sources: all rings.
        cutoff_ns: rows stamped later are left where they are.
    """
    found = [(source, rows, source.times(rows)) for source in sources for rows in [source.poll()]]
    for source, rows, times in found:
        if len(rows) and source.has_more(rows):
            cutoff_ns = min(cutoff_ns, int(times[-1]))
    counts = [int(np.searchsorted(times, cutoff_ns, "right")) for _, _, times in found]
    return [
        Due(source, rows[:count], times[:count])
        for (source, rows, times), count in zip(found, counts, strict=True)
        if count
    ]


def merge(parts: list[Due], run: int) -> list[Line]:
    """Answers the lines of all parts by time; equal times in the order of the sources."""
    lines = [line for part in parts for line in part.source.take(part.rows, run)]
    if len(parts) <= 1:
        return lines
    order = np.argsort(np.concatenate([part.times for part in parts]), kind="stable")
    return [lines[index] for index in order.tolist()]


class Console:
    """Shows lines on a terminal or pipe; what it would not take at once is left out.

    All is left out once nobody is at the other end any more: the files have it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colour = stream.isatty()
        self._is_gone = False
        self.left_out = 0

    def write(self, lines: list[Line]) -> None:
        """Writes as many lines as go through without waiting."""
        texts = [console_text(line, colour=self._colour) for line in lines]
        start = 0
        while start < len(texts):
            stop, size = start, 0
            while stop < len(texts) and (stop == start or size + len(texts[stop]) < _CONSOLE_BYTES):
                size += len(texts[stop]) + 1
                stop += 1
            if not self._show("\n".join(texts[start:stop]) + "\n"):
                self.left_out += len(texts) - start
                return
            start = stop

    def _show(self, text: str) -> bool:
        """Says whether the text went through."""
        if self._is_gone:
            return False
        try:
            if not select.select([], [self._stream], [], 0)[1]:
                return False
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a hung-up terminal, a pipe without a reader, a closed file
            self._is_gone = True
        return not self._is_gone


class LogsAgent:
    """Collects all log rings; role `logs`."""

    def __init__(self, context: AgentContext) -> None:
        self.role_name = context.agent
        self._context = context
        self._sources: list[Source] = []
        self._written: dict[str, int] = {}
        self._retry_ns = 0
        self._drops_ns = 0
        self._collect_ns = 0

    @staticmethod
    def segments(settings: Settings, agent: str) -> tuple[SegmentPlan, ...]:
        """Answers no segments: the collector's memory is the log rings."""
        del settings, agent
        return ()

    def on_start(self) -> None:
        """Attaches every log ring and opens the file where the last collector left it."""
        context, log = self._context, self._context.settings.log
        for plan in rings(context.settings):
            if plan.name.startswith(_LOG_PREFIX):
                worker = plan.name.removeprefix(_LOG_PREFIX)
                dropped = context.stats.counter("log_dropped_total", worker=worker)
                self._sources.append(Source(worker, context.consumer(plan.name), dropped))
        self._records = context.stats.counter("log_records_total")
        path = log_path(context.data_dir)
        self._file = RotatingFile(path, bytes_max=log.file_bytes_max, files_max=log.files_max)
        self._written = self._file.last_sequences(context.generation)
        self._console = Console(sys.stderr) if log.console else None

    def do_work(self) -> int:
        """Writes the rows that are due; answers their number."""
        now_ns = time.monotonic_ns()
        if now_ns < self._retry_ns:
            return 0
        if now_ns >= self._drops_ns:
            self._drops_ns = now_ns + DROPS_NS
            self._tell_drops()
        fill = max(source.fill() for source in self._sources)
        if fill == 0.0:
            return 0
        if fill < FILL_SOON and now_ns < self._collect_ns:
            for source in self._sources:
                source.see()
            return 0
        self._collect_ns = now_ns + COLLECT_NS
        return self._collect(now_ns if fill > FILL_NOW else now_ns - HOLD_NS)

    def _collect(self, cutoff_ns: int) -> int:
        parts = [self._without_written(part) for part in due(self._sources, cutoff_ns)]
        lines = merge([part for part in parts if len(part.rows)], self._context.generation)
        try:
            if lines:
                self._file.write(encode_lines(lines))
        except OSError as error:
            self._retry_ns = time.monotonic_ns() + RETRY_NS
            self._context.stats.error(f"log file must be writable: error={error}")
            return 0
        self._retry_ns = 0
        for part in parts:
            part.source.release(part.rows, part.times)
        self._records.add(len(lines))
        if self._console is not None and lines:
            self._console.write(lines)
        return len(lines)

    def _without_written(self, part: Due) -> Due:
        """Leaves out and releases rows that a killed collector had written already."""
        last = self._written.get(part.source.worker, -1)
        if last < 0:
            return part
        fresh = int(np.searchsorted(part.rows[:, SEQUENCE], last, "right"))
        if fresh < len(part.rows):
            del self._written[part.source.worker]
        part.source.release(part.rows[:fresh], part.times[:fresh])
        return Due(part.source, part.rows[fresh:], part.times[fresh:])

    def _tell_drops(self) -> None:
        for source in self._sources:
            count = source.drops()
            if count:
                self._context.logger.warning(
                    "log messages dropped", of=source.worker, count=count,
                    total=source.dropped.value,
                )  # fmt: skip

    def _is_drained(self) -> bool:
        return all(source.consumer.lag == 0 for source in self._sources)

    def on_phase(self, phase: Phase) -> bool:
        """Drains every ring in phase LOGS; a disk that refuses does not hold the stop up."""
        if phase < Phase.LOGS:
            return True
        self._tell_drops()
        self._collect(time.monotonic_ns())
        return self._is_drained() or self._retry_ns > 0

    def on_close(self) -> None:
        """Writes what is still there and closes the file."""
        for _ in range(len(self._sources) * 64):
            if self._is_drained() or self._collect(time.monotonic_ns()) == 0:
                break
        self._file.close()


assert ROW_WORDS > PID, "a row begins with its head"
