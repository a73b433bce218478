"""Explores every run of a small program on the weak machine of tests/shm/weakmemory.py.

A program is a Python function of what it knows (`local`), called again and again until it answers
`Finished`: one call is a turn, as of an agent. It touches shared memory only through the words of
tests/shm/shipped.py, so the shipped functions themselves are such programs. A turn is not run
once but replayed: the answers given so far are played to it, and its first request beyond them is
what the thread does next. So a thread is a few integers, states can be compared, and a state that
was reached before is not looked at again.

Breadth first: the run that is shown for a fault is one with the fewest steps.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.shm.pruning import pruned
from tests.shm.weakmemory import STORES, Fault, Kind, Memory, Op, Place, State, Thread, Unread

Turn = Callable[[Any], Hashable]
STATES_MAX = 500_000
_QUIET_MAX = 1_000  # requests of a thread that nobody else can see, between two that others can


class Finished(NamedTuple):
    """What a turn answers when its program is over."""

    result: Hashable = None


class _Wanted(BaseException):
    """Leaves a turn that is replayed at its first new request."""

    def __init__(self, op: Op) -> None:
        super().__init__()
        self.op = op


@dataclass
class Replay:
    """Plays the answers so far to a turn; what it asks beyond them is wanted."""

    answers: tuple[int | Unread, ...]
    asked: int = 0

    def ask(self, op: Op) -> int | Unread:
        """Answers a request of the turn."""
        index = self.asked
        self.asked += 1
        if index < len(self.answers):
            return self.answers[index]
        raise _Wanted(op._replace(where=_where()))

    def use(self, index: int) -> BaseException:
        """Answers what leaves the turn until the value of a load that was put off is there."""
        return _Wanted(Op(Kind.USE, value=index, where=_where()))


def _where() -> str:
    """Names function and line of the source that asks: the first frame that is not ours."""
    frame: Any = sys._getframe(2)
    while Path(frame.f_code.co_filename).name in {"modelcheck.py", "shipped.py"}:
        frame = frame.f_back
    code = frame.f_code
    return f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"


@dataclass
class Program:
    """One thread of a world: its name, its turns, and where it begins."""

    name: str
    turn: Turn
    start: Hashable = None
    heirs: tuple[Hashable, ...] = ()  # where successors begin: it may be killed at any moment


@dataclass
class Report:
    """What was found: how much was explored, how runs ended, and the first fault with its run."""

    states: int = 0
    results: set[tuple[Hashable, ...]] = field(default_factory=set)
    fault: Fault | None = None
    trace: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The kind of the fault, empty when there is none."""
        return self.fault.kind if self.fault else ""

    def __str__(self) -> str:
        if self.fault is None:
            return f"no fault in {self.states} states"
        return "\n".join([f"{self.fault} ({self.states} states)", *self.trace])


class World:
    """A bounded program over some words: all that is explored."""

    def __init__(self, places: list[Place], programs: list[Program]) -> None:
        self.programs = programs
        self.memory = Memory(places, [program.start for program in programs])
        self.shortcuts = True
        self.replay: Replay | None = None  # none while the world is being set up
        self._known: list[dict[Any, Op | Hashable | Fault]] = [{} for _ in programs]
        self._log: list[str] | None = None

    def wanted(self, number: int, thread: Thread) -> Op | Hashable:
        """Answers a thread's next request, or what it knows when its turn ends without one."""
        key = thread.local, thread.answers
        known = self._known[number]
        if key not in known:
            self.replay = Replay(thread.answers)
            try:
                known[key] = self.programs[number].turn(thread.local)
            except _Wanted as wanted:
                known[key] = wanted.op
            except Fault as fault:
                known[key] = fault
        found = known[key]
        if isinstance(found, Fault):
            raise found
        return found

    def _note(self, number: int, where: str, text: str) -> None:
        """Writes a line of a trace, when one is wanted; what concerns nobody else is left out."""
        if self._log is not None and text:
            self._log.append(f"  {self.programs[number].name:<10} {where:<32} {text}")

    def settled(self, state: State, number: int) -> State:
        """Runs a thread through all that nobody else can see."""
        for _ in range(_QUIET_MAX):
            thread = state.threads[number]
            if thread.is_over:
                return state
            op = self.wanted(number, thread)
            if not isinstance(op, Op):
                state = self._ended(state, number, op)
                continue
            if self._is_step(number, thread, op):
                return state
            (step,) = self.memory.ways(state, number, op)
            self._note(number, step.where, step.text)
            state = step.state
        raise Fault("stuck", "a thread turns on and on and waits for nothing")

    def _is_step(self, number: int, thread: Thread, op: Op) -> bool:
        """Says whether others, or death, may come between a request and what was before it."""
        if not self.shortcuts or self.memory.is_seen(thread, op):
            return True
        return op.kind in STORES and bool(self._heirs(number, thread))

    def _heirs(self, number: int, thread: Thread) -> tuple[Hashable, ...]:
        return self.programs[number].heirs[thread.deaths :]

    def _ended(self, state: State, number: int, local: Hashable) -> State:
        thread = state.threads[number]._replace(local=local, answers=())
        if isinstance(local, Finished):  # what it saw matters no more
            thread = self.memory.born(local)._replace(is_over=True)
        return self.memory.with_thread(state, number, thread)

    def moves(self, state: State, number: int) -> Iterator[State]:
        """Yields every state that a thread's next step can lead to; raises Fault."""
        thread = state.threads[number]
        if thread.is_over:
            return
        op = self.wanted(number, thread)
        assert isinstance(op, Op), "a settled thread has a request"
        if op.kind is not Kind.WAIT or len(thread.queued) < len(op.waits):
            for step in self.memory.ways(state, number, op):
                self._begin()
                self._note(number, step.where, step.text)
                yield self._next(step.state, number)
        for heir in self._heirs(number, thread)[:1]:
            self._begin()
            self._note(number, "", "is killed; its successor begins")
            born = self.memory.succeed(thread, heir)
            yield self._next(self.memory.with_thread(state, number, born), number)

    def _next(self, state: State, number: int) -> State:
        state = self.settled(state, number)
        return pruned(self.memory.places, state) if self.shortcuts else state

    def _begin(self) -> None:
        if self._log is not None:
            self._log.clear()

    def opened(self, lines: list[str]) -> State:
        """Answers where all threads first do what others see; writes how they came there."""
        self._log = lines
        state = self.memory.start
        try:
            for number in range(len(self.programs)):
                state = self.settled(state, number)
        finally:
            self._log = None
        return state

    def explain(self, state: State, number: int, goal: State | None) -> list[str]:
        """Answers the lines of one step: the one that leads to `goal`, or to the fault."""
        self._log = []
        try:
            for after in self.moves(state, number):
                if after == goal:
                    break
        except Fault:
            assert goal is None, "the step was taken before"
        lines, self._log = self._log, None
        return lines


class _Search:
    """One exploration: what was reached, from where, and in which order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.report = Report()
        self.came: dict[State, tuple[State, int] | None] = {}
        self.into: dict[State, list[State]] = {}
        self.ends: list[State] = []

    def run(self) -> Report:
        try:
            state = self.world.opened(self.report.trace)
        except Fault as fault:
            self.report.fault = fault
            return self.report
        self.came[state] = None
        todo = deque([state])
        while todo and self.report.fault is None:
            self._visit(todo.popleft(), todo)
            assert len(self.came) < STATES_MAX, "the world is small"
        self.report.states = len(self.came)
        if self.report.fault is None:
            self._find_stuck()
        return self.report

    def _visit(self, state: State, todo: deque[State]) -> None:
        moved = False
        for number in range(len(state.threads)):
            try:
                for after in self.world.moves(state, number):
                    moved = True
                    self.into.setdefault(after, []).append(state)
                    if after not in self.came:
                        self.came[after] = state, number
                        todo.append(after)
            except Fault as fault:
                self._blame(fault, state, number)
                return
        if not moved:
            self._end(state)

    def _end(self, state: State) -> None:
        locals_ = [thread.local for thread in state.threads]
        results = tuple(local.result for local in locals_ if isinstance(local, Finished))
        if len(results) == len(locals_):
            self.ends.append(state)
            self.report.results.add(results)
        else:
            self._blame(Fault("asleep", "a thread sleeps and nobody will wake it"), state, -1)

    def _blame(self, fault: Fault, state: State, number: int) -> None:
        steps: list[tuple[State, int, State | None]] = []
        if number >= 0:
            steps.append((state, number, None))
        goal = state
        while (came := self.came[goal]) is not None:
            steps.append((*came, goal))
            goal = came[0]
        self.report.fault = fault
        for step in reversed(steps):
            self.report.trace += self.world.explain(*step)

    def _find_stuck(self) -> None:
        """Finds a state from which no run ends: nothing is wrong yet, but nothing will be done."""
        alive, todo = set(self.ends), list(self.ends)
        while todo:
            for before in self.into.get(todo.pop(), ()):
                if before not in alive:
                    alive.add(before)
                    todo.append(before)
        stuck = next((state for state in self.came if state not in alive), None)
        if stuck is not None:
            self._blame(Fault("stuck", "from here no run comes to its end"), stuck, -1)


def explore(world: World, *, shortcuts: bool = True) -> Report:
    """Visits every state of a world that can be reached, until the first fault.

    Without shortcuts, each request is a step of its own and no message is forgotten: many more
    states, and the same findings.
    """
    world.shortcuts = shortcuts
    return _Search(world).run()
