"""The ring's protocol, explored over every run of small worlds under weak memory.

    writer ----> ring of 2 or 4 records ----> gating readers, observers

shm/ring.py, shm/handles.py and shm/observer.py run as they are shipped (tests/shm/shipped.py) on
the machine of tests/shm/weakmemory.py. Each mutation weakens one step of them; what it leads to is
printed as a run with the fewest steps: `pytest -rP -k without tests/shm/test_model_ring.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from shm.ring import GATING, OBSERVING
from tests.shm.modelcheck import Program, World, explore
from tests.shm.shipped import Mutation, Shared, load, mutations, unweakened
from tests.shm.worlds import DEEP, Ring, cases, told

MakeWorld = Callable[[Mutation | None], World]


def gating(
    mutation: Mutation | None = None, *,
    last: int = 3, readers: int = 1, batch: int = 1, capacity: int = 2,
    is_raced: bool = True,
) -> World:  # fmt: skip
    """A writer and gating readers that read in place: nothing may be overtaken."""
    shared = Shared()
    modules = load(shared, mutation)
    ring = Ring(shared, modules, (GATING,) * readers, capacity, is_raced=is_raced)
    programs = [Program("writer", ring.writing(last), batch)]
    programs += [
        Program(f"reader {reader}", ring.reading(reader, last)) for reader in range(readers)
    ]
    return shared.world(programs)


def paired(mutation: Mutation | None = None) -> World:
    """The same with two readers."""
    return gating(mutation, readers=2)


def ordered(mutation: Mutation | None = None) -> World:
    """The same, and a plain access to a row that is not ordered with another is a fault."""
    return gating(mutation, readers=2, is_raced=False)


def crowded(mutation: Mutation | None = None) -> World:
    """The same with batches as large as the ring."""
    return gating(mutation, readers=2, batch=2)


def handles(mutation: Mutation | None = None, *, is_raced: bool = True, **machine: bool) -> World:
    """Python agents at both ends: `append`, which is granted two at once; `poll` and `release`."""
    shared = Shared(**machine)
    ring = Ring(shared, load(shared, mutation), (GATING,), is_raced=is_raced)
    writer = Program("writer", ring.appending(5, grant_max=2), -1)
    return shared.world([writer, Program("reader", ring.consuming(0, 5))])


def batches(mutation: Mutation | None = None, *, is_raced: bool = True, **machine: bool) -> World:
    """Python agents at both ends: `append_rows` of two; `take` of one."""
    shared = Shared(**machine)
    ring = Ring(shared, load(shared, mutation), (GATING,), is_raced=is_raced)
    writer = Program("writer", ring.appending_rows(5), 2)
    return shared.world([writer, Program("reader", ring.taking(0, 5), -1)])


def watched(mutation: Mutation | None = None, **machine: bool) -> World:
    """An observer of a Python agent that is granted two records at once."""
    shared = Shared(**machine)
    ring = Ring(shared, load(shared, mutation), (OBSERVING,))
    writer = Program("writer", ring.appending(3, grant_max=2), -1)
    return shared.world([writer, Program("observer", ring.observing(0, 3), ())])


def observing(
    mutation: Mutation | None = None, *,
    last: int = 3, batch: int = 1, capacity: int = 2, others: int = 0,
) -> World:  # fmt: skip
    """A writer that laps an observer, unless other readers hold it up."""
    shared = Shared()
    modules = load(shared, mutation)
    ring = Ring(shared, modules, (*(GATING,) * others, OBSERVING), capacity)
    programs = [Program("writer", ring.writing(last), batch)]
    programs += [
        Program(f"reader {reader}", ring.reading(reader, last)) for reader in range(others)
    ]
    programs.append(Program("observer", ring.observing(others, last, batch), ()))
    return shared.world(programs)


def dying(mutation: Mutation | None = None, *, last: int = 3, capacity: int = 2) -> World:
    """A writer of two records at once is killed at any moment; its successor writes single ones."""
    shared = Shared()
    ring = Ring(shared, load(shared, mutation), (OBSERVING,), capacity)
    writer = Program("writer", ring.writing(last), 2, heirs=(1,))
    return shared.world([writer, Program("observer", ring.observing(0, last), ())])


def orphaned(mutation: Mutation | None = None, *, last: int = 3) -> World:
    """A gating reader is killed at any moment; its successor goes on behind what was released."""
    shared = Shared()
    ring = Ring(shared, load(shared, mutation), (GATING,))
    writer = Program("writer", ring.writing(last), 1)
    return shared.world([writer, Program("reader", ring.reading(0, last), heirs=(None,))])


SLOW = pytest.mark.slow
GATING_WORLDS = [
    pytest.param({"last": 7}, id="one-reader"),
    pytest.param({"last": 3, "batch": 2}, id="one-reader-batches"),
    pytest.param({"last": 9, "batch": 3, "capacity": 4}, id="one-reader-batches-around-the-end"),
    pytest.param({"last": 3, "readers": 2}, marks=SLOW, id="two-readers"),
    pytest.param({"last": 3, "readers": 2, "batch": 2}, id="two-readers-batches"),
]
OBSERVING_WORLDS = [
    pytest.param({"last": 3}, id="lapped"),
    pytest.param({"last": 5, "batch": 2}, marks=SLOW, id="lapped-by-batches"),
    pytest.param({"last": 6, "capacity": 4}, marks=SLOW, id="lapped-in-a-larger-ring"),
    pytest.param({"last": 2, "others": 1}, marks=SLOW, id="beside-a-gating-reader"),
]
if DEEP:
    GATING_WORLDS += [
        pytest.param({"last": 9, "readers": 2}, marks=SLOW, id="two-readers-longer"),
        pytest.param({"last": 2, "readers": 3}, marks=SLOW, id="three-readers"),
        pytest.param({"last": 5, "readers": 2, "capacity": 4}, marks=SLOW, id="two-readers-larger"),
    ]
    OBSERVING_WORLDS += [
        pytest.param({"last": 7}, marks=SLOW, id="lapped-thrice"),
        pytest.param(
            {"last": 8, "batch": 3, "capacity": 4}, marks=SLOW, id="lapped-larger-batches"
        ),
        pytest.param({"last": 3, "others": 1}, marks=SLOW, id="beside-a-gating-reader-longer"),
    ]


@pytest.mark.parametrize("is_raced", [True, False], ids=["values", "races"])
@pytest.mark.parametrize("shape", GATING_WORLDS)
def test_a_gating_reader_reads_every_record_whole_and_in_time(
    shape: dict[str, int], *, is_raced: bool
) -> None:
    """Values: whole although loads and stores overtake. Races: no two accesses are unordered."""
    report = explore(gating(**shape, is_raced=is_raced))  # type: ignore[arg-type]

    assert report.kind == "", report


@pytest.mark.parametrize("has_strong_order", [True, False], ids=["x86-64", "aarch64"])
@pytest.mark.parametrize("make", [handles, batches, watched], ids=lambda make: make.__name__)
def test_handles_of_python_hand_every_record_on_whole(
    make: Callable[..., World], *, has_strong_order: bool
) -> None:
    """On x86-64 by plain moves of the interpreter, elsewhere by the compiled functions."""
    report = explore(make(has_strong_order=has_strong_order))

    assert report.kind == "", report


@pytest.mark.parametrize("has_strong_order", [True, False], ids=["x86-64", "aarch64"])
@pytest.mark.parametrize("make", [handles, batches], ids=lambda make: make.__name__)
def test_no_two_accesses_of_pythons_handles_to_a_row_race(
    make: Callable[..., World], *, has_strong_order: bool
) -> None:
    report = explore(make(is_raced=False, has_strong_order=has_strong_order))

    assert report.kind == "", report


@pytest.mark.parametrize("shape", OBSERVING_WORLDS)
def test_an_observer_takes_whole_records_and_counts_the_others(shape: dict[str, int]) -> None:
    report = explore(observing(**shape))  # type: ignore[arg-type]

    assert report.kind == "", report


def test_an_observer_may_miss_any_record_that_is_a_lap_behind() -> None:
    """All outcomes are there, so the worlds are not smaller than they look."""
    report = explore(observing(last=3))

    assert {taken for _, taken in report.results} == {
        (2, 3), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("make", [dying, orphaned], ids=lambda make: make.__name__)
def test_a_killed_writer_or_reader_leaves_nothing_torn(make: MakeWorld) -> None:
    report = explore(make(None))

    assert report.kind == "", report


@pytest.mark.parametrize("make", [gating, observing], ids=lambda make: make.__name__)
def test_shortcuts_of_the_explorer_leave_no_outcome_out(make: Callable[..., World]) -> None:
    short, plain = (explore(make(last=2), shortcuts=shortcuts) for shortcuts in (True, False))

    assert (short.kind, short.results) == (plain.kind, plain.results)
    assert short.states < plain.states


MUTATIONS = mutations(
    """
publish without release: torn in gating
-    store_release(control, CURSOR, sequence)
+    control[CURSOR] = sequence

poll without acquire: torn in gating
-    cursor = load_acquire(control, CURSOR)
+    cursor = int(control[CURSOR])

release without release: overwritten in gating
-    store_release(control, READER_BASE + READER_WORDS * reader + RELEASED, sequence)
+    control[READER_BASE + READER_WORDS * reader + RELEASED] = sequence

slowest_gating without acquire: race in ordered
-            slowest = min(slowest, load_acquire(control, base + RELEASED))
+            slowest = min(slowest, control[base + RELEASED])

claim without fence: torn in observing
-    fence_release()
     return int(first)

claim fences before it announces: torn in observing
-    control[CLAIMED] = max(control[CLAIMED], first + count - 1)
     # Pairs with fence_acquire in is_intact: a reader that has seen any of our coming stores also
     # sees that they were claimed.
     fence_release()
+    control[CLAIMED] = max(control[CLAIMED], first + count - 1)

claim does not announce: torn in observing
-    control[CLAIMED] = max(control[CLAIMED], first + count - 1)

a smaller claim takes a larger one back: torn in dying
-    control[CLAIMED] = max(control[CLAIMED], first + count - 1)
+    control[CLAIMED] = first + count - 1

is_intact without fence: torn in observing
-    fence_acquire()
     return bool(sequence > control[CLAIMED] - control[CAPACITY])

is_intact one record late: torn in observing
-    return bool(sequence > control[CLAIMED] - control[CAPACITY])
+    return bool(sequence >= control[CLAIMED] - control[CAPACITY])

oldest_intact one record early: stuck in observing
-    return int(max(0, control[CLAIMED] - control[CAPACITY] + 1))
+    return int(max(0, control[CLAIMED] - control[CAPACITY]))

a full ring is claimed from: overwritten in gating
-        if wrap_point > control[GATING_CACHED]:
-            control[FULL_COUNT] += 1
-            return INSUFFICIENT_CAPACITY

readers are never asked: overwritten in gating
-    if wrap_point > control[GATING_CACHED]:
+    if False:
         control[GATING_CACHED] = slowest_gating(control)

wrap one record late: overwritten in gating
-    wrap_point = first + count - 1 - control[CAPACITY]
+    wrap_point = first + count - 2 - control[CAPACITY]

wrap one record early: stuck in crowded
-    wrap_point = first + count - 1 - control[CAPACITY]
+    wrap_point = first + count - control[CAPACITY]

one reader is not asked: overwritten in paired
-    for reader in range(READERS_MAX):
+    for reader in range(1):
         base = READER_BASE + READER_WORDS * reader

the fastest reader is asked: overwritten in gating
-            slowest = min(slowest, load_acquire(control, base + RELEASED))
+            slowest = max(slowest, load_acquire(control, base + RELEASED))

append publishes before it stamps: torn in handles
+        publish(self.control, sequence)
         words[start] = sequence

append by plain moves of a weak machine: torn in handles
-        self._is_plain = HAS_STRONG_ORDER and not self.control[PARKABLE]
+        self._is_plain = not self.control[PARKABLE]

poll by plain moves of a weak machine: torn in handles
-        if not HAS_STRONG_ORDER:
-            return poll(self.control, self.reader)

release by plain moves of a weak machine: overwritten in handles
-        if HAS_STRONG_ORDER:
+        if True:
             # Pairs with slowest_gating in shm/ring.py: a release store.

take by plain moves of a weak machine: overwritten in batches
-        if HAS_STRONG_ORDER:
+        if True:
             words[at] = sequence  # pairs with slowest_gating in shm/ring.py: a release store

poll of a handle one record too many: torn in handles
-        count = min(self._poll() - first + 1, records_max)
+        count = min(self._poll() - first + 2, records_max)

take of one record too many: torn in batches
-            if sequence > self._seen:
+            if sequence > self._seen + 1:
                 return None

grant without fence: torn in watched
-    fence_release()  # pairs with fence_acquire in is_intact, as in claim

grant does not announce: torn in watched
-    control[CLAIMED] = max(control[CLAIMED], last)

grant of one record too many: overwritten in handles
-    last = min(first + count_max - 1, control[GATING_CACHED] + control[CAPACITY])
+    last = min(first + count_max - 1, control[GATING_CACHED] + control[CAPACITY] + 1)

grant asks no reader: stuck in handles
-        control[GATING_CACHED] = slowest_gating(control)
+        pass
     last = min(first + count_max - 1, control[GATING_CACHED] + control[CAPACITY])

append uses more than it was granted: overwritten in handles
-        if sequence > self._granted and not self._grant():
+        if sequence > self._granted + 1 and not self._grant():

append_rows publishes before it fills: torn in batches
     rows = rows_at(port[1], port[2], words)
+    publish(control, first + count - 1)
     for index in range(count):

append_rows claims one too few: overwritten in batches
-    first = claim(control, count)
+    first = claim(control, count - 1)
     if first < 0 or count == 0:

observe looks before it copies: torn in observing
+        intact = is_intact(control, sequence)
         for word in range(out.shape[1]):
             out[count, word] = rows[place, word]
-        if is_intact(control, sequence):
+        if intact:

observe does not look: torn in observing
-        if is_intact(control, sequence):
+        if True:

observe does not count what it missed: lost in observing
-            overrun += oldest - sequence
"""
)

# Orderings that these protocols do not need, and why.
NEEDLESS = mutations(
    """
# All machines keep a store behind the branch it hangs on. Only C11 asks for more, see above.
slowest_gating without acquire: in paired
-            slowest = min(slowest, load_acquire(control, base + RELEASED))
+            slowest = min(slowest, control[base + RELEASED])

# It looks behind is_intact at the same word, and each copy is looked at once more.
oldest_intact without fence: in dying
-    fence_acquire()
     return int(max(0, control[CLAIMED] - control[CAPACITY] + 1))

# Nobody acquires what an observing reader has released.
observe without release: in dying
-    store_release(control, base + RELEASED, sequence - 1)  # for those who read the lag
+    control[base + RELEASED] = sequence - 1
"""
)
MAKE: dict[str, MakeWorld] = {
    make.__name__: make
    for make in (gating, paired, ordered, crowded, handles, batches, watched, observing, dying)
}


@pytest.mark.parametrize("mutation", cases(MUTATIONS))
def test_a_weakened_step_is_found(mutation: Mutation) -> None:
    report = explore(MAKE[mutation.world](mutation))

    assert told(report, mutation) == mutation.caught


@pytest.mark.parametrize("mutation", cases(NEEDLESS))
def test_these_orderings_could_go(mutation: Mutation) -> None:
    report = explore(MAKE[mutation.world](mutation))

    assert told(report, mutation) == ""


@pytest.mark.parametrize("module", ["ring", "handles", "observer"])
def test_every_ordering_is_weakened_once(module: str) -> None:
    """But the fence of _wake, which tests/shm/test_model_park.py drops."""
    left = unweakened(module, [*MUTATIONS, *NEEDLESS])

    assert [one for one in left if not one.startswith("_wake:")] == []


def test_a_run_that_goes_wrong_tells_who_does_what_in_which_function() -> None:
    """The load of a row is answered behind the store that gave the row away."""
    mutation = next(one for one in MUTATIONS if one.name == "release without release")
    lines = [" ".join(line.split()) for line in explore(gating(mutation)).trace]
    steps = [re.sub(r"\S+\.py:\d+ ", "", line) for line in lines if line.startswith("reader")]

    assert steps == [
        "reader 0 poll load_acquire cursor = 1",
        "reader 0 release store released[0] = 1",
        "reader 0 read_in_place load row[0][0] = 2",
        "reader 0 read_in_place load row[0][1] = 102",
    ]
