"""Limits become ticks, lots and ns exactly, or one clear line."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.limits import limit_words, risk_of
from config.settings import RiskOverride, RiskSettings, Settings
from engine.instruments import Instrument
from engine.risk import (
    CANCEL_RESERVE,
    LIMIT_WORDS,
    LIMITS_HEADER,
    LIMITS_VALUES,
    LOADED,
    MESSAGES_MAX,
)

BTC = Instrument(
    index=0, symbol="BTCUSDT", base="BTC", quote="USDT",
    price_decimals=2, tick_units=5, quantity_decimals=5, lot_units=10, orders_max=20,
)  # fmt: skip
ETH = msgspec.structs.replace(BTC, index=1, symbol="ETHUSDT", base="ETH")


def settings(**risk: object) -> Settings:
    return Settings(
        risk=msgspec.convert({**msgspec.to_builtins(RiskSettings()), **risk}, RiskSettings)
    )


def test_limits_are_counted_on_the_instruments_grid() -> None:
    words = limit_words(settings(order_value_max="0.0000071"), (BTC,))

    row = words[LIMITS_HEADER : LIMITS_HEADER + LIMIT_WORDS]
    # lot 0.0001; tick 0.05; one tick times one lot is 0.000005, and 1.42 of them round down.
    assert list(row[:6]) == [10_000, 1, 20_000, 20, 10_000, 2_000_000_000]
    assert (
        len(words), words[LOADED], words[MESSAGES_MAX], words[CANCEL_RESERVE],
    ) == (LIMITS_VALUES, 1, 200, 50)  # fmt: skip


def test_a_symbol_may_have_limits_of_its_own() -> None:
    override = RiskOverride(symbol="ETHUSDT", position_max="7")
    words = limit_words(msgspec.structs.replace(settings(), risk_overrides=(override,)), (BTC, ETH))

    position = [words[LIMITS_HEADER + LIMIT_WORDS * index + 2] for index in (0, 1)]
    assert position == [20_000, 70_000]


# Of every field a value that is neither the factory's nor that of the strict [risk] below.
OWN: dict[str, Any] = {
    "order_quantity_max": "0.004", "order_value_max": "40", "position_max": "0.008",
    "open_orders_max": 3, "price_collar_bps": 7.0, "stale_ms_max": 300,
}  # fmt: skip
STRICT = RiskSettings(
    order_quantity_max="0.001", order_value_max="100", position_max="0.002", open_orders_max=4,
    messages_per_s_max=10, price_collar_bps=20.0, stale_ms_max=500,
)  # fmt: skip


def test_an_override_may_name_every_limit_and_nothing_else() -> None:
    assert {"symbol", *RiskSettings.__struct_fields__} == set(RiskOverride.__struct_fields__)
    assert {"messages_per_s_max", *OWN} == set(RiskSettings.__struct_fields__)


@given(names=st.sets(st.sampled_from(sorted(OWN))))
def test_what_an_override_does_not_name_is_as_in_risk(names: set[str]) -> None:
    own = {name: OWN[name] for name in names}
    strict = Settings(risk=STRICT, risk_overrides=(RiskOverride(symbol="ETHUSDT", **own),))

    assert msgspec.to_builtins(risk_of(strict, "ETHUSDT")) == msgspec.to_builtins(STRICT) | own
    assert risk_of(strict, "BTCUSDT") == STRICT


@pytest.mark.parametrize("name", sorted(OWN))
def test_naming_one_limit_changes_one_word_of_that_symbol(name: str) -> None:
    override = RiskOverride(symbol="ETHUSDT", **{name: OWN[name]})
    plain = limit_words(Settings(risk=STRICT), (BTC, ETH))
    words = limit_words(Settings(risk=STRICT, risk_overrides=(override,)), (BTC, ETH))

    changed = np.flatnonzero(plain != words)
    first = LIMITS_HEADER + LIMIT_WORDS  # of ETHUSDT, the second instrument
    assert [first <= index < first + LIMIT_WORDS for index in changed] == [True]


@pytest.mark.parametrize(
    ("own", "key"),
    [({}, "risk.position_max"), ({"position_max": "0.00005"}, "risk_overrides.BTCUSDT.position_")],
)
def test_a_limit_that_does_not_fit_is_named_where_it_stands(own: dict[str, Any], key: str) -> None:
    wrong = msgspec.structs.replace(STRICT, position_max="0.00005")
    override = RiskOverride(symbol="BTCUSDT", stale_ms_max=1, **own)

    with pytest.raises(ValueError, match=f"^{key}"):
        limit_words(Settings(risk=wrong, risk_overrides=(override,)), (BTC,))


@pytest.mark.parametrize(
    ("risk", "line"),
    [
        ({"position_max": "0.00005"}, r"risk\.position_max must fit the instrument: quantity must"),
        ({"order_quantity_max": "900000000000000"}, r"risk\.order_quantity_max must be smaller"),
        ({"messages_per_s_max": 5_000}, r"risk\.messages_per_s_max must be 2 to 1024"),
        ({"messages_per_s_max": 1}, r"risk\.messages_per_s_max must be 2 to 1024"),
    ],
)
def test_what_does_not_fit_is_one_line(risk: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        limit_words(settings(**risk), (BTC,))

    assert "\n" not in str(error.value)
