"""Bench rival: market data as most Python users read it: websockets, json, floats.

A quote ends in a deque, a depth difference in two dictionaries. Nothing is checked and nothing
leaves the process, so it does less than what it is held against.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from bench.support.crew import Gate
from bench.support.ingest_load import TOLD
from bench.support.ingest_reader import Clock, reader_of

KEPT = 65_536


async def _read(gate: Gate, port: int, stream: str, clock: Clock) -> None:
    quotes: deque[tuple[Any, ...]] = deque(maxlen=KEPT)
    book: dict[str, dict[float, float]] = {"b": {}, "a": {}}
    is_depth, count = stream.startswith("depth"), 0
    async with connect(f"ws://127.0.0.1:{port}/stream", compression=None) as connection:
        gate.wait()
        try:
            async for text in connection:
                data = json.loads(text)["data"]
                if is_depth:
                    apply(book["b"], data["b"])
                    apply(book["a"], data["a"])
                else:
                    bid, ask = float(data["b"]), float(data["a"])
                    sizes = float(data["B"]), float(data["A"])
                    quotes.append((data["s"], data["u"], bid, sizes[0], ask, sizes[1]))
                count += 1
                if count == TOLD:
                    count = 0
                    if clock.tell(TOLD):
                        return
        except ConnectionClosed:
            return


def apply(side: dict[float, float], levels: Iterable[Sequence[str]]) -> None:
    """Sets a difference's levels in a side of a book."""
    for price, quantity in levels:
        size = float(quantity)
        if size:
            side[float(price)] = size
        else:
            side.pop(float(price), None)


reader = reader_of(_read)
