"""workers room: market data from any venue of ccxt's, slower, by the same record path."""

from __future__ import annotations

import asyncio
import time

from engine.codec_feed import Feed
from engine.instruments import Instrument
from workers.ccxtsession import CcxtSession, Client
from workers.context import AgentContext
from workers.ingest_backoff import Backoff
from workers.ingest_instruments import InstrumentError
from workers.ingest_line import AnyLine, LinePlan, Owner
from workers.ingest_native import backoff_of, books_of_names
from workers.rest import Answer, RestError


class CcxtSource:
    """One venue of ccxt's; see `workers.ingest_native.Source`. Called by: one event loop."""

    def __init__(self, context: AgentContext, client: Client | None = None) -> None:
        """Binds ccxt's client of `[venue] kind`, or a given one."""
        self._context, self._client = context, client
        self._line: CcxtLine | None = None

    def make(self, symbols: tuple[str, ...]) -> CcxtSession:
        """Makes a session; raises InstrumentError when ccxt or the venue is not there."""
        settings = self._context.settings
        try:
            return CcxtSession(settings.venue.kind, symbols, settings.market.streams, self._client)
        except ValueError as error:
            raise InstrumentError(str(error)) from None

    async def learn(self, symbols: tuple[str, ...]) -> tuple[Instrument, ...]:
        """Answers the instruments; raises ConnectionError, InstrumentError."""
        session = self.make(symbols)
        try:
            await session.open()
            return session.instruments()
        except ValueError as error:
            raise InstrumentError(str(error)) from None
        finally:
            if self._client is None:
                await session.close()

    async def get(self, path: str, **parameters: str) -> Answer:
        """Answers the last whole book as a snapshot; raises RestError before there is one."""
        del path
        session = self._line.ccxt if self._line is not None else None
        if session is None:
            raise RestError("ccxt must be connected")
        try:
            return Answer(session.snapshot(parameters["symbol"]), time.monotonic_ns())
        except LookupError as error:
            raise RestError(str(error)) from None

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
            ConnectionError, ValueError: the venue sent what cannot be read exactly.
        """
        symbols = tuple(instrument.symbol for instrument in self._feed.plan.instruments)
        while not self._is_ending:
            session = self._source.make(symbols)
            self._ended.clear()
            why = ""
            try:
                await session.open()
                self._feed.unfence(self.plan.names)
                self.ccxt = session
                self._owner.connected(self)
                self.is_connected.set()
                await self._until_end(session)
            except ConnectionError as error:
                why = str(error)
            finally:
                self.ccxt = None
                await session.close()
            if not self._is_ending:
                await self._owner.lost(self, why)

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
