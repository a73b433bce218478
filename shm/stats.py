"""shm room: the numbers a process tells the outside, in one segment that only it writes.

Counters, gauges, histograms and distinct errors. Reading them costs the writer nothing, and they
survive its death: a process that takes over finds the same slots by label and counts on.

Body, offsets in bytes; every field is written by the owning process only:

    0         counters     COUNTERS_MAX slots of 128: value 8, kind 8 (0 free, 1 counter, 2 gauge;
                           stored last, with release), label 112 (text, zero padded)
    65536     histograms   HISTOGRAMS_MAX slots: kind 8, label 120, then HISTOGRAM_WORDS words
    ...       errors       ERRORS_MAX slots of 256: count 8 (stored last, with release), first_ns 8,
                           last_ns 8, text 232; the last slot counts what found no slot of its own

A label is `name{key="value",...}` with the keys sorted, as Prometheus writes it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shm.histogram import HISTOGRAM_WORDS
from shm.jit import epoch_ns, jit, load_acquire, store_release
from shm.segment import Bytes, Segment, Words, fingerprint

COUNTERS_MAX, HISTOGRAMS_MAX, ERRORS_MAX = 512, 16, 32
COUNTER, GAUGE, HISTOGRAM = 1, 2, 3
OVERFLOW_TEXT = "further distinct errors"
_SLOT_BYTES, _ERROR_BYTES = 128, 256
_HISTOGRAM_BYTES = 128 + 8 * HISTOGRAM_WORDS
_HISTOGRAMS_AT = COUNTERS_MAX * _SLOT_BYTES
_ERRORS_AT = _HISTOGRAMS_AT + HISTOGRAMS_MAX * _HISTOGRAM_BYTES
BODY_BYTES = _ERRORS_AT + ERRORS_MAX * _ERROR_BYTES
LAYOUT = fingerprint("stats", 2, COUNTERS_MAX, HISTOGRAMS_MAX, ERRORS_MAX, HISTOGRAM_WORDS)


class Sample(NamedTuple):
    """One slot as read from outside."""

    label: str  # name{key="value"}
    kind: int  # COUNTER, GAUGE or HISTOGRAM
    value: int  # of a counter or gauge
    words: Words  # of a histogram, (HISTOGRAM_WORDS,) live view; else empty


class Error(NamedTuple):
    """One distinct error."""

    text: str
    times: int
    first_ns: int  # epoch
    last_ns: int


@jit
def _commit(words: Words, index: int, kind: int) -> None:
    # Pairs with _kind: a reader that sees the kind sees the label, or the count and the error.
    store_release(words, index, kind)


@jit
def _kind(words: Words, index: int) -> int:
    # Pairs with _commit.
    return load_acquire(words, index)


def label_of(name: str, labels: dict[str, str]) -> str:
    """Answers `name{key="value"}`, keys sorted; quotes and backslashes in values become `_`."""
    if not labels:
        return name
    return name + "{" + ",".join(f'{key}="{_clean(labels[key])}"' for key in sorted(labels)) + "}"


def _clean(value: str) -> str:
    return value.translate({ord(c): "_" for c in '\\"\n\0'})


class Counter:
    """One counter or gauge slot; `words[index]` for compiled code."""

    __slots__ = ("index", "words")

    def __init__(self, words: Words, index: int) -> None:
        self.words = words
        self.index = index

    @property
    def value(self) -> int:
        """The count so far, or the gauge's last value."""
        return int(self.words[self.index])

    def add(self, count: int = 1) -> None:
        """Counts. Called by: the owning process."""
        self.words[self.index] += count

    def set(self, value: int) -> None:
        """Sets a gauge. Called by: the owning process."""
        self.words[self.index] = value


def _set_text(room: Bytes, raw: bytes) -> None:
    room[:] = 0  # a process that was killed here may have left half a text
    room[: len(raw)] = np.frombuffer(raw, np.uint8)


class _Table:
    """Labelled slots at fixed places of the segment."""

    def __init__(self, segment: Segment, at: int, stride: int, kind_at: int) -> None:
        self.segment, self.at, self.stride, self.kind_at = segment, at, stride, kind_at

    def kind(self, slot: int) -> int:
        return _kind(self.segment.words(self.at + slot * self.stride + self.kind_at, 1), 0)

    def label_bytes(self, slot: int) -> Bytes:
        start = self.at + slot * self.stride + self.kind_at + 8
        return self.segment.words(start, (_SLOT_BYTES - 8 - self.kind_at) // 8).view(np.uint8)

    def label(self, slot: int) -> str:
        return self.label_bytes(slot).tobytes().rstrip(b"\0").decode()

    def take(self, label: str, kind: int, slots_max: int) -> int:
        """Answers the slot of `label`, made when there is none yet.

        Raises:
            ValueError: when the label is too long, is of another kind, or slots run out.
        """
        for slot in range(slots_max):
            found = self.kind(slot)
            if found == 0:
                raw = label.encode()
                room = self.label_bytes(slot)
                if len(raw) > len(room):
                    raise ValueError(f"label must be shorter: label={label} bytes_max={len(room)}")
                _set_text(room, raw)
                _commit(self.segment.words(self.at + slot * self.stride + self.kind_at, 1), 0, kind)
                return slot
            if self.label(slot) == label:
                if found != kind:
                    raise ValueError(f"label must keep its kind: label={label} kind={found}")
                return slot
        raise ValueError(f"slots must suffice: label={label} slots_max={slots_max}")


class Stats:
    """The owning process's handle, and with `samples` and `errors` anybody's reader."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._counters = _Table(segment, 0, _SLOT_BYTES, 8)
        self._histograms = _Table(segment, _HISTOGRAMS_AT, _HISTOGRAM_BYTES, 0)
        self._words = segment.words(0, COUNTERS_MAX * _SLOT_BYTES // 8)

    def counter(self, name: str, **labels: str) -> Counter:
        """Answers the counter of this name and labels. Raises ValueError when slots run out."""
        slot = self._counters.take(label_of(name, labels), COUNTER, COUNTERS_MAX)
        return Counter(self._words, slot * _SLOT_BYTES // 8)

    def gauge(self, name: str, **labels: str) -> Counter:
        """Answers the gauge of this name and labels. Raises ValueError when slots run out."""
        slot = self._counters.take(label_of(name, labels), GAUGE, COUNTERS_MAX)
        return Counter(self._words, slot * _SLOT_BYTES // 8)

    def histogram(self, name: str, **labels: str) -> Words:
        """Answers the words of the histogram of this name, for shm.histogram.record."""
        slot = self._histograms.take(label_of(name, labels), HISTOGRAM, HISTOGRAMS_MAX)
        return self._histogram_words(slot)

    def _histogram_words(self, slot: int) -> Words:
        start = _HISTOGRAMS_AT + slot * _HISTOGRAM_BYTES + 128
        return self.segment.words(start, HISTOGRAM_WORDS)

    def _error_words(self, slot: int) -> Words:
        return self.segment.words(_ERRORS_AT + slot * _ERROR_BYTES, _ERROR_BYTES // 8)

    def error(self, text: str) -> None:
        """Counts a distinct error and its times; the last slot takes the overflow."""
        raw = text.encode(errors="replace")[: _ERROR_BYTES - 24]
        raw = raw.decode(errors="ignore").encode().rstrip(b"\0")
        for slot in range(ERRORS_MAX):
            words = self._error_words(slot)
            room = words[3:].view(np.uint8)
            is_last = slot == ERRORS_MAX - 1
            if words[0] == 0:
                _set_text(room, OVERFLOW_TEXT.encode() if is_last else raw)
                words[1] = epoch_ns()
            elif not is_last and room.tobytes().rstrip(b"\0") != raw:
                continue
            words[2] = epoch_ns()
            _commit(words, 0, words[0] + 1)
            return

    def samples(self) -> list[Sample]:
        """Answers every slot in use, counters first. Called by: any process."""
        none = np.zeros(0, np.int64)
        found = []
        for slot in range(COUNTERS_MAX):
            kind = self._counters.kind(slot)
            if kind == 0:
                break
            value = int(self._words[slot * _SLOT_BYTES // 8])
            found.append(Sample(self._counters.label(slot), kind, value, none))
        for slot in range(HISTOGRAMS_MAX):
            if self._histograms.kind(slot) == 0:
                break
            words = self._histogram_words(slot)
            found.append(Sample(self._histograms.label(slot), HISTOGRAM, 0, words))
        return found

    def errors(self) -> list[Error]:
        """Answers the distinct errors. Called by: any process."""
        found = []
        for slot in range(ERRORS_MAX):
            words = self._error_words(slot)
            if _kind(words, 0) == 0:
                break
            text = words[3:].view(np.uint8).tobytes().rstrip(b"\0").decode(errors="replace")
            found.append(Error(text, int(words[0]), int(words[1]), int(words[2])))
        return found
