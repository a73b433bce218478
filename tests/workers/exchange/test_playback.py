"""Playing recordings over a real socket: byte for byte, in time, and with our orders in them."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from config.settings import ExchangeSettings, MarketSettings
from engine.venues import market_of
from tests.workers.exchange.clients import (
    DEADLINE_S,
    SYMBOLS,
    get,
    order_client,
    serving,
    stream_client,
    until,
)
from workers.exchange.capture import CaptureError

RECORDINGS = Path(__file__).parents[4] / "shared" / "data" / "binance_hft"
SPOT = "spot_btcusdt_20240808.gz"
NS = 1_700_000_000_000_000_000
STREAMS = ("abcusdt@bookTicker", "abcusdt@trade", "abcusdt@depth@100ms")
PATH = f"/stream?streams={'/'.join(STREAMS)}"
MARKET = MarketSettings(symbols=("ABCUSDT",))
SNAPSHOT = json.dumps(
    {
        "lastUpdateId": 10,
        "bids": [["99.90000000", "1.00000000"]],
        "asks": [["100.10000000", "1.00000000"]],
    }
)


def expected() -> list[dict[str, Any]]:
    path = RECORDINGS / "expected.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def settings(*paths: Path, speed: float = 0.0, **more: Any) -> ExchangeSettings:
    return ExchangeSettings(capture=tuple(map(str, paths)), speed=speed, **more)


def top(update_id: int, bid: str, ask: str, size: str = "1.00000000") -> str:
    data = {"u": update_id, "s": "ABCUSDT", "b": bid, "B": size, "a": ask, "A": size}
    return json.dumps({"stream": "abcusdt@bookTicker", "data": data})


def trade(trade_id: int, price: str, size: str, *, buyer_is_maker: bool) -> str:
    data = {"e": "trade", "s": "ABCUSDT", "t": trade_id, "p": price, "q": size, "m": buyer_is_maker}
    return json.dumps({"stream": "abcusdt@trade", "data": data})


def depth(first: int, last: int, bids: list[list[str]], asks: list[list[str]]) -> str:
    data = {"e": "depthUpdate", "s": "ABCUSDT", "U": first, "u": last, "b": bids, "a": asks}
    return json.dumps({"stream": "abcusdt@depth@100ms", "data": data})


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Ten seconds: a snapshot, then depth, best prices and trades."""
    bodies = [
        depth(9, 11, [["99.80000000", "2.00000000"]], []),
        SNAPSHOT,
        top(12, "99.90000000", "100.10000000"),
        depth(12, 13, [], [["100.20000000", "5.00000000"]]),
        trade(1, "99.90000000", "1.50000000", buyer_is_maker=True),
        trade(2, "99.90000000", "0.40000000", buyer_is_maker=True),
        depth(14, 15, [["99.90000000", "0.00000000"]], []),
        top(16, "99.80000000", "100.10000000"),
    ]
    path = tmp_path / "recording"
    path.write_text("".join(f"{NS + i * 10**9} {body}\n" for i, body in enumerate(bodies)))
    return path


async def read_all(socket: ClientConnection, count: int) -> list[bytes]:
    return [await asyncio.wait_for(socket.recv(decode=False), DEADLINE_S) for _ in range(count)]


def frames_of(path: Path) -> list[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        bodies = [line.partition(b" ")[2].strip() for line in file]
    return [body for body in bodies if not body.startswith(b'{"lastUpdateId"')]


@pytest.mark.slow
@pytest.mark.parametrize("facts", expected() or [{}])
def test_every_frame_of_a_real_recording_arrives_byte_for_byte(facts: dict[str, Any]) -> None:
    if not facts:
        pytest.skip(f"the shared recordings are not here: {RECORDINGS}")
    path = RECORDINGS / facts["files"][0]
    counts = {name: n for name, n in facts["counts"].items() if "@" in name}

    found = [
        (line.path, [name for name in counts if name.partition("@")[2] in line.streams])
        for line in market_of(facts["kind"]).lines
    ]

    async def run() -> tuple[list[list[bytes]], Any]:
        async with serving(settings(path)) as (server, port), AsyncExitStack() as stack:
            reading = []
            for base, names in found:
                url = f"{base}/stream?streams={'/'.join(names)}"
                socket = await stack.enter_async_context(stream_client(port, url))
                reading.append(read_all(socket, sum(counts[name] for name in names)))
            frames = await asyncio.gather(*reading)
            await until(lambda: server.finished)
            return frames, server.counts["messages"]

    frames, sent = uvloop.run(run())

    assert sent == counts
    for (_, names), received in zip(found, frames, strict=True):
        assert received == [one for one in frames_of(path) if stream_of(one) in names]


def stream_of(frame: bytes) -> str:
    name: str = json.loads(frame)["stream"]
    return name


@pytest.mark.slow
def test_the_replayed_book_ends_as_the_expected_one() -> None:
    path = RECORDINGS / SPOT
    if not path.exists():
        pytest.skip(f"the shared recordings are not here: {RECORDINGS}")
    facts = next(entry for entry in expected() if entry["files"] == [SPOT])

    async def run() -> tuple[Any, Any]:
        async with (
            serving(settings(path)) as (server, port),
            stream_client(port, "/stream?streams=btcusdt@depth@100ms") as socket,
        ):
            await read_all(socket, facts["counts"]["btcusdt@depth@100ms"])
            await until(lambda: server.finished)
            _, _, recorded = await get(port, "/api/v3/depth?symbol=BTCUSDT&limit=5000")
            _, _, final = await get(port, "/api/v3/depth?symbol=BTCUSDT&limit=5000")
            return recorded, final

    recorded, final = uvloop.run(run())

    assert recorded["lastUpdateId"] == facts["snapshot_lastUpdateId"]
    assert final["lastUpdateId"] == facts["final_book"]["u"]
    assert [len(final["bids"]), len(final["asks"])] == facts["final_book"]["levels"]


def test_two_listeners_with_half_the_streams_each_start_the_recording(recording: Path) -> None:
    async def run() -> None:
        async with (
            serving(settings(recording), MARKET) as (server, port),
            stream_client(port, "/ws/abcusdt@trade") as trades,
        ):
            assert not server.started
            async with stream_client(port, f"/stream?streams={STREAMS[0]}/{STREAMS[2]}") as others:
                assert len(await read_all(others, 5)) == 5
                raw = await read_all(trades, 2)

            payloads = [json.loads(frame)["t"] for frame in raw]
            assert payloads == [1, 2]
            await until(lambda: server.finished)
            assert server.counts["messages"] == dict(zip(STREAMS, (2, 2, 3), strict=True))

    uvloop.run(run())


def test_a_stream_that_nobody_wants_is_not_sent(recording: Path) -> None:
    async def run() -> None:
        async with (
            serving(settings(recording), MARKET) as (server, port),
            stream_client(port, "/ws/abcusdt@trade") as trades,
        ):
            await read_all(trades, 2)  # after the two seconds that it waits for the others
            await until(lambda: server.finished)

            assert server.counts["messages"] == {"abcusdt@trade": 2}

    uvloop.run(run())


def test_speed_divides_the_recorded_time(recording: Path) -> None:
    async def run() -> float:
        loop = asyncio.get_running_loop()
        async with (
            serving(settings(recording, speed=35.0), MARKET) as (_, port),
            stream_client(port, PATH) as socket,
        ):
            await read_all(socket, 1)
            start_s = loop.time()
            await read_all(socket, 6)
            return loop.time() - start_s

    assert uvloop.run(run()) > 6.5 / 35.0  # seven seconds, less the first frame's own delay


def test_the_first_snapshot_is_the_recorded_one_and_later_ones_are_current(recording: Path) -> None:
    async def run() -> None:
        async with (
            serving(settings(recording), MARKET) as (server, port),
            stream_client(port, PATH) as socket,
        ):
            await read_all(socket, 7)
            await until(lambda: server.finished)
            _, _, first = await get(port, "/api/v3/depth?symbol=ABCUSDT")
            _, _, second = await get(port, "/api/v3/depth?symbol=ABCUSDT")

            assert first == json.loads(SNAPSHOT)
            assert second["lastUpdateId"] == 15
            assert second["bids"] == [["99.80000000", "2.00000000"]]
            assert [price for price, _ in second["asks"]] == ["100.10000000", "100.20000000"]

    uvloop.run(run())


def test_a_looped_recording_starts_again_with_its_listeners(recording: Path) -> None:
    async def run() -> None:
        async with serving(settings(recording, loop=True), MARKET) as (server, port):
            rounds = []
            for _ in range(2):
                async with stream_client(port, PATH) as socket:
                    _, _, snapshot = await get(port, "/api/v3/depth?symbol=ABCUSDT")
                    rounds.append((snapshot, await read_all(socket, 7)))
                    with pytest.raises(ConnectionClosed):
                        await socket.recv()

            assert rounds[0] == rounds[1]
            assert not server.finished

    uvloop.run(run())


def test_a_slow_listener_holds_playback_up_and_loses_nothing(tmp_path: Path) -> None:
    filler = "9" * 4_000
    count = 12_000
    path = tmp_path / "large"
    with path.open("w") as file:
        for number in range(count):
            body = {"stream": "abcusdt@trade", "data": {"s": "ABCUSDT", "t": number, "x": filler}}
            file.write(f"{NS + number} {json.dumps(body)}\n")

    async def run() -> None:
        async with (
            serving(settings(path), MARKET) as (server, port),
            stream_client(port, "/ws/abcusdt@trade") as socket,
        ):
            socket.transport.pause_reading()
            await until(lambda: _messages(server.counts) > 0)
            stuck = -1
            while stuck != _messages(server.counts):
                stuck = _messages(server.counts)
                await asyncio.sleep(0.1)
            assert 0 < stuck < count
            socket.transport.resume_reading()
            frames = await read_all(socket, count)

            assert [json.loads(frame)["t"] for frame in frames] == list(range(count))

    uvloop.run(run())


def _messages(counts: dict[str, Any]) -> int:
    return sum(counts["messages"].values())


def test_our_orders_meet_the_recorded_market_and_its_frames_stay_as_they_are(
    recording: Path,
) -> None:
    async def run() -> None:
        async with (
            serving(settings(recording, speed=20.0), MARKET) as (server, port),
            order_client(port) as client,
        ):
            await client.result("userDataStream.subscribe.signature")
            order = {"symbol": "ABCUSDT", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.5"}
            await client.result("order.place", order | {"side": "BUY", "price": "99.9"})
            taken = await client.result("order.place", order | {"side": "BUY", "price": "100.1"})
            async with stream_client(port, PATH) as socket:
                frames = await read_all(socket, 7)
            new, _, bought, filled = await client.executions(4)
            await until(lambda: server.finished)

            assert taken["fills"][0]["price"] == "100.10000000"
            assert new["X"] == "NEW"
            assert bought["m"] is False
            # 1.0 stood before us: the first trade of 1.5 leaves exactly our half.
            assert (filled["X"], filled["l"], filled["L"]) == (
                "FILLED",
                "0.50000000",
                "99.90000000",
            )
            assert filled["m"] is True
            assert frames == frames_of(recording)

    uvloop.run(run())


def test_symbols_of_a_recording_are_listed_on_their_finest_grid(recording: Path) -> None:
    async def run() -> Any:
        async with serving(settings(recording), SYMBOLS) as (_, port):
            return (await get(port, "/api/v3/exchangeInfo"))[2]

    (symbol,) = uvloop.run(run())["symbols"]
    filters = {entry["filterType"]: entry for entry in symbol["filters"]}

    assert symbol["symbol"] == "ABCUSDT"
    assert filters["PRICE_FILTER"]["tickSize"] == "0.10000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.10000000"


def test_a_missing_recording_stops_the_exchange_from_opening(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(settings(tmp_path / "nowhere")):
            raise AssertionError

    with pytest.raises(CaptureError, match="must be readable"):
        uvloop.run(run())
