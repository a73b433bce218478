"""workers room: where and how a worker's process runs: set, then verified, then reported.

Each setting that could not be had is one bit of the row's `faults`, so that `tickring status` says
what the host refused instead of pretending.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.forkserver import _forkserver

from config.settings import WorkerSettings

FAULT_AFFINITY, FAULT_SCHEDULER, FAULT_NICE, FAULT_MEMORY, FAULT_TIMER, FAULT_DEATH = (
    1 << bit for bit in range(6)
)
FAULT_NAMES = {
    FAULT_AFFINITY: "core affinity",
    FAULT_SCHEDULER: "scheduling class",
    FAULT_NICE: "nice value",
    FAULT_MEMORY: "memory lock",
    FAULT_TIMER: "timer slack",
    FAULT_DEATH: "parent-death signal",
}
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_TIMERSLACK, _PR_GET_TIMERSLACK = 1, 2, 29, 30
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_SCHED_SETATTR = 274 if os.uname().machine == "aarch64" else 314
_SCHED_ATTR = "IIQiIQQQ"  # size, policy, flags, nice, priority, runtime, deadline, period
SLICE_NS = 100_000
_POLICIES = {
    "other": os.SCHED_OTHER,
    "batch": os.SCHED_BATCH,
    "idle": os.SCHED_IDLE,
    "fifo": os.SCHED_FIFO,
}


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> int:
    """Asks the kernel to kill this process when its parent dies; answers fault bits.

    The parent is the forkserver, which ends when nobody holds the other end of its pipe any more.
    The standard library hands that end to every child as well, for children of its own; kept, it
    would let forkserver and workers outlive a killed supervisor.
    """
    held = getattr(_forkserver, "_forkserver_alive_fd", None)
    if held is not None:
        os.close(held)
        _forkserver._forkserver_alive_fd = None  # type: ignore[attr-defined]  # noqa: SLF001
    parent_pid = os.getppid()
    if _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        return FAULT_DEATH
    if os.getppid() != parent_pid:  # it died before we asked
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


@contextmanager
def stepped_back(cores: frozenset[int]) -> Iterator[None]:
    """Keeps this process off `cores`, and lets it interrupt nobody when it wakes up.

    A worker that spins owns its core: whatever else runs there stands between a quote and its
    order. So a process that is started meanwhile stays off as well, unless it pins itself. When no
    other core is left, nothing is changed. SCHED_BATCH is the policy whose tasks wait for the
    running one's turn to end. Called by: the supervisor.
    """
    before, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    if rest := before - cores:
        os.sched_setaffinity(0, rest)
    if is_ordinary := policy == os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        if is_ordinary:
            os.sched_setscheduler(0, policy, os.sched_param(0))


def apply(worker: WorkerSettings) -> int:
    """Sets affinity, scheduling class, nice, memory lock and timer slack; answers fault bits."""
    faults = _set_affinity(worker.core)
    faults |= _set_scheduler(worker)
    if worker.nice:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, worker.nice)
        except OSError:
            faults |= FAULT_NICE
    if worker.idle == "spin" and worker.scheduler == "other":
        _shorten_slice()
    libc = _libc()
    if worker.lock_memory and libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        faults |= FAULT_MEMORY
    libc.prctl(_PR_SET_TIMERSLACK, worker.timer_slack_ns, 0, 0, 0)
    if libc.prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0) != worker.timer_slack_ns:
        faults |= FAULT_TIMER
    return faults


def _set_affinity(core: int) -> int:
    if core < 0:
        return 0
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        return FAULT_AFFINITY
    return 0 if os.sched_getaffinity(0) == {core} else FAULT_AFFINITY


def _set_scheduler(worker: WorkerSettings) -> int:
    policy = _POLICIES[worker.scheduler]
    priority = worker.priority if worker.scheduler == "fifo" else 0
    try:
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    except OSError:
        return FAULT_SCHEDULER
    return 0 if os.sched_getscheduler(0) == policy else FAULT_SCHEDULER


def _shorten_slice() -> None:
    """Asks for short turns: whatever else must run on a spinning worker's core waits for less.

    The kernel's own work there (a soft interrupt's thread that carries frames from one socket to
    another, say) waits until the turn of what runs has ended: 3 ms by default, 0.1 ms at the least.
    The policy stays as it is. A kernel before 6.12 ignores it, and a refusal changes nothing.
    """
    attributes = struct.pack(_SCHED_ATTR, struct.calcsize(_SCHED_ATTR), 0, 0, 0, 0, SLICE_NS, 0, 0)
    _libc().syscall(_SCHED_SETATTR, 0, attributes, 0)


def core_found() -> int:
    """Answers the one core this process may run on, -1 when there are several."""
    cores = os.sched_getaffinity(0)
    return next(iter(cores)) if len(cores) == 1 else -1


def describe(faults: int) -> list[str]:
    """Answers what could not be set, in words."""
    return [name for bit, name in FAULT_NAMES.items() if faults & bit]
