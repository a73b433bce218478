"""The exchange as USD-M over real sockets: its addresses, its forms, its recordings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from config.settings import ExchangeSettings
from engine.matching import BUY, SELL
from engine.venues import SPOT, USDM, Market
from tests.workers.exchange.clients import (
    BITCOIN,
    DEADLINE_S,
    get,
    serving,
    stream_client,
    until,
)
from tests.workers.exchange.test_playback import expected, frames_of, read_all
from workers.exchange.capture import CaptureError, scan
from workers.exchange.limits import Limits
from workers.exchange.server import ExchangeServer

RECORDINGS = Path(__file__).parents[4] / "shared" / "data" / "binance_hft"
FILES = ("usdm_btcusdt_20240718.gz", "usdm_btcusdt_20230404.dat.gz")
BUSY = ExchangeSettings(rate_per_s=200.0)
NS = 1_700_000_000_000_000_000


async def frames(port: int, path: str, count: int) -> list[dict[str, Any]]:
    async with stream_client(port, path) as socket:
        return [json.loads(frame) for frame in await read_all(socket, count)]


async def silence(port: int, path: str) -> None:
    """Sees a handshake, and then nothing in the time that another path needs for many frames."""
    async with stream_client(port, path) as socket:
        await frames(port, "/public/ws/btcusdt@depth@0ms", 50)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_real_recording_is_played_byte_for_byte_at_its_two_paths(name: str) -> None:
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip(f"the shared recordings are not here: {RECORDINGS}")
    facts = next(entry for entry in expected() if entry["files"] == [name])
    counts = {stream: n for stream, n in facts["counts"].items() if "@" in stream}
    public = {s: n for s, n in counts.items() if s.partition("@")[2] in USDM.lines[0].streams}
    market = {s: n for s, n in counts.items() if s not in public}

    async def run() -> tuple[list[bytes], list[bytes], Any]:
        settings = ExchangeSettings(capture=(str(path),), speed=0.0)
        async with (
            serving(settings, BITCOIN) as (server, port),
            stream_client(port, f"/public/stream?streams={'/'.join(public)}") as one,
            stream_client(port, f"/market/stream?streams={'/'.join(market)}") as two,
        ):
            got = await asyncio.gather(
                read_all(one, sum(public.values())), read_all(two, sum(market.values()))
            )
            await until(lambda: server.finished)
            await get(port, "/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
            book = server._exchange.market._symbols["BTCUSDT"].book  # type: ignore[union-attr]
            levels = [len(list(book.levels(side))) for side in (1, -1)]
            return *got, (book.update_id, sorted(levels))

    got_public, got_market, (last_id, levels) = uvloop.run(run())
    sent = frames_of(path)

    def streams_of(names: dict[str, int]) -> list[bytes]:
        return [f for f in sent if msgspec.json.decode(f)["stream"] in names]

    assert got_public == streams_of(public)
    assert got_market == streams_of(market)
    assert last_id == facts["final_book"]["u"]
    assert levels == sorted(facts["final_book"]["levels"])


def test_depth_frames_are_chained_by_pu_and_snapshots_join_them() -> None:
    async def run() -> None:
        async with (
            serving(BUSY, BITCOIN, venue=USDM) as (_, port),
            stream_client(port, "/public/ws/btcusdt@depth@0ms") as socket,
        ):
            first = [json.loads(frame) for frame in await read_all(socket, 20)]
            _, _, snapshot = await get(port, "/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
            later = [json.loads(frame) for frame in await read_all(socket, 200)]
        chain = first + later
        keys = ["e", "E", "T", "s", "U", "u", "pu", "b", "a"]
        assert all(list(frame) == keys for frame in chain)
        assert all(b["pu"] == a["u"] for a, b in pairwise(chain))
        assert list(snapshot) == ["lastUpdateId", "E", "T", "bids", "asks"]
        assert any(f["U"] <= snapshot["lastUpdateId"] <= f["u"] for f in chain)

    uvloop.run(run())


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/public/ws/btcusdt@bookTicker", "e u s b B a A T E"),
        ("/public/ws/btcusdt@depth@100ms", "e E T s U u pu b a"),
        ("/public/ws/btcusdt@depth@500ms", "e E T s U u pu b a"),
        ("/market/ws/btcusdt@trade", "e E T s t p q X m"),
        ("/market/ws/btcusdt@aggTrade", "e E s a p q f l T m"),
        ("/market/ws/btcusdt@markPrice@1s", "e E s p P i r T"),
    ],
)
def test_every_stream_has_the_form_of_usdm(path: str, keys: str) -> None:
    async def run() -> dict[str, Any]:
        async with serving(BUSY, BITCOIN, venue=USDM) as (_, port):
            return (await frames(port, path, 1))[0]

    assert list(uvloop.run(run())) == keys.split()


@pytest.mark.parametrize(
    "path",
    [
        "/ws/btcusdt@depth@0ms",
        "/stream?streams=btcusdt@depth@0ms",
        "/market/ws/btcusdt@depth@0ms",
        "/public/ws/btcusdt@markPrice@1s",
    ],
)
def test_a_retired_path_and_a_wrong_one_shake_hands_and_stay_silent(path: str) -> None:
    async def run() -> None:
        async with serving(BUSY, BITCOIN, venue=USDM) as (_, port):
            await silence(port, path)

    uvloop.run(run())


def test_rest_is_under_fapi_with_its_own_limits_and_weights() -> None:
    async def run() -> None:
        async with serving(BUSY, BITCOIN, venue=USDM) as (_, port):
            assert (await get(port, "/fapi/v1/ping"))[0] == 200
            status, headers, body = await get(port, "/fapi/v1/depth?symbol=BTCUSDT&limit=50")
            assert (status, headers["X-MBX-USED-WEIGHT-1M"]) == (200, "3")
            assert len(body["bids"]) <= 50
            assert (await get(port, "/fapi/v1/depth?symbol=BTCUSDT&limit=7"))[2]["code"] == -4021
            assert (await get(port, "/api/v3/ping"))[0] == 404

    uvloop.run(run())


def test_recordings_of_both_markets_together_are_refused(tmp_path: Path) -> None:
    spot = {"u": 1, "s": "ABCUSDT", "b": "1", "B": "1", "a": "2", "A": "1"}
    both = []
    for name, data in (("spot", spot), ("usdm", {"e": "bookTicker", **spot})):
        path = tmp_path / name
        frame = json.dumps({"stream": "abcusdt@bookTicker", "data": data})
        path.write_text(f"{NS} {frame}\n")
        both.append(path)

    assert scan(both[:1]).market.name == "spot"
    assert scan(both[1:]).market is USDM
    with pytest.raises(CaptureError, match="must be of one market: spot in"):
        scan(both)


@pytest.mark.parametrize("venue", [SPOT, USDM], ids=["spot", "usdm"])
def test_the_exchange_tells_its_own_book_at_every_published_update_id(venue: Market) -> None:
    own: dict[int, dict[tuple[int, int], int]] = {}

    def applied(symbol: str, update_id: int, levels: Callable[[int], Any]) -> None:
        assert symbol == "BTCUSDT"
        own[update_id] = {(side, p): n for side in (BUY, SELL) for p, n in levels(side)}

    def change(book: dict[tuple[int, int], int], frame: dict[str, Any]) -> None:
        for side, pairs in ((BUY, frame["b"]), (SELL, frame["a"])):
            for price, quantity in pairs:
                ticks, lots = round(float(price) * 100), round(float(quantity) * 100_000)
                book[side, ticks] = lots
                if not lots:
                    del book[side, ticks]

    async def run() -> None:
        keys: dict[str, Any] = {}
        server = ExchangeServer(BUSY, BITCOIN, keys=keys, venue=venue)
        server.applied = applied
        port = await server.open()
        try:
            path = f"{venue.lines[0].path}/ws/btcusdt@depth@100ms"
            got = await frames(port, path, 5)
        finally:
            await server.close()
        book = dict(own[got[0]["u"]])
        for frame in got[1:]:
            change(book, frame)
            assert book == own[frame["u"]]

    uvloop.run(run())


def test_playback_tells_its_book_after_each_depth_frame(tmp_path: Path) -> None:
    snapshot = {"lastUpdateId": 10, "E": 1, "T": 1, "bids": [["9.0", "1"]], "asks": [["11.0", "1"]]}
    bodies: list[dict[str, Any]] = []
    for first, before, price in ((8, 7, "8.0"), (15, 9, "8.5"), (30, 16, "9.5")):
        data = {"e": "depthUpdate", "E": 1, "T": 1, "s": "ABCUSDT", "U": first, "u": first + 1}
        data |= {"pu": before, "b": [[price, "2"]], "a": []}
        bodies.append({"stream": "abcusdt@depth@0ms", "data": data})
    lines = [json.dumps(body) for body in (bodies[0], snapshot, *bodies[1:])]
    path = tmp_path / "recording"
    path.write_text("".join(f"{NS + number} {line}\n" for number, line in enumerate(lines)))
    told: list[tuple[int, list[tuple[int, int]]]] = []

    async def run() -> None:
        settings = ExchangeSettings(capture=(str(path),), speed=0.0)
        server = ExchangeServer(settings, BITCOIN, keys={})
        server.applied = lambda _, last_id, levels: told.append((last_id, list(levels(BUY))))
        port = await server.open()
        try:
            await frames(port, "/public/ws/abcusdt@depth@0ms", 3)
            await until(lambda: server.finished)
        finally:
            await server.close()

    uvloop.run(run())

    assert told == [(16, [(90, 1), (85, 2)]), (31, [(95, 2), (90, 1), (85, 2)])]


def test_a_connection_that_has_reached_its_age_is_ended() -> None:
    async def run() -> int | None:
        limits = Limits(connection_s_max=0.05)
        async with (
            serving(BUSY, BITCOIN, limits, venue=USDM) as (_, port),
            stream_client(port, "/public/ws/btcusdt@bookTicker") as socket,
        ):
            async with asyncio.timeout(DEADLINE_S):
                async for _ in socket:
                    pass
            return socket.close_code

    assert uvloop.run(run()) == 1001
