"""The USD-M row of the fuzzer's table: its frames made up from a seed, and their exact readers."""

from __future__ import annotations

import json
import re
from typing import Any

from engine.instruments import Instrument
from engine.records import TRADE_OFF_BOOK
from tests.engine.fuzz_mutate import SNAPSHOT, Market, Rng, levels_of, make_snapshot, price_of
from tests.engine.fuzz_mutate import quantity_of as lots_of
from tests.engine.fuzz_oracle import (
    Wanted,
    aggregate,
    levels,
    number,
    quote,
    read_trade,
    venue_ns,
)
from tests.engine.scratch_feed import exact_steps

MS = 1_723_161_255_343
ORIGINS = ("MARKET", "INSURANCE_FUND", "NA", "MARKETS", "MARKE", "A" * 24)
ORIGIN = re.compile("[A-Z_]{1,24}")


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
        "X": ORIGINS[int(rng.integers(0, len(ORIGINS)))], "m": bool(rng.integers(0, 2)),
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


def _e8_of(rng: Rng) -> str:
    units = int(rng.integers(0, 10 ** int(rng.integers(1, 17))))
    sign = "-" if rng.integers(0, 4) == 0 else ""
    return f"{sign}{units // 10**8}.{units % 10**8:08d}"


def make_mark(rng: Rng, one: Instrument, last: int) -> bytes:
    data = {
        "e": "markPriceUpdate", "E": MS + last, "s": one.symbol, "p": _e8_of(rng),
        "P": _e8_of(rng), "i": _e8_of(rng), "r": (_e8_of(rng), "")[int(rng.integers(0, 4) == 0)],
        "T": (MS + 28_800_000, 0)[int(rng.integers(0, 2))],
    }  # fmt: skip
    return _frame("markPrice@1s", one, data)


def read_quote(one: Instrument, data: dict[str, Any]) -> Wanted:
    if data["e"] != "bookTicker":
        raise ValueError(data)
    number(data["E"])
    values = quote(one, data).values | {"venue_ns": venue_ns(data["T"])}
    return Wanted(values, [])


def read_made(one: Instrument, data: dict[str, Any]) -> Wanted:
    """Reads a trade; one whose origin is not the market was made off the book."""
    origin = data["X"]
    if not isinstance(origin, str) or not ORIGIN.fullmatch(origin):
        raise ValueError(data)
    read = read_trade(one, data, "trade", "t")
    return Wanted(read.values | {"flags": 0 if origin == "MARKET" else TRADE_OFF_BOOK}, [])


def _signed_e8(text: object) -> int:
    if not isinstance(text, str):
        raise TypeError(text)
    steps = exact_steps(text.removeprefix("-"), 8, 1)
    return -steps if text.startswith("-") else steps


def read_mark(one: Instrument, data: dict[str, Any]) -> Wanted:
    del one  # eight decimals whatever the grid
    if data["e"] != "markPriceUpdate":
        raise ValueError(data)
    values = {
        "mark_e8": _signed_e8(data["p"]),
        "index_e8": _signed_e8(data["i"]),
        "settle_e8": _signed_e8(data["P"]),
        "funding_e8": _signed_e8(data["r"] or "0"),  # a contract without funding says nothing
        "next_funding_ns": venue_ns(data["T"]),
        "venue_ns": venue_ns(data["E"]),
    }
    return Wanted(values, [])


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
        "depth": make_depth, "markPrice": make_mark, SNAPSHOT: make_snapshot,
    },
    {
        "bookTicker": read_quote, "trade": read_made, "aggTrade": aggregate, "depth": read_depth,
        "markPrice": read_mark,
    },
    ("bookTicker", "trade", "aggTrade", "depth@100ms", "markPrice@1s"),
)  # fmt: skip
