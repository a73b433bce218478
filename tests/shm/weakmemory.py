"""A machine with weakly ordered memory, small enough to be explored completely.

The memory is a view machine: the "promising semantics" without promises (Kang, Hur, Lahav,
Vafeiadis, Dreyer, "A promising semantics for relaxed-memory concurrency", POPL 2017), with the
sequentially consistent fences of RC11 (Lahav et al., PLDI 2017), plus loads that are put off.

    word of memory    a history of messages, each a value and the view that was attached to it
    view              for every word the oldest message that may still be read: a timestamp
    thread            three views: `now` bounds what it reads, `later` is what an acquire fence
                      will add to it, `carried` is what its plain stores attach (release fence)

    plain load        put off: may be answered by any message not older than `now` was, at any
                      time until its value is used, or an ordering of its own thread forbids it
    plain store       a new message with the view `carried`
    acquire load      answered at once; joins the message's view into `now`
    release store     waits for every load put off; the message carries the whole of `now`
    acquire fence     waits for every load put off; `later` joins `now`
    release fence     waits for every load put off; plain stores carry `now` from here on
    sequential fence  both of these, and `now` and one global view become their join
    futex             atomic, and in one order with the others on the same word, as futex(2) has
                      it, and no more: each sees what earlier ones there had seen. Linux passes
                      a full barrier there, too, but futex(2) does not promise it

What it covers: other threads see a thread's plain stores late and in any order, each thread another
one; loads are answered out of order; a store overtakes earlier loads (load buffering) unless it is
a release or follows a fence: exactly then a load cannot be put off any more. That last freedom is
what promises bring in the paper; here the load waits instead of the store hurrying. So the machine
shows whatever x86-64 and aarch64 can do with these operations, and more than either, for
readers may disagree about the order of two writers' stores (as on POWER).

What it leaves out. A load whose value decides whether, where or what a later store stores comes
before that store: all machines keep this, and so does LLVM, which never makes up a store; C11 alone
does not say so. Where C11 asks for more than the machines do, places that are not `is_raced` show
it: every two plain accesses there must be ordered by happens-before, else they are a data race.
Words are 8 bytes, aligned, never torn; a compiler that reads a plain word twice is not modelled.
A later store of a thread does not continue the release sequence of an earlier one (C++20). Every
word has one writer (docs/decisions/0003): a second one is reported, so histories only grow at
their end.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from enum import Enum
from typing import NamedTuple

View = tuple[int, ...]


class Kind(Enum):
    """What a program asks the memory for."""

    LOAD = "load"
    ACQUIRE = "load_acquire"
    USE = "use"  # the value of a load that was put off; `value` is its place among the answers
    STORE = "store"
    RELEASE = "store_release"
    FENCE_ACQUIRE = "fence_acquire"
    FENCE_RELEASE = "fence_release"
    FENCE_SEQUENTIAL = "fence_sequential"
    WAIT = "futex_wait"
    WAKE = "futex_wake"


# These wait until all loads before them are answered.
_AFTER_LOADS = frozenset(
    {
        *(Kind.RELEASE, Kind.FENCE_ACQUIRE, Kind.FENCE_RELEASE, Kind.FENCE_SEQUENTIAL),
        *(Kind.WAIT, Kind.WAKE),
    }
)
STORES = frozenset({Kind.STORE, Kind.RELEASE})
_LOADS = frozenset({Kind.LOAD, Kind.ACQUIRE})
# When these happen makes a difference. The rest, stores above all, happens as early as it can: an
# older message stays readable until its reader learns of the store by something that comes later.
_SEEN = frozenset({Kind.ACQUIRE, Kind.USE, Kind.FENCE_SEQUENTIAL, Kind.WAIT, Kind.WAKE})


class Op(NamedTuple):
    """One request of a program, and the source line it comes from."""

    kind: Kind
    place: int = -1
    value: int = 0  # to store; to wake at most so many
    waits: tuple[tuple[int, int], ...] = ()  # of WAIT: word and the value expected there
    where: str = ""


class Message(NamedTuple):
    """One store in the history of a word."""

    value: int
    view: View


class Unread(NamedTuple):
    """Stands for the answer of a load that was put off."""

    place: int
    floor: int  # the oldest message it may read
    where: str


class Thread(NamedTuple):
    """One thread between two operations."""

    local: Hashable  # what its program knows between turns
    answers: tuple[int | Unread, ...]  # to the requests of the turn so far
    now: View
    later: View
    carried: View
    queued: tuple[int, ...] = ()  # futex words it is queued at
    deaths: int = 0
    is_over: bool = False


class State(NamedTuple):
    """Everything at one moment."""

    threads: tuple[Thread, ...]
    words: tuple[tuple[Message, ...], ...]  # histories by place
    fenced: View  # what the last sequential fence saw
    futexes: tuple[tuple[int, View], ...] = ()  # by word: what the last operation there saw
    reads: tuple[View, ...] = ()  # by place: each thread's clock at its last read there


class Step(NamedTuple):
    """One way in which something happens: the state behind it, and a line for a trace."""

    state: State
    where: str = ""
    text: str = ""  # empty where it concerns nobody else


class Place(NamedTuple):
    """One word of memory that is written after the start."""

    name: str
    writer: int  # the one thread that stores there
    readers: tuple[int, ...] = ()  # threads that load it, besides its writer
    value: int = 0  # at the start
    is_raced: bool = True  # accesses may race by design; else plain ones must be ordered


class Fault(Exception):  # noqa: N818 - a finding, not an error
    """The program breaks a promise: a kind for tests, a text for readers."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


def joined(left: View, right: View) -> View:
    """Answers the later of two views, word by word."""
    return left if left is right else tuple(map(max, left, right))


def raised(view: View, place: int, stamp: int) -> View:
    """Answers a view that reaches at least `stamp` at one word."""
    return view if view[place] >= stamp else (*view[:place], stamp, *view[place + 1 :])


class Memory:
    """The rules: what each operation of a thread can answer and what it changes.

    A view has a number for each place and behind those one for each thread: how many reads of
    words that must not race its holder knows of. It is a vector clock, kept in the same messages.
    """

    def __init__(self, places: list[Place], threads: list[Hashable]) -> None:
        self.places = places
        self.zero: View = (0,) * (len(places) + len(threads))
        self.start = State(
            threads=tuple(self.born(local) for local in threads),
            words=tuple((Message(place.value, self.zero),) for place in places),
            fenced=self.zero,
            reads=tuple(() if place.is_raced else (0,) * len(threads) for place in places),
        )

    def born(self, local: Hashable) -> Thread:
        """Answers a thread that knows of no store."""
        return Thread(local, (), self.zero, self.zero, self.zero)

    def succeed(self, dead: Thread, local: Hashable) -> Thread:
        """Answers the successor of a killed thread: it begins once that one's stores are done."""
        after = self.born(local)
        return after._replace(now=dead.now, later=dead.now, deaths=dead.deaths + 1)

    def put_off(self, thread: Thread, op: Op) -> int:
        """Answers which load must be answered before `op`, -1 for none."""
        for index, answer in enumerate(thread.answers):
            if isinstance(answer, Unread) and (
                op.kind in _AFTER_LOADS
                or (op.kind is not Kind.USE and answer.place == op.place)
                or (op.kind is Kind.USE and op.value == index)
            ):
                return index
        return -1

    def is_seen(self, thread: Thread, op: Op) -> bool:
        """Says whether it matters to others when `op` happens."""
        return op.kind in _SEEN or self.put_off(thread, op) >= 0

    def ways(self, state: State, number: int, op: Op) -> Iterator[Step]:
        """Yields every way in which `op`, or the load it waits for, can happen next."""
        self._check(number, op)
        index = self.put_off(state.threads[number], op)
        if index >= 0:
            yield from self._late(state, number, index)
        elif op.kind is Kind.ACQUIRE:
            yield from self._acquire(state, number, op)
        elif op.kind is Kind.WAIT:
            yield from self._wait(state, number, op)
        elif op.kind is Kind.LOAD:
            yield Step(self._load(state, number, op))
        elif op.kind in STORES:
            yield self._store(state, number, op)
        elif op.kind is Kind.WAKE:
            yield self._wake(self._in_turn(state, number, op.place), number, op)
        else:
            yield self._order(state, number, op)

    def _check(self, number: int, op: Op) -> None:
        if op.place >= 0:
            word = self.places[op.place]
            if op.kind in STORES and word.writer != number:
                raise Fault("writers", f"a second writer of {word.name}")
            if op.kind in _LOADS and number not in {word.writer, *word.readers}:
                raise Fault("readers", f"nobody expects this thread to read {word.name}")

    @staticmethod
    def with_thread(state: State, number: int, thread: Thread) -> State:
        """Answers a state with one thread changed."""
        threads = (*state.threads[:number], thread, *state.threads[number + 1 :])
        return state._replace(threads=threads)

    def _answered(self, state: State, number: int, thread: Thread, answer: int | Unread) -> State:
        after = thread._replace(answers=(*thread.answers, answer), queued=())
        return self.with_thread(state, number, after)

    def _messages(self, state: State, place: int, floor: int) -> Iterator[tuple[int, Message, str]]:
        """Yields what a load may read, the newest message first, and how to say it."""
        history, name = state.words[place], self.places[place].name
        for stamp in range(len(history) - 1, floor - 1, -1):
            message = history[stamp]
            late = "" if stamp == len(history) - 1 else " (not the newest)"
            yield stamp, message, f"{name} = {message.value}{late}"

    def _load(self, state: State, number: int, op: Op) -> State:
        thread, word = state.threads[number], self.places[op.place]
        if word.writer == number:
            return self._answered(state, number, thread, state.words[op.place][-1].value)
        if not word.is_raced:
            state = self._read_in_order(state, number, op.place)
            thread = state.threads[number]
        unread = Unread(op.place, thread.now[op.place], op.where)
        return self._answered(state, number, thread, unread)

    def _read_in_order(self, state: State, number: int, place: int) -> State:
        thread, name = state.threads[number], self.places[place].name
        if thread.now[place] != len(state.words[place]) - 1:
            raise Fault("race", f"a load of {name} is not ordered with the newest store there")
        clock = len(self.places) + number
        now = raised(thread.now, clock, thread.now[clock] + 1)
        row = raised(state.reads[place], number, now[clock])
        reads = (*state.reads[:place], row, *state.reads[place + 1 :])
        return self.with_thread(state._replace(reads=reads), number, thread._replace(now=now))

    def _late(self, state: State, number: int, index: int) -> Iterator[Step]:
        """Answers a load that was put off."""
        thread = state.threads[number]
        unread = thread.answers[index]
        assert isinstance(unread, Unread), "only a load that was put off waits for its answer"
        place = unread.place
        for stamp, (value, view), text in self._messages(state, place, unread.floor):
            after = thread._replace(
                answers=(*thread.answers[:index], value, *thread.answers[index + 1 :]),
                now=raised(thread.now, place, stamp),
                later=raised(joined(thread.later, view), place, stamp),
            )
            yield Step(self.with_thread(state, number, after), unread.where, f"load {text}")

    def _acquire(self, state: State, number: int, op: Op) -> Iterator[Step]:
        thread, place = state.threads[number], op.place
        for stamp, (value, view), text in self._messages(state, place, thread.now[place]):
            after = thread._replace(
                now=raised(joined(thread.now, view), place, stamp),
                later=raised(joined(thread.later, view), place, stamp),
            )
            state_after = self._answered(state, number, after, value)
            yield Step(state_after, op.where, f"{op.kind.value} {text}")

    def _store(self, state: State, number: int, op: Op) -> Step:
        thread, word = state.threads[number], self.places[op.place]
        known = thread.now[len(self.places) :]
        if any(read > seen for read, seen in zip(state.reads[op.place], known, strict=False)):
            raise Fault("race", f"a store to {word.name} is not ordered with a load before it")
        history, text = state.words[op.place], ""
        if not word.readers:
            history = (Message(op.value, self.zero),)
        else:
            now = raised(thread.now, op.place, len(history))
            view = now if op.kind is Kind.RELEASE else thread.carried
            thread = thread._replace(now=now, later=joined(thread.later, now))
            history = (*history, Message(op.value, view))
            text = f"{op.kind.value} {word.name} = {op.value}"
        words = (*state.words[: op.place], history, *state.words[op.place + 1 :])
        return Step(self._answered(state._replace(words=words), number, thread, 0), op.where, text)

    def _order(self, state: State, number: int, op: Op) -> Step:
        thread = state.threads[number]
        if op.kind is Kind.FENCE_SEQUENTIAL:
            state = self._fence(state, number)
            thread = state.threads[number]
        elif op.kind is Kind.FENCE_ACQUIRE:
            thread = thread._replace(now=joined(thread.now, thread.later))
        else:
            thread = thread._replace(carried=thread.now)
        return Step(self._answered(state, number, thread, 0), op.where, op.kind.value)

    def _fence(self, state: State, number: int) -> State:
        thread = state.threads[number]
        fenced = joined(joined(thread.now, thread.later), state.fenced)
        after = thread._replace(now=fenced, later=fenced, carried=fenced)
        return self.with_thread(state._replace(fenced=fenced), number, after)

    def _in_turn(self, state: State, number: int, place: int) -> State:
        """Joins what a thread and earlier futex operations on a word have seen."""
        thread, futexes = state.threads[number], dict(state.futexes)
        now = joined(thread.now, futexes.get(place, self.zero))
        futexes[place] = now
        after = thread._replace(now=now, later=joined(thread.later, now))
        state = state._replace(futexes=tuple(sorted(futexes.items())))
        return self.with_thread(state, number, after)

    def _wait(self, state: State, number: int, op: Op) -> Iterator[Step]:
        """Queues at the next of the words, or goes on when it holds another value.

        Several words are queued at one after the other, as futex_wait_multiple_setup in Linux
        does. The lower 32 bits are compared.
        """
        place, expected = op.waits[len(state.threads[number].queued)]
        state = self._in_turn(state, number, place)
        thread = state.threads[number]
        for stamp, message, text in self._messages(state, place, thread.now[place]):
            after = thread._replace(now=raised(thread.now, place, stamp))
            if (message.value - expected) % (1 << 32) == 0:
                after = after._replace(queued=(*thread.queued, place))
                step = self.with_thread(state, number, after)
                yield Step(step, op.where, f"{op.kind.value} {text} as expected: sleeps")
            else:
                step = self._answered(state, number, after, -1)
                yield Step(step, op.where, f"{op.kind.value} {text}: goes on")

    def _wake(self, state: State, number: int, op: Op) -> Step:
        woken = 0
        for other, sleeper in enumerate(state.threads):
            if op.place in sleeper.queued and woken < op.value:
                state = self._answered(state, other, sleeper, 0)
                woken += 1
        after = self._answered(state, number, state.threads[number], woken)
        return Step(after, op.where, f"{op.kind.value} {self.places[op.place].name}: {woken} woken")
