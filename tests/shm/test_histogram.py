"""Histograms: every reported value within the stated error of the true one."""

from __future__ import annotations

from itertools import pairwise

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
from shm.segment import Words

WIDTH_ERROR = 1 / 32  # of a bucket; its middle is at most half of that away
PERCENTS = (0.0, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0)
values_of = st.lists(
    st.one_of(st.integers(0, 200), st.integers(0, VALUE_MAX), st.integers(1_000, 100_000)),
    min_size=1, max_size=200,
)  # fmt: skip


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


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_agree_with_hdrhistogram_on_latencies(seed: int) -> None:
    hdrh = pytest.importorskip("hdrh.histogram", reason="hdrhistogram is not installed")
    random = np.random.default_rng(seed)
    values = np.exp(random.normal(10, 1.5, 20_000)).astype(np.int64).tolist()
    ours, theirs = histogram_of(values), hdrh.HdrHistogram(1, VALUE_MAX, 3)
    for value in values:
        theirs.record_value(max(1, value))

    for percent in (10.0, 50.0, 90.0, 99.0, 99.9, 99.99):
        expected = theirs.get_value_at_percentile(percent)
        assert percentile(ours, percent) == pytest.approx(expected, rel=WIDTH_ERROR, abs=1)
