"""engine room: reads JSON tokens out of frame bytes, exactly, inside compiled code.

Every scanner takes where to start and where the frame ends, and answers where it stopped; -1 says
that the bytes are not what was asked for. A scanner that is given -1 answers -1, so a whole frame
is read as one straight line of calls with a single check behind it, and no byte beyond the frame's
end ever decides anything.

Decimals never pass a float. A digit that the grid cannot hold, an exponent, a sign, or a number of
10**18 units or more makes the scan fail: better no number than a wrong one.
"""

from __future__ import annotations

import numpy as np

from engine.codec_quick import is_quick_grid, quick_steps
from shm.jit import inlined, jit
from shm.segment import Bytes

DIGITS_MAX = 18  # 10**18 - 1 fits into int64, whatever the digits
_ZERO, _NINE, _QUOTE, _POINT, _MINUS = 48, 9, 34, 46, 45
_ONE = np.uint64(1)


@inlined
def match(data: Bytes, at: int, end: int, text: Bytes) -> int:
    """Answers the place behind `text` when the frame goes on with exactly that, else -1."""
    if at < 0 or at + len(text) > end:
        return -1
    for index in range(len(text)):
        if data[at + index] != text[index]:
            return -1
    return at + len(text)


@inlined
def match_slice(data: Bytes, at: int, end: int, text: Bytes, start: int, length: int) -> int:
    """Answers the place behind text[start : start + length] when the frame goes on so, else -1."""
    if at < 0 or at + length > end:
        return -1
    for index in range(length):
        if data[at + index] != text[start + index]:
            return -1
    return at + length


@jit
def _digits(data: Bytes, at: np.uint64, stop: np.uint64, value: int) -> tuple[int, np.uint64]:
    """Appends the digits from `at` on, before `stop`, to `value`; answers it and the place behind.

    Places are unsigned here: compiled code then needs no check for indices from the end, which
    makes this loop a third faster.
    """
    while at < stop:
        digit = int(np.int64(data[at])) - _ZERO
        if digit < 0 or digit > _NINE:
            break
        value = value * 10 + digit
        at += _ONE
    return value, at


@jit
def whole(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Reads a JSON number that is a whole one, 0 .. 10**18 - 1; answers it and the place behind.

    A zero in front of other digits is no JSON and fails; so does a number with more digits, at the
    place where the caller expects something else than a digit.
    """
    if at < 0 or at >= end:
        return 0, -1
    value, behind = _digits(data, np.uint64(at), np.uint64(min(end, at + DIGITS_MAX)), 0)
    length = int(np.int64(behind)) - at
    if length == 0 or (length > 1 and data[at] == _ZERO):
        return 0, -1
    return value, at + length


@jit
def _fraction(data: Bytes, at: int, end: int, decimals: int, value: int) -> tuple[int, int, int]:
    """Reads what stands behind the point; beyond the grid's decimals only zeros may stand.

    Answers:
        `value` with `decimals` more digits, the place behind (-1 when there is no digit), and how
        many digits the text had.
    """
    value, behind = _digits(data, np.uint64(at), np.uint64(min(end, at + decimals)), value)
    place = int(np.int64(behind))
    for _ in range(place - at, decimals):
        value *= 10
    while place < end and data[place] == _ZERO:
        place += 1
    places = place - at
    if places == 0 or places > DIGITS_MAX:
        return 0, -1, 0
    return value, place, places


@jit
def _unsigned(data: Bytes, start: int, end: int, decimals: int, units: int) -> tuple[int, int, int]:
    """Reads digits, a point, digits and the closing quote; answers as `steps`."""
    stop = min(end, start + DIGITS_MAX - decimals)
    value, behind = _digits(data, np.uint64(start), np.uint64(stop), 0)
    at = int(np.int64(behind))
    places = 0
    if at == start or at >= end:
        return 0, -1, 0
    if data[at] == _POINT:
        value, at, places = _fraction(data, at + 1, end, decimals, value)
    else:
        for _ in range(decimals):
            value *= 10
    if at < 0 or at >= end or data[at] != _QUOTE:
        return 0, -1, 0
    if units != 1:  # most grids are powers of ten, and a division costs as much as ten digits
        if value % units != 0:
            return 0, -1, 0
        value //= units
    return value, at + 1, places


@inlined
def steps(data: Bytes, at: int, end: int, decimals: int, units: int) -> tuple[int, int, int]:
    """Reads a quoted decimal as whole steps of a grid.

    Args:
        data: the bytes.
        at: place of the opening quote.
        end: place behind the frame.
        decimals: of the grid, 0 .. 17.
        units: one step in 10**-decimals, 1 or more.

    Returns:
        steps, the place behind the closing quote (-1 when it is no decimal on the grid), and how
        many decimals the text had.
    """
    if at < 0 or at + 1 >= end or data[at] != _QUOTE:
        return 0, -1, 0
    if is_quick_grid(decimals, units):
        value, behind, places = quick_steps(data, at, end, decimals)
        if behind >= 0:
            return value, behind, places
    return _unsigned(data, at + 1, end, decimals, units)


@jit
def signed_units(data: Bytes, at: int, end: int, decimals: int) -> tuple[int, int]:
    """Reads a quoted decimal that may have a minus sign as units of 10**-decimals.

    Answers the units and the place behind the closing quote, -1 when it is no such decimal.
    """
    if at < 0 or at + 2 >= end or data[at] != _QUOTE:
        return 0, -1
    sign = 1 if data[at + 1] == _MINUS else 0
    value, behind, _ = _unsigned(data, at + 1 + sign, end, decimals, 1)
    return (-value if sign else value), behind
