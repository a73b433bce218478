"""The USD-M row of the fuzzer's table: its frames made up from a seed, and their exact readers."""

from __future__ import annotations

import json
from typing import Any

from engine.instruments import Instrument
from engine.records import Side
from tests.engine.fuzz_mutate import SNAPSHOT, Market, Rng, levels_of, make_snapshot, price_of
from tests.engine.fuzz_mutate import quantity_of as lots_of
from tests.engine.fuzz_oracle import (
    Wanted,
    levels,
    lots,
    number,
    quote,
    ticks,
    venue_ns,
)

MS = 1_723_161_255_343


def _frame(stream: str, one: Instrument, data: dict[str, object]) -> bytes:
    whole = {"stream": f"{one.symbol.lower()}@{stream}", "data": data}
    return json.dumps(whole, separators=(",", ":")).encode()


def make_quote(rng: Rng, one: Instrument, last: int) -> bytes:
    data = {
        "e": "bookTicker", "u": last, "s": one.symbol, "b": price_of(rng, one),
        "B": lots_of(rng, one), "a": price_of(rng, one), "A": lots_of(rng, one),
        "T": MS, "E": MS + 1,
    }  # fmt: skip
    return _frame("bookTicker", one, data)


def make_trade(rng: Rng, one: Instrument, last: int) -> bytes:
    data = {
        "e": "trade", "E": MS + 1, "T": MS, "s": one.symbol, "t": last, "p": price_of(rng, one),
        "q": f"{one.quantity(int(rng.integers(1, 100_000))):f}",
        "X": ("MARKET", "INSURANCE_FUND")[int(rng.integers(0, 2))], "m": bool(rng.integers(0, 2)),
    }  # fmt: skip
    return _frame("trade", one, data)


def make_aggregate(rng: Rng, one: Instrument, last: int) -> bytes:
    data = {
        "e": "aggTrade", "E": MS + 1, "s": one.symbol, "a": last, "p": price_of(rng, one),
        "q": f"{one.quantity(int(rng.integers(1, 100_000))):f}", "f": last, "l": last + 2,
        "T": MS, "m": bool(rng.integers(0, 2)),
    }  # fmt: skip
    return _frame("aggTrade", one, data)


def make_depth(rng: Rng, one: Instrument, last: int) -> bytes:
    data = {
        "e": "depthUpdate", "E": MS + 1, "T": MS, "s": one.symbol, "U": last,
        "u": last + int(rng.integers(0, 50)), "pu": last - 1, "b": levels_of(rng, one),
        "a": levels_of(rng, one),
    }  # fmt: skip
    return _frame("depth@100ms", one, data)


def read_quote(one: Instrument, data: dict[str, Any]) -> Wanted:
    if data["e"] != "bookTicker":
        raise ValueError(data)
    number(data["E"])
    values = quote(one, data).values | {"venue_ns": venue_ns(data["T"])}
    return Wanted(values, [])


def _read_trade(one: Instrument, data: dict[str, Any], event: str, key: str) -> Wanted:
    if data["e"] != event or not isinstance(data["m"], bool):
        raise ValueError(data)
    number(data["E"])
    values = {
        "trade_id": number(data[key]),
        "price_ticks": ticks(one, data["p"]),
        "quantity_lots": lots(one, data["q"]),
        "aggressor_side": int(Side.SELL if data["m"] else Side.BUY),
        "venue_ns": venue_ns(data["T"]),
    }
    return Wanted(values, [])


def read_trade(one: Instrument, data: dict[str, Any]) -> Wanted:
    return _read_trade(one, data, "trade", "t")


def read_aggregate(one: Instrument, data: dict[str, Any]) -> Wanted:
    return _read_trade(one, data, "aggTrade", "a")


def read_depth(one: Instrument, data: dict[str, Any]) -> Wanted:
    first, last, before = number(data["U"]), number(data["u"]), number(data["pu"])
    if data["e"] != "depthUpdate" or first > last:
        raise ValueError(data)
    venue_ns(data["E"])
    return Wanted({"last_id": last, "first_id": before + 1}, levels(one, data["b"], data["a"]))


USDM = Market(
    "usdm",
    {
        "bookTicker": make_quote, "trade": make_trade, "aggTrade": make_aggregate,
        "depth": make_depth, SNAPSHOT: make_snapshot,
    },
    {
        "bookTicker": read_quote, "trade": read_trade, "aggTrade": read_aggregate,
        "depth": read_depth,
    },
    ("bookTicker", "trade", "aggTrade", "depth@100ms"),
)  # fmt: skip
