"""engine room: quoted decimals read eight digits at a time, in compiled code.

Most numbers of a venue are short: `"61737.63000000"`. Such a one is two words of eight bytes, each
of which is turned into a number by three multiplications, without a loop and without a branch that
depends on how long it is. What is longer, has no point, or is no number, engine/codec_scan.py reads
or refuses: nothing here decides that a frame is wrong.
"""

from __future__ import annotations

import numpy as np

from shm.jit import inlined
from shm.segment import Bytes
from shm.vectors import like_in, trailing_zeros, word_in

# What holds for each byte of a word, see `_bits_of_digits` and `_number`.
_ZEROS = np.uint64(0x3030303030303030)
_OVER_NINE = np.uint64(0x7676767676767676)  # 0x80 - 10: added to more than 9, the top bit is set
_TOPS = np.uint64(0x8080808080808080)
_PAIRS = np.uint64(0x000000FF000000FF)
_FIRST_PAIRS, _SECOND_PAIRS = np.uint64(100 + (1_000_000 << 32)), np.uint64(1 + (10_000 << 32))
_BYTE_BITS, _FULL_WORD = np.uint64((1 << 64) - 8), np.uint64((1 << 64) - 1)
_NONE, _3, _8, _10, _16, _32 = (np.uint64(number) for number in (0, 3, 8, 10, 16, 32))
_63, _64, _255 = np.uint64(63), np.uint64(64), np.uint64(255)
_POINT, _QUOTE = np.uint64(ord(".")), np.uint64(ord('"'))
_POWERS = np.array([10**places for places in range(9)], np.int64)
_PLACES_MAX = 8
_QUICK_BYTES = 19  # of a quoted decimal with 7 digits, the point and 8 more, and one behind
# Bytes of a level around its numbers.
_OPENED = np.uint64(int.from_bytes(b'["', "little"))
_BETWEEN = np.uint64(int.from_bytes(b'","', "little"))
_CLOSED = np.uint64(int.from_bytes(b'"]', "little"))
_TWO_BYTES, _THREE_BYTES = np.uint64((1 << 16) - 1), np.uint64((1 << 24) - 1)
_QUOTE_BYTE, _ONE = np.uint8(ord('"')), np.uint64(1)
_BEHIND_OPENED = np.uint64((1 << 64) - 4)
QUICK_LEVEL_BYTES = 64 + 3 + _QUICK_BYTES  # that may be looked at


@inlined
def _bits_of_digits(apart: np.uint64) -> np.uint64:
    """Answers with how many bits of digits eight bytes begin; `apart` is what differs from '0'.

    The sum may carry, but only out of a byte that is no digit, into those behind it.
    """
    return trailing_zeros(((apart + _OVER_NINE) | apart) & _TOPS) & _BYTE_BITS


@inlined
def _number(apart: np.uint64, bits: np.uint64) -> int:
    """Answers the number that the first `bits`, 8 .. 64, of digits `apart` from '0' make.

    Neighbours become pairs, pairs fours, fours the number, all of them at once: Daniel Lemire,
    "Quickly parsing eight digits" (2018).
    """
    digits = apart << ((_64 - bits) & _63)
    pairs = digits * _10 + (digits >> _8)
    first = (pairs & _PAIRS) * _FIRST_PAIRS
    return np.int64((first + ((pairs >> _16) & _PAIRS) * _SECOND_PAIRS) >> _32)  # type: ignore[return-value]


@inlined
def _decimal(data: Bytes, at: int, decimals: int) -> tuple[int, int, int]:
    """Reads 1 .. 7 digits, a point and 1 .. 8 more from `at` on, as units of 10**-decimals.

    17 bytes of `data` may be looked at. Answers the units, the place behind, and how many digits
    follow the point, 0 when it is no such number or the grid, 1 .. 8 decimals, cannot hold it.
    """
    text = word_in(data, at)
    apart = text ^ _ZEROS
    bits = _bits_of_digits(apart)
    tail_at = at + int(np.int64(bits >> _3)) + 1
    tail = word_in(data, tail_at) ^ _ZEROS
    tail_bits = _bits_of_digits(tail)
    kept_bits = min(tail_bits, np.uint64(8 * decimals))
    written = tail & (_FULL_WORD >> ((_64 - tail_bits) & _63))
    beyond = written & ~(_FULL_WORD >> ((_64 - kept_bits) & _63))
    is_short = (bits != _NONE) & (bits != _64) & ((text >> (bits & _63)) & _255 == _POINT)
    missing = np.uint64(decimals) - (kept_bits >> _3)
    value = _number(apart, bits) * _POWERS[np.uint64(decimals)]
    value += _number(tail, kept_bits) * _POWERS[missing]
    places = int(np.int64(tail_bits >> _3))
    return value, tail_at + places, places if is_short & (beyond == _NONE) else 0


@inlined
def quick_steps(data: Bytes, at: int, end: int, decimals: int) -> tuple[int, int, int]:
    """Reads a quoted decimal from its opening quote at `at` on; answers as `steps`.

    The caller has seen to it that the grid is a quick one (`is_quick_grid`). The place is -1 when
    it takes the slower reader; then nothing is said about the number.
    """
    if at + _QUICK_BYTES > len(data):
        return 0, -1, 0
    value, behind, places = _decimal(data, at + 1, decimals)
    if places == 0 or behind >= end or data[np.uint64(behind)] != _QUOTE:
        return 0, -1, 0
    return value, behind + 1, places


@inlined
def quick_level(
    data: Bytes, at: int, end: int, price_decimals: int, quantity_decimals: int
) -> tuple[int, int, int]:
    """Reads `["price","quantity"]` from `at` on, of which both are short.

    The caller has seen to it that both grids are quick ones (`is_quick_grid`), and that
    QUICK_LEVEL_BYTES lie behind `at` in `data`. The quotes are found first and all at once: where
    the next level begins need not wait for the numbers of this one.

    Answers:
        ticks, lots, the place behind; -1 when it takes the slower reader.
    """
    quotes = like_in(data, at, _QUOTE_BYTE) & _BEHIND_OPENED
    price_end = at + int(np.int64(trailing_zeros(quotes)))
    quotes &= quotes - _ONE
    quotes &= quotes - _ONE
    lots_end = at + int(np.int64(trailing_zeros(quotes)))
    ticks, price_behind, price_places = _decimal(data, at + 2, price_decimals)
    lots, lots_behind, lots_places = _decimal(data, price_end + 3, quantity_decimals)
    is_opened = word_in(data, at) & _TWO_BYTES == _OPENED
    is_between = word_in(data, price_end) & _THREE_BYTES == _BETWEEN
    is_closed = word_in(data, lots_end) & _TWO_BYTES == _CLOSED
    is_quick = is_opened & is_between & is_closed & (lots_end + 2 <= end)
    is_quick = is_quick & (price_places != 0) & (lots_places != 0)
    is_quick = is_quick & (price_behind == price_end) & (lots_behind == lots_end)
    return ticks, lots, lots_end + 2 if is_quick else -1


@inlined
def is_quick_grid(decimals: int, units: int) -> bool:
    """Says whether steps of this grid can be read here."""
    return units == 1 and 1 <= decimals <= _PLACES_MAX
