"""shm room: the one door to the compiler, and the few machine operations that rings need.

Memory model, in short. A ring has one writer and several readers in other processes. The writer
fills rows with ordinary stores and then stores the cursor with *release*: no earlier store may be
seen after it. A reader loads the cursor with *acquire*: no later load may be satisfied before it.
A reader that has seen cursor = s therefore sees every byte of row s. On x86-64 both are plain
moves (the hardware orders them; the compiler is what must be held back); on aarch64 they become
`stlr` and `ldar`. A plain numpy store gives neither promise, so nothing is ever published with one.
The sequentially consistent fence is needed in one place only: a writer that must know whether a
reader sleeps (store cursor, then load the sleep flag) and the reader doing the reverse, see
`shm/park.py`.

Everything is emitted as LLVM atomics through numba intrinsics, so it costs what C costs and stays
in numba's cache, which `shm/cachekey.py` keeps from ever going stale.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils, event
from numba.extending import intrinsic

from shm.cachekey import cache_folder

P = ParamSpec("P")
R = TypeVar("R")

WORDS = types.Array(types.int64, 1, "C")
ROWS = types.Array(types.int64, 2, "C")
HANDLER_WORDS = 5  # arrays that a handler takes, see call_handler
HANDLER = types.int64(*(WORDS,) * HANDLER_WORDS)
STAGE = types.int64(types.int64)


# Records are short rows of words; without this LLVM stores them word by word (measured: 3.6 ns to
# publish one instead of 1.9, `tickring bench ring`). numba leaves it off for faults of old LLVMs.
numba.config.SLP_VECTORIZE = 1


def _compile(function: Callable[P, R], *signature: Any, **more: Any) -> Callable[P, R]:
    options = {"cache": True, "nogil": True, "error_model": "numpy", **more}
    others = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder(Path(function.__code__.co_filename)))
    try:
        return cast("Callable[P, R]", numba.njit(*signature, **options)(function))
    finally:
        numba.config.CACHE_DIR = others  # a user's own numba functions stay where they were


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles a module-level function: cached on disk, without the GIL, division as in numpy."""
    return _compile(function)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles like `jit`, and wherever compiled code calls it puts its body in the call's place.

    For what is shorter than a call with an array, which passes seven words.
    """
    return _compile(function, forceinline=True)


def held(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles like `jit`, but keeps the GIL while it runs.

    For what is over in less time than it takes to get the GIL back from a busy thread, which is
    milliseconds: a log row, a counter.
    """
    return _compile(function, nogil=False)


class _Teller(event.Listener):  # type: ignore[misc]  # numba ships no types
    def __init__(self, told: Callable[[str], None]) -> None:
        self._told = told

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        self._told(f"{function.__module__}.{function.__name__}")

    def on_end(self, event: Any) -> None:
        """Nothing follows the end."""


@contextmanager
def watched(told: Callable[[str], None]) -> Iterator[None]:
    """Tells the name of each function when its compilation begins; not what the cache has."""
    teller = _Teller(told)
    event.register("numba:compile", teller)
    try:
        yield
    finally:
        event.unregister("numba:compile", teller)


def handler(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles a function of five int64 arrays that answers an int64, callable by address.

    The signature is fixed so that compiled loops can call any such function through a number
    (`handler_address`) and still be cached: a closure over it would compile anew in every run.
    It must not raise: an exception cannot cross the call and would be printed and read as 0.
    """
    return _compile(function, HANDLER)


def stage(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles a function of one int64, an address, that answers an int64, callable by address.

    What holds for `handler` holds here. A process strings its stages together, see `call_stage`.
    """
    return _compile(function, STAGE)


def _entry(function: Any, signature: Any, rule: str) -> int:
    """Answers the address of a function compiled with exactly one signature."""
    results = list(getattr(function, "overloads", {}).values())
    if len(results) != 1 or results[0].signature != signature:
        raise TypeError(f"{rule}: {function!r}")
    name = results[0].fndesc.llvm_cfunc_wrapper_name
    return int(results[0].library.get_pointer_to_function(name))


def handler_address(function: Any) -> int:
    """Answers the address of a function made by `handler`, for `call_handler` in this process.

    Raises:
        TypeError: when the function was not compiled with the handler signature.
    """
    return _entry(function, HANDLER, "a strategy function must be compiled with shm.jit.handler")


def stage_address(function: Any) -> int:
    """Answers the address of a function made by `stage`, for `call_stage` in this process.

    Raises:
        TypeError: when the function was not compiled with the stage signature.
    """
    return _entry(function, STAGE, "a stage must be compiled with shm.jit.stage")


@intrinsic  # type: ignore[untyped-decorator]
def call_stage(typing, address, argument):  # type: ignore[no-untyped-def]
    """Calls the stage at `address` with one int64; answers its int64."""

    def generate(context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        word = ir.IntType(64)
        shape = ir.FunctionType(word, [word])
        return builder.call(builder.inttoptr(arguments[0], shape.as_pointer()), arguments[1:])

    return types.int64(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def call_handler(typing, address, row, view, state, parameters, out):  # type: ignore[no-untyped-def]
    """Calls the handler at `address` with five int64 arrays; answers its int64."""
    signature = types.int64(types.int64, *(WORDS,) * HANDLER_WORDS)

    def generate(context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        array = context.get_value_type(WORDS)
        shape = ir.FunctionType(ir.IntType(64), [array] * HANDLER_WORDS)
        function = builder.inttoptr(arguments[0], shape.as_pointer())
        return builder.call(function, arguments[1:])

    return signature, generate


def _is_words(array: Any) -> bool:
    """Says whether an array's words lie one behind the other: only those have an address by index.

    An intrinsic that answers None for the rest makes numba refuse the call at compile time.
    """
    if not isinstance(array, types.Array):
        return False
    return (array.ndim, array.layout, array.dtype) == (1, "C", types.int64)


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    view = context.make_array(array_type)(context, builder, array)
    return builder.gep(view.data, [index])


@intrinsic  # type: ignore[untyped-decorator]
def load_acquire(typing, array, index):  # type: ignore[no-untyped-def]
    """Loads array[index] (int64); no later load or store of the caller moves before it."""
    if not _is_words(array):
        return None
    signature = array.dtype(array, types.intp)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = _element(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.load_atomic(pointer, ordering="acquire", align=8)

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def store_release(typing, array, index, value):  # type: ignore[no-untyped-def]
    """Stores array[index] = value (int64); no earlier load or store moves after it."""
    if not _is_words(array):
        return None
    signature = types.void(array, types.intp, array.dtype)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = _element(context, builder, signature.args[0], arguments[0], arguments[1])
        builder.store_atomic(arguments[2], pointer, ordering="release", align=8)
        return context.get_dummy_value()

    return signature, generate


def _fence(ordering: str) -> Callable[..., Any]:
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.fence(ordering)
        return context.get_dummy_value()

    return generate


@intrinsic  # type: ignore[untyped-decorator]
def fence_release(typing):  # type: ignore[no-untyped-def]
    """Keeps earlier loads and stores before every later store."""
    return types.void(), _fence("release")


@intrinsic  # type: ignore[untyped-decorator]
def fence_acquire(typing):  # type: ignore[no-untyped-def]
    """Keeps earlier loads before every later load and store."""
    return types.void(), _fence("acquire")


@intrinsic  # type: ignore[untyped-decorator]
def fence_sequential(typing):  # type: ignore[no-untyped-def]
    """Keeps an earlier store before a later load: the only order that costs on x86-64."""
    return types.void(), _fence("seq_cst")


def _machine_is_arm() -> bool:
    return os.uname().machine == "aarch64"


@intrinsic  # type: ignore[untyped-decorator]
def pause(typing):  # type: ignore[no-untyped-def]
    """Tells the core that this is a spin loop (pause on x86-64, yield on aarch64)."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if _machine_is_arm():
            shape = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            hint = cgutils.get_or_insert_function(builder.module, shape, "llvm.aarch64.hint")
            builder.call(hint, [ir.Constant(ir.IntType(32), 1)])
        else:
            shape = ir.FunctionType(ir.VoidType(), [])
            builder.call(
                cgutils.get_or_insert_function(builder.module, shape, "llvm.x86.sse2.pause"), []
            )
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing, address):  # type: ignore[no-untyped-def]
    """Reads an int64 address as a pointer to int64."""
    signature = types.CPointer(types.int64)(types.int64)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def _bytes_pointer(typing, address):  # type: ignore[no-untyped-def]
    """Reads an int64 address as a pointer to uint8."""
    signature = types.CPointer(types.uint8)(types.int64)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def _clock(typing, clock):  # type: ignore[no-untyped-def]
    """Calls clock_gettime(clock) and answers nanoseconds; 18-20 ns, no system call (vDSO)."""
    signature = types.int64(types.int64)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word = ir.IntType(64)
        time = cgutils.alloca_once(builder, ir.ArrayType(word, 2))
        shape = ir.FunctionType(ir.IntType(32), [ir.IntType(32), word.as_pointer()])
        function = cgutils.get_or_insert_function(builder.module, shape, "clock_gettime")
        first = builder.bitcast(time, word.as_pointer())
        builder.call(function, [builder.trunc(arguments[0], ir.IntType(32)), first])
        seconds = builder.load(first)
        rest = builder.load(builder.gep(first, [ir.Constant(word, 1)]))
        return builder.add(builder.mul(seconds, ir.Constant(word, 1_000_000_000)), rest)

    return signature, generate


_CLOCK_REALTIME = 0
_CLOCK_MONOTONIC = 1
_sched_yield = types.ExternalFunction("sched_yield", types.int32())
_syscall = types.ExternalFunction(
    "syscall", types.int64(*(types.int64,) * 7)
)  # variadic in C; six integer arguments go into registers alike on both machines


@jit
def now_ns() -> int:
    """Answers CLOCK_MONOTONIC in ns, the same clock as time.monotonic_ns()."""
    return _clock(_CLOCK_MONOTONIC)  # type: ignore[no-any-return]


@jit
def epoch_ns() -> int:
    """Answers CLOCK_REALTIME in ns since 1970."""
    return _clock(_CLOCK_REALTIME)  # type: ignore[no-any-return]


@jit
def yield_cpu() -> None:
    """Gives the core to another runnable thread of the same priority."""
    _sched_yield()


@jit
def syscall(
    number: int, a: int, b: int, c: int, d: int, e: int, f: int
) -> int:  # the kernel's own six
    """Makes a raw system call; answers its result, -1 on any error (errno is not read)."""
    return _syscall(number, a, b, c, d, e, f)  # type: ignore[no-any-return]


@jit
def words_at(address: int, count: int) -> np.ndarray:  # (count,) int64
    """Views `count` int64 words at `address`. Lifetime: the mapping, which the caller owns."""
    return carray(_pointer(address), (count,))  # type: ignore[no-any-return]


@jit
def rows_at(address: int, count: int, words: int) -> np.ndarray:  # (count, words) int64
    """Views a table of int64 at `address`. Lifetime: the mapping, which the caller owns."""
    return carray(_pointer(address), (count, words))  # type: ignore[no-any-return]


@jit
def bytes_at(address: int, count: int) -> np.ndarray:  # (count,) uint8
    """Views `count` bytes at `address`. Lifetime: the mapping it lies in, which the caller owns."""
    return carray(_bytes_pointer(address), (count,))  # type: ignore[no-any-return]
