"""What the exchange sends at the addresses that the engine asks for, read by the engine's codec."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
import uvloop
import websockets

from config.settings import ExchangeSettings
from engine.book import UPDATE_ID, levels
from engine.codec_layout import DONE
from engine.instruments import Instrument
from engine.matching import BUY, SELL
from engine.records import BookState, Kind, Side, kind_of
from engine.venues import SPOT, USDM, Market
from shm.segment import Words
from tests.engine.scratch_feed import Scratch, fields, scratch_feed
from tests.workers.exchange.clients import BITCOIN, get
from tests.workers.exchange.test_playback import read_all
from workers.exchange.server import ExchangeServer
from workers.ingest_instruments import instruments_of

pytestmark = pytest.mark.slow  # the periods of a second and more
LIVELY = ExchangeSettings(rate_per_s=40.0)
EPOCH_NS = 1_700_000_000_123_456_789
NS_PER_MS = 1_000_000
SPEED = 10  # so much faster than the world the clock of these exchanges goes
NO_REJECTS = "ingest_rejected_frames_total"
Own = dict[int, tuple[list[tuple[int, int]], ...]]


class FastClock:
    """Epoch time that passes faster, so that periods of seconds are soon over."""

    def __init__(self) -> None:
        self._start_ns = time.monotonic_ns()

    def __call__(self) -> int:
        return EPOCH_NS + SPEED * (time.monotonic_ns() - self._start_ns)


class Heard(NamedTuple):
    """One stream as an engine hears it."""

    instrument: Instrument
    frames: list[bytes]  # as they came
    snapshot: bytes  # asked for after the first of them
    own: Own  # the exchange's own book by update id, bids and asks

    @property
    def data(self) -> list[dict[str, Any]]:
        return [json.loads(frame)["data"] for frame in self.frames]


def hear(venue: Market, stream: str, count: int) -> Heard:
    """Serves a market and listens to one stream at the engine's own address of it.

    Frames come until all but one of `count` are newer than the snapshot.
    """
    own: Own = {}

    def applied(_: str, update_id: int, walk: Callable[[int], Iterator[tuple[int, int]]]) -> None:
        own[update_id] = (list(walk(BUY)), list(walk(SELL)))

    async def run() -> Heard:
        server = ExchangeServer(LIVELY, BITCOIN, keys={}, clock=FastClock(), venue=venue)
        server.applied = applied
        port = await server.open()
        try:
            _, _, info = await get(port, f"{venue.info_path}?symbol=BTCUSDT")
            [instrument] = instruments_of(msgspec.json.encode(info), ("BTCUSDT",), 0)
            [url] = venue.urls(f"ws://127.0.0.1:{port}", ("BTCUSDT",), (stream,))
            async with websockets.connect(url, max_queue=None) as socket:
                frames = await read_all(socket, 1)
                limit = venue.snapshot_levels_max
                path = f"{venue.depth_path}?symbol=BTCUSDT&limit={limit}"
                _, _, snapshot = await get(port, path)
                last_id, newer = snapshot["lastUpdateId"], 0
                while newer < count - 1:
                    frames += await read_all(socket, 1)
                    newer += json.loads(frames[-1])["data"].get("u", last_id + 1) > last_id
            return Heard(instrument, frames, msgspec.json.encode(snapshot), own)
        finally:
            await server.close()

    return uvloop.run(run())


def rows_of(scratch: Scratch, *kinds: Kind) -> list[Words]:
    return [row for row in scratch.rows() if kind_of(row) in kinds]


def none_was_rejected(scratch: Scratch) -> bool:
    return scratch.counts()[NO_REJECTS] == 0 and not scratch.feed.rejected


def units(text: str, decimals: int) -> int:
    whole = Decimal(text).scaleb(decimals)
    assert whole == int(whole)
    return int(whole)


@pytest.mark.parametrize(("stream", "period_ms"), [("markPrice", 3_000), ("markPrice@1s", 1_000)])
def test_mark_prices_come_with_their_period_and_are_exact(
    segment_prefix: str, stream: str, period_ms: int
) -> None:
    heard = hear(USDM, stream, 3)
    with scratch_feed(
        segment_prefix, heard.instrument, streams=(stream,), market=USDM.name
    ) as made:
        made.take(*heard.frames)
        found = [fields(row) for row in rows_of(made, Kind.MARK)]
        assert none_was_rejected(made)

    periods = [data["E"] // period_ms for data in heard.data]
    assert all(later > before for before, later in pairwise(periods))
    assert [row["mark_e8"] for row in found] == [units(data["p"], 8) for data in heard.data]
    assert [row["index_e8"] for row in found] == [units(data["i"], 8) for data in heard.data]
    assert [row["funding_e8"] for row in found] == [units(data["r"], 8) for data in heard.data]
    for row, data in zip(found, heard.data, strict=True):
        assert row["next_funding_ns"] == data["T"] * NS_PER_MS
        assert row["venue_ns"] == data["E"] * NS_PER_MS
        assert 0 < row["next_funding_ns"] - row["venue_ns"] <= 8 * 3_600 * 10**9


@pytest.mark.parametrize(
    ("venue", "stream", "period_ms"),
    [
        (SPOT, "depth@100ms", 100),
        (SPOT, "depth", 1_000),
        (USDM, "depth@0ms", 0),
        (USDM, "depth@100ms", 100),
        (USDM, "depth", 250),
        (USDM, "depth@500ms", 500),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_depth_comes_with_its_period_and_gives_the_exchanges_own_book(
    segment_prefix: str, venue: Market, stream: str, period_ms: int
) -> None:
    heard = hear(venue, stream, 6)
    with scratch_feed(
        segment_prefix, heard.instrument, streams=(stream,), market=venue.name
    ) as made:
        made.take(heard.frames[0])
        assert made.sync(0, heard.snapshot) == (DONE, DONE)
        snapshot_id = json.loads(heard.snapshot)["lastUpdateId"]
        for frame, data in zip(heard.frames[1:], heard.data[1:], strict=True):
            made.take(frame)
            book = made.memory.books[0]
            assert int(book[UPDATE_ID]) == max(data["u"], snapshot_id)
            if data["u"] >= snapshot_id:
                assert (levels(book, Side.BUY), levels(book, Side.SELL)) == heard.own[data["u"]]
        states = [BookState(fields(row)["state"]) for row in rows_of(made, Kind.BOOK_STATE)]
        assert none_was_rejected(made)

    assert heard.data[-1]["u"] > snapshot_id
    assert states == [BookState.STALE_START, BookState.SYNCED]
    scale = 1_000 if venue is SPOT else 1
    if period_ms:
        periods = [data["E"] // (period_ms * scale) for data in heard.data]
        assert all(later > before for before, later in pairwise(periods))


@pytest.mark.parametrize("stream", ["trade", "aggTrade"])
@pytest.mark.parametrize("venue", [SPOT, USDM], ids=["spot", "usdm"])
def test_trades_are_exact_and_spots_carry_microseconds(
    segment_prefix: str, venue: Market, stream: str
) -> None:
    heard = hear(venue, stream, 30)
    instrument = heard.instrument
    with scratch_feed(segment_prefix, instrument, streams=(stream,), market=venue.name) as made:
        made.take(*heard.frames)
        found = [fields(row) for row in rows_of(made, Kind.TRADE)]
        assert none_was_rejected(made)

    unit_ns = 1_000 if venue is SPOT else NS_PER_MS
    ids = [row["trade_id"] for row in found]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    for row, data in zip(found, heard.data, strict=True):
        assert row["trade_id"] == data["t" if stream == "trade" else "a"]
        price = row["price_ticks"] * instrument.tick_units
        assert price == units(data["p"], instrument.price_decimals)
        quantity = row["quantity_lots"] * instrument.lot_units
        assert quantity == units(data["q"], instrument.quantity_decimals)
        assert (row["aggressor_side"] == Side.SELL) == data["m"]
        assert row["venue_ns"] == data["T"] * unit_ns
    finer = [row["venue_ns"] % NS_PER_MS for row in found]
    assert any(finer) == (venue is SPOT)


@pytest.mark.parametrize("venue", [SPOT, USDM], ids=["spot", "usdm"])
def test_quotes_are_exact(segment_prefix: str, venue: Market) -> None:
    heard = hear(venue, "bookTicker", 30)
    instrument = heard.instrument
    streams = ("bookTicker",)
    with scratch_feed(segment_prefix, instrument, streams=streams, market=venue.name) as made:
        made.take(*heard.frames)
        found = [fields(row) for row in rows_of(made, Kind.QUOTE)]
        assert none_was_rejected(made)

    for row, data in zip(found, heard.data, strict=True):
        assert row["update_id"] == data["u"]
        for name, key in (("bid", "b"), ("ask", "a")):
            price = row[f"{name}_ticks"] * instrument.tick_units
            assert price == units(data[key], instrument.price_decimals)
            quantity = row[f"{name}_lots"] * instrument.lot_units
            assert quantity == units(data[key.upper()], instrument.quantity_decimals)
        assert row["venue_ns"] == data.get("T", 0) * NS_PER_MS
