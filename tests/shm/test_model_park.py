"""Parking and waking, explored over every run of small worlds under weak memory.

    writers ----> rings ----> readers that sleep until a writer wakes them

`Park` of shm/park.py and `_wake` of shm/ring.py run as they are shipped (tests/shm/shipped.py), up
to the arguments of the system calls. In these worlds no sleep ends by itself. So a wake-up that is
lost is a run that ends with a sleeping reader, since a reader is only done when it has read all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pytest

from shm.ring import GATING
from tests.shm.modelcheck import Finished, Program, Turn, World, explore
from tests.shm.shipped import Mutation, Shared, load, mutations, unweakened
from tests.shm.worlds import DEEP, Ring, cases, told

MakeWorld = Callable[[Mutation | None], World]
CAPACITY_MAX = 4


def dozing(consumers: list[Any], idle: Any, last: int) -> Turn:
    """Answers a worker's turn: takes what each ring has, then idles."""

    def turn(_: None) -> Hashable:
        work_count = 0
        for consumer in consumers:
            count = len(consumer.poll(CAPACITY_MAX))
            if count:
                consumer.release(consumer.released + count)
            work_count += count
        if all(consumer.released == last for consumer in consumers):
            return Finished()
        idle.idle(work_count)
        return None

    return turn


def holding(consumer: Any, idle: Any, last: int) -> Turn:
    """Answers the turn of a worker that cannot release a record until all are there."""

    def turn(_: None) -> Hashable:
        found = len(consumer.poll(CAPACITY_MAX))
        if found == last + 1:
            return Finished()
        idle.idle(0)
        return None

    return turn


def parked(
    mutation: Mutation | None = None, *,
    last: int = 1, readers: int = 1, rings: int = 1,
    has_waitv: bool = True, is_held: bool = False,
) -> World:  # fmt: skip
    """Readers that park on one ring, or one that parks on several."""
    shared = Shared()
    modules = load(shared, mutation)
    modules.park.has_waitv = lambda: has_waitv
    capacity = 2 if last < 2 else CAPACITY_MAX
    made = [
        Ring(
            shared, modules, (GATING,) * readers, capacity,
            writer=number, first_reader=rings, is_parkable=True,
            name="ring" if rings == 1 else f"ring {number}",
        )
        for number in range(rings)
    ]  # fmt: skip
    programs = [
        Program(f"writer {number}", ring.writing(last), 1) for number, ring in enumerate(made)
    ]
    for reader in range(readers):
        consumers = [modules.handles.Consumer(ring.segment, reader) for ring in made]
        idle = modules.park.Park(consumers)
        turn = holding(consumers[0], idle, last) if is_held else dozing(consumers, idle, last)
        programs.append(Program(f"reader {reader}", turn))
    return shared.world(programs)


def held(mutation: Mutation | None = None) -> World:
    """A reader that holds what it has read."""
    return parked(mutation, is_held=True)


def without_waitv(mutation: Mutation | None = None) -> World:
    """A reader on a kernel that waits for one word at a time."""
    return parked(mutation, has_waitv=False)


def shared_ring(mutation: Mutation | None = None) -> World:
    """Two readers that park on the same cursor."""
    return parked(mutation, last=0, readers=2)


def appended(mutation: Mutation | None = None) -> World:
    """A Python agent writes on x86-64, where it publishes without a call if nobody parks."""
    shared = Shared(has_strong_order=True)
    modules = load(shared, mutation)
    modules.park.has_waitv = lambda: True
    ring = Ring(shared, modules, (GATING,), is_parkable=True)
    consumers = [modules.handles.Consumer(ring.segment, 0)]
    reader = Program("reader", dozing(consumers, modules.park.Park(consumers), 1))
    return shared.world([Program("writer", ring.appending(1), -1), reader])


def two_rings(mutation: Mutation | None = None) -> World:
    """One reader that parks on the cursors of two rings, each with a writer."""
    return parked(mutation, last=0, rings=2)


SLOW = pytest.mark.slow
SHAPES = [
    pytest.param({"last": 2}, marks=SLOW, id="one-ring"),
    pytest.param({"last": 1, "has_waitv": False}, id="one-ring-without-waitv"),
    pytest.param({"last": 1, "is_held": True}, id="records-held"),
    pytest.param({"last": 0, "readers": 2}, marks=SLOW, id="two-readers"),
    pytest.param({"last": 0, "rings": 2}, marks=SLOW, id="two-rings"),
]
if DEEP:
    SHAPES += [
        pytest.param({"last": 3}, marks=SLOW, id="one-ring-longer"),
        pytest.param({"last": 3, "is_held": True}, marks=SLOW, id="records-held-longer"),
        pytest.param({"last": 1, "readers": 2}, marks=SLOW, id="two-readers-longer"),
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_nobody_sleeps_over_a_record(shape: dict[str, Any]) -> None:
    report = explore(parked(**shape))

    assert report.kind == "", report


def test_an_agent_that_appends_wakes_its_readers() -> None:
    report = explore(appended())

    assert report.kind == "", report


def test_shortcuts_of_the_explorer_change_nothing() -> None:
    short, plain = (explore(parked(last=0), shortcuts=shortcuts) for shortcuts in (True, False))

    assert (short.kind, short.results) == (plain.kind, plain.results) == ("", {(None, None)})
    assert short.states < plain.states


MUTATIONS = mutations(
    """
wake without fence: asleep in parked
-    fence_sequential()
     for reader in range(READERS_MAX):

wake with fences that are not sequential: asleep in parked
-    fence_sequential()
+    fence_release()
+    fence_acquire()
     for reader in range(READERS_MAX):

publish wakes nobody: asleep in parked
-    if control[PARKABLE] != 0:
+    if False:

append to a ring that is parked on by plain moves: asleep in appended
-        self._is_plain = HAS_STRONG_ORDER and not self.control[PARKABLE]
+        self._is_plain = HAS_STRONG_ORDER

wake before the cursor is stored: asleep in parked
-    store_release(control, CURSOR, sequence)
     if control[PARKABLE] != 0:
         _wake(control)
+    store_release(control, CURSOR, sequence)

wake looks at one flag only: asleep in shared_ring
-    for reader in range(READERS_MAX):
+    for reader in range(1):
         if control[READER_BASE + READER_WORDS * reader + PARKED] != 0:

wake wakes one of many: asleep in shared_ring
-_WAKE_ALL = 1 << 30
+_WAKE_ALL = 1

flag without fence: asleep in parked
     # Pairs with _wake in shm/ring.py: our flag is visible before we look at the cursor again.
-    fence_sequential()

flag with fences that are not sequential: asleep in parked
     # Pairs with _wake in shm/ring.py: our flag is visible before we look at the cursor again.
-    fence_sequential()
+    from shm.jit import fence_acquire, fence_release
+    fence_release()
+    fence_acquire()

flag behind the fence: asleep in parked
-    control[READER_BASE + READER_WORDS * reader + PARKED] = value
     # Pairs with _wake in shm/ring.py: our flag is visible before we look at the cursor again.
     fence_sequential()
+    control[READER_BASE + READER_WORDS * reader + PARKED] = value

flag never raised: asleep in parked
-    raise_flags(ports, 1)

flags lowered before the sleep: asleep in parked
+    raise_flags(ports, 0)
     if sleep_ns:
         _sleep(vector, scratch, sleep_ns, has_waitv)

no look behind the flag: asleep in parked
-            if control[base + CURSOR_CACHED] != cursor:
-                return 0

news of what is held taken for none: asleep in held
-            if control[base + CURSOR_CACHED] != cursor:
-                return 0

cursor expected is read behind the look: asleep in parked
     if sleep_ns:
+        for index in range(len(ports)):
+            vector[index, 0] = port_control(ports, index)[CURSOR] & 0xFFFF_FFFF
         _sleep(vector, scratch, sleep_ns, has_waitv)

cursor expected is read behind the look without waitv: asleep in without_waitv
     if sleep_ns:
+        for index in range(len(ports)):
+            vector[index, 0] = port_control(ports, index)[CURSOR] & 0xFFFF_FFFF
         _sleep(vector, scratch, sleep_ns, has_waitv)

only the first ring is waited for: asleep in two_rings
-        _wait(vector, len(vector), scratch)
+        _wait(vector, 1, scratch)

only the first ring is looked at: asleep in two_rings
     sleep_ns = sleep_ns_max
-    for index in range(len(ports)):
+    for index in range(1):
"""
)

# The fence is for the flag that goes up: a flag that comes down late costs one needless call. The
# look comes behind the flag in any case: it is the kernel's, when it compares.
NEEDLESS = mutations(
    """
flag lowered without fence: in parked
     # Pairs with _wake in shm/ring.py: our flag is visible before we look at the cursor again.
-    fence_sequential()
+    if value:
+        fence_sequential()

flag raised behind the look: in parked
-    raise_flags(ports, 1)
     for index in range(len(ports)):
         vector[index, 0] = port_control(ports, index)[CURSOR] & 0xFFFF_FFFF
     sleep_ns = _sleep_ns(ports, sleep_ns_max)
+    raise_flags(ports, 1)
""",
)


MAKE: dict[str, MakeWorld] = {
    make.__name__: make for make in (parked, held, without_waitv, appended, shared_ring, two_rings)
}


@pytest.mark.parametrize("mutation", cases(MUTATIONS, "shared_ring", "two_rings"))
def test_a_weakened_step_is_found(mutation: Mutation) -> None:
    report = explore(MAKE[mutation.world](mutation))

    assert told(report, mutation) == mutation.caught


@pytest.mark.parametrize("mutation", cases(NEEDLESS))
def test_these_steps_could_go_or_swap(mutation: Mutation) -> None:
    report = explore(MAKE[mutation.world](mutation))

    assert told(report, mutation) == ""


def test_every_ordering_is_weakened_once() -> None:
    assert unweakened("park", MUTATIONS) == []
    assert not any(one.startswith("_wake:") for one in unweakened("ring", MUTATIONS))
