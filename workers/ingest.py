"""workers room: the agent that brings market data in: sockets in, market records out.

    venue socket -> MarketSession -> batch -> one compiled decode -> market ring K
    venue REST   -> Snapshots     -------------^

The duty cycle flushes the batch when its window is over, installs snapshots that have come, asks
for those that are wanted, and looks for silence. Reconnecting runs beside it as one task. When the
ring is full, the rest of the batch waits and the socket is not read: nothing is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic_ns

import msgspec
import numpy as np
from picows import WSError

from config.settings import Settings
from config.topology import is_exchange_embedded, symbols
from engine import codec_feed
from engine.book import LEVELS_MAX
from engine.codec_feed import FRAMES_MAX, Feed, FeedMemory, FeedPlan
from engine.codec_layout import DONE, DUE, FULL, PATH_WORDS, STATUS, WINDOW_NS
from engine.instruments import Instrument
from engine.records import BookState
from workers.agent import Phase, SegmentPlan
from workers.books import TOPS_PLAN, books_name, books_of, books_plan, tops_of
from workers.chain import Stage
from workers.context import AgentContext
from workers.endpoints import Endpoints, endpoints
from workers.ingest_backoff import Backoff
from workers.ingest_instruments import (
    INSTRUMENT_TABLE_WORDS,
    INSTRUMENTS_PLAN,
    SPARE_DECIMALS,
    instruments_of,
    write_instruments,
)
from workers.ingest_snapshots import Snapshots
from workers.ingest_stage import decode_due
from workers.marketsession import MarketSession
from workers.rest import Rest

INFO_PATH = "/api/v3/exchangeInfo"
OPEN_TRIES_MAX = 8
SILENCE_CHECK_NS = 50_000_000
CLOSE_NS_MAX = 2_000_000_000  # the drain of a socket may take this long
OWED_MAX = 4  # states to tell; a connection adds two at most and ends before the next begins
_NS_PER_MS = 1_000_000
_GONE = BookState.STALE_DISCONNECTED


def warm() -> None:
    """Compiles the market data path, on scratch memory."""
    codec_feed.warm()
    decode_due(int(np.zeros(PATH_WORDS, np.int64).ctypes.data))


class IngestAgent:
    """ingest.K: one connection, its symbols, one market ring."""

    def __init__(self, context: AgentContext) -> None:
        self.role_name = context.agent
        self._context = context
        self._settings: Settings = context.settings
        self._number = int(context.agent.partition(".")[2])
        market = context.settings.market
        self._window_ns = market.batch_window_ms * _NS_PER_MS
        self._has_depth = any(stream.startswith("depth") for stream in market.streams)
        self._reconnects = context.stats.counter("ingest_reconnects_total")
        venue = context.settings.venue
        self._backoff = Backoff(venue.reconnect_ms, venue.reconnect_ms_max)
        self._feed: Feed | None = None
        self._session: MarketSession | None = None
        self._silence_ns = 0
        self._close_ns = 0
        self._is_closing = False
        self._owed: deque[BookState] = deque(maxlen=OWED_MAX)
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
        venue = await self._find_venue()
        self._rest = Rest(venue.rest_url, self._settings.venue.request_ms_max / 1000)
        known = await self._learn_instruments()
        self._feed = feed = self._make_feed(known)
        feed.words[WINDOW_NS] = self._window_ns
        self._snapshots = Snapshots(feed, self._rest, self._settings, self._context.wake)
        self._snapshots.watch(self._context.stats, self._context.logger)
        feed.clear_books()
        self._owe(BookState.STALE_START)
        self._url = f"{venue.stream_url}/stream?streams={'/'.join(feed.names)}"
        self._is_connected = asyncio.Event()
        self._living = asyncio.get_running_loop().create_task(self._live(feed))
        waiting = asyncio.get_running_loop().create_task(self._is_connected.wait())
        await asyncio.wait({self._living, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if self._living.done():
            waiting.cancel()
            self._living.result()
        self._snapshots.request(monotonic_ns())

    async def _find_venue(self) -> Endpoints:
        for _ in range(OPEN_TRIES_MAX):
            try:
                return endpoints(self._context)
            except ConnectionError:
                await asyncio.sleep(self._backoff.next_s())
        return endpoints(self._context)

    async def _learn_instruments(self) -> tuple[Instrument, ...]:
        """Asks the venue for the grids of all symbols; ingest.0 tells the other workers."""
        wanted = self._settings.market.symbols
        spare = 0 if is_exchange_embedded(self._settings) else SPARE_DECIMALS
        known = instruments_of(await self._ask_info(wanted), wanted, spare)
        if self._number == 0:
            cell = self._context.segment(INSTRUMENTS_PLAN.name)
            write_instruments(cell.words(0, INSTRUMENT_TABLE_WORDS), known)
        return known

    async def _ask_info(self, wanted: tuple[str, ...]) -> bytes:
        listed = msgspec.json.encode(wanted).decode()
        self._backoff.reset()
        while self._backoff.tries < OPEN_TRIES_MAX:
            try:
                return (await self._rest.get(INFO_PATH, symbols=listed)).body
            except ConnectionError as error:
                self._context.logger.warning("venue not reached", error=str(error))
                self._context.stats.error(str(error))  # the supervisor shows it while we try on
                await asyncio.sleep(self._backoff.next_s())
        self._backoff.reset()
        return (await self._rest.get(INFO_PATH, symbols=listed)).body

    def _make_feed(self, known: tuple[Instrument, ...]) -> Feed:
        market = self._settings.market
        own = tuple(instrument for instrument in known if instrument.symbol in self._slots)
        silence_ns = market.silence_ms_max * _NS_PER_MS if self._has_depth else 1 << 62
        hold_ns = self._settings.venue.request_ms_max * _NS_PER_MS
        plan = FeedPlan(own, market.streams, self._number, LEVELS_MAX, silence_ns, hold_ns)
        return Feed(plan, self._memory, self._producer, self._context.stats)

    async def _live(self, feed: Feed) -> None:
        """Keeps a connection for as long as the agent lives."""
        idle_s = max(1.0, self._settings.market.silence_ms_max / 1000)
        while not self._is_closing:
            self._session = session = MarketSession(feed, self._wake, self._flush)
            try:
                await session.connect(self._url, idle_s)
            except (OSError, WSError, TimeoutError) as error:
                self._context.logger.warning("stream not reached", error=str(error))
                self._context.stats.error(f"the stream must be reachable: {error}")
                if not self._is_connected.is_set() and self._backoff.tries >= OPEN_TRIES_MAX:
                    raise ConnectionError(f"the stream must be reachable: {error}") from None
                await asyncio.sleep(self._backoff.next_s())
                continue
            self._start_books(feed)
            self._is_connected.set()
            await self._after_disconnect(feed, session, await session.ended())

    def _start_books(self, feed: Feed) -> None:
        self._context.logger.info("stream connected", streams=len(feed.names))
        if self._has_depth:
            feed.want_all()
        else:
            self._owe(BookState.SYNCED)

    async def _after_disconnect(self, feed: Feed, session: MarketSession, why: str) -> None:
        """Decodes what has been read, then tells everybody, then waits before the next try."""
        if self._is_closing:
            return
        self._context.logger.warning("stream lost", why=why, overflows=session.overflow_count)
        self._snapshots.reset()
        self._owe(_GONE)
        await self._is_told.wait()
        self._reconnects.add()
        if not feed.is_shutdown_told:  # then the venue wants us to come back at once
            await asyncio.sleep(self._backoff.next_s())
        feed.is_shutdown_told = False

    def _owe(self, state: BookState) -> None:
        """Notes a state that every book is to be told to be in, as soon as the ring has room."""
        self._owed.append(state)
        if self._feed is not None:
            self._feed.words[DUE] = 0  # what is owed comes before the frames that follow
        self._is_told.clear()

    def _tell_owed(self, feed: Feed, now_ns: int) -> bool:
        """Tells the states that are owed, in order; False while one is left.

        A disconnection comes behind the frames that were read before it.
        """
        while self._owed:
            is_early = self._owed[0] == _GONE and feed.count > 0
            if is_early or feed.announce(self._owed[0], now_ns) == FULL:
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
        if feed is None:
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
        elif self._is_open():
            self._snapshots.request(now_ns)
        return work

    def _is_open(self) -> bool:
        return self._session is not None and self._session.is_open

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
        is_told = not self._owed or self._tell_owed(feed, now_ns) or self._owed[0] == _GONE
        self._hold_back(is_told and feed.decode(now_ns) == DONE)
        return waiting - feed.waiting

    def _hold_back(self, is_done: bool) -> None:  # noqa: FBT001 - the one thing it is told
        """Reads the socket while batches are taken whole, and not while the ring is full."""
        session = self._session
        if session is not None:
            if is_done:
                session.resume()
            else:
                session.pause()

    def _look_around(self, feed: Feed, now_ns: int) -> None:
        """Does what is due now and then: silence, a venue that says goodbye, hopeless books."""
        feed.announce_silent(now_ns)
        if self._living.done() and not self._is_closing:
            self._living.result()  # raises: better a new process than one that hears nothing
        if self._session is None or not self._session.is_open:
            return
        if feed.is_synced:
            self._backoff.reset()
        if feed.is_shutdown_told or self._snapshots.is_exhausted:
            self._session.disconnect()

    def on_phase(self, phase: Phase) -> bool:
        """From CLOSE on, reads until the venue has answered a last ping, and flushes, once.

        Later phases ask the same of a worker that died in between: it must not bring more in.
        """
        if phase < Phase.CLOSE or self._feed is None:
            return True
        now_ns = monotonic_ns()
        session = self._session
        if not self._is_closing:
            self._is_closing = True
            self._close_ns = now_ns + CLOSE_NS_MAX
            if session is not None:
                session.drain()
        self._flush()
        is_drained = session is None or session.is_drained or not session.is_open
        is_done = is_drained and not self._feed.count and not self._snapshots.is_busy
        if not is_done and now_ns < self._close_ns:
            return False
        if not is_done:
            self._context.logger.error("socket not drained in time", frames=self._feed.waiting)
        if session is not None:
            session.disconnect()
        return True

    async def close(self) -> None:
        """Ends the connection and what runs beside it."""
        self._is_closing = True
        if self._session is not None:
            self._session.disconnect()
        if self._feed is not None:
            self._snapshots.reset()
            self._living.cancel()
            await asyncio.gather(self._living, return_exceptions=True)
            self._rest.close()

    def on_close(self) -> None:
        """Keeps the memory: it is unmapped with the process."""
