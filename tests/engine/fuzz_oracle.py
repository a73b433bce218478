"""What a frame must become, read slowly and exactly: the standard library's JSON and Decimal.

Duplicate keys: the last one wins, as in Python's json, in ECMAScript and in msgspec, which the
feed's slower path uses; the compiled path knows no frame with a key twice. RFC 8259 leaves it open.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from engine.instruments import Instrument
from engine.records import Side
from tests.engine.scratch_feed import exact_steps

WHOLE_DIGITS_MAX = 18
WHOLE_MAX = 10**WHOLE_DIGITS_MAX
MILLISECONDS_MAX = 9_000_000_000_000
MICROSECONDS_MIN = 100_000_000_000_000
Level = tuple[int, int, int]


class Wanted(NamedTuple):
    """What the records of one frame must say."""

    values: dict[str, int]
    levels: list[Level]


Reader = Callable[[Instrument, dict[str, Any]], Wanted]


def _whole(text: str) -> int | Decimal:
    return int(text) if len(text) <= WHOLE_DIGITS_MAX + 1 else Decimal(text)


def parse(frame: bytes) -> Any:
    """Reads JSON; bytes that are not UTF-8 may stand only where nothing is read from.

    Raises:
        ValueError: it is no JSON, or it is nested too deeply to be anybody's market data.
    """
    text = frame.decode("utf-8", "surrogateescape")
    try:
        return json.loads(text, parse_float=Decimal, parse_int=_whole, strict=False)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def number(value: object) -> int:
    """Answers a whole JSON number; raises ValueError for anything else."""
    if type(value) is not int or not 0 <= value < WHOLE_MAX:
        raise ValueError(value)
    return value


def venue_ns(value: object) -> int:
    """Answers a venue's time, in ms or, from 1973 on, in us; raises ValueError for neither."""
    read = number(value)
    if read <= MILLISECONDS_MAX:
        return read * 1_000_000
    if not MICROSECONDS_MIN <= read <= MILLISECONDS_MAX * 1_000:
        raise ValueError(value)
    return read * 1_000


def ticks(one: Instrument, text: object) -> int:
    return exact_steps(text, one.price_decimals, one.tick_units)


def lots(one: Instrument, text: object) -> int:
    return exact_steps(text, one.quantity_decimals, one.lot_units)


def levels(one: Instrument, bids: Any, asks: Any) -> list[Level]:
    return [
        (int(side), ticks(one, price), lots(one, quantity))
        for side, found in ((Side.BUY, bids), (Side.SELL, asks))
        for price, quantity in found
    ]


def quote(one: Instrument, data: dict[str, Any]) -> Wanted:
    values = {
        "update_id": number(data["u"]),
        "bid_ticks": ticks(one, data["b"]),
        "bid_lots": lots(one, data["B"]),
        "ask_ticks": ticks(one, data["a"]),
        "ask_lots": lots(one, data["A"]),
    }
    return Wanted(values, [])


def read_trade(one: Instrument, data: dict[str, Any], event: str, key: str) -> Wanted:
    """Reads a trade of either form; what it does not say of its origin was made on the book."""
    if data["e"] != event or not isinstance(data["m"], bool):
        raise ValueError(data)
    number(data["E"])
    values = {
        "trade_id": number(data[key]),
        "price_ticks": ticks(one, data["p"]),
        "quantity_lots": lots(one, data["q"]),
        "aggressor_side": int(Side.SELL if data["m"] else Side.BUY),
        "venue_ns": venue_ns(data["T"]),
        "flags": 0,
    }
    return Wanted(values, [])


def trade(one: Instrument, data: dict[str, Any]) -> Wanted:
    return read_trade(one, data, "trade", "t")


def aggregate(one: Instrument, data: dict[str, Any]) -> Wanted:
    number(data["f"])
    number(data["l"])
    return read_trade(one, data, "aggTrade", "a")


def depth(one: Instrument, data: dict[str, Any]) -> Wanted:
    first, last = number(data["U"]), number(data["u"])
    if data["e"] != "depthUpdate" or first > last:
        raise ValueError(data)
    venue_ns(data["E"])
    return Wanted({"first_id": first, "last_id": last}, levels(one, data["b"], data["a"]))


def snapshot(one: Instrument, data: dict[str, Any]) -> Wanted:
    last = number(data["lastUpdateId"])
    return Wanted({"first_id": last, "last_id": last}, levels(one, data["bids"], data["asks"]))


SPOT_READERS: dict[str, Reader] = {
    "bookTicker": quote, "trade": trade, "aggTrade": aggregate, "depth": depth,
}  # fmt: skip


def wanted(
    frame: bytes, instruments: tuple[Instrument, ...], readers: dict[str, Reader] = SPOT_READERS
) -> Wanted | None:
    """Answers what a stream's frame must become, None when it can become nothing."""
    try:
        whole = parse(frame)
        symbol, _, stream = whole["stream"].partition("@")
        [one] = [one for one in instruments if one.symbol.lower() == symbol]
        data = whole["data"]
        if data["s"] != one.symbol:
            return None
        return readers[stream.partition("@")[0]](one, data)
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError):
        return None


def wanted_snapshot(body: bytes, one: Instrument) -> Wanted | None:
    """Answers what a snapshot's body must become, None when it can become nothing."""
    try:
        return snapshot(one, parse(body))
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError):
        return None
