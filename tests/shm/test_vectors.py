"""Vector operations against plain Python over the same array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.jit import jit
from shm.segment import Words
from shm.vectors import (
    BLOCK,
    copy_block,
    copy_bytes,
    count_below,
    like_in,
    move_in,
    trailing_zeros,
    word_in,
)

WORD = st.integers(-(1 << 63), (1 << 63) - 1)
BLOCKS = st.lists(WORD, min_size=BLOCK + 2, max_size=BLOCK + 2)


@jit
def word(data: np.ndarray, place: int) -> np.uint64:
    return word_in(data, place)


@jit
def like(data: np.ndarray, place: int, byte: np.uint8) -> np.uint64:
    return like_in(data, place, byte)


@jit
def zeros(number: np.uint64) -> np.uint64:
    return trailing_zeros(number)


@jit
def copy(target: np.ndarray, at: int, source: np.ndarray, first: int, count: int) -> None:
    copy_bytes(target, at, source, first, count)


@jit
def copy_words(target: Words, source: Words) -> None:
    copy_block(target, source)


@jit
def below(words: Words, first: int, count: int, value: int) -> int:
    return count_below(words, first, count, value)


@jit
def move(words: Words, first: int, place: int, step: int, new: int, value: int) -> None:
    move_in(words, first, place, step, new, value)


@given(data=st.binary(min_size=8, max_size=24), share=st.floats(0, 1))
def test_word_has_its_first_byte_lowest_wherever_it_begins(data: bytes, share: float) -> None:
    place = int(share * (len(data) - 8))

    found = word(np.frombuffer(data, np.uint8).copy(), place)

    assert int(found) == int.from_bytes(data[place : place + 8], "little")


@given(data=st.lists(st.integers(0, 3), min_size=70, max_size=70), place=st.integers(0, 6))
def test_bytes_that_are_like_one_have_their_bit(data: list[int], place: int) -> None:
    found = like(np.array(data, np.uint8), place, np.uint8(2))

    assert int(found) == sum((data[place + bit] == 2) << bit for bit in range(64))


@pytest.mark.parametrize("bits", [0, 1, 7, 31, 32, 63])
def test_zeros_below_the_lowest_bit_are_counted(bits: int) -> None:
    number = (1 << bits) | (1 << 63)

    assert zeros(np.uint64(number)) == bits


def test_a_word_without_a_bit_has_64_zeros() -> None:
    assert zeros(np.uint64(0)) == 64


@given(source=st.binary(max_size=300), at=st.integers(0, 20), share=st.floats(0, 1))
def test_bytes_are_copied_and_none_beside_them(source: bytes, at: int, share: float) -> None:
    first = int(share * len(source))
    count = len(source) - first
    target = np.full(at + count + 9, 7, np.uint8)

    copy(target, at, np.frombuffer(source + b"\0", np.uint8).copy(), first, count)

    assert target.tobytes() == b"\7" * at + source[first:] + b"\7" * 9


@given(words=BLOCKS)
def test_block_is_copied_and_nothing_behind_it(words: list[int]) -> None:
    target = np.full(BLOCK + 2, 7, np.int64)

    copy_words(target, np.array(words, np.int64))

    assert target.tolist() == [*words[:BLOCK], 7, 7]


@given(words=BLOCKS, count=st.integers(0, BLOCK), value=WORD)
def test_only_the_first_words_of_a_block_are_counted(
    words: list[int], count: int, value: int
) -> None:
    found = below(np.array(words, np.int64), 1, count, value)

    assert found == sum(one < value for one in words[1 : 1 + count])


@given(
    words=BLOCKS,
    place=st.integers(0, BLOCK),
    step=st.sampled_from((-1, 0, 1)),
    new=st.integers(0, BLOCK),
    value=WORD,
)
def test_block_moves_from_a_place_on_and_takes_one_word(
    words: list[int], place: int, step: int, new: int, value: int
) -> None:
    array = np.array(words, np.int64)

    move(array, 1, place, step, new, value)

    expected = list(words)
    for index in range(place, BLOCK):
        expected[1 + index] = words[1 + index + step]
    if new < BLOCK:
        expected[1 + new] = value
    assert array.tolist() == expected
