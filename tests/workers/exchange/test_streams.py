"""Market streams over a real socket: what they say, who hears them, and control messages."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from config.settings import ExchangeSettings
from tests.workers.exchange.clients import (
    DEADLINE_S,
    QUIET,
    SYMBOLS,
    ManualClock,
    get,
    order_client,
    serving,
    stream_client,
    until,
)
from workers.exchange.limits import Limits

BUSY = ExchangeSettings(rate_per_s=1_500.0)
ALL = "btcusdt@bookTicker/btcusdt@trade/btcusdt@depth@100ms/btcusdt@depth"
TAKER = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
Scenario = Callable[[ClientConnection], Awaitable[None]]


def play(path: str, scenario: Scenario, limits: Limits | None = None) -> None:
    async def run() -> None:
        async with serving(QUIET, limits=limits) as (_, port), stream_client(port, path) as socket:
            await scenario(socket)

    uvloop.run(run())


async def receive(socket: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(socket.recv(), DEADLINE_S))


async def ask(socket: ClientConnection, message: object) -> Any:
    await socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
    return await receive(socket)


@pytest.fixture(scope="module")
def busy() -> tuple[list[Any], Any]:
    """Frames of all streams of one symbol, and a snapshot that was taken between them."""
    return uvloop.run(frames_of_a_busy_market(3_000))


async def frames_of_a_busy_market(count: int) -> tuple[list[Any], Any]:
    async with serving(BUSY) as (_, port), stream_client(port, f"/stream?streams={ALL}") as socket:
        frames = [await receive(socket) for _ in range(count // 2)]
        _, _, snapshot = await get(port, "/api/v3/depth?symbol=BTCUSDT&limit=5000")
        while len(frames) < count or not any("depth@100ms" in f["stream"] for f in frames[-50:]):
            frames.append(await receive(socket))
        return frames, snapshot


def test_a_client_that_follows_the_sync_rule_has_the_book_that_best_prices_tell(
    busy: tuple[list[Any], Any],
) -> None:
    frames, snapshot = busy
    book: dict[str, dict[float, float]] = {"b": {}, "a": {}}
    for side, name in (("b", "bids"), ("a", "asks")):
        book[side] = {float(price): float(size) for price, size in snapshot[name]}
    last_id, tops, checked = snapshot["lastUpdateId"], {}, 0
    for frame in frames:
        data = frame["data"]
        if frame["stream"] == "btcusdt@bookTicker":
            tops[data["u"]] = (data["b"], data["B"], data["a"], data["A"])
        if frame["stream"] != "btcusdt@depth@100ms" or data["u"] <= last_id:
            continue
        assert data["U"] <= last_id + 1
        last_id = data["u"]
        for side in ("b", "a"):
            for price, size in data[side]:
                book[side][float(price)] = float(size)
                if not float(size):
                    del book[side][float(price)]
        bid, ask_price = max(book["b"]), min(book["a"])
        known = [update_id for update_id in tops if update_id <= last_id]
        found = (bid, book["b"][bid], ask_price, book["a"][ask_price])
        assert found == tuple(map(float, tops[max(known)]))
        checked += 1

    assert checked >= 3


def test_ids_of_every_stream_are_contiguous_or_rise(busy: tuple[list[Any], Any]) -> None:
    frames, _ = busy
    by_stream: dict[str, list[Any]] = {}
    for frame in frames:
        by_stream.setdefault(frame["stream"], []).append(frame["data"])
    depth = by_stream["btcusdt@depth@100ms"]
    trades = by_stream["btcusdt@trade"]
    tickers = [ticker["u"] for ticker in by_stream["btcusdt@bookTicker"]]

    for before, after in itertools.pairwise(depth):
        assert after["U"] == before["u"] + 1
    assert [t["t"] for t in trades] == list(range(trades[0]["t"], trades[0]["t"] + len(trades)))
    assert tickers == sorted(set(tickers))


def test_a_clients_order_prints_changes_depth_and_moves_the_best_price() -> None:
    async def run() -> None:
        async with (
            serving() as (_, port),
            stream_client(port, f"/stream?streams={ALL}") as socket,
            order_client(port) as client,
        ):
            placed = await client.result("order.place", TAKER)
            seen: dict[str, Any] = {}
            while len(seen) < 3:
                frame = await receive(socket)
                seen.setdefault(frame["stream"], frame["data"])
            trade, depth = seen["btcusdt@trade"], seen["btcusdt@depth@100ms"]

            assert trade["t"] == placed["fills"][0]["tradeId"]
            assert (trade["m"], trade["q"]) == (False, placed["fills"][0]["qty"])
            assert [price for price, _ in depth["a"]] == ["61000.01000000"]
            assert seen["btcusdt@bookTicker"]["u"] == depth["u"]

    uvloop.run(run())


def test_raw_and_combined_listeners_hear_the_same_payloads() -> None:
    async def run() -> None:
        async with (
            serving() as (_, port),
            stream_client(port, "/ws/btcusdt@trade") as raw,
            stream_client(port, "/stream?streams=btcusdt@trade") as combined,
            order_client(port) as client,
        ):
            await client.result("order.place", TAKER)
            payload, frame = await raw.recv(), await combined.recv()

            assert frame == f'{{"stream":"btcusdt@trade","data":{payload!s}}}'

    uvloop.run(run())


class TestControl:
    def test_subscriptions_come_and_go(self) -> None:
        async def scenario(socket: ClientConnection) -> None:
            streams = ["btcusdt@trade", "btcusdt@depth"]
            first = await ask(socket, {"method": "SUBSCRIBE", "params": streams, "id": 1})
            listed = await ask(socket, {"method": "LIST_SUBSCRIPTIONS", "id": 2})
            gone = {"method": "UNSUBSCRIBE", "params": ["btcusdt@depth", "x@y"], "id": "three"}
            second = await ask(socket, gone)
            left = await ask(socket, {"method": "LIST_SUBSCRIPTIONS", "id": None})

            assert first == {"result": None, "id": 1}
            assert listed == {"result": streams, "id": 2}
            assert second == {"result": None, "id": "three"}
            assert left == {"result": ["btcusdt@trade"], "id": None}

        play("/ws", scenario)

    def test_the_combined_property_can_be_read_and_set(self) -> None:
        async def scenario(socket: ClientConnection) -> None:
            before = await ask(socket, {"method": "GET_PROPERTY", "params": ["combined"], "id": 1})
            change = {"method": "SET_PROPERTY", "params": ["combined", True], "id": 2}
            changed = await ask(socket, change)
            after = await ask(socket, {"method": "GET_PROPERTY", "params": ["combined"], "id": 3})

            assert [before["result"], changed["result"], after["result"]] == [False, None, True]

        play("/ws/btcusdt@trade", scenario)

    @pytest.mark.parametrize(
        ("message", "code", "text"),
        [
            (b"{", 3, "Invalid JSON: expected value at line 1 column"),
            (b"[" * 60_000, 3, "Invalid JSON"),
            (b"7", 2, "Invalid request: expected an object"),
            ({"id": 1}, 2, "missing field `method`"),
            ({"method": "JUMP", "id": 1}, 2, "unknown variant `JUMP`, expected one of `SUBSCRIBE`"),
            ({"method": ["x"], "id": 1}, 2, "unknown variant"),
            ({"method": "SUBSCRIBE", "id": 1}, 2, "params must be an array"),
            ({"method": "SUBSCRIBE", "params": [1], "id": 1}, 2, "stream name must be a string"),
            ({"method": "SUBSCRIBE", "params": [], "id": 1.5}, 2, "request ID must be"),
            (
                {"method": "SUBSCRIBE", "params": [], "id": True},
                2,
                "request ID must be",
            ),
            ({"method": "SUBSCRIBE", "params": [], "id": 1, "x": 1}, 2, "too many parameters"),
            (
                {"method": "GET_PROPERTY", "params": [], "id": 1},
                2,
                "property name must be a string",
            ),
            ({"method": "GET_PROPERTY", "params": ["x"], "id": 1}, 0, "Unknown property"),
            (
                {"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1},
                1,
                "Invalid value type: expected Boolean",
            ),
        ],
    )
    def test_a_bad_message_is_answered(self, message: object, code: int, text: str) -> None:
        async def scenario(socket: ClientConnection) -> None:
            reply = await ask(socket, message)

            assert reply["error"]["code"] == code
            assert text in reply["error"]["msg"]

        play("/ws", scenario)

    def test_a_sixth_message_in_a_second_ends_the_connection(self) -> None:
        async def run() -> None:
            clock = ManualClock()
            async with serving(clock=clock) as (_, port), stream_client(port, "/ws") as socket:
                for number in range(5):
                    await ask(socket, {"method": "LIST_SUBSCRIPTIONS", "id": number})
                clock.now_ns += 1_000_000_000
                for number in range(5):
                    await ask(socket, {"method": "LIST_SUBSCRIPTIONS", "id": number})
                with pytest.raises(ConnectionClosed) as closed:
                    await ask(socket, {"method": "LIST_SUBSCRIPTIONS", "id": 6})

            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008

        uvloop.run(run())

    def test_a_connection_has_a_limited_number_of_streams(self) -> None:
        async def scenario(socket: ClientConnection) -> None:
            names = [f"s{number}@trade" for number in range(4)]
            reply = await ask(socket, {"method": "SUBSCRIBE", "params": names, "id": 1})

            assert reply["error"]["msg"] == "Invalid request: too many streams"

        play("/ws", scenario, Limits(streams_max=3))


class TestLife:
    def test_pings_go_out_and_a_silent_client_is_dropped(self) -> None:
        async def run() -> None:
            clock = ManualClock()
            limits = Limits(ping_s=0.01, pong_s_max=60.0)
            async with serving(limits=limits, clock=clock) as (server, port):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(
                    b"GET /ws/btcusdt@trade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
                )
                await reader.readuntil(b"\r\n\r\n")
                ping = await reader.readexactly(2)
                assert ping[0] == 0x80 | Opcode.PING
                assert server.counts["connections"] == 1
                clock.now_ns += 60_000_000_000

                await until(lambda: server.counts["connections"] == 0)
                writer.close()

        uvloop.run(run())

    def test_a_client_that_answers_pings_stays(self) -> None:
        async def run() -> None:
            clock = ManualClock()
            limits = Limits(ping_s=0.005, pong_s_max=60.0, stream_messages_per_s=1_000_000)
            async with (
                serving(limits=limits, clock=clock) as (server, port),
                stream_client(port, "/ws/btcusdt@trade"),
            ):
                for _ in range(10):
                    clock.now_ns += 30_000_000_000
                    await asyncio.sleep(0.02)

                assert server.counts["connections"] == 1

        uvloop.run(run())

    def test_the_exchange_answers_pings(self) -> None:
        async def scenario(socket: ClientConnection) -> None:
            pong = await socket.ping()
            await asyncio.wait_for(pong, DEADLINE_S)

        play("/ws/btcusdt@trade", scenario)

    def test_fragments_are_one_message(self) -> None:
        async def scenario(socket: ClientConnection) -> None:
            await socket.send(['{"method":"LIST_', 'SUBSCRIPTIONS",', '"id":1}'])

            assert await receive(socket) == {"result": ["btcusdt@trade"], "id": 1}

        play("/ws/btcusdt@trade", scenario)

    def test_a_message_that_grows_too_long_ends_the_connection(self) -> None:
        async def scenario(socket: ClientConnection) -> None:
            await socket.send(["x" * 40_000, "y" * 40_000])
            with pytest.raises(ConnectionClosed):
                await receive(socket)

        play("/ws/btcusdt@trade", scenario, Limits(stream_messages_per_s=10**6))

    def test_closing_the_exchange_says_goodbye(self) -> None:
        async def run() -> None:
            async with serving() as (server, port), stream_client(port, "/ws") as socket:
                await server.close()
                with pytest.raises(ConnectionClosed) as closed:
                    await receive(socket)

            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001

        uvloop.run(run())

    def test_the_slow_depth_stream_covers_the_same_changes(self) -> None:
        async def run() -> None:
            settings = ExchangeSettings(rate_per_s=300.0)
            path = "/stream?streams=btcusdt@depth@100ms/btcusdt@depth"
            async with (
                serving(settings, SYMBOLS) as (_, port),
                stream_client(port, path) as socket,
            ):
                fast: list[Any] = []
                slow: list[Any] = []
                while len(slow) < 2:
                    frame = await receive(socket)
                    (slow if frame["stream"] == "btcusdt@depth" else fast).append(frame["data"])
                first, second = slow

                assert second["U"] == first["u"] + 1
                covered = [data for data in fast if first["u"] < data["u"] <= second["u"]]
                last = {
                    side: {price: size for data in covered for price, size in data[side]}
                    for side in ("b", "a")
                }
                assert {side: dict(second[side]) for side in ("b", "a")} == last

        uvloop.run(run())
