"""engine room: decimal text and whole numbers, exactly.

Venues write prices, quantities and money as decimal text with at most eight places. Here such a
text is a whole number of *units* of 10**-8, and a price or quantity on a grid is a whole number
of *steps* (ticks or lots) of `step_units` units each. Nothing passes through a float, so nothing
is rounded.

These helpers serve cold paths and the built-in exchange; the market data codec has its own
compiled scanner.
"""

from __future__ import annotations

import re

PLACES = 8  # decimal places a venue text may have
UNITS_PER_ONE = 100_000_000
ZERO = "0.00000000"

_SHAPE = re.compile(r"(-?)(\d{1,20})(?:\.(\d{1,20}))?", re.ASCII)


def units_from_text(text: str) -> int:
    """Reads decimal text as whole units of 10**-8.

    Args:
        text: digits, optionally a sign before and a point inside, no exponent.

    Raises:
        ValueError: the text is no plain decimal, or has digits beyond the eighth place.
    """
    whole, _, fraction = text.partition(".")
    if len(fraction) == PLACES and (whole + fraction).isdecimal() and text.isascii():
        return int(whole + fraction)  # the venue's own form, and by far the most frequent
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ValueError(f"a decimal must be digits with at most one point: text={text!r}")
    sign, whole, _ = match.groups()
    digits = fraction.rstrip("0")
    if len(digits) > PLACES:
        raise ValueError(f"a decimal must have at most {PLACES} places: text={text!r}")
    units = int(whole) * UNITS_PER_ONE + int(digits.ljust(PLACES, "0"))
    return -units if sign else units


def text_from_units(units: int) -> str:
    """Writes units of 10**-8 as decimal text with all eight places, as the venue does."""
    if not units:
        return ZERO
    whole, fraction = divmod(abs(units), UNITS_PER_ONE)
    return f"{'-' if units < 0 else ''}{whole}.{fraction:08d}"


def plain_from_units(units: int) -> str:
    """Writes units of 10**-8 as the shortest decimal text: no trailing zeros, no exponent."""
    return text_from_units(units).rstrip("0").rstrip(".")


def steps_from_text(text: str, step_units: int) -> int:
    """Reads decimal text as whole steps of a grid.

    Args:
        text: a plain decimal.
        step_units: size of one step in units of 10**-8, positive.

    Raises:
        ValueError: the text is no plain decimal, or lies between two steps.
    """
    assert step_units > 0
    units = units_from_text(text)
    steps, rest = divmod(units, step_units)
    if rest:
        raise ValueError(
            f"a value must be on its grid: text={text!r} step={plain_from_units(step_units)}"
        )
    return steps


def text_from_steps(steps: int, step_units: int) -> str:
    """Writes whole steps of a grid as decimal text with all eight places."""
    return text_from_units(steps * step_units)


def decimal_step_units(spread_units: int) -> int:
    """Says the largest power of ten, in units, that divides `spread_units`; one for zero.

    With the greatest common divisor of every value of a recording, this is the finest decimal grid
    that the recording uses.
    """
    step = 1
    while spread_units and spread_units % (step * 10) == 0:
        step *= 10
    return step
