"""Pinning is set, verified, and what the host refused is said."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import struct
from typing import Any

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


def _turn_ns(worker: WorkerSettings, answers: object) -> None:
    pinning.apply(worker)
    getattr_call = 275 if os.uname().machine == "aarch64" else 315
    found = ctypes.create_string_buffer(struct.calcsize(pinning._SCHED_ATTR))
    ctypes.CDLL(None).syscall(getattr_call, 0, found, len(found), 0)
    answers.put(struct.unpack(pinning._SCHED_ATTR, found.raw)[5])  # type: ignore[attr-defined]


@pytest.mark.multiprocess
@pytest.mark.parametrize("idle", ["spin", "park"])
def test_what_spins_asks_for_short_turns(idle: Any) -> None:
    if tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 12):
        pytest.skip("kernels before 6.12 have one length of turn for all")
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    worker = WorkerSettings(name="w", agents=(), idle=idle)
    process = context.Process(target=_turn_ns, args=(worker, answers))
    process.start()
    process.join()

    assert (answers.get() == pinning.SLICE_NS) == (idle == "spin")


def _step_back(cores: frozenset[int], answers: object) -> None:
    seen = [(os.sched_getaffinity(0), os.sched_getscheduler(0))]
    with pinning.stepped_back(cores):
        seen.append((os.sched_getaffinity(0), os.sched_getscheduler(0)))
    seen.append((os.sched_getaffinity(0), os.sched_getscheduler(0)))
    answers.put(seen)  # type: ignore[attr-defined]


def _stepped_back(cores: frozenset[int]) -> list[tuple[set[int], int]]:
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_step_back, args=(cores, answers))
    process.start()
    process.join()
    answer: list[tuple[set[int], int]] = answers.get()
    return answer


@pytest.mark.multiprocess
@pytest.mark.cores(2)
def test_who_steps_back_keeps_off_the_cores_of_spinning_workers_for_that_time() -> None:
    ours = os.sched_getaffinity(0)
    core = max(ours)
    before, meanwhile, after = _stepped_back(frozenset({core}))

    assert before == after == (ours, os.SCHED_OTHER)
    assert meanwhile == (ours - {core}, os.SCHED_BATCH)


@pytest.mark.multiprocess
def test_who_has_no_other_core_stays_where_it_is() -> None:
    ours = os.sched_getaffinity(0)

    assert _stepped_back(frozenset(ours))[1] == (ours, os.SCHED_BATCH)


@pytest.mark.multiprocess
def test_a_core_that_is_not_there_is_reported() -> None:
    faults, _, _ = _in_a_process(WorkerSettings(name="w", agents=(), core=4_000))

    assert pinning.describe(faults) == ["core affinity"]
