"""Pinning is set, verified, and what the host refused is said."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from config.settings import WorkerSettings
from workers import pinning


def _apply(worker: WorkerSettings, answers: object) -> None:
    faults = pinning.apply(worker)
    answers.put((faults, pinning.core_found(), os.getpriority(os.PRIO_PROCESS, 0)))  # type: ignore[attr-defined]


def _in_a_process(worker: WorkerSettings) -> tuple[int, int, int]:
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_apply, args=(worker, answers))
    process.start()
    process.join()
    answer: tuple[int, int, int] = answers.get()
    return answer


@pytest.mark.multiprocess
def test_a_worker_is_pinned_and_nice_as_configured() -> None:
    core = max(os.sched_getaffinity(0))
    worker = WorkerSettings(name="w", agents=(), core=core, nice=5, scheduler="batch")

    assert _in_a_process(worker) == (0, core, 5)


@pytest.mark.multiprocess
def test_a_core_that_is_not_there_is_reported() -> None:
    faults, _, _ = _in_a_process(WorkerSettings(name="w", agents=(), core=4_000))

    assert pinning.describe(faults) == ["core affinity"]
