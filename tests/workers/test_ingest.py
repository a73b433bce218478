"""The ingest agent against a real WebSocket and REST server."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path
from time import monotonic_ns

import pytest

from config.settings import MarketSettings, WorkerSettings
from engine.records import (
    TRIGGER_NS,
    UPDATE_ID,
    BookState,
    Kind,
    flags_of,
    instrument_of,
    kind_of,
    source_of,
)
from tests.engine.scratch_feed import depth_frame, quote_frame, snapshot_body, trade_frame
from tests.workers.ingest_rig import (
    ASKS,
    BIDS,
    SNAPSHOT,
    Rig,
    on_a_loop,
    plans,
    running,
    settings_for,
    synced_rig,
)
from tests.workers.observed_run import observed_run
from tests.workers.small_venue import small_venue, until
from workers.agent import Phase
from workers.books import read_books, read_trades, top_ticks


def test_frames_of_every_stream_become_records(segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with synced_rig(segment_prefix, tmp_path) as (venue, rig):
            await venue.send(
                quote_frame(5, b="99.00", a="101.00"),
                trade_frame(1, "100.01", "0.50000"),
                depth_frame(11, 12, [("99.50", "4")], []),
            )
            await until(lambda: rig.ids(Kind.DEPTH)[-1:] == [11], rig.step)

            assert venue.streams == [["btcusdt@bookTicker", "btcusdt@trade", "btcusdt@depth@100ms"]]
            assert rig.ids(Kind.QUOTE) == [5]
            assert {source_of(row) for row in rig.seen} == {0}
            assert all(0 < row[TRIGGER_NS] <= row[2] for row in rig.seen)
            assert read_trades(rig.memory) == {
                "BTCUSDT": {"n": 1, "base": "0.50000", "quote": "50.0050000"}
            }
            book = read_books(rig.memory)["BTCUSDT"]
            assert (book["u"], book["bids"], book["asks"]) == (12, 3, 1)
            assert top_ticks(rig.memory, 0) == (9900, 10_100)
            assert rig.counter('ingest_frames_total{stream="REST depth snapshot"}') == 1

    on_a_loop(test)


def test_venues_grids_are_told_to_the_other_workers(segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with synced_rig(segment_prefix, tmp_path) as (_, rig):
            [one] = rig.memory.instruments()

            assert (one.symbol, one.base, one.quote, one.trading) == (
                "BTCUSDT",
                "BTC",
                "USDT",
                True,
            )
            assert (one.price_decimals, one.tick_units) == (2, 1)
            assert (one.quantity_decimals, one.lot_units, one.quantity_step_lots) == (8, 1, 1000)
            assert one.quantity(one.quantity_lots_min) * 100_000 == 1
            assert one.price(one.price_ticks_max) == 1_000_000
            assert one.notional_min * one.tick * one.lot == 5

    on_a_loop(test)


def test_gap_makes_the_book_stale_and_one_snapshot_mends_it(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def test() -> None:
        async with synced_rig(segment_prefix, tmp_path) as (venue, rig):
            venue.snapshots["BTCUSDT"] = snapshot_body(15, [("99.00", "6")], ASKS)
            await venue.send(depth_frame(14, 15, [("99.00", "6")], []))
            await rig.until_state(BookState.STALE_GAP, BookState.SYNCED)

            assert rig.counter('ingest_gaps_total{symbol="BTCUSDT"}') == 1
            assert rig.counter('ingest_resyncs_total{symbol="BTCUSDT"}') == 1
            assert rig.counter("ingest_reconnects_total") == 0
            assert venue.asked["/api/v3/depth"] == 2
            assert read_books(rig.memory)["BTCUSDT"]["u"] == 15

    on_a_loop(test)


def test_snapshot_that_is_too_old_is_asked_for_again(segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with synced_rig(segment_prefix, tmp_path) as (venue, rig):
            await venue.send(depth_frame(14, 20, [("99.00", "6")], []))
            await until(lambda: venue.asked["/api/v3/depth"] >= 4, rig.step)

            assert rig.states()[-1] == BookState.STALE_GAP
            venue.snapshots["BTCUSDT"] = snapshot_body(16, [("99.00", "5")], ASKS)
            await rig.until_state(BookState.STALE_GAP, BookState.SYNCED)
            assert read_books(rig.memory)["BTCUSDT"]["u"] == 20

    on_a_loop(test)


def test_venue_that_never_gives_a_usable_snapshot_is_connected_to_anew(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def test() -> None:
        # Light snapshots: of heavy ones the budget of a minute would not hold so many tries.
        market = MarketSettings(symbols=("BTCUSDT",), snapshot_levels=100)
        async with synced_rig(segment_prefix, tmp_path, market=market) as (venue, rig):
            venue.snapshot_status = HTTPStatus.SERVICE_UNAVAILABLE
            await venue.send(depth_frame(14, 20, [], []))
            await until(lambda: len(venue.connections) == 2, rig.step)
            venue.snapshot_status = HTTPStatus.OK
            await rig.until_state(BookState.STALE_DISCONNECTED, BookState.SYNCED)

            assert rig.counter("ingest_reconnects_total") == 1

    on_a_loop(test)


def test_lost_connection_makes_the_book_stale_until_it_is_back(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def test() -> None:
        async with synced_rig(segment_prefix, tmp_path) as (venue, rig):
            await venue.send(quote_frame(1), quote_frame(2))
            venue.connections[-1].transport.abort()
            await until(lambda: len(venue.connections) == 2, rig.step)
            await rig.until_state(BookState.STALE_DISCONNECTED, BookState.SYNCED)
            await venue.send(quote_frame(3))
            await until(lambda: 3 in rig.ids(Kind.QUOTE), rig.step)

            assert rig.counter("ingest_reconnects_total") == 1
            assert rig.states() == [
                BookState.STALE_START,
                BookState.SYNCED,
                BookState.STALE_DISCONNECTED,
                BookState.SYNCED,
            ]

    on_a_loop(test)


def test_silent_stream_makes_the_book_stale(segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        market = MarketSettings(symbols=("BTCUSDT",), silence_ms_max=200)
        async with synced_rig(segment_prefix, tmp_path, market=market) as (venue, rig):
            await rig.until_state(BookState.SYNCED, BookState.STALE_SILENT)
            await venue.send(depth_frame(11, 11, [], []))
            await rig.until_state(BookState.STALE_SILENT, BookState.SYNCED)

            assert venue.asked["/api/v3/depth"] == 1

    on_a_loop(test)


def test_full_ring_stops_the_reading_and_loses_nothing(segment_prefix: str, tmp_path: Path) -> None:
    count = 120_000  # more than batch, buffer and both ends of the socket hold
    market = MarketSettings(symbols=("BTCUSDT",), silence_ms_max=600_000)

    async def test() -> None:
        async with synced_rig(segment_prefix, tmp_path, market=market) as (venue, rig):
            rig.is_reading = False
            sending = asyncio.create_task(venue.send(*(quote_frame(u) for u in range(count))))
            session = rig.agent._lines[0].session
            assert session is not None
            await until(lambda: session.is_paused, rig.step)
            for _ in range(200):
                rig.step()
                await asyncio.sleep(0)
            was_sending = not sending.done()
            rig.is_reading = True
            ended = session.closed
            await until(
                lambda: int(rig.seen[-1][UPDATE_ID]) == count - 1 or ended.is_set(), rig.step
            )
            assert (ended.is_set(), session.overflow_count) == (False, 0)
            await sending

            assert was_sending
            assert rig.ids(Kind.QUOTE) == list(range(count))
            assert rig.states()[-1] == BookState.SYNCED
            assert not session.is_paused

    on_a_loop(test)


def test_batch_waits_for_its_window(segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        market = MarketSettings(symbols=("BTCUSDT",), batch_window_ms=10)
        async with synced_rig(segment_prefix, tmp_path, market=market) as (venue, rig):
            await venue.send(*(quote_frame(u) for u in range(50)))
            await until(lambda: len(rig.ids(Kind.QUOTE)) == 50, rig.step)
            published = {int(row[2]) for row in rig.seen if kind_of(row) == Kind.QUOTE}
            first = next(row for row in rig.seen if kind_of(row) == Kind.QUOTE)

            assert len(published) < 10
            assert first[2] - first[TRIGGER_NS] >= 10_000_000

    on_a_loop(test)


@pytest.mark.parametrize("phase", [Phase.CLOSE, Phase.STORE])
def test_close_reads_all_that_was_sent_before(
    segment_prefix: str, tmp_path: Path, phase: Phase
) -> None:
    """STORE is what a worker meets that died in a stop and came back late."""

    async def test() -> None:
        async with synced_rig(segment_prefix, tmp_path) as (venue, rig):
            await venue.send(*(quote_frame(u) for u in range(500)))
            assert rig.agent.on_phase(Phase.QUIET)
            done = [False]

            def step() -> None:
                rig.step()
                done[0] = rig.agent.on_phase(phase)

            await until(lambda: done[0], step)
            rig.read()

            assert rig.ids(Kind.QUOTE) == list(range(500))
            assert rig.states()[-1] == BookState.SYNCED
            await asyncio.wait_for(venue.connections[-1].wait_closed(), 30)
            await until(lambda: all(task.done() for task in rig.agent._tasks), rig.step)
            assert len(venue.connections) == 1

    on_a_loop(test)


def test_who_has_closed_tells_no_silence(segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        market = MarketSettings(symbols=("BTCUSDT",), silence_ms_max=50)
        async with synced_rig(segment_prefix, tmp_path, market=market) as (_, rig):
            await until(lambda: rig.agent.on_phase(Phase.CLOSE), rig.step)
            rig.read()
            told = rig.states()
            end_ns = monotonic_ns() + 10 * 50_000_000
            await until(lambda: monotonic_ns() > end_ns, rig.step)

            assert rig.states() == told
            assert rig.agent.on_phase(Phase.JOURNAL)

    on_a_loop(test)


def test_pings_of_the_venue_are_answered(segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with synced_rig(segment_prefix, tmp_path) as (venue, _):
            answered = await venue.connections[-1].ping(b"venue")
            await asyncio.wait_for(answered, 30)

    on_a_loop(test)


def test_successor_goes_on_behind_the_cursor_and_counts_on(
    segment_prefix: str, tmp_path: Path
) -> None:
    """What a process finds that takes over from one that was killed."""

    async def test() -> None:
        async with synced_rig(segment_prefix, tmp_path) as (venue, rig):
            await venue.send(trade_frame(1, "100.00", "1"), depth_frame(11, 11, BIDS, ASKS))
            await until(lambda: rig.ids(Kind.DEPTH)[-1:] == [11], rig.step)
            cursor = rig.consumers[0].cursor
            assert rig.agent._lines[0].session is not None
            rig.agent._lines[0].session.disconnect()
            venue.snapshots["BTCUSDT"] = snapshot_body(11, BIDS, ASKS)
            async with running(rig.memory) as next_rig:
                await next_rig.until_state(BookState.STALE_START, BookState.SYNCED)
                await venue.send(trade_frame(2, "100.00", "1"))
                trades = 'ingest_frames_total{stream="btcusdt@trade"}'
                await until(lambda: next_rig.counter(trades) == 2, next_rig.step)

                assert next_rig.seen[0][0] == cursor + 1
                assert read_trades(rig.memory)["BTCUSDT"]["n"] == 2
                assert read_books(rig.memory)["BTCUSDT"]["u"] == 11

    on_a_loop(test)


def test_two_agents_split_the_symbols(segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with small_venue() as venue:
            venue.snapshots = {"BTCUSDT": SNAPSHOT, "ETHUSDT": SNAPSHOT}
            split: dict[str, tuple[str, ...]] = {"ingest.0": ("BTCUSDT",), "ingest.1": ("ETHUSDT",)}
            trader = WorkerSettings(
                name="trader",
                agents=("ingest.0", "ingest.1", "signal", "risk", "execution"),
                ingest_symbols=split,
            )
            keeper = WorkerSettings(name="keeper", agents=("recorder", "store", "logs"))
            settings = settings_for(segment_prefix, venue, workers=(trader, keeper))
            segments = plans(settings, *split)
            with observed_run(settings, tmp_path, *segments) as memory:  # type: ignore[arg-type]
                async with running(memory) as first, running(memory, "ingest.1") as second:
                    await first.until_state(BookState.SYNCED)
                    await second.until_state(BookState.SYNCED)

                    assert [stream[0].partition("@")[0] for stream in venue.streams] == [
                        "btcusdt",
                        "ethusdt",
                    ]
                    for index, rig in enumerate((first, second)):
                        assert {instrument_of(row) for row in rig.seen} == {index}
                        assert {source_of(row) for row in rig.seen} == {index}
                    assert set(read_books(memory)) == {"BTCUSDT", "ETHUSDT"}

    on_a_loop(test)


def test_every_row_of_a_run_is_marked(segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with synced_rig(segment_prefix, tmp_path) as (_, rig):
            runs = [flags_of(row) for row in rig.seen if kind_of(row) == Kind.DEPTH]

            assert runs == [5, 6]

    on_a_loop(test)


@pytest.mark.parametrize("stream", ["kline_1m", "markPrice"])
def test_stream_that_cannot_be_read_is_named(
    segment_prefix: str, tmp_path: Path, stream: str
) -> None:
    async def test() -> None:
        async with small_venue() as venue:
            market = MarketSettings(symbols=("BTCUSDT",), streams=(stream,))
            settings = settings_for(segment_prefix, venue, market=market)
            with observed_run(settings, tmp_path, *plans(settings, "ingest.0")) as memory:  # type: ignore[arg-type]
                rig = Rig(memory)
                with pytest.raises(ValueError, match=f"stream=btcusdt@{stream}"):
                    await rig.start()

    on_a_loop(test)
