"""Decimal text and whole numbers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.decimals import (
    decimal_step_units,
    plain_from_units,
    steps_from_text,
    text_from_steps,
    text_from_units,
    units_from_text,
)


@given(st.integers(-(10**20), 10**20))
def test_units_survive_a_round_trip_through_text(units: int) -> None:
    assert units_from_text(text_from_units(units)) == units
    assert units_from_text(plain_from_units(units)) == units


@given(st.decimals(-(10**9), 10**9, places=8))
def test_units_are_the_exact_decimal_times_ten_to_the_eighth(value: Decimal) -> None:
    assert units_from_text(f"{value:f}") == int(value.scaleb(8))


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0.00000001", 1),
        ("61837.64000000", 6_183_764_000_000),
        ("61837.64", 6_183_764_000_000),
        ("7", 700_000_000),
        ("0.100000000000", 10_000_000),
        ("-0.5", -50_000_000),
    ],
)
def test_text_is_read_exactly(text: str, units: int) -> None:
    assert units_from_text(text) == units


@pytest.mark.parametrize(
    "text",
    ["", ".", "1.", ".5", "1e3", "+1", "1,5", " 1", "1 ", "0x1", "1.2.3", "\u0661.00000000", "nan"],
)
def test_what_is_no_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a decimal must be digits"):
        units_from_text(text)


def test_a_ninth_place_is_refused() -> None:
    with pytest.raises(ValueError, match="must have at most 8 places"):
        units_from_text("0.000000001")


@given(st.integers(0, 10**12), st.sampled_from([1, 100, 1_000_000, 50_000_000]))
def test_steps_survive_a_round_trip_through_text(steps: int, step_units: int) -> None:
    assert steps_from_text(text_from_steps(steps, step_units), step_units) == steps


def test_a_value_between_two_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be on its grid: text='0\.015' step=0\.01$"):
        steps_from_text("0.015", 1_000_000)


@pytest.mark.parametrize(
    ("spread", "step"), [(0, 1), (1, 1), (7_000, 1_000), (25_000_000, 1_000_000)]
)
def test_the_step_is_the_largest_power_of_ten_that_divides(spread: int, step: int) -> None:
    assert decimal_step_units(spread) == step
