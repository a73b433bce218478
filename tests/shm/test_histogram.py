"""Histograms: every reported value within the stated error of the true one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.histogram import (
    BUCKETS,
    COUNT,
    HIGHEST,
    HISTOGRAM_WORDS,
    LOWEST,
    TOTAL,
    VALUE_MAX,
    bucket_of,
    lower_bound,
    merge,
    percentile,
    record,
)
from shm.jit import jit
from shm.segment import Words

WIDTH_ERROR = 1 / 32  # of a bucket; its middle is at most half of that away
PERCENTS = (0.0, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0)
values_of = st.lists(
    st.one_of(st.integers(0, 200), st.integers(0, VALUE_MAX), st.integers(1_000, 100_000)),
    min_size=1, max_size=200,
)  # fmt: skip


@jit
def record_all(histogram: Words, values: Words) -> None:
    """Records from compiled code, as every real writer does."""
    for index in range(len(values)):
        record(histogram, values[index])


def histogram_of(values: list[int]) -> Words:
    histogram = np.zeros(HISTOGRAM_WORDS, np.int64)
    for value in values:
        record(histogram, value)
    return histogram


@given(values_of)
def test_percentiles_are_within_the_stated_error_of_the_raw_values(values: list[int]) -> None:
    histogram = histogram_of(values)
    for percent in PERCENTS:
        # The definition alike: the lowest value with at least this share at or below it.
        true = int(np.percentile(values, percent, method="inverted_cdf"))

        assert abs(percentile(histogram, percent) - true) <= true * WIDTH_ERROR / 2 + 1


@given(values_of)
def test_count_total_lowest_and_highest_are_exact(values: list[int]) -> None:
    histogram = histogram_of(values)

    assert histogram[COUNT] == len(values)
    assert histogram[TOTAL] == sum(values)
    assert (histogram[LOWEST], histogram[HIGHEST]) == (min(values), max(values))
    assert percentile(histogram, 100.0) == max(values)


@given(values_of, values_of)
def test_merging_is_recording_everything_in_one(first: list[int], second: list[int]) -> None:
    merged = merge(histogram_of(first), np.zeros(HISTOGRAM_WORDS, np.int64), histogram_of(second))

    assert np.array_equal(merged, histogram_of(first + second))


def test_an_empty_histogram_answers_zero() -> None:
    empty = np.zeros(HISTOGRAM_WORDS, np.int64)

    assert [percentile(empty, percent) for percent in PERCENTS] == [0] * len(PERCENTS)
    assert not merge().any()
    assert not merge(empty).any()


def test_a_share_that_is_a_whole_rank_is_that_rank() -> None:
    """99.9 % of 1000 values is the 999th, whatever binary fractions make of 99.9."""
    histogram = histogram_of([1] * 999 + [60])

    assert percentile(histogram, 99.9) == 1
    assert percentile(histogram, 99.91) == 60


def test_every_bucket_begins_where_the_one_before_ends() -> None:
    bounds = [lower_bound(bucket) for bucket in range(BUCKETS + 1)]

    assert bounds[0] == 0
    assert bounds[-1] == VALUE_MAX + 1
    assert all(low < high for low, high in pairwise(bounds))
    assert [bucket_of(low) for low in bounds[:-1]] == list(range(BUCKETS))
    assert [bucket_of(high - 1) for high in bounds[1:]] == list(range(BUCKETS))


@given(st.integers(0, VALUE_MAX))
def test_a_value_lies_in_its_bucket_and_buckets_are_narrow(value: int) -> None:
    bucket = bucket_of(value)
    low, high = lower_bound(bucket), lower_bound(bucket + 1)

    assert low <= value < high
    assert high - low <= max(1, low * WIDTH_ERROR)


def test_values_outside_the_range_land_in_the_outermost_buckets() -> None:
    histogram = histogram_of([-5, VALUE_MAX + 1, 1 << 62])

    assert [bucket_of(-5), bucket_of(1 << 62)] == [0, BUCKETS - 1]
    assert histogram[LOWEST] == 0
    assert percentile(histogram, 100.0) == 1 << 62


SHAPES: dict[str, Callable[[np.random.Generator, int], Words]] = {
    "log-normal, as latencies are": lambda r, n: np.exp(r.normal(10, 1.5, n)).astype(np.int64),
    "a pause now and then": lambda r, n: np.where(
        r.random(n) < 0.002, r.integers(10**8, 10**9, n), r.integers(900, 1_100, n)
    ),
    "two ways through": lambda r, n: np.where(
        r.random(n) < 0.5, r.integers(2_000, 2_100, n), r.integers(80_000, 90_000, n)
    ),
    "nanoseconds": lambda r, n: r.integers(1, 300, n),
    "always the same": lambda _, n: np.full(n, 123_456_789),
    "the whole range": lambda r, n: np.exp(r.uniform(0, np.log(VALUE_MAX), n)).astype(np.int64),
}


@pytest.fixture(scope="module")
def peer() -> Any:
    """The module of the original histogram, with its precision as fine as it goes in memory."""
    return pytest.importorskip("hdrh.histogram", reason="hdrhistogram is not installed")


def peer_of(peer: Any, values: list[int]) -> Any:
    histogram = peer.HdrHistogram(1, VALUE_MAX, 4)
    for value in values:
        histogram.record_value(value)
    return histogram


@pytest.mark.parametrize("shape", SHAPES)
def test_percentiles_agree_with_numpy_and_with_hdrhistogram(shape: str, peer: Any) -> None:
    # Of 20,005 the shares below are the same ranks whether one rounds, as hdrhistogram does, or
    # rounds up, as numpy and we do.
    values = SHAPES[shape](np.random.default_rng(7), 20_005).tolist()
    ours, theirs = histogram_of(values), peer_of(peer, values)

    for percent in (10.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0):
        answered = percentile(ours, percent)
        exact = int(np.percentile(values, percent, method="inverted_cdf"))
        assert answered == pytest.approx(exact, rel=WIDTH_ERROR / 2, abs=0.5)
        near = theirs.get_value_at_percentile(percent)
        assert answered == pytest.approx(near, rel=WIDTH_ERROR / 2 + 1e-4, abs=0.5)
    assert ours[COUNT] == theirs.get_total_count()
    assert percentile(ours, 100.0) == max(values)


def test_merged_histograms_agree_with_hdrhistogram(peer: Any) -> None:
    random = np.random.default_rng(11)
    shapes = list(SHAPES.values())
    first, second = shapes[0](random, 10_000).tolist(), shapes[1](random, 10_005).tolist()
    ours = merge(histogram_of(first), histogram_of(second))
    theirs = peer_of(peer, first)
    theirs.add(peer_of(peer, second))

    assert ours[COUNT] == theirs.get_total_count()
    for percent in (10.0, 50.0, 99.0, 99.9):
        near = theirs.get_value_at_percentile(percent)
        assert percentile(ours, percent) == pytest.approx(near, rel=WIDTH_ERROR / 2 + 1e-4)


def test_compiled_loop_records_what_python_records() -> None:
    values = SHAPES["the whole range"](np.random.default_rng(3), 2_000)
    histogram = np.zeros(HISTOGRAM_WORDS, np.int64)
    record_all(histogram, values)

    assert np.array_equal(histogram, histogram_of(values.tolist()))
