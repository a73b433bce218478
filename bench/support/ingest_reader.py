"""Bench: the ingest path as the product has it, from a socket onto a real ring."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import uvloop

from bench.support.crew import Gate
from bench.support.ingest_load import FIRST_ID, GO, SYMBOL
from engine.book import book_words
from engine.codec_feed import Feed, FeedMemory
from engine.codec_layout import DONE, SUMS_WORDS, TOPS_WORDS
from engine.codec_streams import FeedPlan
from engine.instruments import INSTRUMENTS_MAX, Instrument
from engine.records import UPDATE_ID, BookState, Kind, kind_of
from shm import handles, ring, segment
from shm.stats import BODY_BYTES, LAYOUT, Stats
from workers.framesession import FrameSession

CAPACITY, LEVELS_MAX = 1 << 17, 4_096
CPU_NS, WALL_NS, SAMPLES = 1, 2, 3  # words that a reader leaves; latencies behind them
IDLE_S = 60.0
_SNAPSHOT = b'{"lastUpdateId":%d,"bids":[["61000.00","1.0"]],"asks":[["62400.00","1.0"]]}'
_INSTRUMENT = Instrument(
    index=0, symbol=SYMBOL, base="BTC", quote="USDT", price_decimals=2, tick_units=1,
    quantity_decimals=8, lot_units=1,
)  # fmt: skip


class Clock:
    """Times a reader from the end of its warm messages to its last; used by rivals as well."""

    def __init__(self, gate: Gate, messages: tuple[int, int]) -> None:
        """Binds the words; `messages` are all of them and the warm ones among them."""
        self._words = gate.words
        self._messages, self._warm = messages
        self._count = 0
        self._cpu_ns = self._wall_ns = 0
        self._start()

    def _start(self) -> None:
        if self._count == self._warm:
            self._cpu_ns, self._wall_ns = time.process_time_ns(), time.monotonic_ns()
            self._words[GO] = 1  # last: the sender goes on from here

    def tell(self, count: int) -> bool:
        """Counts messages that are done with; says whether these were the last."""
        self._count += count
        self._start()
        if self._count < self._messages:
            return False
        self._words[CPU_NS] = time.process_time_ns() - self._cpu_ns
        self._words[WALL_NS] = time.monotonic_ns() - self._wall_ns
        return True


def reader_of(
    read: Callable[[Gate, int, str, Clock], Coroutine[None, None, None]],
) -> Callable[[int, str, tuple[int, int]], Callable[[Gate], None]]:
    """Answers what makes a member of a rival's reading: of port, stream and messages."""

    def reader(port: int, stream: str, messages: tuple[int, int]) -> Callable[[Gate], None]:
        def live(gate: Gate) -> None:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(read(gate, port, stream, Clock(gate, messages)))

        return live

    return reader


class _Rig(NamedTuple):
    feed: Feed
    consumer: handles.Consumer
    stats: Stats


@contextmanager
def _feed(stream: str) -> Iterator[_Rig]:
    """Makes a feed onto a ring of its own with one gating reader, its book synced."""
    prefix = f"tickring.bench-{os.getpid()}"
    made = ring.create(
        f"{prefix}.market", 1, capacity=CAPACITY, row_bytes=128, kinds=(ring.GATING,),
        parkable=False,
    )  # fmt: skip
    counted = segment.create(f"{prefix}.stats", BODY_BYTES, LAYOUT, 1)
    counted.set_ready()
    memory = FeedMemory(
        np.zeros((1, book_words(LEVELS_MAX)), np.int64),
        np.zeros((1, SUMS_WORDS), np.int64),
        np.zeros((INSTRUMENTS_MAX, TOPS_WORDS), np.int64),
    )
    stats = Stats(counted)
    plan = FeedPlan((_INSTRUMENT,), (stream,), 0, LEVELS_MAX, 1 << 60, 1 << 60)
    feed = Feed(plan, memory, handles.Producer(made), stats)
    try:
        feed.clear_books()
        feed.announce(BookState.STALE_START, 1)
        feed.want_all()
        if stream.startswith("depth"):
            assert feed.take_snapshot(0, _SNAPSHOT % (FIRST_ID - 1), 1, 1) == DONE
            feed.go_on(0, 1)
        yield _Rig(feed, handles.Consumer(made, 0), stats)
    finally:
        for one in (made, counted):
            one.unlink()
            one.close()


class Way(NamedTuple):
    """How messages come onto the ring.

    Attributes:
        window_ms: of a batch, as in [market].
        is_timed: keep each quote's time from its sending to its record being on the ring.
    """

    window_ms: int = 0
    is_timed: bool = False


def tickring(port: int, stream: str, messages: tuple[int, int], way: Way) -> Callable[[Gate], None]:
    """Answers a member that brings a load onto a ring, batch by batch.

    Args:
        port: of the sender.
        stream: that it sends.
        messages: how many, and how many of them before the clock starts.
        way: how.
    """

    def live(gate: Gate) -> None:
        with _feed(stream) as rig, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_read(rig, gate, port, Clock(gate, messages), way))
            rejected = {sample.label: sample.value for sample in rig.stats.samples()}
            assert rejected["ingest_rejected_frames_total"] == 0, "the load is as a venue writes it"

    return live


async def _read(rig: _Rig, gate: Gate, port: int, clock: Clock, way: Way) -> None:
    feed, consumer = rig.feed, rig.consumer
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def flush() -> None:
        count = feed.waiting
        while feed.decode(time.monotonic_ns()) != DONE:
            consumer.release(consumer.cursor)
        if way.is_timed:
            _keep_latencies(consumer, gate)
        consumer.release(consumer.cursor)
        if clock.tell(count):
            ended.set()

    def wake() -> None:
        if way.window_ms:
            loop.call_later(way.window_ms / 1_000, flush)
        else:
            loop.call_soon(flush)

    session = FrameSession(feed, wake, flush)
    await session.connect(
        f"ws://127.0.0.1:{port}/stream?streams=btcusdt@{feed.plan.streams[0]}", IDLE_S
    )
    gate.wait()
    await ended.wait()
    session.disconnect()
    await session.ended()


def _keep_latencies(consumer: handles.Consumer, gate: Gate) -> None:
    now_ns = time.monotonic_ns()
    for sequence in range(consumer.released + 1, consumer.cursor + 1):
        row = consumer.row(sequence)
        if kind_of(row) == Kind.QUOTE:
            place = SAMPLES + int(gate.words[-1])
            if place < len(gate.words) - 1:
                gate.words[place] = now_ns - int(row[UPDATE_ID])
                gate.words[-1] += 1
