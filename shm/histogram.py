"""shm room: a log-linear latency histogram in shared memory, one writer, readable at any time.

Values are int64, 0 to 2**42 - 1 (73 minutes in ns); larger ones land in the last bucket. Below 64
every value has its own bucket; above, every power of two is cut into 32 equal buckets, so a
reported value is at most 1/32 (3.2 %) from the truth, 1.6 % when read as the bucket's middle, as
`percentile` does; the highest value is exact. To record one takes compiled code about 2 ns
(`tickring bench histogram`).

    word 0        count     writer
    word 1        total     writer: sum of the values
    word 2        lowest    writer: smallest value, meaningless while count is 0
    word 3        highest   writer: largest value, exact
    word 8 ..     buckets   writer: BUCKETS counts

Source: the bucket layout is HdrHistogram's (G. Tene), with a fixed precision.
"""

from __future__ import annotations

import numpy as np

from shm.jit import jit
from shm.segment import Words

COUNT, TOTAL, LOWEST, HIGHEST, FIRST_BUCKET = 0, 1, 2, 3, 8
SUB_BITS = 5
SUB_COUNT = 1 << SUB_BITS
VALUE_BITS = 42
BUCKETS = (VALUE_BITS - SUB_BITS + 1) * SUB_COUNT
HISTOGRAM_WORDS = FIRST_BUCKET + BUCKETS
VALUE_MAX = (1 << VALUE_BITS) - 1
_ALL = 100.0


@jit
def bucket_of(value: int) -> int:
    """Answers the bucket of a value, 0 .. BUCKETS - 1."""
    value = min(max(value, 0), VALUE_MAX)
    shift = 0
    rest = value >> (SUB_BITS + 1)
    while rest != 0:
        shift += 1
        rest >>= 1
    return (shift << SUB_BITS) + (value >> shift)


@jit
def record(histogram: Words, value: int) -> None:
    """Adds one value, 0 for a negative one. Called by: the histogram's one writer."""
    value = max(value, 0)
    bucket = FIRST_BUCKET + bucket_of(value)
    histogram[bucket] += 1
    if histogram[COUNT] == 0 or value < histogram[LOWEST]:
        histogram[LOWEST] = value
    histogram[HIGHEST] = max(histogram[HIGHEST], value)
    histogram[TOTAL] += value
    histogram[COUNT] += 1


def lower_bound(bucket: int) -> int:
    """Answers the smallest value that falls into a bucket."""
    if bucket < 2 * SUB_COUNT:
        return bucket
    shift = (bucket >> SUB_BITS) - 1
    return (bucket - (shift << SUB_BITS)) << shift


def percentile(histogram: Words, percent: float) -> int:
    """Answers the middle of the bucket that holds a percentile; 100 is the exact highest value."""
    buckets = histogram[FIRST_BUCKET:]
    total = int(buckets.sum())
    if total == 0:
        return 0
    if percent >= _ALL:
        return int(histogram[HIGHEST])
    # A hair less, so that 99.9 % of 1000 is rank 999 whatever binary fractions make of it.
    rank = max(1, int(np.ceil(total * percent / 100.0 * (1 - 1e-12))))
    bucket = int(np.searchsorted(np.cumsum(buckets), rank))
    middle = (lower_bound(bucket) + lower_bound(bucket + 1) - 1) // 2
    return max(min(middle, int(histogram[HIGHEST])), int(histogram[LOWEST]))


def merge(*histograms: Words) -> Words:
    """Answers a new histogram with the values of all."""
    result = np.zeros(HISTOGRAM_WORDS, np.int64)
    filled = [h for h in histograms if h[COUNT]]
    for histogram in filled:
        result[TOTAL] += histogram[TOTAL]
        result[COUNT] += histogram[COUNT]
        result[FIRST_BUCKET:] += histogram[FIRST_BUCKET:]
    if filled:
        result[LOWEST] = min(int(h[LOWEST]) for h in filled)
        result[HIGHEST] = max(int(h[HIGHEST]) for h in filled)
    return result
