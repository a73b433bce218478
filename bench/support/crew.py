"""Bench: processes that are pinned, start together, and leave their figures in shared words.

A member is a function of the gate. It makes everything ready, warms up, calls `gate.wait()`, and
goes; times and samples go into `gate.words`, which the caller reads after all have ended. The
caller sleeps meanwhile: on two cores there is no room for a third process.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from shm.segment import Words

MEMBERS_MAX = 8
RUN_S_MAX = 60.0  # far beyond any run: it ends a rival that hangs
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Gate:
    """Where the members of a crew wait for each other, and the words they share.

    words: (n,) int64, zero at first, each word written by one member.
    """

    def __init__(self, members: int, words: int) -> None:
        memory = mmap.mmap(-1, 8 * (MEMBERS_MAX + words))  # shared with those forked later
        self._ready: Words = np.frombuffer(memory, np.int64, members)
        self.words: Words = np.frombuffer(memory, np.int64, words, 8 * MEMBERS_MAX)
        self.place = -1

    def wait(self) -> None:
        """Waits until every member has come here."""
        self._ready[self.place] = 1
        while not self._ready.all():
            os.sched_yield()


Member = Callable[[Gate], None]


def run(members: Sequence[Member], cores: Sequence[int], words: int) -> Words:
    """Runs each member in a process of its own, pinned to its core; answers the shared words.

    Args:
        members: at most MEMBERS_MAX.
        cores: one for each member, -1 for "not pinned".
        words: size of the shared words.

    Raises:
        RuntimeError: when a member fails or the crew does not end within RUN_S_MAX.
    """
    assert len(members) <= min(len(cores), MEMBERS_MAX), "each member has a core and a place"
    gate = Gate(len(members), words)
    sys.stdout.flush()
    sys.stderr.flush()
    living: dict[int, int] = {}
    try:
        for place, member in enumerate(members):
            pid = _fork()
            if pid == 0:
                gate.place = place
                _live(member, gate, cores[place])
            living[os.pidfd_open(pid)] = pid
        _await(living)
    finally:
        for descriptor, pid in living.items():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(descriptor)
    return gate.words


def _fork() -> int:
    with warnings.catch_warnings():
        # 3.12 warns about numpy's idle threads, which no member uses.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _live(member: Member, gate: Gate, core: int) -> None:
    status = 1
    try:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, int(signal.SIGKILL))
        if core >= 0:
            os.sched_setaffinity(0, {core})
        member(gate)
        status = 0
    except BaseException:  # noqa: BLE001 - a member must never come back into the caller
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _await(living: dict[int, int]) -> None:
    """Reaps all members; raises at the first that fails, the rest is left to the caller."""
    poller = select.poll()
    for descriptor in living:
        poller.register(descriptor, select.POLLIN)
    while living:
        ended = poller.poll(RUN_S_MAX * 1_000)
        if not ended:
            raise RuntimeError(f"a run must end within {RUN_S_MAX:.0f} s")
        for descriptor, _ in ended:
            poller.unregister(descriptor)
            status = os.waitpid(living.pop(descriptor), 0)[1]
            os.close(descriptor)
            if status:
                code = os.waitstatus_to_exitcode(status)
                raise RuntimeError(f"a member of a run must end well: exit_status={code}")
