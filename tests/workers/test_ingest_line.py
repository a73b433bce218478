"""A line is renewed without a gap and without a double, and a dead one is told apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from config.settings import MarketSettings
from engine.records import LAST_ID, TRADE_ID, BookState, Kind, kind_of
from tests.engine.scratch_feed import depth_frame, quote_frame, snapshot_body, trade_frame
from tests.workers.ingest_rig import ASKS, BIDS, Rig, on_a_loop, plans, running, settings_for
from tests.workers.observed_run import observed_run
from tests.workers.small_venue import SmallVenue, small_venue, until
from workers.ingest_line import SilentVenueError

SHUTDOWN = b'{"e":"serverShutdown","E":1770123456789}'
ONE = MarketSettings(symbols=("BTCUSDT",))


@asynccontextmanager
async def rig_of(
    prefix: str, folder: Path, **venue_settings: object
) -> AsyncIterator[tuple[SmallVenue, Rig]]:
    """An agent with one synced book."""
    async with small_venue() as venue:
        venue.snapshots = {"BTCUSDT": snapshot_body(10, BIDS, ASKS)}
        settings = settings_for(prefix, venue, market=ONE)
        changed = msgspec.structs.replace(settings.venue, **venue_settings)
        settings = msgspec.structs.replace(settings, venue=changed)
        with observed_run(settings, folder, *plans(settings, "ingest.0")) as memory:  # type: ignore[arg-type]
            async with running(memory) as rig:
                await rig.until_state(BookState.STALE_START, BookState.SYNCED)
                yield venue, rig


class Broadcast:
    """A venue under load: every connection gets every frame, each some frames late."""

    def __init__(self, venue: SmallVenue, seed: int) -> None:
        self._venue, self._random = venue, np.random.default_rng(seed)
        self._next: dict[int, int] = {}  # by connection: the frame that it gets next
        self.frames: list[bytes] = []

    def make(self, number: int) -> None:
        """Makes the frames of one moment."""
        bids = [("98.00", str(1 + number % 9))]
        self.frames += [
            quote_frame(number), trade_frame(number, "100.00", "1"),
            depth_frame(number, number, bids, []),
        ]  # fmt: skip

    async def send(self, lag_max: int) -> None:
        """Sends each connection what is due; it is up to `lag_max` frames late."""
        for number, connection in enumerate(self._venue.connections):
            due = len(self.frames) - int(self._random.integers(lag_max + 1))
            start = self._next.setdefault(number, max(0, len(self.frames) - 3))
            self._next[number] = max(start, due)
            with suppress(ConnectionClosed):
                for frame in self.frames[start : max(start, due)]:
                    await connection.send(frame.decode())


@pytest.mark.parametrize("seed", range(12))
def test_renewal_under_load_loses_nothing_and_repeats_nothing(
    segment_prefix: str, tmp_path: Path, seed: int
) -> None:
    random = np.random.default_rng(seed)
    moments, told_at = 400, int(random.integers(1, 300))

    async def test() -> None:
        async with rig_of(segment_prefix, tmp_path) as (venue, rig):
            load = Broadcast(venue, seed)
            for number in range(11, 11 + moments):
                load.make(number)
                if number == 11 + told_at:
                    await venue.connections[0].send(SHUTDOWN.decode())
                await load.send(int(random.choice((0, 0, 3, 9))))
                rig.step()
                await asyncio.sleep(0)
            last = 10 + moments
            while rig.counter("ingest_rotations_total") == 0:
                last += 1
                load.make(last)
                await load.send(2)
                rig.step()
                await asyncio.sleep(0)
            await load.send(0)
            await until(lambda: rig.ids(Kind.QUOTE)[-1:] == [last], rig.step)
            await until(lambda: depth_ids(rig)[-1:] == [last], rig.step)

            want = list(range(11, last + 1))
            assert rig.ids(Kind.QUOTE) == want
            assert trade_ids(rig) == want
            assert depth_ids(rig) == want
            assert rig.states() == [BookState.STALE_START, BookState.SYNCED]
            assert len(venue.connections) == 2
            assert rig.counter("ingest_reconnects_total") == 0

    on_a_loop(test)


def trade_ids(rig: Rig) -> list[int]:
    return [int(row[TRADE_ID]) for row in rig.seen if kind_of(row) == Kind.TRADE]


def depth_ids(rig: Rig) -> list[int]:
    ids = [int(row[LAST_ID]) for row in rig.seen if kind_of(row) == Kind.DEPTH]
    return [number for number in dict.fromkeys(ids) if number > 10]


def test_old_line_is_renewed_before_the_venue_ends_it(segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig_of(segment_prefix, tmp_path, connection_s_max=0.01) as (venue, rig):
            number = 11
            load = Broadcast(venue, 1)
            while rig.counter("ingest_rotations_total") < 2:
                load.make(number)
                number += 1
                await load.send(0)
                rig.step()
                await asyncio.sleep(0)

            assert rig.states() == [BookState.STALE_START, BookState.SYNCED]
            assert trade_ids(rig) == list(range(11, 11 + len(trade_ids(rig))))

    on_a_loop(test)


def test_address_that_never_sends_a_frame_is_refused(segment_prefix: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig_of(segment_prefix, tmp_path, first_frame_s_max=0.05) as (venue, rig):

            def step() -> None:
                try:
                    rig.step()
                except SilentVenueError as error:
                    found.append(str(error))

            found: list[str] = []
            await until(lambda: bool(found), step)

            assert "must send a first frame" in found[0]
            assert venue.stream_url in found[0]

    on_a_loop(test)


def test_line_that_answers_pings_and_sends_no_data_is_made_anew(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def test() -> None:
        async with rig_of(segment_prefix, tmp_path, silence_s_max=0.05) as (venue, rig):
            await venue.send(quote_frame(11))
            await rig.until_state(BookState.STALE_DISCONNECTED, BookState.SYNCED)

            assert len(venue.connections) == 2

    on_a_loop(test)
