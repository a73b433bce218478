"""What is read eight digits at a time is right, or left to the slower reader."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.codec_quick import QUICK_LEVEL_BYTES, is_quick_grid, quick_level, quick_steps
from shm.jit import jit

DECIMALS = st.integers(1, 8)
DIGITS = st.text("0123456789", max_size=10)
NUMBERS = st.one_of(
    st.builds("{}.{}".format, DIGITS, DIGITS),
    DIGITS,
    st.text('0123456789.-eE+ "/:', max_size=20),
)
SHORT = st.builds(
    "{}.{}".format,
    st.text("0123456789", min_size=1, max_size=7),
    st.text("0123456789", min_size=1, max_size=8),
)


@jit
def steps(data: np.ndarray, at: int, end: int, decimals: int) -> tuple[int, int, int]:
    return quick_steps(data, at, end, decimals)


@jit
def level(data: np.ndarray, at: int, end: int, grid: tuple[int, int]) -> tuple[int, int, int]:
    return quick_level(data, at, end, grid[0], grid[1])


def padded(text: str) -> np.ndarray:
    return np.frombuffer(text.encode() + b"7" * QUICK_LEVEL_BYTES, np.uint8).copy()


def units(text: str, decimals: int) -> int | None:
    """The exact number of units of 10**-decimals, None when there is no whole number of them."""
    scaled = Decimal(text).scaleb(decimals)
    return int(scaled) if scaled == int(scaled) else None


@given(text=NUMBERS, decimals=DECIMALS)
@example(text="61737.63000000", decimals=2)
@example(text="61737.63000001", decimals=2)
@example(text="1234567.12345678", decimals=8)
@example(text="/.0", decimals=1)
@example(text=":.0", decimals=1)
@example(text="1.", decimals=1)
@example(text=".1", decimals=1)
def test_no_number_is_wrong(text: str, decimals: int) -> None:
    whole = f'"{text}"'

    value, behind, places = steps(padded(whole), 0, len(whole), decimals)

    if behind >= 0:
        head, _, tail = text.partition(".")
        assert behind == len(whole)
        assert head.isdigit()
        assert tail.isdigit()
        assert (value, places) == (units(text, decimals), len(tail))


@given(text=SHORT, decimals=DECIMALS)
def test_every_short_number_on_the_grid_is_read(text: str, decimals: int) -> None:
    whole = f'"{text}"'

    value, behind, _ = steps(padded(whole), 0, len(whole), decimals)

    expected = units(text, decimals)
    assert (behind >= 0) == (expected is not None)
    assert behind < 0 or value == expected


@given(text=SHORT, missing=st.integers(1, 5))
def test_what_goes_on_behind_the_end_is_left(text: str, missing: int) -> None:
    whole = f'"{text}"'

    assert steps(padded(whole), 0, len(whole) - missing, 8)[1] == -1


def test_a_number_at_the_very_end_of_the_memory_is_left() -> None:
    data = np.frombuffer(b'"1.5"', np.uint8).copy()

    assert steps(data, 0, len(data), 1)[1] == -1


@given(price=SHORT, quantity=SHORT, cut=st.integers(0, 3))
def test_a_level_is_read_whole_or_left(price: str, quantity: str, cut: int) -> None:
    text = f'["{price}","{quantity}"]'

    ticks, lots, behind = level(padded(text), 0, len(text) - cut, (8, 8))

    if cut:
        assert behind == -1
    else:
        assert (ticks, lots, behind) == (units(price, 8), units(quantity, 8), len(text))


@pytest.mark.parametrize(
    "text",
    [
        '["1.5","2.5",1]', '["1.5", "2.5"]', '[1.5,"2.5"]', '["1.5","2.5]', '["1.5""2.5"]',
        '["1.5","25"]', '["1.5","-2.5"]', '["12345678.5","2.5"]', '["1.5","2.123456789"]',
        '("1.5","2.5"]', '["1.5","2.5")', '["1.5e1","2.5"]',
    ],
)  # fmt: skip
def test_a_level_that_is_written_otherwise_is_left(text: str) -> None:
    assert level(padded(text), 0, len(text), (8, 8))[2] == -1


@pytest.mark.parametrize("grid", [(0, 1), (9, 1), (2, 5)])
def test_grids_without_decimals_with_many_or_of_other_steps_are_left(grid: tuple[int, int]) -> None:
    assert not is_quick_grid(*grid)
    assert is_quick_grid(1, 1)
    assert is_quick_grid(8, 1)
