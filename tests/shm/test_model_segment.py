"""How a segment becomes ready, explored over every run of its creator and others.

    creator ----> header, body, ready word ----> whoever attaches, whoever reclaims

`ring.create` and `segment.attach` run as they are shipped (tests/shm/shipped.py) on the machine of
tests/shm/weakmemory.py; only mapping and the file's status are stood in for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable
from types import SimpleNamespace
from typing import Any

import pytest

from shm.ring import GATING
from tests.shm.modelcheck import Finished, Program, World, explore
from tests.shm.shipped import Mutation, Shared, Words, load, mutations, unweakened
from tests.shm.weakmemory import Fault, Place
from tests.shm.worlds import ROW_WORDS, cases, stand_in, told

NAME, GENERATION, CAPACITY = "ring", 3, 2
HEADER = ("magic", "ready", "fingerprint", "generation", "size", "owner", "created", "owner_start")
LIVING_SINCE = 7  # what stands in for the start time of a living process


class File:
    """Stands for /dev/shm and for the one file in it."""

    def __truediv__(self, _name: str) -> File:
        return self

    @staticmethod
    def stat() -> SimpleNamespace:
        """Answers what the kernel knows: a whole file of ours."""
        return SimpleNamespace(st_uid=os.getuid(), st_mode=stat.S_IFREG | 0o600, st_size=1 << 20)


class Start:
    """A ring segment whose words are still zero, its creator, and what the creator will store."""

    def __init__(self, mutation: Mutation | None) -> None:
        self.shared = Shared()
        self.modules: Any = load(self.shared, mutation)
        stand_in(self.shared, self.modules)
        segment, ring = self.modules.segment, self.modules.ring
        segment._FOLDER = File()
        rows = CAPACITY * ROW_WORDS
        count = segment.HEADER_BYTES // 8 + ring.CONTROL_WORDS + rows
        self.words: Words = self.shared.words(NAME, count)
        for index, name in enumerate(HEADER):
            self.shared.share(self.words, index, Place(name, 0, (1,)))
        base = ring.READER_BASE
        self.control = {
            "cursor": (ring.CURSOR, -1),
            "claimed": (ring.CLAIMED, -1),
            "gating_cached": (ring.GATING_CACHED, -1),
            "capacity": (ring.CAPACITY, CAPACITY),
            "row_words": (ring.ROW_WORDS, ROW_WORDS),
            "parkable": (ring.PARKABLE, 1),
            "released": (base + ring.RELEASED, -1),
            "cursor_cached": (base + ring.CURSOR_CACHED, -1),
            "kind": (base + ring.KIND, GATING),
        }
        for name, (index, _) in self.control.items():
            at = segment.HEADER_BYTES // 8 + index
            self.shared.share(self.words, at, Place(name, 0, (1,)))

    def create(self, _: None) -> Hashable:
        """Is the creator's turn."""
        self.modules.ring.create(
            NAME, GENERATION,
            capacity=CAPACITY, row_bytes=8 * ROW_WORDS, kinds=(GATING,), parkable=True,
        )  # fmt: skip
        return Finished()

    def attach(self, _: None) -> Hashable:
        """Is the turn of a worker that attaches once and looks at everything."""
        segment, ring = self.modules.segment, self.modules.ring
        try:
            attached = ring.attach(NAME, capacity=CAPACITY, row_bytes=8 * ROW_WORDS)
        except segment.SegmentError:
            return Finished("refused")
        expect("generation", GENERATION, attached.generation)
        expect("owner", os.getpid(), attached.owner_pid)
        expect("size", 8 * len(self.words), attached.size_bytes)
        control = attached.words(0, ring.CONTROL_WORDS)
        for name, (index, value) in self.control.items():
            expect(name, value, control[index])
        handle = self.modules.handles.Consumer(attached, 0)
        expect("capacity of the handle", CAPACITY, handle.capacity)
        return Finished("attached")

    def reclaim(self, _: None) -> Hashable:
        """Is the turn of a supervisor that looks for what a dead engine has left."""
        segment = self.modules.segment
        segment.names = lambda _prefix: [NAME]
        segment._own_header = lambda _path: self.words[: len(HEADER)].copy()
        segment.unlink = unlinked
        segment.reclaim(NAME)
        return Finished()


def expect(name: str, expected: int, found: Any) -> None:
    """Proves one word of an attached segment to be what the creator stored."""
    if int(found) != expected:
        raise Fault("unready", f"{name} reads as {int(found)}")


def unlinked(name: str) -> None:
    """Is told of a name that `reclaim` removes; the owners of these worlds live."""
    raise Fault("unlinked", f"{name} of a living owner")


def attaching(mutation: Mutation | None = None) -> World:
    """A creator, and a worker that attaches at any moment."""
    start = Start(mutation)
    programs = [Program("creator", start.create), Program("worker", start.attach)]
    return start.shared.world(programs)


def reclaiming(mutation: Mutation | None = None) -> World:
    """A creator that lives, and a supervisor that reclaims at any moment."""
    start = Start(mutation)
    programs = [Program("creator", start.create), Program("other", start.reclaim)]
    return start.shared.world(programs)


@pytest.mark.parametrize("shortcuts", [True, False], ids=["short", "plain"])
def test_whoever_attaches_finds_everything_or_is_refused(*, shortcuts: bool) -> None:
    report = explore(attaching(), shortcuts=shortcuts)

    assert report.kind == "", report
    assert {attached for _, attached in report.results} == {"refused", "attached"}


def test_reclaim_leaves_a_segment_alone_whose_living_creator_has_just_begun() -> None:
    """The magic word may be seen before the owner's start time, which then reads as a dead one's.

    Only on aarch64, and only where two engines of one name start in one moment.
    """
    report = explore(reclaiming())

    assert report.kind == "", report


MUTATIONS = mutations(
    """
ready without release: unready in attaching
-    store_release(header, 1, generation)
+    header[1] = generation

ready without acquire: unready in attaching
-    return load_acquire(header, 1)
+    return header[1]

ready not asked for: unready in attaching
-    if _ready(header) == 0 or _ready(header) != header[_GENERATION]:
+    if False:

ready of no generation: unready in attaching
-    if _ready(header) == 0 or _ready(header) != header[_GENERATION]:
+    if _ready(header) != header[_GENERATION]:

ready before the body: unready in attaching
     header[_MAGIC] = MAGIC  # last: `reclaim` asks no file without it who owns it
+    _set_ready(header, generation)

ready before the last words: unready in attaching
+    segment.set_ready()
     for reader, kind in enumerate(kinds):
         base = READER_BASE + READER_WORDS * reader
         control[base + RELEASED] = control[base + CURSOR_CACHED] = -1
         control[base + KIND] = kind
-    segment.set_ready()
"""
)


@pytest.mark.parametrize("mutation", cases(MUTATIONS))
def test_a_weakened_step_is_found(mutation: Mutation) -> None:
    report = explore(attaching(mutation))

    assert told(report, mutation) == mutation.caught


def test_every_ordering_is_weakened_once() -> None:
    assert unweakened("segment", MUTATIONS) == []
