"""workers room: market data from any venue of ccxt's, slower, by the same record path."""

from __future__ import annotations

import asyncio
import time

from engine.codec_feed import Feed
from engine.instruments import Instrument
from workers.ccxtsession import CcxtSession, Client, Seen
from workers.context import AgentContext
from workers.ingest_backoff import Backoff
from workers.ingest_instruments import InstrumentError
from workers.ingest_line import OPEN_TRIES_MAX, AnyLine, LinePlan, Owner
from workers.ingest_native import backoff_of, books_of_names
from workers.rest import Answer, RestError


class CcxtSource:
    """One venue of ccxt's; see `workers.ingest_native.Source`. Called by: one event loop."""

    def __init__(self, context: AgentContext, client: Client | None = None) -> None:
        """Binds ccxt's client of `[venue] kind`, or a given one."""
        self._context, self._client = context, client
        self._line: CcxtLine | None = None
        self._seen: Seen = {}

    def make(self, symbols: tuple[str, ...]) -> CcxtSession:
        """Makes a session; raises InstrumentError when ccxt or the venue is not there."""
        settings = self._context.settings
        try:
            return CcxtSession(
                settings.venue.kind, symbols, settings.market.streams, self._client, self._seen
            )
        except ValueError as error:
            raise InstrumentError(str(error)) from None

    async def learn(self, symbols: tuple[str, ...]) -> tuple[Instrument, ...]:
        """Answers the instruments.

        Raises:
            ConnectionError: the venue could not be reached in OPEN_TRIES_MAX tries.
            InstrumentError: the venue does not list a symbol, or not with a grid.
        """
        backoff = backoff_of(self._context)
        while True:
            try:
                return await self._learn_once(symbols)
            except ConnectionError as error:
                if backoff.tries >= OPEN_TRIES_MAX:
                    raise
                self._context.logger.warning("venue not reached", error=str(error))
                self._context.stats.error(str(error))
                await asyncio.sleep(backoff.next_s())

    async def _learn_once(self, symbols: tuple[str, ...]) -> tuple[Instrument, ...]:
        session = self.make(symbols)
        try:
            await session.open()
            return session.instruments()
        except ValueError as error:
            raise InstrumentError(str(error)) from None
        finally:
            await session.close()  # ccxt opens its client again when the line uses it

    async def get(self, path: str, **parameters: str) -> Answer:
        """Answers the last whole book as a snapshot, once there is one.

        Raises:
            RestError: ccxt is not connected.
        """
        del path
        session = self._line.ccxt if self._line is not None else None
        if session is None:
            raise RestError("ccxt must be connected")
        symbol = parameters["symbol"]
        await session.whole(symbol)  # cancelled by the agent when the line is lost
        return Answer(session.snapshot(symbol), time.monotonic_ns())

    def lines(self, feed: Feed, owner: Owner) -> tuple[AnyLine, ...]:
        """Makes the one line that carries everything."""
        names = frozenset(feed.names)
        plan = LinePlan("ccxt", names, books_of_names(feed, names), 0.0, 0.0, 0.0, 0.0)
        self._line = CcxtLine(self, feed, plan, owner, backoff_of(self._context))
        return (self._line,)

    def close(self) -> None:
        """Nothing waits beside the line."""


class CcxtLine:
    """One ccxt session after another; ccxt keeps its own connections."""

    session = None  # no socket of ours that could be held back

    def __init__(
        self, source: CcxtSource, feed: Feed, plan: LinePlan, owner: Owner, backoff: Backoff
    ) -> None:
        self.plan, self.backoff = plan, backoff
        self._source, self._feed, self._owner = source, feed, owner
        self.is_connected = asyncio.Event()
        self.ccxt: CcxtSession | None = None
        self._is_ending = False
        self._ended = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Says whether frames may come."""
        return self.ccxt is not None

    def rotate(self) -> None:
        """Nothing to do: ccxt renews its connections itself."""

    def disconnect(self) -> None:
        """Ends the session; another one is made."""
        self._ended.set()

    def stop(self) -> None:
        """Ends the session for good."""
        self._is_ending = True
        self.disconnect()

    async def run(self) -> None:
        """Keeps a session up until it is stopped or cancelled.

        Raises:
            ConnectionError: the venue was never reached in OPEN_TRIES_MAX tries.
            ValueError: a book of the venue's cannot be read exactly.
        """
        symbols = tuple(instrument.symbol for instrument in self._feed.plan.instruments)
        while not self._is_ending:
            session = self._source.make(symbols)
            self._ended.clear()
            why: str | None = None
            try:
                if await self._open(session):
                    why = await self._serve(session)
            finally:
                self.ccxt = None
                await session.close()
            if why is not None and not self._is_ending:
                await self._owner.lost(self, why)

    async def _open(self, session: CcxtSession) -> bool:
        """Opens a session; False when the venue could not be reached, after a wait."""
        try:
            await session.open()
        except ConnectionError as error:
            self._owner.logger.warning("stream not reached", error=str(error))
            if not self.is_connected.is_set() and self.backoff.tries >= OPEN_TRIES_MAX:
                raise
            await asyncio.sleep(self.backoff.next_s())
            return False
        return True

    async def _serve(self, session: CcxtSession) -> str:
        """Stays while the session is well; answers why it ended."""
        self._feed.unfence(self.plan.names)
        self.ccxt = session
        self._owner.connected(self)
        self.is_connected.set()
        try:
            await self._until_end(session)
        except ConnectionError as error:
            return str(error)
        return ""

    async def _until_end(self, session: CcxtSession) -> None:
        running = asyncio.create_task(session.run(self._take))
        ending = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            running.cancel()
            ending.cancel()
            await asyncio.gather(running, ending, return_exceptions=True)

    def _take(self, frame: bytes) -> None:
        """Takes a frame into the batch."""
        was_empty = not self._feed.count
        if not self._feed.append(frame, time.monotonic_ns()):
            self._owner.flush()
            if not self._feed.append(frame, time.monotonic_ns()):
                raise ConnectionError("the batch must have room for a frame")
        if was_empty:
            self._owner.wake()
