"""Arming faults at run time over the control port, with sessions that are open already."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop
import websockets

from engine.venues import USDM
from tests.workers.exchange.clients import (
    BITCOIN,
    DEADLINE_S,
    HMAC,
    QUIET,
    OrderClient,
    get,
    serving,
    stream_client,
)
from tests.workers.exchange.test_usdm import BUSY


@asynccontextmanager
async def fault_client(port: int) -> AsyncIterator[OrderClient]:
    async with websockets.connect(f"ws://127.0.0.1:{port}/faults") as socket:
        yield OrderClient(socket, time.time_ns, HMAC)


def test_a_script_armed_at_run_time_reaches_open_sessions_and_clearing_ends_it() -> None:
    script = '[[faults]]\nkind = "truncate"\nkeep_bytes = 7'

    async def run() -> None:
        async with (
            serving(BUSY, BITCOIN, venue=USDM) as (_, port),
            stream_client(port, "/public/ws/btcusdt@bookTicker") as socket,
            fault_client(port) as control,
        ):
            assert len(await socket.recv()) > 7
            assert await control.result("faults.arm", {"script": script}) == {"0 truncate": 0}
            async with asyncio.timeout(DEADLINE_S):
                while len(await socket.recv()) > 7:
                    pass
            assert (await control.result("faults.counts"))["0 truncate"] >= 1
            assert await control.result("faults.clear") == {}
            async with asyncio.timeout(DEADLINE_S):
                while len(await socket.recv()) == 7:
                    pass

    uvloop.run(run())


def test_a_bad_script_is_told_in_one_line_and_arms_nothing() -> None:
    async def run() -> None:
        async with serving(QUIET) as (server, port), fault_client(port) as control:
            await control.result("faults.arm", {"script": '[[faults]]\nkind = "refuse"'})
            reply = await control.signed("faults.arm", {"script": '[[faults]]\nkind = "no"'})
            assert reply["status"] == 400
            assert "kind must be one of" in reply["error"]["msg"]
            assert "\n" not in reply["error"]["msg"]
            assert server.counts["faults"] == {"0 refuse": 0}

    uvloop.run(run())


@pytest.mark.parametrize("method", ["faults.arm", "faults.clear", "faults.counts", "book"])
def test_whoever_has_not_signed_is_refused(method: str) -> None:
    async def run() -> None:
        async with serving(QUIET) as (_, port), fault_client(port) as control:
            assert (await control.request(method))["status"] in {400, 401}
            assert (await control.signed("order.place"))["error"]["code"] == -1020

    uvloop.run(run())


def test_the_book_is_told_with_its_update_id_and_its_hash() -> None:
    async def run() -> None:
        async with serving(QUIET) as (_, port), fault_client(port) as control:
            book = await control.result("book", {"symbol": "BTCUSDT"})
            _, _, seen = await get(port, "/api/v3/depth?symbol=BTCUSDT&limit=5000")
            rows = [f"{s} {p} {q}\n" for s in "ba" for p, q in seen[{"b": "bids", "a": "asks"}[s]]]
            assert book["updateId"] == seen["lastUpdateId"]
            assert book["levels"] == [len(seen["bids"]), len(seen["asks"])]
            assert book["sha256"] == hashlib.sha256("".join(rows).encode()).hexdigest()
            assert json.dumps(book)

    uvloop.run(run())
