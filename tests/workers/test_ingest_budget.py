"""Snapshots within the venue's weight: in whole minutes, and never before the venue's time."""

from __future__ import annotations

import pytest

from engine.venues import SPOT, USDM
from workers.ingest_budget import BAN_S_MIN, MINUTE_NS, SnapshotBudget

SECOND_NS = 1_000_000_000


class Clock:
    """Epoch time that only the test moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * MINUTE_NS + 10 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns


def taken(budget: SnapshotBudget) -> int:
    count = 0
    while budget.take():
        count += 1
    return count


@pytest.mark.parametrize(("workers", "count"), [(1, 12), (2, 6), (4, 3)])
def test_half_a_minutes_weight_is_shared_by_the_workers(workers: int, count: int) -> None:
    assert taken(SnapshotBudget(SPOT, 250, workers, Clock())) == count


def test_one_snapshot_a_minute_is_always_allowed() -> None:
    assert taken(SnapshotBudget(USDM, 20, 1_000, Clock())) == 1


def test_the_next_minute_begins_anew() -> None:
    clock = Clock()
    budget = SnapshotBudget(USDM, 20, 1, clock)
    first = taken(budget)
    clock.now_ns += 49 * SECOND_NS
    assert taken(budget) == 0
    clock.now_ns += SECOND_NS
    assert taken(budget) == first == 60


@pytest.mark.parametrize(
    ("status", "retry_after_s", "wait_s"),
    [
        (429, 7.0, 7.0),
        (429, 0.0, 50.0),
        (418, 300.0, 300.0),
        (418, 0.0, BAN_S_MIN),
        (503, 3.0, 3.0),
    ],
)
def test_a_refusal_holds_for_everybody_until_its_time_is_over(
    status: int, retry_after_s: float, wait_s: float
) -> None:
    clock = Clock()
    budget = SnapshotBudget(SPOT, 250, 1, clock)
    budget.refused(status, retry_after_s)
    clock.now_ns += int(wait_s * SECOND_NS) - 1
    assert not budget.take()
    clock.now_ns += 1
    assert budget.take()


def test_what_others_used_of_the_address_counts() -> None:
    clock = Clock()
    budget = SnapshotBudget(SPOT, 250, 1, clock)
    budget.heard(5_000)
    assert budget.take()
    budget.heard(5_400)
    assert not budget.take()
    clock.now_ns += 50 * SECOND_NS
    assert budget.take()
