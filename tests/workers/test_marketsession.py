"""One connection against a real server: what is copied, paused, answered and given up."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import ConnectionClosed

from engine import codec_feed
from engine.records import UPDATE_ID, Kind, kind_of
from tests.engine.scratch_feed import Scratch, quote_frame
from tests.workers.small_venue import connected, run, until
from workers import marketsession
from workers.marketsession import MarketSession


def quotes(scratch: Scratch) -> list[int]:
    scratch.feed.decode(1)
    return [int(row[UPDATE_ID]) for row in scratch.rows() if kind_of(row) == Kind.QUOTE]


def test_frames_are_copied_in_order_with_the_time_they_were_read(segment_prefix: str) -> None:
    async def test() -> None:
        async with connected(segment_prefix, MarketSession) as (venue, scratch, _):
            await venue.send(*(quote_frame(u) for u in range(100)))
            await until(lambda: scratch.feed.count == 100, lambda: None)
            times = [scratch.feed.index[2 * frame + 1] for frame in range(100)]

            assert times == sorted(times)
            assert times[0] > 0
            assert quotes(scratch) == list(range(100))

    run(test)


def test_message_in_fragments_is_put_together(segment_prefix: str) -> None:
    async def test() -> None:
        async with connected(segment_prefix, MarketSession) as (venue, scratch, _):
            whole = quote_frame(8).decode()
            await venue.connections[-1].send([whole[:30], whole[30:31], whole[31:]])
            await venue.send(quote_frame(9))
            await until(lambda: scratch.feed.count == 2, lambda: None)

            assert quotes(scratch) == [8, 9]

    run(test)


def test_frame_that_is_too_long_ends_the_connection(segment_prefix: str) -> None:
    async def test() -> None:
        async with connected(segment_prefix, MarketSession) as (venue, scratch, session):
            await venue.send(b"x" * (codec_feed.FRAME_BYTES_MAX + 1))

            assert "exceeding max allowed size" in await session.ended()
            assert quotes(scratch) == []

    run(test)


def test_full_batch_asks_for_room_and_goes_on(
    segment_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_feed, "FRAMES_MAX", 8)
    monkeypatch.setattr(marketsession, "BATCH_FRAMES_HIGH", 4)
    seen: list[int] = []

    async def test() -> None:
        held: list[Scratch] = []
        async with connected(
            segment_prefix, MarketSession, lambda: seen.extend(quotes(held[0]))
        ) as found:
            venue, scratch, session = found
            held.append(scratch)
            await venue.send(*(quote_frame(u) for u in range(100)))
            await until(lambda: len(seen) + scratch.feed.count == 100, lambda: None)
            seen.extend(quotes(scratch))

            assert session.is_open
            assert seen == list(range(100))

    run(test)


def test_batch_that_stays_full_ends_the_connection_instead_of_dropping(
    segment_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_feed, "FRAMES_MAX", 8)
    monkeypatch.setattr(marketsession, "BATCH_FRAMES_HIGH", 4)

    async def test() -> None:
        async with connected(segment_prefix, MarketSession) as (venue, scratch, session):
            many = [quote_frame(u) for u in range(1_000)]
            with pytest.raises(ConnectionClosed):
                await asyncio.gather(*(venue.send(*many) for _ in range(100)))
            await session.closed.wait()

            assert session.overflow_count == 1
            assert quotes(scratch) == list(range(8))

    run(test)


def test_drain_is_over_when_all_that_was_sent_before_is_here(segment_prefix: str) -> None:
    async def test() -> None:
        async with connected(segment_prefix, MarketSession) as (venue, scratch, session):
            await venue.send(*(quote_frame(u) for u in range(200)))
            session.drain()
            await until(lambda: session.is_drained, lambda: None)

            assert scratch.feed.count == 200

    run(test)


def test_paused_session_reads_nothing_until_it_is_resumed(segment_prefix: str) -> None:
    async def test() -> None:
        async with connected(segment_prefix, MarketSession) as (venue, scratch, session):
            session.pause()
            pong = asyncio.ensure_future(await venue.connections[-1].ping(b"are you there"))
            await venue.send(quote_frame(1))
            turns = [0]

            def turn() -> None:
                turns[0] += 1

            await until(lambda: turns[0] == 1_000, turn)
            before = (pong.done(), scratch.feed.count)
            session.resume()
            await asyncio.wait_for(pong, 30)
            await until(lambda: scratch.feed.count == 1, lambda: None)

            assert before == (False, 0)

    run(test)
