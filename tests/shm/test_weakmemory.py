"""The weak machine itself: the litmus tests of the literature, allowed and forbidden.

Each program has a few threads over the words x, y and z, all 0 at first. The outcome asked about is
the strange one: what no interleaving of whole threads in program order can show. Names and verdicts
are those of Alglave, Maranget, Tautschnig ("Herding cats", TOPLAS 2014) and of Lahav et al.
("Repairing sequential consistency in C/C++11", PLDI 2017), where the machine does not promise more.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pytest

from tests.shm.modelcheck import Finished, Program, Report, explore
from tests.shm.shipped import Door, Shared
from tests.shm.weakmemory import Place

X, Y, Z = range(3)
Body = Callable[["Core"], tuple[Any, ...] | None]


class Core:
    """What a thread of a litmus test can do."""

    def __init__(self) -> None:
        self.shared = Shared()
        self._door = Door(self.shared)
        self._words = self.shared.words("litmus", 8)

    def share(self, writers: tuple[int, int, int], threads: int) -> None:
        for index, (name, writer) in enumerate(zip("xyz", writers, strict=True)):
            readers = tuple(number for number in range(threads) if number != writer)
            self.shared.share(self._words, index, Place(name, writer, readers))

    def load(self, word: int, order: str = "") -> Any:
        if order == "acquire":
            return self._door.load_acquire(self._words, word)
        value = self._words[word]
        self.fence(order)
        return value

    def store(self, word: int, value: Any, order: str = "") -> None:
        if order == "release":
            self._door.store_release(self._words, word, value)
        else:
            self.fence(order)
            self._words[word] = value

    def fence(self, order: str) -> None:
        """Passes a fence of this name, none when it is empty."""
        if order:
            getattr(self._door, order)()


def run(writers: tuple[int, int, int], *bodies: Body, shortcuts: bool = True) -> Report:
    core = Core()
    core.share(writers, len(bodies))

    def turn(body: Body) -> Callable[[Any], Hashable]:
        return lambda _: Finished(tuple(int(value) for value in body(core) or ()))

    programs = [Program(f"thread {number}", turn(body)) for number, body in enumerate(bodies)]
    return explore(core.shared.world(programs), shortcuts=shortcuts)


def outcomes(writers: tuple[int, int, int], *bodies: Body) -> set[tuple[Any, ...]]:
    """Answers all that the threads can have read, with the explorer's shortcuts and without."""
    short, plain = (run(writers, *bodies, shortcuts=shortcuts) for shortcuts in (True, False))

    assert short.results == plain.results
    assert short.states <= plain.states
    return {tuple(value for one in result for value in one) for result in short.results}  # type: ignore[attr-defined]


@pytest.mark.parametrize("store", ["", "release", "fence_release", "fence_sequential"])
@pytest.mark.parametrize("load", ["", "acquire", "fence_acquire", "fence_sequential"])
def test_message_passing_needs_both_sides(store: str, load: str) -> None:
    """MP: the flag is seen, the data behind it is not."""

    def write(core: Core) -> None:
        core.store(X, 1)
        core.store(Y, 1, store)

    def read(core: Core) -> tuple[Any, ...]:
        flag = core.load(Y, load)
        return flag, core.load(X)

    found = outcomes((0, 0, 0), write, read)

    assert ((1, 0) in found) == (not store or not load)
    assert found >= {(0, 0), (0, 1), (1, 1)}


@pytest.mark.parametrize("first", ["", "fence_release", "fence_acquire", "fence_sequential"])
@pytest.mark.parametrize("second", ["", "fence_release", "fence_acquire", "fence_sequential"])
def test_store_buffering_needs_the_sequential_fence_on_both_sides(first: str, second: str) -> None:
    """SB: each thread stores its word and then misses the other's."""

    def cross(mine: int, other: int, order: str) -> Body:
        def body(core: Core) -> tuple[Any, ...]:
            core.store(mine, 1)
            core.fence(order)
            return (core.load(other),)

        return body

    found = outcomes((0, 1, 1), cross(X, Y, first), cross(Y, X, second))

    assert ((0, 0) in found) == (not first == second == "fence_sequential")


@pytest.mark.parametrize("load", ["", "acquire", "fence_acquire"])
@pytest.mark.parametrize("store", ["", "release", "fence_release"])
def test_load_buffering_is_there_until_a_load_may_not_wait(load: str, store: str) -> None:
    """LB: each thread reads what the other stores behind its own load."""

    def cross(mine: int, other: int) -> Body:
        def body(core: Core) -> tuple[Any, ...]:
            value = core.load(other, load)
            core.store(mine, 1, store)
            return (value,)

        return body

    found = outcomes((0, 1, 1), cross(X, Y), cross(Y, X))

    assert ((1, 1) in found) == (not load and not store)


def test_a_store_does_not_hurry_before_a_load_that_decides_it() -> None:
    """LB with a dependency on one side: no value comes out of thin air."""

    def copy(core: Core) -> tuple[Any, ...]:
        value = core.load(Y)
        core.store(X, value)
        return (value,)

    def echo(core: Core) -> tuple[Any, ...]:
        value = core.load(X)
        core.store(Y, value)
        return (value,)

    assert outcomes((0, 1, 1), copy, echo) == {(0, 0)}


@pytest.mark.parametrize("load", ["", "acquire", "fence_sequential"])
def test_readers_may_disagree_about_two_writers_until_sequential_fences(load: str) -> None:
    """IRIW: more than aarch64 shows, as on POWER."""

    def write(word: int) -> Body:
        return lambda core: core.store(word, 1, "release")

    def read(first: int, second: int) -> Body:
        def body(core: Core) -> tuple[Any, ...]:
            before = core.load(first, load)
            return before, core.load(second, load)

        return body

    found = outcomes((0, 1, 1), write(X), write(Y), read(X, Y), read(Y, X))

    assert ((1, 0, 1, 0) in found) == (load != "fence_sequential")


@pytest.mark.parametrize("middle", ["", "release", "fence_release"])
def test_what_was_seen_is_handed_on_only_by_release(middle: str) -> None:
    """WRC: a reader of the middle thread's flag misses what that one had seen."""

    def write(core: Core) -> None:
        core.store(X, 1, "release")

    def hand_on(core: Core) -> tuple[Any, ...]:
        seen = core.load(X, "acquire")
        core.store(Y, 1, middle)
        return (seen,)

    def read(core: Core) -> tuple[Any, ...]:
        flag = core.load(Y, "acquire")
        return flag, core.load(X)

    found = outcomes((0, 1, 1), write, hand_on, read)

    assert ((1, 1, 0) in found) == (not middle)


def test_a_release_orders_nothing_behind_it() -> None:
    """The later store is seen, the one with release is not: why a seqlock needs a fence."""

    def write(core: Core) -> None:
        core.store(X, 1, "release")
        core.store(Y, 1)

    def read(core: Core) -> tuple[Any, ...]:
        later = core.load(Y, "acquire")
        return later, core.load(X)

    assert (1, 0) in outcomes((0, 0, 0), write, read)


def test_one_word_is_never_read_backwards() -> None:
    """CoRR, with loads that were put off."""

    def write(core: Core) -> None:
        core.store(X, 1)
        core.store(X, 2)

    def read(core: Core) -> tuple[Any, ...]:
        before, after = core.load(X), core.load(X)
        late = int(after)
        return before, late

    found = outcomes((0, 0, 0), write, read)

    assert found == {(a, b) for a in range(3) for b in range(3) if a <= b}


def test_an_acquire_takes_nothing_from_a_load_before_it() -> None:
    """The load may be answered by a store that the acquire, answered later, makes old."""

    def write(core: Core) -> None:
        core.store(X, 1)
        core.store(Y, 1, "release")

    def read(core: Core) -> tuple[Any, ...]:
        data = core.load(X)
        return core.load(Y, "acquire"), data

    assert outcomes((0, 0, 0), write, read) == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_thread_sees_its_own_stores() -> None:
    def body(core: Core) -> tuple[Any, ...]:
        core.store(X, 1)
        return (core.load(X),)

    assert outcomes((0, 0, 0), body) == {(1,)}


def test_a_second_writer_of_a_word_is_reported() -> None:
    """So S, R and 2+2W, which need two, have no place here."""

    def write(core: Core) -> None:
        core.store(X, 1)

    assert run((0, 0, 0), write, write).kind == "writers"


def test_a_reader_that_was_not_declared_is_reported() -> None:
    """Else messages that it could still read would be forgotten."""
    core = Core()
    core.share((0, 0, 0), 1)
    program = Program("stranger", lambda _: Finished(int(core.load(X))))
    world = core.shared.world([Program("writer", lambda _: Finished()), program])

    assert explore(world).kind == "readers"
