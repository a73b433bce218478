"""The latest-value cell, explored over every run of a writer and its readers under weak memory.

    writer ----> version, two words ----> readers
    writer ----> version, two words, two others: one is valid ----> readers

The functions of shm/latest.py run as they are shipped (tests/shm/shipped.py) on the machine of
tests/shm/weakmemory.py. Value n is (n, n) and has version 2 n, so a reader can tell what it got.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest

from tests.shm.modelcheck import Finished, Program, World, explore
from tests.shm.shipped import Mutation, Shared, load, mutations, unweakened
from tests.shm.weakmemory import Fault, Place
from tests.shm.worlds import DEEP, cases, told

VALUE_WORDS = 2


def cell(
    mutation: Mutation | None = None, *,
    values: int = 2, readers: int = 1, deaths: int = 0, tries: int = 1,
) -> World:  # fmt: skip
    """A writer of a few values, killed at any moment if at all, and readers."""
    shared = Shared()
    latest: Any = load(shared, mutation).latest
    latest.READ_TRIES_MAX = tries
    words = shared.words("cell", 1 + VALUE_WORDS)
    others = tuple(range(1, 1 + readers))
    for index, name in enumerate(("version", *(f"word[{n}]" for n in range(VALUE_WORDS)))):
        shared.share(words, index, Place(name, 0, others))

    def write(_: None) -> Hashable:
        value = int(words[0]) // 2 + 1
        latest.write_latest(words, [value] * VALUE_WORDS)
        return Finished() if value == values else None

    def read(before: int) -> Hashable:
        out: list[Any] = [0] * VALUE_WORDS
        version = latest.read_latest(words, out)
        if version == 0:
            return before
        found = [int(word) for word in out]
        if found != [version // 2] * VALUE_WORDS or version % 2 != 0:
            raise Fault("torn", f"version {version} has {found}")
        if version < before:
            raise Fault("order", f"version {version} after {before}")
        return Finished() if version == 2 * values else version

    programs = [Program("writer", write, heirs=(None,) * deaths)]
    programs += [Program(f"reader {number}", read, 0) for number in range(readers)]
    return shared.world(programs)


def latch(
    mutation: Mutation | None = None, *, values: int = 3, readers: int = 1, deaths: int = 0
) -> World:
    """Two copies in turn, value n where n & 1 says; a reader is never told of a torn one."""
    shared = Shared()
    latest: Any = load(shared, mutation).latest
    words = shared.words("latch", 1 + 2 * VALUE_WORDS)
    others = tuple(range(1, 1 + readers))
    for index in range(1 + 2 * VALUE_WORDS):
        shared.share(words, index, Place(f"word[{index}]", 0, others))

    def copy(version: int) -> range:
        first = 1 + VALUE_WORDS * (version & 1)
        return range(first, first + VALUE_WORDS)

    def write(_: None) -> Hashable:
        value = int(words[0]) + 1
        latest.begin_other(words)
        for index in copy(value):
            words[index] = value
        latest.end_change(words)
        return Finished() if value == values else None

    def read(before: int) -> Hashable:
        version = latest.version_of(words)
        found = [words[index] for index in copy(version)]
        if not latest.is_unchanged(words, version):
            return before
        if [int(word) for word in found] != [version] * VALUE_WORDS:
            raise Fault("torn", f"version {version} has {[int(word) for word in found]}")
        if version < before:
            raise Fault("order", f"version {version} after {before}")
        return Finished() if version == values else version

    programs = [Program("writer", write, heirs=(None,) * deaths)]
    programs += [Program(f"reader {number}", read, 0) for number in range(readers)]
    return shared.world(programs)


def mended(mutation: Mutation | None = None) -> World:
    """The writer is killed at any moment, and its successor mends what it left."""
    return cell(mutation, deaths=1)


SLOW = pytest.mark.slow
SHAPES = [
    pytest.param({"values": 4}, id="four-values"),
    pytest.param({"values": 2, "tries": 2}, id="two-tries"),
    pytest.param({"values": 1, "readers": 2}, id="two-readers"),
    pytest.param({"values": 2, "deaths": 1}, id="killed-once"),
    pytest.param({"values": 2, "deaths": 2}, marks=SLOW, id="killed-twice"),
]
if DEEP:
    SHAPES += [
        pytest.param({"values": 7}, marks=SLOW, id="seven-values"),
        pytest.param({"values": 3, "readers": 2}, marks=SLOW, id="two-readers-longer"),
        pytest.param({"values": 3, "deaths": 2}, marks=SLOW, id="killed-twice-longer"),
        pytest.param(
            {"values": 2, "readers": 2, "deaths": 1}, marks=SLOW, id="killed-with-two-readers"
        ),
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_reader_gets_whole_values_and_never_an_older_one(shape: dict[str, int]) -> None:
    report = explore(cell(**shape))  # type: ignore[arg-type]

    assert report.kind == "", report


LATCHES: list[Any] = [
    pytest.param({"values": 4}, id="four-values"),
    pytest.param({"values": 3, "deaths": 1}, id="killed-once"),
    pytest.param({"values": 2, "readers": 2}, id="two-readers", marks=SLOW),
]


@pytest.mark.parametrize("shape", LATCHES)
def test_one_of_two_copies_is_whole_whenever_the_writer_dies(shape: dict[str, int]) -> None:
    report = explore(latch(**shape))  # type: ignore[arg-type]

    assert report.kind == "", report


def test_shortcuts_of_the_explorer_change_nothing() -> None:
    short, plain = (explore(cell(), shortcuts=shortcuts) for shortcuts in (True, False))

    assert (short.kind, short.results) == (plain.kind, plain.results) == ("", {(None, None)})
    assert short.states < plain.states


MUTATIONS = mutations(
    """
begin_change without fence: torn in cell
     # Pairs with fence_acquire in is_unchanged: who sees any new word also sees the odd version.
-    fence_release()

begin_other without fence: torn in latch
     # the version that the last one ended with.
-    fence_release()

end_change without release: torn in cell
-    store_release(cell, 0, cell[0] + 1)
+    cell[0] += 1

end_change without release of the other copy: torn in latch
-    store_release(cell, 0, cell[0] + 1)
+    cell[0] += 1

version_of without acquire: torn in cell
-    return load_acquire(cell, 0)
+    return int(cell[0])

version_of without acquire ahead of a copy: torn in latch
-    return load_acquire(cell, 0)
+    return int(cell[0])

is_unchanged without fence: torn in cell
     # Pairs with fence_release in begin_change and begin_other.
-    fence_acquire()

is_unchanged without fence behind a copy: torn in latch
     # Pairs with fence_release in begin_change and begin_other.
-    fence_acquire()

fence before the odd version: torn in cell
-    cell[0] |= 1
     # Pairs with fence_acquire in is_unchanged: who sees any new word also sees the odd version.
     fence_release()
+    cell[0] |= 1

odd version never stored: torn in cell
-    cell[0] |= 1

even version before the words: torn in cell
+    end_change(cell)
     for index in range(len(values)):
         cell[1 + index] = values[index]
-    end_change(cell)

version not looked at again: torn in cell
-        if before & 1 == 0 and is_unchanged(cell, before):
+        if before & 1 == 0:

version looked at before the copy ends: torn in cell
+        is_same = is_unchanged(cell, before)
         for index in range(len(out)):
             out[index] = cell[1 + index]
-        if before & 1 == 0 and is_unchanged(cell, before):
+        if is_same and before & 1 == 0:

an odd version taken for whole: torn in cell
-        if before & 1 == 0 and is_unchanged(cell, before):
+        if is_unchanged(cell, before):

a successor that counts an odd version on: torn in mended
-    cell[0] |= 1
+    cell[0] += 1
""",
)
MAKE = {"cell": cell, "latch": latch, "mended": mended}


@pytest.mark.parametrize("mutation", cases(MUTATIONS))
def test_a_weakened_step_is_found(mutation: Mutation) -> None:
    report = explore(MAKE[mutation.world](mutation))

    assert told(report, mutation) == mutation.caught


def test_every_ordering_is_weakened_once() -> None:
    assert unweakened("latest", MUTATIONS) == []
