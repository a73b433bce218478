"""workers room: where an ingest agent's data come from: a venue whose protocol we speak.

A source learns the instruments, answers snapshots and makes the lines. workers/ingest_ccxt.py is
the other one.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol

import msgspec

from config.topology import is_exchange_embedded
from engine.codec_feed import Feed
from engine.instruments import Instrument
from engine.venues import market_of
from workers.context import AgentContext
from workers.endpoints import Endpoints, endpoints
from workers.ingest_backoff import Backoff
from workers.ingest_instruments import SPARE_DECIMALS, InstrumentError, instruments_of
from workers.ingest_line import OPEN_TRIES_MAX, AnyLine, Line, LinePlan, Owner
from workers.rest import Answer, Rest, RestError


class Source(Protocol):
    """What an ingest agent asks of a venue."""

    async def learn(self, symbols: tuple[str, ...]) -> tuple[Instrument, ...]:
        """Answers the instruments by index; raises ConnectionError, InstrumentError."""

    async def get(self, path: str, **parameters: str) -> Answer:
        """Answers a request, for depth snapshots; raises RestError."""

    def lines(self, feed: Feed, owner: Owner) -> tuple[AnyLine, ...]:
        """Makes the lines that bring the feed's streams."""

    def close(self) -> None:
        """Gives up what still waits."""


def backoff_of(context: AgentContext) -> Backoff:
    """Answers the delays between tries, as configured."""
    venue = context.settings.venue
    return Backoff(venue.reconnect_ms, venue.reconnect_ms_max)


def books_of_names(feed: Feed, names: frozenset[str]) -> tuple[int, ...]:
    """Answers the slots whose book hangs on one of these streams."""
    has_depth = any(stream.startswith("depth") for stream in feed.plan.streams)
    needed = "depth" if has_depth else "bookTicker"
    return tuple(
        slot
        for slot, instrument in enumerate(feed.plan.instruments)
        if any(name.startswith(f"{instrument.symbol.lower()}@{needed}") for name in names)
    )


class NativeSource:
    """The built-in exchange or a configured venue. Called by: one event loop."""

    def __init__(self, context: AgentContext) -> None:
        self._context = context
        self._market = market_of(context.settings.venue.kind)
        self._backoff = backoff_of(context)
        self._rest: Rest | None = None
        self._stream_url = ""

    async def learn(self, symbols: tuple[str, ...]) -> tuple[Instrument, ...]:
        """Asks the venue for the grids of all symbols.

        Raises:
            ConnectionError: the venue could not be reached in OPEN_TRIES_MAX tries.
            InstrumentError: the venue does not list a symbol.
        """
        settings = self._context.settings
        venue = await self._find_venue()
        self._stream_url = venue.stream_url
        self._rest = Rest(venue.rest_url, settings.venue.request_ms_max / 1000)
        spare = 0 if is_exchange_embedded(settings) else SPARE_DECIMALS
        return instruments_of(await self._ask_info(symbols), symbols, spare)

    async def _find_venue(self) -> Endpoints:
        for _ in range(OPEN_TRIES_MAX):
            try:
                return endpoints(self._context)
            except ConnectionError:
                await asyncio.sleep(self._backoff.next_s())
        return endpoints(self._context)

    async def _ask_info(self, wanted: tuple[str, ...]) -> bytes:
        listed = msgspec.json.encode(wanted).decode()
        self._backoff.reset()
        while self._backoff.tries < OPEN_TRIES_MAX:
            try:
                return await self._ask_once(listed)
            except ConnectionError as error:
                self._context.logger.warning("venue not reached", error=str(error))
                self._context.stats.error(str(error))  # the supervisor shows it while we try on
                wait_s = error.retry_after_s if isinstance(error, RestError) else 0.0
                await asyncio.sleep(max(wait_s, self._backoff.next_s()))
        self._backoff.reset()
        return await self._ask_once(listed)

    async def _ask_once(self, listed: str) -> bytes:
        try:
            return (await self.get(self._market.info_path, symbols=listed)).body
        except RestError as error:
            if error.status != HTTPStatus.BAD_REQUEST:
                raise
            raise InstrumentError(  # asking again would not help
                f"the venue must list every symbol: symbols={listed} error={error}"
            ) from None

    async def get(self, path: str, **parameters: str) -> Answer:
        """Gets `path`; raises RestError."""
        assert self._rest is not None, "asked after learn"
        return await self._rest.get(path, **parameters)

    def lines(self, feed: Feed, owner: Owner) -> tuple[AnyLine, ...]:
        """Makes the lines of the market's addresses."""
        venue = self._context.settings.venue
        symbols = [instrument.symbol for instrument in feed.plan.instruments]
        made = []
        for url in self._market.urls(self._stream_url, symbols, feed.plan.streams):
            names = frozenset(url.partition("streams=")[2].partition("&")[0].split("/"))
            plan = LinePlan(
                url, names, books_of_names(feed, names), max(1.0, venue.silence_s_max / 2),
                venue.first_frame_s_max, venue.silence_s_max, venue.connection_s_max,
            )  # fmt: skip
            made.append(Line(feed, plan, owner, backoff_of(self._context)))
        return tuple(made)

    def close(self) -> None:
        """Gives up what still waits."""
        if self._rest is not None:
            self._rest.close()
