"""workers room: the agent that brings market data in: sockets in, market records out.

    venue sockets -> Lines     -> batch -> one compiled decode -> market ring K
    venue REST    -> Snapshots --------------^

The duty cycle flushes the batch when its window is over, installs snapshots that have come, asks
for those that are wanted, and looks for silence. Each line reconnects and renews itself in a task
of its own (workers/ingest_line.py). When the ring is full, the rest of the batch waits and no
socket is read: nothing is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic_ns

import numpy as np

from config.settings import Settings
from config.topology import symbols
from engine import codec_feed
from engine.book import LEVELS_MAX
from engine.codec_feed import FRAMES_MAX, Feed, FeedMemory
from engine.codec_layout import DONE, DUE, FULL, PATH_WORDS, STATUS, WINDOW_NS
from engine.codec_streams import FeedPlan
from engine.instruments import Instrument
from engine.records import BookState
from engine.venues import CCXT_PREFIX, market_of
from workers import framewalk
from workers.agent import Phase, SegmentPlan
from workers.books import TOPS_PLAN, books_name, books_of, books_plan, tops_of
from workers.chain import Stage
from workers.context import AgentContext
from workers.ingest_ccxt import CcxtSource
from workers.ingest_instruments import (
    INSTRUMENT_TABLE_WORDS,
    INSTRUMENTS_PLAN,
    write_instruments,
)
from workers.ingest_line import AnyLine, Owner
from workers.ingest_native import NativeSource, Source
from workers.ingest_snapshots import Snapshots
from workers.ingest_stage import decode_due

SILENCE_CHECK_NS = 50_000_000
CLOSE_NS_MAX = 2_000_000_000  # the drain of a socket may take this long
OWED_MAX = 4  # states to tell, by line: it adds two at most and ends before it begins again
_NS_PER_MS = 1_000_000
_GONE = BookState.STALE_DISCONNECTED


def warm() -> None:
    """Compiles the market data path, on scratch memory."""
    codec_feed.warm()
    framewalk.warm()
    decode_due(int(np.zeros(PATH_WORDS, np.int64).ctypes.data))


class IngestAgent:
    """ingest.K: the lines that its symbols need, one market ring."""

    def __init__(self, context: AgentContext) -> None:
        self.role_name = context.agent
        self._context = context
        self._settings: Settings = context.settings
        self._number = int(context.agent.partition(".")[2])
        market = context.settings.market
        self._window_ns = market.batch_window_ms * _NS_PER_MS
        self._has_depth = any(stream.startswith("depth") for stream in market.streams)
        self._market = market_of(context.settings.venue.kind)
        self._reconnects = context.stats.counter("ingest_reconnects_total")
        self._rotations = context.stats.counter("ingest_rotations_total")
        self._feed: Feed | None = None
        self._lines: tuple[AnyLine, ...] = ()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._silence_ns = self._close_ns = 0
        self._proof_ns = 0  # when streams that never said anything are named; 0: done
        self._is_closing = self._is_closed = False
        self._owed: deque[tuple[BookState, tuple[int, ...]]] = deque()
        self._is_told = asyncio.Event()

    @staticmethod
    def segments(settings: Settings, agent: str) -> tuple[SegmentPlan, ...]:
        """Answers the segments that this agent writes."""
        plans = (books_plan(settings, agent), TOPS_PLAN)
        return (*plans, INSTRUMENTS_PLAN) if agent == "ingest.0" else plans

    def on_start(self) -> None:
        """Compiles, and attaches memory."""
        warm()
        context = self._context
        self._slots = symbols(self._settings, context.agent)
        self._producer = context.producer(f"market.{self._number}")
        books, sums = books_of(context.segment(books_name(context.agent)), len(self._slots))
        self._memory = FeedMemory(books, sums, tops_of(context.segment(TOPS_PLAN.name)))

    async def open(self) -> None:
        """Learns the instruments, connects and asks for snapshots.

        Raises:
            ConnectionError: the venue could not be reached in OPEN_TRIES_MAX tries.
            InstrumentError: the venue does not list a symbol.
        """
        self._source = self._make_source()
        known = await self._source.learn(self._settings.market.symbols)
        if self._number == 0:  # ingest.0 tells the other workers
            cell = self._context.segment(INSTRUMENTS_PLAN.name)
            write_instruments(cell.words(0, INSTRUMENT_TABLE_WORDS), known)
        self._feed = feed = self._make_feed(known)
        feed.words[WINDOW_NS] = self._window_ns
        self._snapshots = Snapshots(feed, self._source, self._settings, self._context.wake)
        self._snapshots.watch(self._context.stats, self._context.logger)
        feed.clear_books()
        self._owe(BookState.STALE_START, tuple(range(len(feed.sync))))
        owner = Owner(
            self._wake, self._flush, self._on_connected, self._on_lost, self._rotations.add,
            self._context.logger,
        )  # fmt: skip
        self._lines = self._source.lines(feed, owner)
        loop = asyncio.get_running_loop()
        self._tasks = tuple(loop.create_task(line.run()) for line in self._lines)
        for line, living in zip(self._lines, self._tasks, strict=True):
            waiting = loop.create_task(line.is_connected.wait())
            await asyncio.wait({living, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            self._raise_if_ended()
        proof_s = self._settings.venue.first_frame_s_max
        self._proof_ns = monotonic_ns() + int(proof_s * 1e9)
        self._snapshots.request(monotonic_ns())

    def _make_source(self) -> Source:
        is_ccxt = self._settings.venue.kind.startswith(CCXT_PREFIX)
        return CcxtSource(self._context) if is_ccxt else NativeSource(self._context)

    def _raise_if_ended(self) -> None:
        """Raises what ended a line: better a new process than one that hears nothing."""
        for task in self._tasks:
            if task.done() and not self._is_closing:
                task.result()

    def _make_feed(self, known: tuple[Instrument, ...]) -> Feed:
        market = self._settings.market
        own = tuple(instrument for instrument in known if instrument.symbol in self._slots)
        silence_ns = market.silence_ms_max * _NS_PER_MS if self._has_depth else 1 << 62
        hold_ns = self._settings.venue.request_ms_max * _NS_PER_MS
        plan = FeedPlan(
            own, market.streams, self._number, LEVELS_MAX, silence_ns, hold_ns,
            self._market.name, market.silence_ms_min * _NS_PER_MS,
        )  # fmt: skip
        return Feed(plan, self._memory, self._producer, self._context.stats)

    def _on_connected(self, line: AnyLine) -> None:
        """Begins the books that hang on a line."""
        feed = self._feed
        assert feed is not None, "lines come after the feed"
        self._context.logger.info("stream connected", streams=len(line.plan.names))
        if self._has_depth:
            feed.want_all(line.plan.slots)
        elif line.plan.slots:
            self._owe(BookState.SYNCED, line.plan.slots)

    async def _on_lost(self, line: AnyLine, why: str) -> None:
        """Decodes what has been read, then tells everybody, then waits before the next try."""
        if self._is_closing:
            return
        self._context.logger.warning("stream lost", why=why)
        self._context.stats.error(f"a stream was lost: {why or 'the venue closed it'}")
        self._reconnects.add()
        if line.plan.slots:
            self._snapshots.reset(line.plan.slots)
            self._owe(_GONE, line.plan.slots)
            await self._is_told.wait()
        await asyncio.sleep(line.backoff.next_s())

    def _owe(self, state: BookState, slots: tuple[int, ...]) -> None:
        """Notes a state that books are to be told to be in, as soon as the ring has room."""
        assert len(self._owed) < OWED_MAX * max(1, len(self._lines)), "a line owes two at most"
        self._owed.append((state, slots))
        if self._feed is not None:
            self._feed.words[DUE] = 0  # what is owed comes before the frames that follow
        self._is_told.clear()

    def _tell_owed(self, feed: Feed, now_ns: int) -> bool:
        """Tells the states that are owed, in order; False while one is left.

        A disconnection comes behind the frames that were read before it.
        """
        while self._owed:
            state, slots = self._owed[0]
            is_early = state == _GONE and feed.count > 0
            if is_early or feed.announce(state, now_ns, slots) == FULL:
                return False
            self._owed.popleft()
        self._is_told.set()
        return True

    def _wake(self) -> None:
        if not self._owed and self._feed is not None:
            self._feed.words[DUE] = 1
        if self._window_ns == 0:
            self._context.wake()
        else:  # the worker may sleep for longer than the window
            loop = asyncio.get_running_loop()
            loop.call_later(self._window_ns / 1e9, self._context.wake)

    def stage(self) -> Stage:
        """Answers the compiled part of the duty cycle: decoding what need not wait."""
        assert self._feed is not None, "asked after open"
        return Stage(decode_due, int(self._feed.path.ctypes.data), self._after_decode)

    def _after_decode(self) -> None:
        """Does what a decode by the stage left over."""
        feed = self._feed
        assert feed is not None, "the stage is asked for after open"
        is_done = feed.finish(feed.words[STATUS]) == DONE
        feed.words[DUE] = int(not is_done and not self._owed)
        self._hold_back(is_done)

    def do_work(self) -> int:
        """Runs one duty cycle; answers the work count."""
        feed = self._feed
        if feed is None or self._is_closed:
            return 0
        now_ns = monotonic_ns()
        work = 0
        if self._owed and not feed.count:
            work += self._tell_owed(feed, now_ns)
        if feed.count and self._is_window_over(feed, now_ns):
            work += self._flush()
        if self._snapshots.is_busy:
            work += self._snapshots.install(now_ns)
        if now_ns >= self._silence_ns:
            self._silence_ns = now_ns + SILENCE_CHECK_NS
            self._look_around(feed, now_ns)
        elif any(line.is_open for line in self._lines):
            self._snapshots.request(now_ns)
        return work

    def _is_window_over(self, feed: Feed, now_ns: int) -> bool:
        return (
            self._window_ns == 0
            or now_ns - feed.index[1] >= self._window_ns
            or feed.count == FRAMES_MAX
        )

    def _flush(self) -> int:
        """Decodes the batch; pauses the socket while the ring has no room for all of it."""
        feed = self._feed
        assert feed is not None, "frames come after open"
        waiting = feed.waiting
        now_ns = monotonic_ns()
        is_told = not self._owed or self._tell_owed(feed, now_ns) or self._owed[0][0] == _GONE
        self._hold_back(is_told and feed.decode(now_ns) == DONE)
        return waiting - feed.waiting

    def _hold_back(self, is_done: bool) -> None:  # noqa: FBT001 - the one thing it is told
        """Reads the sockets while batches are taken whole, and not while the ring is full."""
        for line in self._lines:
            if line.session is not None:
                if is_done:
                    line.session.resume()
                else:
                    line.session.pause()

    def _look_around(self, feed: Feed, now_ns: int) -> None:
        """Does what is due now and then: silence, a venue that says goodbye, hopeless books."""
        feed.announce_silent(now_ns)
        self._raise_if_ended()
        if feed.is_synced:
            for line in self._lines:
                line.backoff.reset()
        if feed.is_shutdown_told:
            feed.is_shutdown_told = False
            for line in self._lines:
                line.rotate()
        if self._snapshots.is_exhausted:
            for line in self._lines:
                if line.plan.slots:
                    line.disconnect()
        if 0 < self._proof_ns <= now_ns:
            self._name_silent(feed)

    def _name_silent(self, feed: Feed) -> None:
        """Says which streams have brought nothing since the start."""
        self._proof_ns = 0
        silent = feed.silent_names()
        if silent:
            text = f"every stream must bring a first frame: silent={','.join(silent)}"
            self._context.logger.warning("streams silent from the start", streams=",".join(silent))
            self._context.stats.error(text)

    def on_phase(self, phase: Phase) -> bool:
        """From CLOSE on, reads until the venue has answered a last ping, and flushes, once.

        Later phases ask the same of a worker that died in between: it must not bring more in.
        Who is done publishes nothing more, no silence either: recorder and store count on it.
        """
        if phase < Phase.CLOSE or self._feed is None or self._is_closed:
            return True
        now_ns = monotonic_ns()
        sessions = [line.session for line in self._lines if line.session is not None]
        if not self._is_closing:
            self._is_closing = True
            self._close_ns = now_ns + CLOSE_NS_MAX
            for session in sessions:
                session.drain()
        self._flush()
        is_drained = all(one.is_drained or not one.is_open for one in sessions)
        is_done = is_drained and not self._feed.count and not self._snapshots.is_busy
        if not is_done and now_ns < self._close_ns:
            return False
        if not is_done:
            self._context.logger.error("socket not drained in time", frames=self._feed.waiting)
        for line in self._lines:
            line.stop()
        self._is_closed = True
        self._feed.words[DUE] = 0
        return True

    async def close(self) -> None:
        """Ends the connections and what runs beside them."""
        self._is_closing = True
        for line in self._lines:
            line.stop()
        if self._feed is not None:
            self._snapshots.reset(range(len(self._feed.sync)))
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._source.close()

    def on_close(self) -> None:
        """Keeps the memory: it is unmapped with the process."""
