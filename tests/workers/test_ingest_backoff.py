"""Delays double, are spread, and stop growing."""

from __future__ import annotations

from workers.ingest_backoff import Backoff


def test_delays_double_with_jitter_up_to_the_limit() -> None:
    backoff = Backoff(100, 1_000)
    delays = [backoff.next_s() for _ in range(40)]

    for delay, whole in zip(delays, [0.1, 0.2, 0.4, 0.8, *[1.0] * 36], strict=True):
        assert whole / 2 <= delay <= whole
    assert len(set(delays[4:])) > 1
    assert backoff.tries == 40


def test_reset_begins_again() -> None:
    backoff = Backoff(100, 1_000)
    for _ in range(5):
        backoff.next_s()
    backoff.reset()

    assert backoff.next_s() <= 0.1
