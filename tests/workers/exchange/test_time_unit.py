"""Times in microseconds for whoever asks, on spot's market streams and there alone."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from config.settings import ExchangeSettings
from engine.venues import SPOT, USDM, Market
from tests.workers.exchange.clients import (
    BITCOIN,
    DEADLINE_S,
    QUIET,
    ManualClock,
    order_client,
    serving,
    stream_client,
)
from workers.exchange.streams import Channel

TAKER = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
US = "?timeUnit=MICROSECOND"
NS = 1_700_000_000_000_000_000
SKEW = '[[faults]]\nkind = "skew"\nskew_ms = 60000'


async def heard(
    paths: list[str], clock: ManualClock, settings: ExchangeSettings = QUIET, venue: Market = SPOT
) -> list[dict[str, Any]]:
    """The first frame at each of some addresses, after an order that trades."""
    async with AsyncExitStack() as stack:
        _, port = await stack.enter_async_context(
            serving(settings, BITCOIN, clock=clock, venue=venue)
        )
        sockets = [await stack.enter_async_context(stream_client(port, path)) for path in paths]
        client = await stack.enter_async_context(order_client(port, clock))
        await client.result("order.place", TAKER)
        clock.now_ns += 1_000_000_000
        texts = [await asyncio.wait_for(socket.recv(), DEADLINE_S) for socket in sockets]
        return [json.loads(text) for text in texts]


@pytest.mark.parametrize("unit", ["MICROSECOND", "microsecond"])
@pytest.mark.parametrize("stream", ["trade", "aggTrade"])
def test_whoever_asks_has_microseconds_and_the_others_milliseconds(stream: str, unit: str) -> None:
    clock = ManualClock()
    now_ns = clock.now_ns
    name = f"btcusdt@{stream}"
    asked = f"timeUnit={unit}"
    paths = [f"/ws/{name}", f"/ws/{name}?{asked}", f"/stream?streams={name}"]
    paths += [f"/stream?streams={name}&{asked}", f"/stream?{asked}&streams={name}"]
    plain, fine, combined, *combined_fine = uvloop.run(heard(paths, clock))

    assert (plain["E"], plain["T"]) == (now_ns // 1_000_000,) * 2
    assert fine == plain | {"E": now_ns // 1_000, "T": now_ns // 1_000}
    assert combined == {"stream": name, "data": plain}
    assert combined_fine == [{"stream": name, "data": fine}] * 2


@pytest.mark.parametrize("stream", ["depth@100ms", "depth"])
def test_depth_has_microseconds_for_whoever_asks(stream: str) -> None:
    paths = [f"/ws/btcusdt@{stream}", f"/ws/btcusdt@{stream}{US}"]
    plain, fine = uvloop.run(heard(paths, ManualClock()))

    assert plain["E"] == fine["E"] // 1_000
    assert plain == fine | {"E": plain["E"]}


@pytest.mark.parametrize("unit", ["MILLISECOND", "Microsecond", "", "NANOSECOND"])
def test_any_other_unit_is_milliseconds(unit: str) -> None:
    clock = ManualClock()
    now_ms = clock.now_ms
    [frame] = uvloop.run(heard([f"/ws/btcusdt@trade?timeUnit={unit}"], clock))

    assert frame["E"] == frame["T"] == now_ms


def test_streams_subscribed_later_are_in_the_unit_of_the_address() -> None:
    async def run() -> None:
        clock = ManualClock()
        async with (
            serving(clock=clock) as (_, port),
            stream_client(port, f"/ws{US}") as socket,
            order_client(port, clock) as client,
        ):
            await socket.send('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
            await asyncio.wait_for(socket.recv(), DEADLINE_S)
            await client.result("order.place", TAKER)
            frame = json.loads(await asyncio.wait_for(socket.recv(), DEADLINE_S))
            assert frame["T"] == clock.now_ns // 1_000

    uvloop.run(run())


def test_usdm_has_milliseconds_whatever_is_asked() -> None:
    clock = ManualClock()
    now_ms = clock.now_ms
    paths = [f"/market/ws/btcusdt@aggTrade{US}", f"/public/ws/btcusdt@depth@0ms{US}"]
    trade, depth = uvloop.run(heard(paths, clock, venue=USDM))

    assert trade["T"] == depth["T"] == now_ms


def test_a_recording_is_played_byte_for_byte_whatever_is_asked(tmp_path: Path) -> None:
    data = {"e": "trade", "E": 1700000000123, "s": "ABCUSDT", "t": 1, "p": "9.0", "q": "1"}
    data |= {"T": 1700000000122, "m": True, "M": True}
    frame = json.dumps({"stream": "abcusdt@trade", "data": data})
    path = tmp_path / "recording"
    path.write_text(f"{NS} {frame}\n")

    async def run() -> str | bytes:
        settings = ExchangeSettings(capture=(str(path),), speed=0.0)
        address = "/stream?streams=abcusdt@trade&timeUnit=MICROSECOND"
        async with serving(settings) as (_, port), stream_client(port, address) as socket:
            return await asyncio.wait_for(socket.recv(), DEADLINE_S)

    assert uvloop.run(run()) == frame


def test_armed_faults_leave_the_unit_alone_and_a_skew_moves_both(tmp_path: Path) -> None:
    script = tmp_path / "faults.toml"
    script.write_text(SKEW)
    clock = ManualClock()
    now_ns = clock.now_ns + 60_000_000_000
    settings = ExchangeSettings(rate_per_s=0.001, faults=str(script))
    paths = ["/ws/btcusdt@trade", f"/ws/btcusdt@trade{US}"]

    async def run() -> tuple[dict[str, Any], dict[str, Any]]:
        async with (
            serving(settings, clock=clock) as (_, port),
            stream_client(port, paths[0]) as plain,
            stream_client(port, paths[1]) as fine,
            order_client(port, lambda: now_ns) as client,
        ):
            await client.result("order.place", TAKER)
            texts = [await asyncio.wait_for(one.recv(), DEADLINE_S) for one in (plain, fine)]
            return json.loads(texts[0]), json.loads(texts[1])

    plain, fine = uvloop.run(run())

    assert (plain["E"], fine["E"]) == (now_ns // 1_000_000, now_ns // 1_000)
    assert fine["T"] == clock.now_ns // 1_000


class Recorder:
    """A listener that keeps what it hears."""

    def __init__(self, unit_ns: int, *, is_combined: bool) -> None:
        self.unit_ns = unit_ns
        self.is_combined = is_combined
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)


def test_a_payload_is_written_once_for_each_unit_that_somebody_listens_in() -> None:
    channel = Channel("x@trade")
    listeners = [
        Recorder(unit_ns, is_combined=is_combined)
        for unit_ns in (1_000_000, 1_000)
        for is_combined in (False, True, True, False)
    ]
    written: list[int] = []

    def write(time: int) -> bytes:
        written.append(time)
        return b'{"E":%d}' % time

    channel.listeners = dict.fromkeys(listeners[:4])
    channel.publish_timed(NS, write)
    assert written == [NS // 1_000_000]

    written.clear()
    channel.listeners = dict.fromkeys(listeners)
    channel.publish_timed(NS, write)
    assert written == [NS // 1_000_000, NS // 1_000]
    assert listeners[4].frames == [b'{"E":%d}' % (NS // 1_000)]
    assert listeners[5].frames == [b'{"stream":"x@trade","data":{"E":%d}}' % (NS // 1_000)]
    assert channel.sent == 2
