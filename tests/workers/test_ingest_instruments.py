"""exchangeInfo becomes exact grids and limits, or one clear line."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pytest

from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX, from_words
from shm.latest import Latest
from tests.workers.small_venue import symbol_info
from workers.ingest_instruments import (
    INSTRUMENT_TABLE_WORDS,
    InstrumentError,
    instruments_of,
    write_instruments,
)


def info(*symbols: dict[str, object]) -> bytes:
    return json.dumps({"timezone": "UTC", "symbols": symbols}).encode()


def with_filters(**filters: dict[str, str]) -> dict[str, object]:
    entries = [{"filterType": kind, **values} for kind, values in filters.items()]
    return symbol_info("BTCUSDT") | {"filters": entries}


@pytest.mark.parametrize(
    ("tick", "lot", "spare", "want"),
    [
        ("0.01000000", "0.00001000", 0, (2, 1, 5, 1, 1)),
        ("0.01000000", "0.00001000", 3, (2, 1, 8, 1, 1_000)),
        ("0.05000000", "0.25000000", 0, (2, 5, 2, 25, 1)),
        ("0.00000001", "1.00000000", 3, (8, 1, 3, 1, 1_000)),
        ("0.50", "10.00", 0, (1, 5, 0, 10, 1)),
        ("1.00000000", "0.00000001", 3, (0, 1, 8, 1, 1)),
    ],
)
def test_grids_are_exact(tick: str, lot: str, spare: int, want: tuple[int, ...]) -> None:
    symbol = with_filters(PRICE_FILTER={"tickSize": tick}, LOT_SIZE={"stepSize": lot})
    [one] = instruments_of(info(symbol), ("BTCUSDT",), spare)

    grid = (one.price_decimals, one.tick_units, one.quantity_decimals, one.lot_units)
    assert (*grid, one.quantity_step_lots) == want
    assert one.tick == Decimal(tick)
    assert one.lot * one.quantity_step_lots == Decimal(lot)


def test_limits_are_whole_steps_inside_what_the_venue_allows() -> None:
    symbol = with_filters(
        PRICE_FILTER={"tickSize": "0.05", "minPrice": "0.12", "maxPrice": "1.12"},
        LOT_SIZE={"stepSize": "0.1", "minQty": "0.25", "maxQty": "9.99"},
        MARKET_LOT_SIZE={"stepSize": "0", "minQty": "0", "maxQty": "5"},
        NOTIONAL={"minNotional": "5", "maxNotional": "1000"},
        PERCENT_PRICE_BY_SIDE={
            "bidMultiplierUp": "5", "bidMultiplierDown": "0.2",
            "askMultiplierUp": "4", "askMultiplierDown": "0.25",
        },
    )  # fmt: skip
    [one] = instruments_of(info(symbol), ("BTCUSDT",), 0)

    assert (one.price_ticks_min, one.price_ticks_max) == (3, 22)
    assert (one.quantity_lots_min, one.quantity_lots_max) == (3, 99)
    assert (one.market_lots_min, one.market_lots_max) == (3, 50)
    assert (one.notional_min, one.notional_max) == (1_000, 200_000)
    assert (one.percent_up_e4, one.percent_down_e4) == (40_000, 2_500)


def test_indices_follow_the_configuration_not_the_venue() -> None:
    body = info(symbol_info("ETHUSDT"), symbol_info("XRPUSDT"), symbol_info("BTCUSDT"))

    found = instruments_of(body, ("BTCUSDT", "ETHUSDT"), 0)

    assert [(one.index, one.symbol) for one in found] == [(0, "BTCUSDT"), (1, "ETHUSDT")]


def test_halted_symbol_is_not_trading() -> None:
    symbol = symbol_info("BTCUSDT") | {"status": "BREAK"}

    assert not instruments_of(info(symbol), ("BTCUSDT",), 0)[0].trading


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        (info(), InstrumentError, "missing=BTCUSDT"),
        (info(with_filters(LOT_SIZE={"stepSize": "1"})), InstrumentError, "tickSize=0"),
        (b"<html>", ConnectionError, "must answer exchangeInfo"),
        (b'{"symbols":[{"symbol":5}]}', ConnectionError, "must answer exchangeInfo"),
    ],
)
def test_unusable_answer_is_one_clear_line(body: bytes, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        instruments_of(body, ("BTCUSDT",), 0)


def test_table_is_read_back_as_it_was_written() -> None:
    words = np.zeros(INSTRUMENT_TABLE_WORDS, np.int64)
    known = instruments_of(info(symbol_info("BTCUSDT"), symbol_info("ETHUSDT")), ("ETHUSDT",), 3)
    write_instruments(words, known)

    table = Latest(words).read().reshape(INSTRUMENTS_MAX, INSTRUMENT_WORDS)

    assert from_words(0, table[0]) == known[0]
