"""shm room: sleeping until a ring has news, and the four idle strategies.

A reader that wants to sleep raises its own `parked` word, lets a full fence pass, and looks at the
cursors once more. Only when nothing is new it waits on the cursors themselves: a futex compares the
word with the value last seen and refuses to sleep when they differ. The writer stores the cursor,
lets a full fence pass and looks at the parked words. Either the reader sees the new cursor or the
writer sees the parked word: no wake-up is lost, and every word keeps its one writer.

Several rings are waited for with futex_waitv (Linux 5.16). Where the kernel has none, or a
container's filter forbids it, a reader of one ring waits on that one; a reader of several waits on
its first and looks at the others every `FALLBACK_NS_MAX`. Whatever happens, it wakes by itself
after `PARK_NS_MAX` at the latest, for its heartbeat.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np

from shm.handles import Consumer
from shm.jit import fence_sequential, jit, now_ns, pause, syscall, yield_cpu
from shm.ring import (
    CURSOR,
    CURSOR_CACHED,
    FUTEX_CALL,
    PARKABLE,
    PARKED,
    PORT_WORDS,
    READER_BASE,
    READER_WORDS,
    RELEASED,
    port_control,
)
from shm.segment import Words

PARK_NS_MAX = 50_000_000
HELD_NS_MAX = 1_000_000  # while a reader holds records that it cannot release yet
FALLBACK_NS_MAX = 1_000_000  # between looks at several rings without futex_waitv
FULL_WORK = 1_000  # a cycle that did as much may have left some: nobody lingers after it
SPIN_NS = 20_000  # backoff: spins this long after the last work, then yields, then sleeps
YIELD_NS = 200_000
_WAITV = 449  # the same number on x86-64 and aarch64
_MONOTONIC = 1
_FUTEX_32 = 2  # of 32 bits, and not private: rings are shared between processes
_FUTEX_WAIT = 0
WAITERS_MAX = 128  # the kernel's own limit
_NANOSLEEP = 101 if os.uname().machine == "aarch64" else 35


@jit
def _nap(time_words: Words, sleep_ns: int) -> None:
    """Sleeps with nanosleep; `time_words` is scratch of two words."""
    time_words[0], time_words[1] = sleep_ns // 1_000_000_000, sleep_ns % 1_000_000_000
    syscall(_NANOSLEEP, time_words.ctypes.data, 0, 0, 0, 0, 0)


@jit
def _wait(vector: Words, count: int, deadline: Words) -> int:
    """Sleeps until one of `count` futexes in `vector` is woken or changed, or the deadline."""
    return syscall(_WAITV, vector.ctypes.data, count, 0, deadline.ctypes.data, _MONOTONIC, 0)


@jit
def _wait_one(waiter: Words, time_words: Words, sleep_ns: int) -> int:
    """Sleeps until the futex of one `waiter` is woken or changed, at most `sleep_ns`."""
    time_words[0], time_words[1] = sleep_ns // 1_000_000_000, sleep_ns % 1_000_000_000
    address, value = waiter[1], waiter[0]
    return syscall(FUTEX_CALL, address, _FUTEX_WAIT, value, time_words.ctypes.data, 0, 0)


@cache
def has_waitv() -> bool:
    """Says whether this host lets us wait for several futexes at once."""
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall(_WAITV, 0, 0, 0, 0, _MONOTONIC)  # waits for nothing: a fault where it exists
    return ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM)


@jit
def _raise_flag(control: Words, reader: int, value: int) -> None:
    control[READER_BASE + READER_WORDS * reader + PARKED] = value
    # Pairs with _wake in shm/ring.py: our flag is visible before we look at the cursor again.
    fence_sequential()


@jit
def raise_flags(ports: Words, value: int) -> None:
    """Sets the parked flag of every reader of `ports` ((n, PORT_WORDS), see Consumer.port)."""
    for index in range(len(ports)):
        _raise_flag(port_control(ports, index), ports[index, 3], value)


@jit
def _sleep_ns(ports: Words, sleep_ns_max: int) -> int:
    """Answers how long nothing need be looked at, 0 when a ring has news.

    A reader that has seen a ring's last record but may not release it yet (its disk or the ring
    behind it is slow) has no news either, but something of its own to look after.
    """
    sleep_ns = sleep_ns_max
    for index in range(len(ports)):
        control = port_control(ports, index)
        base = READER_BASE + READER_WORDS * ports[index, 3]
        cursor = control[CURSOR]
        if control[base + RELEASED] != cursor:
            if control[base + CURSOR_CACHED] != cursor:
                return 0
            sleep_ns = min(sleep_ns, HELD_NS_MAX)
    return sleep_ns


@jit
def _sleep(vector: Words, scratch: Words, sleep_ns: int, has_waitv: bool) -> None:  # noqa: FBT001
    # Woken by a writer, a change, a signal or the deadline: all mean "look again".
    if has_waitv:
        until_ns = now_ns() + sleep_ns
        scratch[0], scratch[1] = until_ns // 1_000_000_000, until_ns % 1_000_000_000
        _wait(vector, len(vector), scratch)
    else:
        bound_ns = sleep_ns if len(vector) == 1 else min(sleep_ns, FALLBACK_NS_MAX)
        _wait_one(vector[0], scratch, bound_ns)


@jit
def park_on(
    ports: Words,
    vector: Words,
    scratch: Words,
    sleep_ns_max: int,
    has_waitv: bool,  # noqa: FBT001
) -> None:
    """Sleeps until one of the rings has news, if none has. Called by: Park, in one call.

    Args:
        ports: of the readers, (n, PORT_WORDS).
        vector: struct futex_waitv for each, (n, 3), addresses and flags filled in.
        scratch: two words.
        sleep_ns_max: wakes by itself after this.
        has_waitv: see the function of this name.
    """
    raise_flags(ports, 1)
    for index in range(len(ports)):
        vector[index, 0] = port_control(ports, index)[CURSOR] & 0xFFFF_FFFF
    sleep_ns = _sleep_ns(ports, sleep_ns_max)
    if sleep_ns:
        _sleep(vector, scratch, sleep_ns, has_waitv)
    raise_flags(ports, 0)


@jit
def _spin() -> None:
    pause()


class IdleStrategy(Protocol):
    """What a runner does with a duty cycle's work count."""

    def idle(self, work_count: int) -> None:
        """Waits a little when there was no work."""


class Spin:
    """Burns the core: the lowest latency, for a pinned core of its own."""

    def idle(self, work_count: int) -> None:
        """Tells the core that it spins."""
        if work_count == 0:
            _spin()


class Yield:
    """Gives the core away each time: for a core shared with processes that have work."""

    def idle(self, work_count: int) -> None:
        """Yields to any runnable thread."""
        if work_count == 0:
            yield_cpu()


class Backoff:
    """Spins, then yields, then sleeps up to a millisecond: for cores that have other uses."""

    def __init__(self, sleep_ns_max: int = 1_000_000) -> None:
        self._sleep_ns_max = sleep_ns_max
        self._idle_since_ns = 0
        self._sleep_ns = 10_000
        self._time = np.zeros(2, np.int64)

    def idle(self, work_count: int) -> None:
        """Waits longer the longer there was no work."""
        if work_count:
            self._idle_since_ns = 0
            self._sleep_ns = 10_000
            return
        now = now_ns()
        if self._idle_since_ns == 0:
            self._idle_since_ns = now
        quiet_ns = now - self._idle_since_ns
        if quiet_ns < SPIN_NS:
            _spin()
        elif quiet_ns < YIELD_NS:
            yield_cpu()
        else:
            _nap(self._time, self._sleep_ns)
            self._sleep_ns = min(2 * self._sleep_ns, self._sleep_ns_max)


class Park:
    """Sleeps on the cursors of its rings until a writer wakes it, or for at most park_ns_max.

    Called by: the process that owns these readers, from one thread.
    """

    def __init__(self, consumers: Sequence[Consumer], park_ns_max: int = PARK_NS_MAX) -> None:
        if len(consumers) > WAITERS_MAX:
            raise ValueError(
                f"rings of one parked worker must be few: rings={len(consumers)} max={WAITERS_MAX}"
            )
        deaf = [one.segment.name for one in consumers if one.control[PARKABLE] == 0]
        if deaf:
            raise ValueError(f"rings that are parked on must be made parkable: rings={deaf}")
        self._consumers = list(consumers)
        self._park_ns_max = park_ns_max
        self._has_waitv = has_waitv()
        self._scratch = np.zeros(2, np.int64)
        ports = [consumer.port(consumer.reader) for consumer in consumers]
        self._ports = np.array(ports, np.int64).reshape(-1, PORT_WORDS)
        # struct futex_waitv: u64 value, u64 address, u32 flags, u32 reserved
        self._vector = np.zeros((len(ports), 3), np.int64)
        self._vector[:, 1] = self._ports[:, 0] + 8 * CURSOR
        self._vector[:, 2] = _FUTEX_32
        raise_flags(self._ports, 0)  # of a reader that died asleep

    def idle(self, work_count: int) -> None:
        """Sleeps when there was no work and still is none."""
        if work_count:
            return
        if not self._consumers:
            _nap(self._scratch, self._park_ns_max)
            return
        park_on(self._ports, self._vector, self._scratch, self._park_ns_max, self._has_waitv)


def is_little(work_count: int) -> bool:
    """Says whether there was work, and so little that lingering gathers more of it."""
    return 0 < work_count < FULL_WORK


class Linger:
    """Sleeps after every cycle with little work, so that the next one has more of it to do.

    For readers that work in batches: each wake-up costs its core the same, however little there is
    to do. What is left to wait for goes to the strategy inside.
    """

    def __init__(self, inside: IdleStrategy, linger_ns: int) -> None:
        self._inside, self._linger_ns = inside, linger_ns
        self._time = np.zeros(2, np.int64)

    def idle(self, work_count: int) -> None:
        """Sleeps when there was a little work, idles as the strategy inside when there was none."""
        self._inside.idle(work_count)
        if is_little(work_count):
            _nap(self._time, self._linger_ns)


def strategy(
    name: str, consumers: Sequence[Consumer], park_ns_max: int = PARK_NS_MAX
) -> IdleStrategy:
    """Answers the idle strategy of a configured name: spin, yield, backoff or park.

    Raises:
        ValueError: when there is none of this name, or a ring cannot be parked on.
    """
    if name == "park":
        return Park(consumers, park_ns_max)
    plain: dict[str, type[Spin | Yield | Backoff]] = {
        "spin": Spin,
        "yield": Yield,
        "backoff": Backoff,
    }
    if name not in plain:
        raise ValueError(f"idle must be spin, yield, backoff or park: idle={name}")
    return plain[name]()
