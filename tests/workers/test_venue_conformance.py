"""What every venue must do, whoever speaks to it: a real ingest agent at the built-in exchange."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from config.settings import ExchangeSettings, MarketSettings, RingSettings, VenueSettings
from engine.book import UPDATE_ID as BOOK_ID
from engine.book import apply_row, levels, new_book
from engine.instruments import Instrument
from engine.records import (
    ASK_TICKS,
    BID_TICKS,
    DEPTH_LAST,
    STATE,
    TRADE_ID,
    TRADE_TICKS,
    UPDATE_ID,
    BookState,
    Kind,
    Side,
    flags_of,
    instrument_of,
    kind_of,
)
from engine.venues import CCXT_PREFIX, SPOT, Market, market_of
from shm.segment import Words
from tests.workers.ingest_rig import Rig, on_a_loop, plans
from tests.workers.observed_run import observed_run, small_settings
from tests.workers.small_venue import until
from tests.workers.test_book_truth import Book, Truth, hasten
from tests.workers.test_ccxtsession import pointed
from workers.agent import Phase
from workers.exchange.instruments import known_instrument
from workers.exchange.server import ExchangeServer
from workers.ingest_ccxt import CcxtSource
from workers.ingest_instruments import InstrumentError

SYMBOLS = ("BTCUSDT", "ETHUSDT")
STREAMS = ("bookTicker", "trade", "depth@100ms")
STEP_MS = 50  # between depth frames, instead of the market's own 100 ms
STALE, GONE, SYNCED = BookState.STALE_START, BookState.STALE_DISCONNECTED, BookState.SYNCED

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # ccxt's own warnings


class Venue:
    """The built-in exchange as a venue that can go away and come back on the same port."""

    def __init__(self, kind: str) -> None:
        self.kind, self.port = kind, 0
        self.market: Market = SPOT if self.is_ccxt else market_of(kind)
        self._server: ExchangeServer | None = None

    @property
    def is_ccxt(self) -> bool:
        return self.kind.startswith(CCXT_PREFIX)

    @property
    def server(self) -> ExchangeServer:
        assert self._server is not None
        return self._server

    async def open(self) -> None:
        settings = ExchangeSettings(rate_per_s=150, port=self.port)
        wanted = MarketSettings(symbols=SYMBOLS)
        self._server = ExchangeServer(settings, wanted, keys={}, venue=self.market)
        self.port = await self._server.open()

    async def close(self) -> None:
        await self.server.close()

    def say(self, stream: str, payload: bytes) -> None:
        """Sends a payload of a stream to everybody who listens."""
        exchange = self.server._exchange
        assert exchange is not None
        exchange.hub.channel(stream).publish(payload)

    def connections(self) -> int:
        """Answers how many stream connections there have been."""
        exchange = self.server._exchange
        assert exchange is not None
        return exchange.hub.opened


@pytest.fixture(params=["binance-spot", "binance-usdm", "ccxt:binance"])
def venue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Venue:
    hasten(monkeypatch, STEP_MS)
    monkeypatch.setattr("workers.ccxtsession.FAULT_WAIT_S", 0.01)
    monkeypatch.setattr("workers.ccxtsession.FAULTS_MAX", 3)  # ccxt itself waits ever longer
    return Venue(request.param)


class Living:
    """A venue that is up, and an agent that listens to it."""

    def __init__(self, venue: Venue, rig: Rig) -> None:
        self.venue, self.rig = venue, rig

    @property
    def instrument(self) -> Instrument:
        return self.rig.memory.instruments()[0]

    def of(self, kind: Kind, symbol: int = 0) -> list[Words]:
        return [
            row for row in self.rig.seen if kind_of(row) == kind and instrument_of(row) == symbol
        ]

    def states(self, symbol: int) -> list[BookState]:
        return [BookState(int(row[STATE])) for row in self.of(Kind.BOOK_STATE, symbol)]

    async def until_states(self, state: BookState) -> None:
        """Steps until every book was last told to be in a state."""
        await until(
            lambda: all(self.states(n)[-1:] == [state] for n in range(len(SYMBOLS))), self.rig.step
        )

    async def until_more(self, kind: Kind, count: int) -> None:
        """Steps until `count` more records of a kind have come."""
        wanted = len(self.of(kind)) + count
        await until(lambda: len(self.of(kind)) >= wanted, self.rig.step)


@asynccontextmanager
async def living(
    venue: Venue,
    prefix: str,
    folder: Path,
    symbols: tuple[str, ...] = SYMBOLS,
    *,
    is_there: bool = True,
) -> AsyncIterator[Living]:
    await venue.open()
    if not is_there:
        await venue.close()
    base = f"127.0.0.1:{venue.port}"
    settings = small_settings(
        prefix,
        market=MarketSettings(symbols=symbols, streams=STREAMS, silence_ms_max=600_000),
        venue=VenueSettings(
            kind=venue.kind, rest_url=f"http://{base}", stream_url=f"ws://{base}",
            reconnect_ms=1, reconnect_ms_max=8,
        ),
        rings=RingSettings(market=4_096, decisions=64, log=256),
    )  # fmt: skip
    try:
        with observed_run(settings, folder, *plans(settings, "ingest.0")) as memory:  # type: ignore[arg-type]
            rig = Rig(memory)
            if venue.is_ccxt:
                source = CcxtSource(rig.context, pointed(venue.port, watches=True))
                rig.agent._make_source = lambda: source  # type: ignore[method-assign]
            try:
                await rig.start()
                yield Living(venue, rig)
            finally:
                await rig.agent.close()
                rig.agent.on_close()
    finally:
        await venue.close()


def test_instruments_are_learnt_exactly(venue: Venue, segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with living(venue, segment_prefix, tmp_path) as live:
            found = live.rig.memory.instruments()
            assert [one.index for one in found] == [0, 1]
            for one, name in zip(found, SYMBOLS, strict=True):
                true = known_instrument(name)
                assert (one.symbol, one.base, one.quote) == (name, true.base, true.quote)
                assert one.trading
                assert one.tick == Decimal(true.price_text(1))
                lot = Decimal(true.quantity_text(1))
                assert one.quantity(one.quantity_step_lots) == lot
                assert one.quantity(one.quantity_lots_min) == lot
                least = Decimal(true.value_units_min).scaleb(-8)
                assert 0 <= one.notional_min * one.tick * one.lot - least < one.tick * one.lot

    on_a_loop(test)


def test_a_symbol_that_the_venue_does_not_list_is_one_line(
    venue: Venue, segment_prefix: str, tmp_path: Path
) -> None:
    async def test() -> None:
        with pytest.raises(InstrumentError, match="NOBODYUSDT") as wrong:
            async with living(venue, segment_prefix, tmp_path, ("BTCUSDT", "NOBODYUSDT")):
                pass
        assert len(str(wrong.value).splitlines()) == 1

    on_a_loop(test)


def test_a_venue_that_is_not_there_is_asked_a_few_times_and_then_named_in_one_line(
    venue: Venue, segment_prefix: str, tmp_path: Path
) -> None:
    async def test() -> None:
        with pytest.raises(ConnectionError) as wrong:
            async with living(venue, segment_prefix, tmp_path, is_there=False):
                pass
        assert len(str(wrong.value).splitlines()) == 1
        assert "must" in str(wrong.value)

    on_a_loop(test)


def test_books_begin_stale_and_become_synced_once(
    venue: Venue, segment_prefix: str, tmp_path: Path
) -> None:
    async def test() -> None:
        async with living(venue, segment_prefix, tmp_path) as live:
            await live.until_states(SYNCED)
            await live.until_more(Kind.DEPTH, 20)
            assert [live.states(n) for n in range(len(SYMBOLS))] == [[STALE, SYNCED]] * 2

    on_a_loop(test)


class Reader:
    """Follows one book and holds it, whenever it is whole, against those the exchange had."""

    def __init__(self, live: Living, truth: Truth) -> None:
        self._live, self._truth = live, truth
        self._book, self._taken = new_book(5_000), len(live.rig.seen)
        self._is_synced = False
        self.checked = 0

    def step(self) -> None:
        self._live.rig.step()
        rows = self._live.rig.seen
        for row in rows[self._taken :]:
            if instrument_of(row) == 0:
                self._take(row)
        self._taken = len(rows)

    def _take(self, row: Words) -> None:
        kind = kind_of(row)
        if kind == Kind.DEPTH:
            apply_row(self._book, row)
        if kind == Kind.BOOK_STATE:
            self._is_synced = row[STATE] == SYNCED
        is_whole = kind == Kind.BOOK_STATE or (kind == Kind.DEPTH and flags_of(row) & DEPTH_LAST)
        if self._is_synced and is_whole:
            self._check(self._mine())

    def _mine(self) -> Book:
        one = self._live.instrument
        bids, asks = (
            {one.price(ticks): one.quantity(lots) for ticks, lots in levels(self._book, int(side))}
            for side in (Side.BUY, Side.SELL)
        )
        return bids, asks

    def _check(self, mine: Book) -> None:
        books = self._truth.books
        if self._live.venue.is_ccxt:  # the update ids are our own
            assert mine in books.values()
        else:
            assert mine == books[int(self._book[BOOK_ID])]
        self.checked += 1


def test_a_synced_book_is_one_that_the_exchange_had(
    venue: Venue, segment_prefix: str, tmp_path: Path
) -> None:
    async def test() -> None:
        async with living(venue, segment_prefix, tmp_path) as live:
            reader = Reader(live, Truth(venue.server))
            await until(lambda: reader.checked >= 20, reader.step)

    on_a_loop(test)


def test_quotes_are_never_crossed_and_have_rising_ids(
    venue: Venue, segment_prefix: str, tmp_path: Path
) -> None:
    async def test() -> None:
        async with living(venue, segment_prefix, tmp_path) as live:
            await live.until_more(Kind.QUOTE, 50)
            await venue.close()
            await live.until_states(GONE)
            await venue.open()
            await live.until_more(Kind.QUOTE, 50)

            quotes = live.of(Kind.QUOTE)
            ids = [int(row[UPDATE_ID]) for row in quotes]
            assert ids == sorted(set(ids))
            assert all(0 < row[BID_TICKS] < row[ASK_TICKS] for row in quotes)

    on_a_loop(test)


def test_trades_come_once_and_rise_by_id(venue: Venue, segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with living(venue, segment_prefix, tmp_path) as live:
            await live.until_more(Kind.TRADE, 10)
            await venue.close()
            await live.until_states(GONE)
            await venue.open()
            await live.until_more(Kind.TRADE, 10)

            ids = [int(row[TRADE_ID]) for row in live.of(Kind.TRADE)]
            assert ids == sorted(set(ids))

    on_a_loop(test)


def test_a_venue_that_goes_away_makes_every_book_stale_until_it_is_back(
    venue: Venue, segment_prefix: str, tmp_path: Path
) -> None:
    async def test() -> None:
        async with living(venue, segment_prefix, tmp_path) as live:
            await live.until_states(SYNCED)
            await venue.close()
            await live.until_states(GONE)
            assert live.rig.counter("ingest_reconnects_total") >= 1
            before = len(live.of(Kind.DEPTH))
            await venue.open()
            reader = Reader(live, Truth(venue.server))
            await until(lambda: reader.checked >= 3, reader.step)

            assert len(live.of(Kind.DEPTH)) > before
            await live.until_states(SYNCED)

    on_a_loop(test)


def test_a_price_off_the_grid_is_rejected_and_never_rounded(
    venue: Venue, segment_prefix: str, tmp_path: Path
) -> None:
    number = 1 << 49  # beyond the exchange's own
    now_ms = time.time_ns() // 1_000_000

    def trade(trade_id: int, price: str) -> bytes:
        data = {
            "e": "trade", "E": now_ms, "T": now_ms, "s": "BTCUSDT",
            "t": trade_id, "p": price, "q": "0.00100", "X": "MARKET", "m": True, "M": True,
        }  # fmt: skip
        return json.dumps(data, separators=(",", ":")).encode()

    async def test() -> None:
        async with living(venue, segment_prefix, tmp_path) as live:
            await live.until_states(SYNCED)
            await live.until_more(Kind.TRADE, 1)
            venue.say("btcusdt@trade", trade(number, "60000.005"))
            venue.say("btcusdt@trade", trade(number + 1, "60000.01"))
            await until(
                lambda: (
                    any(row[TRADE_ID] == number + 1 for row in live.of(Kind.TRADE))
                    and live.rig.counter("ingest_rejected_frames_total") == 1
                ),
                live.rig.step,
            )

            found = {int(row[TRADE_ID]): int(row[TRADE_TICKS]) for row in live.of(Kind.TRADE)}
            assert number not in found
            assert found[number + 1] == 6_000_001
            assert live.states(0)[-1] == SYNCED

    on_a_loop(test)


def test_an_agent_that_stops_ends_its_tasks_and_connects_no_more(
    venue: Venue, segment_prefix: str, tmp_path: Path
) -> None:
    async def test() -> None:
        async with living(venue, segment_prefix, tmp_path) as live:
            await live.until_states(SYNCED)
            agent = live.rig.agent
            done = [False]

            def step() -> None:
                live.rig.step()
                done[0] = agent.on_phase(Phase.CLOSE)

            await until(lambda: done[0], step)
            await until(lambda: all(task.done() for task in agent._tasks), live.rig.step)
            assert [task.exception() for task in agent._tasks] == [None] * len(agent._tasks)
            opened = venue.connections()
            await until(lambda: venue.server.counts["connections"] == 0, live.rig.step)
            await agent.close()
            assert venue.connections() == opened
            current = asyncio.current_task()
            left = [task for task in asyncio.all_tasks() if task is not current]
            assert not [task for task in left if "workers/ingest" in str(task.get_coro())]
            assert live.states(0) == [STALE, SYNCED]

    on_a_loop(test)
