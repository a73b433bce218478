"""workers room: the recorder, which appends every ring to the journal.

It gates: a ring's writer never passes it, so nothing is overwritten before it is journaled. A ring
is released when its records are written, or, with `journal.flush = "batch"`, when they are durable.
What was written but not yet released when the recorder is killed is found again in the journal, so
it is not written twice; what was not written is still in the ring, so it is not lost.

A disk that is full or broken stops the releases, never the recorder: it says so once, tries again
with growing pauses, and the rings fill until it succeeds.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from config.settings import Settings
from config.topology import rings
from engine.frames import RECORDS_MAX, Moment, Origin, ring_code
from engine.instruments import Instrument
from engine.records import DTYPES
from shm.handles import Consumer
from shm.jit import jit
from shm.ring import poll, port_control
from shm.segment import Words
from shm.stats import Counter
from workers.agent import Phase, SegmentPlan
from workers.context import AgentContext
from workers.journal import (
    GENERATION_FILE,
    INSTRUMENTS_FILE,
    RING_FILE,
    GenerationFacts,
    JournalError,
    RingFacts,
    generation_folder,
    make_folder,
    read_generation,
    write_facts,
)
from workers.journal_flush import Flusher, FlushJob
from workers.journal_writer import RingWriter

RETRY_NS, RETRY_NS_MAX = 20_000_000, 1_000_000_000
TELL_NS = 100_000_000  # between updates of the lag gauges
INSTRUMENTS_NS = 500_000_000  # between looks at the instruments


@jit
def poll_all(ports: Words, cursors: Words) -> None:
    """Copies the cursor of every ring of `ports` ((n, 4), see Consumer.port) to `cursors` (n,)."""
    for index in range(len(cursors)):
        cursors[index] = poll(port_control(ports, index), ports[index, 3])


@dataclass(slots=True)
class Lane:
    """One ring on its way to disk."""

    ring: str
    consumer: Consumer
    writer: RingWriter
    records: Counter
    lag: Counter
    is_dirty: bool = False  # written since the last flush
    flushing: int = -1  # records before this sequence are durable when the flush ends


def version() -> str:
    """Answers which tickring this is."""
    try:
        return metadata.version("tickring")
    except metadata.PackageNotFoundError:
        return "unknown"


class RecorderAgent:
    """Journals every ring that names it as a reader."""

    role_name = "recorder"

    def __init__(self, context: AgentContext) -> None:
        self._context = context
        self._settings = context.settings.journal
        self._folder = generation_folder(context.data_dir, context.generation)
        self._lanes: list[Lane] = []
        self._flusher = Flusher()
        self._job = FlushJob((), (), ())
        self._failing: dict[str, int] = {}  # what does not succeed -> how often it failed since
        self._retry_at = self._flush_at = self._tell_at = self._instruments_at = 0
        self._instruments: tuple[Instrument, ...] = ()

    @staticmethod
    def segments(_settings: Settings, _agent: str) -> tuple[SegmentPlan, ...]:
        """Plans no memory of its own."""
        return ()

    def on_start(self) -> None:
        """Finds every ring's place in the journal.

        Raises:
            OSError: the data folder cannot be written, or the journal is of another run.
        """
        make_folder(self._folder)
        self._write_generation()
        self._bytes = self._context.stats.counter("journal_bytes_total")
        for plan in rings(self._context.settings):
            if self.role_name in plan.readers:
                self._lanes.append(self._lane(plan.name))
        self._ports = np.stack([lane.consumer.port(lane.consumer.reader) for lane in self._lanes])
        self._cursors = np.full(len(self._lanes), -1, np.int64)
        poll_all(self._ports, self._cursors)

    def do_work(self) -> int:
        """Writes at most one frame of every ring; answers the records written."""
        now = time.monotonic_ns()
        self._poll_flush(now)
        work = 0
        if now >= self._retry_at:
            poll_all(self._ports, self._cursors)
            for lane, cursor in zip(self._lanes, self._cursors.tolist(), strict=True):
                if cursor >= lane.writer.next_sequence:
                    work += self._append(lane, cursor, now)
            self._start_flush(now)
        if now >= self._tell_at:
            self._tell(now)
        return work

    def on_phase(self, phase: Phase) -> bool:
        """Is done with JOURNAL when every ring is empty and, unless told never, durable."""
        if phase != Phase.JOURNAL:
            return True
        self._flush_at = 0
        is_dirty = any(lane.is_dirty for lane in self._lanes) and self._settings.flush != "none"
        return not is_dirty and not self._flusher.is_busy and self._lag() == 0

    def on_close(self) -> None:
        """Closes the journal; says what it could not write."""
        self._flusher.close()
        for lane in self._lanes:
            left = lane.consumer.cursor - lane.writer.next_sequence + 1
            if left > 0:
                self._error("journal is short of records", ring=lane.ring, records=left)
            lane.writer.close()

    def _lane(self, ring: str) -> Lane:
        stats = self._context.stats
        consumer = self._context.consumer(ring)
        row_bytes = consumer.row_words * 8
        origin = Origin(ring_code(ring), self._context.generation, row_bytes)
        folder = self._folder / ring
        writer = RingWriter(folder, origin, self._settings.segment_bytes_max)
        make_folder(folder)
        if not (folder / RING_FILE).exists():
            write_facts(folder / RING_FILE, _ring_facts(ring, origin))
        lane = Lane(
            ring, consumer, writer, stats.counter("journal_records_total", ring=ring),
            stats.gauge("journal_lag_records", ring=ring),
        )  # fmt: skip
        self._recover(lane)
        return lane

    def _recover(self, lane: Lane) -> None:
        """Brings journal and ring to one place: not a record twice, not one left out."""
        released = lane.consumer.released
        found = lane.writer.recover(released + 1)
        if found.torn_bytes:
            self._context.logger.info("journal cut", ring=lane.ring, torn_bytes=found.torn_bytes)
        if found.fault:
            self._error("journal is damaged", ring=lane.ring, fault=found.fault)
        if found.next_sequence > lane.consumer.cursor + 1:
            raise JournalError(
                f"journal must not be ahead of its ring: ring={lane.ring}"
                f" journal={found.next_sequence} ring={lane.consumer.cursor + 1};"
                f" it is of another run, move {lane.writer.folder} away"
            )
        if found.next_sequence <= released:
            lost = released + 1 - found.next_sequence
            self._error("journal lost records", ring=lane.ring, records=lost)
            lane.writer.skip_to(released + 1)
        lane.is_dirty = True
        lane.records.set(lane.writer.next_sequence)
        if self._settings.flush != "batch":
            lane.consumer.release(lane.writer.next_sequence - 1)

    def _append(self, lane: Lane, cursor: int, now: int) -> int:
        """Writes what lies in one piece from the next record on, up to one frame."""
        writer, consumer = lane.writer, lane.consumer
        start = writer.next_sequence & (consumer.capacity - 1)
        count = min(cursor - writer.next_sequence + 1, consumer.capacity - start, RECORDS_MAX)
        rows = consumer.rows[start : start + count]
        try:
            written = writer.append(rows, Moment(time.time_ns(), now))
        except OSError as error:
            self._fail(f"write {lane.ring}", error, now)
            return 0
        self._succeed(f"write {lane.ring}")
        lane.is_dirty = True
        lane.records.add(written)
        self._bytes.add(written * rows.shape[1] * 8)
        if self._settings.flush != "batch":
            consumer.release(writer.next_sequence - 1)
        return written

    def _start_flush(self, now: int) -> None:
        policy = self._settings.flush
        if self._flusher.is_busy or (policy == "interval" and now < self._flush_at):
            return
        lanes = [lane for lane in self._lanes if lane.is_dirty]
        if policy == "none" or not lanes:
            for lane in lanes:
                while lane.writer.retired:
                    os.close(lane.writer.retired.pop())
            return
        self._flush_at = now + self._settings.flush_ms * 1_000_000
        self._job = FlushJob(
            current=tuple(lane.writer.file for lane in lanes),
            retired=tuple(number for lane in lanes for number in lane.writer.retired),
            folders=tuple(lane.writer.folder for lane in lanes if lane.writer.is_file_new),
        )
        for lane in lanes:
            lane.is_dirty = lane.writer.is_file_new = False
            lane.flushing = lane.writer.next_sequence
        self._flusher.submit(self._job)

    def _poll_flush(self, now: int) -> None:
        """Releases what a finished flush made durable, or takes it back when it failed."""
        done = self._flusher.poll()
        if done is False:
            return
        lanes = [lane for lane in self._lanes if lane.flushing >= 0]
        for lane in lanes:
            if done is not True:
                lane.is_dirty = lane.writer.is_file_new = True
            else:
                retired = lane.writer.retired
                lane.writer.retired = [it for it in retired if it not in self._job.retired]
                if self._settings.flush == "batch":
                    lane.consumer.release(lane.flushing - 1)
            lane.flushing = -1
        if done is True:
            self._succeed("flush")
        else:
            self._fail("flush", done, now)

    def _fail(self, what: str, error: OSError, now: int) -> None:
        """Counts a failure and puts the next try off; says so when all was well before."""
        text = f"journal must take every {what.partition(' ')[0]}: error={error.strerror or error}"
        self._context.stats.error(text)
        if not self._failing:
            self._context.logger.error(
                "journal failed", fault=text, do="mend the disk; the rings hold what is not written"
            )
        failures = self._failing.get(what, 0)
        self._failing[what] = failures + 1
        self._retry_at = now + min(RETRY_NS << min(failures, 16), RETRY_NS_MAX)

    def _succeed(self, what: str) -> None:
        if self._failing and self._failing.pop(what, 0) and not self._failing:
            self._context.logger.info("journal works again")

    def _error(self, event: str, **fields: str | int) -> None:
        self._context.logger.error(event, **fields)
        text = " ".join(f"{key}={value}" for key, value in fields.items())
        self._context.stats.error(f"{event}: {text}")

    def _lag(self) -> int:
        return sum(lane.consumer.lag for lane in self._lanes)

    def _tell(self, now: int) -> None:
        self._tell_at = now + TELL_NS
        for lane in self._lanes:
            lane.lag.set(lane.consumer.lag)
        if now >= self._instruments_at:
            self._instruments_at = now + INSTRUMENTS_NS
            self._write_instruments()

    def _write_generation(self) -> None:
        context = self._context
        if read_generation(self._folder) is not None:
            return
        facts = GenerationFacts(
            generation=context.generation,
            engine=context.settings.engine.name,
            version=version(),
            journal_id=secrets.token_hex(8),
            started_ns=time.time_ns(),
            clock_offset_ns=time.time_ns() - time.monotonic_ns(),
            symbols=context.settings.market.symbols,
        )
        write_facts(self._folder / GENERATION_FILE, facts)

    def _write_instruments(self) -> None:
        instruments = self._context.instruments()
        if instruments and instruments != self._instruments:
            try:
                write_facts(self._folder / INSTRUMENTS_FILE, instruments)
            except OSError as error:
                self._fail("write instruments", error, time.monotonic_ns())
                return
            self._succeed("write instruments")
            self._instruments = instruments


def _ring_facts(ring: str, origin: Origin) -> RingFacts:
    kinds = {kind.name: (int(kind), _fields(dtype)) for kind, dtype in DTYPES.items()}
    return RingFacts(
        ring=ring, generation=origin.generation, row_bytes=origin.row_bytes, kinds=kinds,
        version=version(),
    )  # fmt: skip


def _fields(dtype: np.dtype[np.void]) -> list[tuple[str, str, int]]:
    fields = dtype.fields
    assert fields is not None, "records are structured"
    return [(name, fields[name][0].str, int(fields[name][1])) for name in dtype.names or ()]
