"""Counters, gauges, histograms and errors: same label same slot, over restarts, within limits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from shm import histogram, segment
from shm.segment import Segment
from shm.stats import (
    BODY_BYTES,
    COUNTER,
    COUNTERS_MAX,
    ERRORS_MAX,
    GAUGE,
    HISTOGRAM,
    HISTOGRAMS_MAX,
    LAYOUT,
    OVERFLOW_TEXT,
    Stats,
    label_of,
)
from tests.shm.processes import Children


@pytest.fixture
def made(segment_prefix: str) -> Iterator[Segment]:
    built = segment.create(f"{segment_prefix}-stats", BODY_BYTES, LAYOUT, 1)
    built.set_ready()
    yield built
    built.unlink()
    built.close()


def test_the_same_name_and_labels_are_the_same_slot(made: Segment) -> None:
    numbers = Stats(made)
    one = numbers.counter("frames_total", stream="trade", worker="a")
    numbers.counter("frames_total", stream="depth", worker="a").add(7)
    again = Stats(made).counter("frames_total", worker="a", stream="trade")
    one.add(2)
    again.add()

    assert (one.index, one.value) == (again.index, 3)
    assert int(one.words[one.index]) == 3


def test_samples_are_what_was_counted_counters_first(made: Segment) -> None:
    numbers = Stats(made)
    words = numbers.histogram("hop_seconds", hop="a")
    histogram.record(words, 1_000)
    numbers.gauge("lag").set(-4)
    numbers.counter("orders_total").add(5)
    samples = Stats(made).samples()

    assert [sample[:3] for sample in samples] == [
        ("lag", GAUGE, -4),
        ("orders_total", COUNTER, 5),
        ('hop_seconds{hop="a"}', HISTOGRAM, 0),
    ]
    assert np.array_equal(samples[2].words, words)
    assert samples[0].words.size == 0


def test_labels_are_sorted_and_cannot_break_out_of_their_quotes() -> None:
    assert label_of("plain", {}) == "plain"
    assert label_of("x", {"b": "2", "a": '1"\n\\\0'}) == 'x{a="1____",b="2"}'


def count_on(name: str) -> None:
    """Is another process that takes over."""
    numbers = Stats(segment.attach(name, LAYOUT))
    numbers.counter("orders_total").add(10)
    numbers.counter("fresh_total").add()
    histogram.record(numbers.histogram("hop_seconds"), 7)
    numbers.error("disk is full")


def test_another_process_finds_the_slots_and_counts_on(made: Segment, children: Children) -> None:
    numbers = Stats(made)
    numbers.counter("orders_total").add(1)
    histogram.record(numbers.histogram("hop_seconds"), 5)
    numbers.error("disk is full")
    statuses = [children.join(children.start(count_on, made.name)) for _ in range(2)]
    values = {sample.label: sample.value for sample in numbers.samples()}

    assert statuses == [0, 0]
    assert (values["orders_total"], values["fresh_total"]) == (21, 2)
    assert numbers.histogram("hop_seconds")[: histogram.TOTAL + 1].tolist() == [3, 19]
    assert [(error.text, error.times) for error in numbers.errors()] == [("disk is full", 3)]


def test_a_process_killed_while_naming_a_slot_leaves_nothing_of_the_name(made: Segment) -> None:
    """The kind is stored last: a label without it is a slot that is free."""
    half = b"a_name_that_is_longer_than_the_next"
    made.words(16, 14).view(np.uint8)[: len(half)] = np.frombuffer(half, np.uint8)
    Stats(made).counter("short").add()

    assert [sample.label for sample in Stats(made).samples()] == ["short"]


def test_a_label_keeps_its_kind(made: Segment) -> None:
    numbers = Stats(made)
    numbers.counter("lag")

    with pytest.raises(ValueError, match=f"label must keep its kind: label=lag kind={COUNTER}"):
        numbers.gauge("lag")


def test_the_last_counter_slot_is_usable_and_the_next_is_one_clear_error(made: Segment) -> None:
    numbers = Stats(made)
    for number in range(COUNTERS_MAX):
        numbers.counter(f"c{number}").add(number)

    with pytest.raises(
        ValueError, match=f"slots must suffice: label=more slots_max={COUNTERS_MAX}"
    ):
        numbers.counter("more")
    assert sorted(sample.value for sample in numbers.samples()) == list(range(COUNTERS_MAX))


def test_the_last_histogram_slot_is_usable_and_the_next_is_one_clear_error(made: Segment) -> None:
    numbers = Stats(made)
    for number in range(HISTOGRAMS_MAX):
        histogram.record(numbers.histogram(f"h{number}"), number)

    with pytest.raises(ValueError, match=f"label=more slots_max={HISTOGRAMS_MAX}"):
        numbers.histogram("more")
    found = [int(sample.words[histogram.HIGHEST]) for sample in numbers.samples()]
    assert found == list(range(HISTOGRAMS_MAX))
    assert numbers.errors() == []


@pytest.mark.parametrize(("kind", "bytes_max"), [("counter", 112), ("histogram", 120)])
def test_a_label_that_does_not_fit_is_one_clear_error_and_takes_no_slot(
    made: Segment, kind: str, bytes_max: int
) -> None:
    numbers = Stats(made)
    getattr(numbers, kind)("x" * bytes_max)

    with pytest.raises(ValueError, match=f"label must be shorter: .* bytes_max={bytes_max}"):
        getattr(numbers, kind)("y" * (bytes_max + 1))
    assert [sample.label for sample in numbers.samples()] == ["x" * bytes_max]


def test_errors_are_told_apart_and_each_counts_its_times(made: Segment) -> None:
    numbers = Stats(made)
    for text in ("disk is full", "venue is gone", "disk is full", "", "disk"):
        numbers.error(text)
    errors = Stats(made).errors()

    assert [(error.text, error.times) for error in errors] == [
        ("disk is full", 2), ("venue is gone", 1), ("", 1), ("disk", 1),
    ]  # fmt: skip
    assert errors[0].first_ns < errors[1].first_ns < errors[0].last_ns
    assert errors[1].first_ns <= errors[1].last_ns


def test_errors_beyond_the_slots_are_counted_together(made: Segment) -> None:
    numbers = Stats(made)
    for number in range(ERRORS_MAX + 4):
        numbers.error(f"error {number}")
    numbers.error("error 3")
    errors = numbers.errors()

    assert len(errors) == ERRORS_MAX
    assert (errors[3].text, errors[3].times) == ("error 3", 2)
    assert (errors[-1].text, errors[-1].times) == (OVERFLOW_TEXT, 5)


@pytest.mark.parametrize(
    "text", ["ä" * 200, "x" * 232, "x" * 233, "odd \udcff byte", "nul at the end\0\0"]
)
def test_any_text_is_one_error_however_often_it_comes(made: Segment, text: str) -> None:
    numbers = Stats(made)
    numbers.error(text)
    numbers.error(text)

    assert [error.times for error in numbers.errors()] == [2]


def test_a_process_killed_while_writing_an_error_leaves_nothing_of_its_text(
    made: Segment,
) -> None:
    half = b"an error text that is longer than the next"
    numbers = Stats(made)
    numbers._error_words(0)[3:].view(np.uint8)[: len(half)] = np.frombuffer(half, np.uint8)
    numbers.error("short")

    assert [error.text for error in numbers.errors()] == ["short"]


def test_numbers_of_another_layout_are_not_attached(made: Segment) -> None:
    with pytest.raises(segment.SegmentError, match="segment layout differs"):
        segment.attach(made.name, segment.fingerprint("stats", 1))
