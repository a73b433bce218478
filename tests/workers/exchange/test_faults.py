"""Faults of a script, each over a real socket; and scripts that are refused in one line."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
import websockets
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from config.settings import ExchangeSettings
from tests.workers.exchange.clients import DEADLINE_S, serving
from workers.exchange.faults import FaultError, parse_script, read_script
from workers.exchange.limits import Limits
from workers.exchange.server import ExchangeServer

BUSY = ExchangeSettings(rate_per_s=2_000.0)
TRADES, QUOTES = "btcusdt@trade", "btcusdt@bookTicker"
DEPTH_PATH = "/api/v3/depth?symbol=BTCUSDT&limit=5"
Scenario = Callable[[ClientConnection], Awaitable[Any]]
Served = Callable[[int], Awaitable[Any]]


def served(folder: Path, script: str, scenario: Served) -> tuple[Any, dict[str, int]]:
    """Answers what a scenario gave, by the port, and how often each rule was injected."""
    path = folder / "faults.toml"
    path.write_text(script)

    async def run() -> tuple[Any, dict[str, int]]:
        async with serving(replace(BUSY, faults=str(path))) as (server, port):
            answer = await asyncio.wait_for(scenario(port), DEADLINE_S)
            return answer, server.counts["faults"]  # type: ignore[return-value]

    return uvloop.run(run())


def heard(folder: Path, rule: str, scenario: Scenario, streams: str = TRADES) -> Any:
    """Answers what a scenario gave on one connection to streams, while one rule is armed."""

    async def connect(port: int) -> Any:
        url = f"ws://127.0.0.1:{port}/stream?streams={streams}"
        async with websockets.connect(url, max_queue=None) as socket:
            return await scenario(socket)

    answer, counts = served(folder, f"[[faults]]\n{rule}\n", connect)
    assert sum(counts.values()) >= 1
    return answer


async def trade_ids(socket: ClientConnection) -> list[int]:
    """Answers ids of the next trades, the first of them 0."""
    ids = [json.loads(await socket.recv())["data"]["t"] for _ in range(6)]
    return [number - ids[0] for number in ids]


async def closing(socket: ClientConnection) -> tuple[int, int]:
    """Answers how many frames came before the end, and the code of the end, 0 without one."""
    count = 0
    try:
        while True:
            await socket.recv()
            count += 1
    except ConnectionClosed as ended:
        return count, ended.rcvd.code if ended.rcvd else 0


@pytest.mark.parametrize(
    ("rule", "ids"),
    [
        ('kind = "drop"\nindex = 2', [0, 1, 3, 4, 5, 6]),
        ('kind = "drop"\nstream = "*@trade"\nindex = [1, 3]', [0, 2, 4, 5, 6, 7]),
        ('kind = "duplicate"\nindex = 1', [0, 1, 1, 2, 3, 4]),
        ('kind = "duplicate"\nindex = 1\ncopies = 2', [0, 1, 1, 1, 2, 3]),
        ('kind = "reorder"\nindex = 1\nbehind = 2', [0, 2, 3, 1, 4, 5]),
        ('kind = "delay"\nindex = 1\ndelay_ms = 30', [0, 1, 2, 3, 4, 5]),
        ('kind = "drop"\nprobability = 1.0\ntimes = 3', [0, 1, 2, 3, 4, 5]),
    ],
)
def test_frames_come_as_the_rule_has_it(tmp_path: Path, rule: str, ids: list[int]) -> None:
    assert heard(tmp_path, rule, trade_ids) == ids


def test_a_frame_that_nothing_follows_is_not_held_back_for_ever(tmp_path: Path) -> None:
    async def late(socket: ClientConnection) -> int:
        ids: list[int] = [json.loads(await socket.recv())["data"]["t"] for _ in range(2)]
        return ids[1] - ids[0]

    # All are held back behind more than will pass: each comes after a while, in its turn.
    assert heard(tmp_path, 'kind = "reorder"\nbehind = 1000', late) == 1


def test_a_delayed_frame_comes_late(tmp_path: Path) -> None:
    async def late_ms(socket: ClientConnection) -> float:
        await socket.recv()
        sent_ms: int = json.loads(await socket.recv())["data"]["E"]
        return time.time_ns() / 1e6 - sent_ms

    assert heard(tmp_path, 'kind = "delay"\nindex = 1\ndelay_ms = 60', late_ms) >= 59


async def second_frame(socket: ClientConnection) -> bytes:
    first, second = [await socket.recv(decode=False) for _ in range(2)]
    json.loads(first)
    return second


def test_a_corrupt_frame_is_no_text_any_more(tmp_path: Path) -> None:
    spoilt = heard(tmp_path, 'kind = "corrupt"\nindex = 1\nbytes = 3', second_frame)

    with pytest.raises(UnicodeDecodeError):
        spoilt.decode()


def test_a_truncated_frame_is_the_beginning_of_one(tmp_path: Path) -> None:
    assert (
        heard(tmp_path, 'kind = "truncate"\nindex = 1\nkeep_bytes = 20', second_frame)
        == (b'{"stream":"btcusdt@trade","data":'[:20])
    )


def test_a_frame_of_which_nothing_is_left_hurts_nobody(tmp_path: Path) -> None:
    more = '[[faults]]\nkind = "corrupt"\nindex = 1\n[[faults]]\nkind = "truncate"\nindex = 1'
    rule = f'kind = "truncate"\nindex = 1\nkeep_bytes = 0\n{more}'

    assert heard(tmp_path, rule, second_frame) == b""


def test_a_silent_stream_leaves_the_others(tmp_path: Path) -> None:
    async def streams(socket: ClientConnection) -> list[str]:
        return [json.loads(await socket.recv())["stream"] for _ in range(60)]

    rule = f'kind = "silence"\nstream = "{TRADES}"\nindex = 0'
    assert set(heard(tmp_path, rule, streams, f"{TRADES}/{QUOTES}")) == {QUOTES}


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ('kind = "close"\nindex = 3\ncode = 4000', 4000),
        ('kind = "reset"\nindex = 3', 0),
        ('kind = "half_close"\nindex = 3', 0),
    ],
)
def test_a_connection_ends_at_a_frame(tmp_path: Path, rule: str, code: int) -> None:
    assert heard(tmp_path, rule, closing) == (3, code)


def test_a_half_closed_connection_keeps_nobody_from_pings_and_goodbyes(tmp_path: Path) -> None:
    async def told(port: int) -> tuple[int, int]:
        url = f"ws://127.0.0.1:{port}/stream?streams={TRADES}"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)  # goes on to listen
        head = f"GET /stream?streams={TRADES} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        key = "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        writer.write(f"{head}{key}AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        await reader.read()  # to the end that the exchange has written
        async with websockets.connect(url, max_queue=None) as other:
            before = len(served_pings)
            while len(served_pings) < before + 3:
                await other.recv()
            closed = asyncio.ensure_future(closing(other))
            await serving_now[0].close()
            writer.close()
            return (await closed)[1], len(served_pings) - before

    served_pings: list[int] = []
    serving_now: list[ExchangeServer] = []

    async def run() -> tuple[int, int]:
        path = tmp_path / "faults.toml"
        path.write_text('[[faults]]\nkind = "half_close"\nindex = 1\nconnection = 0\n')
        limits = Limits(ping_s=0.02)
        async with serving(replace(BUSY, faults=str(path)), limits=limits) as (server, port):
            serving_now.append(server)
            ping_all = server._ping_all

            def counting() -> None:
                ping_all()
                served_pings.append(1)

            server._ping_all = counting  # type: ignore[method-assign]
            return await asyncio.wait_for(told(port), DEADLINE_S)

    code, pings = uvloop.run(run())
    assert code == 1001
    assert pings >= 3


def test_a_connection_ends_after_a_time(tmp_path: Path) -> None:
    assert heard(tmp_path, 'kind = "close"\nafter_s = 0.05\ncode = 1001', closing)[1] == 1001


def test_a_shutdown_is_told_before_it_comes(tmp_path: Path) -> None:
    async def told(socket: ClientConnection) -> tuple[bool, int]:
        frames = [json.loads(await socket.recv()) for _ in range(5)]
        return any(f.get("e") == "serverShutdown" for f in frames), (await closing(socket))[1]

    assert heard(tmp_path, 'kind = "shutdown"\nindex = 2\nlead_s = 0.05', told) == (True, 1001)


def test_a_mute_connection_is_open_and_says_nothing(tmp_path: Path) -> None:
    async def first_words(port: int) -> Any:
        url = f"ws://127.0.0.1:{port}/stream?streams={TRADES}"
        async with websockets.connect(url) as mute, websockets.connect(url) as other:
            for _ in range(10):
                await other.recv()
            await mute.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
            return json.loads(await mute.recv())

    answer, counts = served(tmp_path, '[[faults]]\nkind = "mute"\nindex = 0', first_words)

    assert answer == {"result": [TRADES], "id": 1}
    assert counts == {"0 mute": 1}


async def get(port: int, path: str) -> tuple[int, str | None, Any]:
    """Answers status, Retry-After and body of one request."""

    def ask() -> tuple[int, str | None, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Retry-After"], json.loads(answer.read())

    return await asyncio.to_thread(ask)


def test_a_refused_snapshot_is_there_the_next_time(tmp_path: Path) -> None:
    async def statuses(port: int) -> list[int]:
        return [(await get(port, DEPTH_PATH))[0] for _ in range(3)]

    script = '[[faults]]\nkind = "refuse"\nindex = 1\nstatus = 503'
    assert served(tmp_path, script, statuses)[0] == [200, 503, 200]


def test_a_stale_snapshot_is_an_older_one(tmp_path: Path) -> None:
    async def bodies(port: int) -> list[Any]:
        found = [(await get(port, DEPTH_PATH))[2]]
        while len(found) < 3:
            _, _, body = await get(port, DEPTH_PATH)
            found.append(body)
            async with websockets.connect(f"ws://127.0.0.1:{port}/ws/{QUOTES}") as socket:
                await socket.recv()  # the book has moved
        return found

    first, stale, later = served(tmp_path, '[[faults]]\nkind = "stale"\nindex = 1', bodies)[0]
    assert stale == first
    assert later["lastUpdateId"] > first["lastUpdateId"]


@pytest.mark.parametrize("status", [429, 418])
def test_a_limit_says_when_to_come_again(tmp_path: Path, status: int) -> None:
    async def answers(port: int) -> list[tuple[int, str | None]]:
        paths = (DEPTH_PATH, "/api/v3/time", DEPTH_PATH)
        return [(await get(port, path))[:2] for path in paths]

    rule = f'kind = "limit"\npath = "*/depth"\nstatus = {status}\nretry_after_s = 7\ntimes = 1'
    found, _ = served(tmp_path, f"[[faults]]\n{rule}", answers)
    assert found == [(status, "7"), (200, None), (200, None)]


def test_a_skewed_clock_is_wrong_everywhere(tmp_path: Path) -> None:
    async def ahead_ms(port: int) -> list[float]:
        _, _, body = await get(port, "/api/v3/time")
        async with websockets.connect(f"ws://127.0.0.1:{port}/ws/{TRADES}") as socket:
            event = json.loads(await socket.recv())
        return [told - time.time_ns() / 1e6 for told in (body["serverTime"], event["E"])]

    script = '[[faults]]\nkind = "skew"\nskew_ms = 600000'
    assert min(served(tmp_path, script, ahead_ms)[0]) > 300_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = -1", "seed must be a whole number from 0: file=f seed=-1"),
        ("fault = 1", "must have no other keys than seed and faults: file=f key=fault"),
        ("= 1", "a fault script must be TOML: file=f"),
        ('[[faults]]\nkind = "eat"', "rule=0 kind='eat'"),
        ('[[faults]]\nkind = "drop"\ndelay_ms = 3', "reads: file=f rule=0 key=delay_ms value=3"),
        ('[[faults]]\nkind = "delay"', "delay must have delay_ms: file=f rule=0"),
        ('[[faults]]\nkind = "drop"\nprobability = 2', "from 0 to 1: file=f rule=0 probability=2"),
        ('[[faults]]\nkind = "drop"\nindex = []', "index must be a whole number from 0"),
        ('[[faults]]\nkind = "drop"\nindex = 1\nprobability = 0.5', "must have index or probabil"),
        ('[[faults]]\nkind = "limit"\nstatus = 503', "status of limit must be 429 or 418"),
    ],
)
def test_a_wrong_script_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(FaultError) as refused:
        parse_script(text, "f")

    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_script_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match=r"must be readable: file=.*none\.toml: no such file"):
        read_script(tmp_path / "none.toml")


def test_a_shutdown_is_told_once_whatever_comes_until_it(tmp_path: Path) -> None:
    async def told(socket: ClientConnection) -> int:
        said = [json.loads(frame) async for frame in socket]
        return sum(frame.get("e") == "serverShutdown" for frame in said)

    assert heard(tmp_path, 'kind = "shutdown"\nlead_s = 0.2', told) == 1


@pytest.mark.parametrize("code", [1004, 1005, 1006, 1015])
def test_a_close_code_that_no_frame_may_carry_is_refused(code: int) -> None:
    with pytest.raises(FaultError, match="must be one that a close frame may carry"):
        parse_script(f'[[faults]]\nkind = "close"\ncode = {code}', "here")


def test_a_skew_moves_the_time_of_exchange_info_too(tmp_path: Path) -> None:
    async def times(port: int) -> list[int]:
        return [
            (await get(port, f"/api/v3/{name}"))[2]["serverTime"]
            for name in ("exchangeInfo", "time")
        ]

    (one, two), _ = served(tmp_path, '[[faults]]\nkind = "skew"\nskew_ms = 86400000', times)

    now_ms = time.time_ns() // 1_000_000
    assert min(one, two) > now_ms + 80_000_000


def test_a_slow_snapshot_comes_late_and_whole_and_others_are_served_meanwhile(
    tmp_path: Path,
) -> None:
    async def answers(port: int) -> tuple[float, Any, bool]:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        slow = asyncio.create_task(get(port, "/api/v3/depth?symbol=BTCUSDT&limit=5"))
        await get(port, "/api/v3/time")
        is_waiting = not slow.done()
        status, _, body = await slow
        assert status == 200
        return loop.time() - start_s, body, is_waiting

    script = '[[faults]]\nkind = "slow"\nindex = 0\ndelay_ms = 500'
    (took_s, body, is_waiting), counts = served(tmp_path, script, answers)

    assert took_s >= 0.5
    assert is_waiting
    assert len(body["bids"]) == 5
    assert counts == {"0 slow": 1}
