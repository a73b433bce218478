"""Bench rival: the engine that a careful Python developer writes: one process, asyncio on uvloop.

websockets for both connections, json for every message, floats and a dict for a book top, the
same rule as bench/support/threshold.py, the same checks before an order that matter here (position
limit, price collar, order value). The key is logged on once, so its orders carry no signature
either.

Run as a process: python -m bench.rivals.asyncio_engine FOLDER CORE
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
import websockets

from bench.support.metronome import KEY_FILE, STREAM
from workers.exchange.keys import payload, read_pair

THRESHOLD, QUANTITY, POSITION_MAX, VALUE_MAX, COLLAR = 0.6, "0.00100", 1e9, 1e6, 0.01


class Engine:
    """Takes quotes, decides, orders."""

    def __init__(self, orders: Any) -> None:
        self._orders = orders
        self._position = 0.0
        self._last_ask = 0.0
        self._number = 0

    async def on_quote(self, quote: dict[str, Any]) -> None:
        """Acts on one bookTicker message."""
        bid, bid_quantity = float(quote["b"]), float(quote["B"])
        ask, ask_quantity = float(quote["a"]), float(quote["A"])
        imbalance = (bid_quantity - ask_quantity) / (bid_quantity + ask_quantity)
        if imbalance <= THRESHOLD or ask == self._last_ask:
            return
        self._last_ask = ask
        mid, quantity = (bid + ask) / 2, float(QUANTITY)
        if abs(self._position + quantity) > POSITION_MAX or ask * quantity > VALUE_MAX:
            return
        if abs(ask - mid) > COLLAR * mid:
            return
        self._number += 1
        parameters = {
            "symbol": quote["s"], "side": "BUY", "type": "LIMIT", "timeInForce": "IOC",
            "price": f"{ask:.2f}", "quantity": QUANTITY, "newClientOrderId": f"a{self._number}",
            "timestamp": int(time.time() * 1000),
        }  # fmt: skip
        request = {"id": str(self._number), "method": "order.place", "params": parameters}
        await self._orders.send(json.dumps(request, separators=(",", ":")))

    async def read_reports(self) -> None:
        """Keeps the position from executionReports."""
        async for message in self._orders:
            event = json.loads(message).get("event", {})
            if event.get("x") == "TRADE":
                self._position += float(event["l"])


async def trade(folder: Path) -> None:
    """Logs on, subscribes, and trades until the exchange closes."""
    while not (folder / "port").exists():
        await asyncio.sleep(0.05)
    address = f"ws://127.0.0.1:{(folder / 'port').read_text()}"
    pair = read_pair(folder / KEY_FILE)
    async with (
        websockets.connect(f"{address}/ws-api/v3", compression=None) as orders,
        websockets.connect(f"{address}/stream?streams={STREAM}", compression=None) as stream,
    ):
        fields = {"apiKey": pair.api_key, "timestamp": str(int(time.time() * 1000))}
        fields["signature"] = pair.sign(payload(fields))
        await orders.send(json.dumps({"id": "on", "method": "session.logon", "params": fields}))
        await orders.recv()
        await orders.send(json.dumps({"id": "user", "method": "userDataStream.subscribe"}))
        await orders.recv()
        engine = Engine(orders)
        reports = asyncio.create_task(engine.read_reports())
        (folder / "go").touch()
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in stream:
                document = json.loads(message)
                if document.get("stream") == STREAM:
                    await engine.on_quote(document["data"])
        reports.cancel()


def main() -> None:
    """Trades; see the module."""
    folder, core = Path(sys.argv[1]), int(sys.argv[2])
    if core >= 0:
        os.sched_setaffinity(0, {core})
    uvloop.run(trade(folder))


if __name__ == "__main__":
    main()
