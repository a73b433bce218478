"""The shipped sources over modelled memory: what is explored is what runs.

`load` reads the modules of shm anew, in a world of their own where `shm.jit` is a door to the
machine of tests/shm/weakmemory.py: `@jit` changes nothing, `load_acquire` asks for an acquire load,
an array is a `Words`. So there is no copy of a protocol that could drift away from it.

A `Mutation` replaces lines of one source, which must be there exactly once, before it is read.
"""

from __future__ import annotations

import ast
import builtins
import ctypes
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple, Never, overload

from tests.shm.modelcheck import Program, Replay, World
from tests.shm.weakmemory import Fault, Kind, Op, Place, Unread

ROOT = Path(__file__).parents[2]
# In the order of their imports.
MODULES = ("segment", "ring", "handles", "observer", "latest", "park")
ORDERINGS = (
    *("load_acquire", "store_release"),
    *("fence_acquire", "fence_release", "fence_sequential"),
)
_APART = 1 << 32  # bytes between the addresses of two regions
_FUTEX_WAIT, _FUTEX_WAKE, _WAITV = 0, 1, 449


class Mutation(NamedTuple):
    """One step of a protocol weakened, dropped or swapped: lines of one source and others."""

    name: str
    old: str
    new: str
    caught: str  # the kind of fault that shows it, empty when none can
    world: str  # in which world

    @property
    def module(self) -> str:
        """The module of shm whose lines are replaced."""
        found = {module: source(module).count(self.old) for module in MODULES}
        assert sum(found.values()) == 1, f"once in shm: {found}\n{self.old}"
        return next(module for module in MODULES if found[module])


def mutations(text: str) -> list[Mutation]:
    """Reads mutations from a text like a patch, with blank lines between them.

    # Here a reason may stand.
    publish without release: torn in gating
         # Pairs with poll in this file: who sees the cursor sees the rows.
    -    store_release(control, CURSOR, sequence)
    +    control[CURSOR] = sequence
    """
    found = []
    for piece in text.strip("\n").split("\n\n"):
        head, *lines = (line for line in piece.split("\n") if line[0] != "#")
        name, _, rest = head.partition(": ")
        caught, _, world = rest.rpartition("in ")
        old, new = (
            "".join(f"{line[1:]}\n" for line in lines if line[0] in f" {sign}") for sign in "-+"
        )
        found.append(Mutation(name, old, new, caught.strip(), world))
    return found


class Lazy:
    """The value of a plain load that nobody needed yet. Whoever uses it asks for it."""

    def __init__(self, replay: Replay, index: int) -> None:
        self._replay, self._index = replay, index

    def _use(self, *_: object) -> Never:
        raise self._replay.use(self._index)

    __int__ = __index__ = __bool__ = __hash__ = __str__ = __format__ = _use
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _use
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _use
    __and__ = __rand__ = __or__ = __ror__ = __mod__ = __floordiv__ = _use


class Shared:
    """Shared memory of one world: named regions, whose words are constant until they are shared."""

    def __init__(self, *, has_strong_order: bool = False) -> None:
        self.has_strong_order = has_strong_order  # of the machine's own plain moves
        self.places: list[Place] = []
        self._regions: dict[str, Words] = {}
        self._values: dict[int, int] = {}  # at the start, by address
        self._numbers: dict[int, int] = {}  # places, by address
        self._forgotten: set[int] = set()
        self._world: World | None = None

    def words(self, region: str, count: int = 0) -> Words:
        """Views a region; the first to do so says how many words it has."""
        if region not in self._regions:
            self._regions[region] = Words(self, (len(self._regions) + 1) * _APART, count)
        return self._regions[region]

    def is_ours(self, address: int) -> bool:
        """Says whether an address lies in a region; else it is one of this very process."""
        return any(0 <= address - one.address < 8 * len(one) for one in self._regions.values())

    def share(self, words: Words, index: int, place: Place) -> None:
        """Declares a word as one that is written after the start."""
        address = words.address + 8 * index
        self._numbers[address] = len(self.places)
        self.places.append(place._replace(value=self._values.get(address, 0)))

    def forget(self, words: Words, index: int) -> None:
        """Declares a word as a counter that no step depends on: its stores leave no trace."""
        self._forgotten.add(words.address + 8 * index)

    def world(self, programs: list[Program]) -> World:
        """Ends the set-up."""
        self._world = World(self.places, programs)
        return self._world

    def ask(self, op: Op) -> int | Lazy:
        """Answers what a thread asks of memory; while the world is set up, at once."""
        replay = self._world.replay if self._world else None
        if replay is None:
            return 0
        index = replay.asked
        answer = replay.ask(op)
        return Lazy(replay, index) if isinstance(answer, Unread) else answer

    def load(self, kind: Kind, address: int) -> int | Lazy:
        """Loads a word; a constant is simply there."""
        number = self._numbers.get(address, -1)
        if number < 0 or self._world is None:
            return self._values.get(address, 0)
        return self.ask(Op(kind, number))

    def store(self, kind: Kind, address: int, value: int) -> None:
        """Stores a word."""
        number = self._numbers.get(address, -1)
        if self._world is None:
            self._values[address] = int(value)
        elif number >= 0:
            self.ask(Op(kind, number, int(value)))
        elif address not in self._forgotten:
            raise Fault("writers", f"nobody may write the word at {address % _APART // 8}")

    def number(self, address: int) -> int:
        """Answers the place at an address."""
        return self._numbers[address]


class Words:
    """Stands for a one-dimensional int64 array over shared memory, or for its `data`.

    Through `data`, the interpreter itself moves a word. What that promises is the machine's own
    affair: nothing, or on x86-64, where every plain move is one, an acquire load, a release store.
    """

    def __init__(
        self, shared: Shared, address: int, count: int, *, is_strong: bool = False
    ) -> None:
        self.shared, self.address, self._count = shared, address, count
        self.ctypes = SimpleNamespace(data=address)
        self._load, self._store = (
            (Kind.ACQUIRE, Kind.RELEASE) if is_strong else (Kind.LOAD, Kind.STORE)
        )

    @property
    def data(self) -> Words:
        """Views the words as the interpreter moves them."""
        return Words(self.shared, self.address, self._count, is_strong=self.shared.has_strong_order)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int | Lazy]:
        return (self[index] for index in range(self._count))

    def at(self, index: int) -> int:
        """Answers the address of a word."""
        assert 0 <= int(index) < self._count, "a word of the array"
        return self.address + 8 * int(index)

    @overload
    def __getitem__(self, index: int) -> int | Lazy: ...
    @overload
    def __getitem__(self, index: slice) -> Words: ...
    def __getitem__(self, index: int | slice) -> int | Lazy | Words:
        if isinstance(index, slice):
            first, end, _ = index.indices(self._count)
            is_strong = self._load is Kind.ACQUIRE
            address, count = self.address + 8 * first, max(0, end - first)
            return Words(self.shared, address, count, is_strong=is_strong)
        return self.shared.load(self._load, self.at(index))

    def __setitem__(self, index: int | slice, value: Any) -> None:
        if isinstance(index, slice):
            part = self[index]
            values = value if isinstance(value, Sequence) else [value] * len(part)
            for place, one in zip(range(len(part)), values, strict=True):
                part[place] = one
        else:
            self.shared.store(self._store, self.at(index), value)

    def copy(self) -> list[int | Lazy]:
        """Copies as numpy does: word by word, in no order that anybody promises."""
        return list(self)

    tobytes = copy

    def reshape(self, count: int, width: int) -> Rows:
        """Views the words as a table."""
        assert count * width == self._count, "the table has the array's size"
        return Rows(self, count, width)


class Rows:
    """Stands for a two-dimensional int64 array over shared memory."""

    def __init__(self, words: Words, count: int, width: int) -> None:
        self._words, self._width = words, width
        self.shape, self.ctypes = (count, width), words.ctypes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        if isinstance(index, tuple):
            return self[index[0]][index[1]]
        return self._words[index * self._width : (index + 1) * self._width]

    def __setitem__(self, index: tuple[int, int], value: Any) -> None:
        self[index[0]][index[1]] = value

    def reshape(self, _: int) -> Words:
        """Views the table as one row."""
        return self._words


class Scratch:
    """Stands for a table of the caller's own: it may hold values that nobody needed yet."""

    def __init__(self, count: int, width: int) -> None:
        self.shape = count, width
        self.rows: list[list[int | Lazy]] = [[0] * width for _ in range(count)]

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, index: tuple[int, int], value: int | Lazy) -> None:
        self.rows[index[0]][index[1]] = value


class Door(ModuleType):
    """Stands for shm.jit."""

    def __init__(self, shared: Shared) -> None:
        super().__init__("shm.jit")
        self._shared = shared

    def __getattr__(self, name: str) -> Any:
        """Answers fences by their names, and ways to compile, which change nothing here."""
        if name.startswith("fence_"):
            kind = Kind(name)
            return lambda: self._shared.ask(Op(kind))
        if name.startswith("__"):
            raise AttributeError(name)

        def compiled(function: Any, *others: Any) -> Any:
            assert callable(function), f"the model must know {name}"
            assert not others, f"the model must know {name}"
            return function

        return compiled

    @staticmethod
    def load_acquire(words: Words, index: int) -> int | Lazy:
        return words.shared.load(Kind.ACQUIRE, words.at(index))

    @staticmethod
    def store_release(words: Words, index: int, value: int) -> None:
        words.shared.store(Kind.RELEASE, words.at(index), value)

    @staticmethod
    def pause() -> None:
        pass

    yield_cpu = pause

    @staticmethod
    def now_ns() -> int:
        return 0

    epoch_ns = now_ns

    def words_at(self, address: int, count: int) -> Any:
        """Views words at an address: shared ones, or of this process."""
        if self._shared.is_ours(address):
            return Words(self._shared, int(address), count)
        return (ctypes.c_int64 * count).from_address(address)

    def rows_at(self, address: int, count: int, width: int) -> Rows:
        """Views a table of shared words at an address."""
        return Words(self._shared, int(address), count * width).reshape(count, width)

    def syscall(self, number: int, *arguments: int) -> Any:
        """Answers the futex calls as the kernel does; no sleep ends by itself."""
        if number == _WAITV:
            vector = (ctypes.c_int64 * (3 * arguments[1])).from_address(arguments[0])
            return self._wait([(vector[at + 1], vector[at]) for at in range(0, len(vector), 3)])
        address, call, value = arguments[:3]
        if call == _FUTEX_WAIT:
            return self._wait([(address, value)])
        assert call == _FUTEX_WAKE, "a call that the model knows"
        return self._shared.ask(Op(Kind.WAKE, self._shared.number(address), value))

    def _wait(self, pairs: list[tuple[int, int]]) -> Any:
        waits = tuple((self._shared.number(address), value) for address, value in pairs)
        return self._shared.ask(Op(Kind.WAIT, waits=waits))


@cache
def source(module: str) -> str:
    """Answers the text of a module of shm."""
    return (ROOT / "shm" / f"{module}.py").read_text()


@cache
def _code(module: str, mutation: Mutation | None) -> CodeType:
    text = source(module)
    if mutation and mutation.module == module:
        text = text.replace(mutation.old, mutation.new)
    return compile(text, f"shm/{module}.py", "exec")


def load(shared: Shared, mutation: Mutation | None = None) -> Any:
    """Answers the modules of shm, each an attribute, over modelled memory."""
    package, door = SimpleNamespace(), Door(shared)

    def find(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "shm.jit":
            return door
        if name == "shm":
            return package
        if name.removeprefix("shm.") in MODULES:
            return getattr(package, name.removeprefix("shm."))
        return builtins.__import__(name, *arguments, **named)

    for name in MODULES:
        module = ModuleType(f"shm.{name}")
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": find}
        exec(_code(name, mutation), module.__dict__)
        setattr(package, name, module)
    package.handles.HAS_STRONG_ORDER = shared.has_strong_order
    return package


def orderings(module: str) -> dict[str, tuple[int, int]]:
    """Answers the calls of a module that order memory: function and text, where the text stands."""
    text = source(module)
    starts = [0, *accumulate(len(line) for line in text.splitlines(keepends=True))]
    return {
        f"{function.name}: {ast.get_source_segment(text, node)}": (
            starts[node.lineno - 1] + node.col_offset,
            starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0),
        )
        for function in ast.walk(ast.parse(text))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        if isinstance(node.func, ast.Name) and node.func.id in ORDERINGS
    }


def unweakened(module: str, mutations: Iterable[Mutation]) -> list[str]:
    """Answers the orderings of a module that no mutation takes away."""
    text = source(module)
    taken = []
    for one in mutations:
        if one.module == module and any(
            one.new.count(name) < one.old.count(name) for name in ORDERINGS
        ):
            start = text.index(one.old)
            taken.append((start, start + len(one.old)))
    return [
        name
        for name, (first, last) in orderings(module).items()
        if not any(start <= first and last <= end for start, end in taken)
    ]
