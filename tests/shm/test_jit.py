"""The door to the compiler: orderings as machine code, clocks, calls by address, views.

The orderings are looked at in the functions that the protocols consist of, compiled anew, for this
kind of machine and, through LLVM's other back end, for aarch64. x86-64 keeps loads and stores in
order by itself, so acquire and release must add nothing to a plain move there; only the sequential
fence may lock the bus.
"""

from __future__ import annotations

import os
import re
import threading
import time
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numba  # noqa: TID251 - compiled without the cache: cached code has no intermediate form
import numpy as np
import pytest

from shm import latest, observer, park, ring
from shm.jit import (
    bytes_at,
    call_stage,
    epoch_ns,
    fence_acquire,
    fence_release,
    fence_sequential,
    handler_address,
    held,
    jit,
    load_acquire,
    now_ns,
    pause,
    rows_at,
    stage,
    stage_address,
    store_release,
    syscall,
    words_at,
)
from shm.segment import Words
from tests.shm import loops

WORDS = numba.types.Array(numba.types.int64, 1, "C")
ROWS = numba.types.Array(numba.types.int64, 2, "C")
INT = numba.types.int64
X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
# What orders memory; of a barrier on aarch64 also its kind.
_ORDERINGS = {
    X86: re.compile(r"\b(lock|xchg|mfence|lfence|sfence)"),
    ARM: re.compile(r"\b(dmb\s+\w+|ldapr|ldar|stlr|ldaxr|stlxr|swp\w*|cas\w*)\b"),
}
_RUNTIME = re.compile(r"define [^\n]*@(NRT_\w+)\([^\n]*\{\n.*?\n\}\n", re.DOTALL)
# shm.jit.pause emits what the host has; the other machine gets its own.
_PAUSES = {X86: "@llvm.x86.sse2.pause()", ARM: "@llvm.aarch64.hint(i32 1)"}
_PAUSE = re.compile(r"@llvm\.(x86\.sse2\.pause|aarch64\.hint)\([^)]*\)")
_PAUSE_DECLARED = re.compile(r"declare void @llvm\.(x86\.sse2\.pause|aarch64\.hint)[^\n]*")
_DECLARATIONS = """
declare void @llvm.x86.sse2.pause()
declare void @llvm.aarch64.hint(i32)
"""
_HOST = re.compile(r'target (triple|datalayout) = "[^"]*"|"(target-cpu|target-features)"="[^"]*"')


def load(words: Words) -> int:
    return load_acquire(words, 2)


def store(words: Words, value: int) -> None:
    store_release(words, 2, value)


def acquire(words: Words) -> int:
    before = words[0]
    fence_acquire()
    return int(before + words[8])


def release(words: Words) -> None:
    words[0] = 1
    fence_release()
    words[8] = 2


def sequential(words: Words) -> int:
    words[0] = 1
    fence_sequential()
    return int(words[8])


def spin() -> None:
    pause()


@cache
def compiled(function: Any, *types: Any) -> tuple[str, str]:
    """Compiles without cache; answers the module's intermediate form and the function's label."""
    plain = getattr(function, "py_func", function)
    made = numba.njit(types, error_model="numpy", nogil=True)(plain)
    result: Any = next(iter(made.overloads.values()))
    return result.library.get_llvm_str(), result.fndesc.mangled_name


def alone(text: str, label: str) -> str:
    """Answers a module of one function and what it calls, without its wrappers for Python."""
    module = llvm.parse_assembly(_RUNTIME.sub(r"declare void @\1(ptr)\n", text))
    for function in module.functions:
        if function.name != label and not function.is_declaration:
            function.linkage = "internal"
    machine = llvm.Target.from_default_triple().create_target_machine()
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(0)))
    return _HOST.sub("", str(module))


@cache
def code(machine: str, function: Any, *types: Any) -> str:
    """Answers the machine code of one function as text."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    text, label = compiled(function, *types)
    text = alone(text, label)
    text = _PAUSE_DECLARED.sub("", text)
    module = llvm.parse_assembly(_PAUSE.sub(_PAUSES[machine], text) + _DECLARATIONS)
    module.triple = machine
    target = llvm.Target.from_triple(machine).create_target_machine(opt=3)
    body = target.emit_assembly(module).split(f"\n{label}:\n", 1)[1]
    return str(re.split(r"\n\.Lfunc_end\d+:", body, maxsplit=1)[0])


def orderings(machine: str, function: Any, *types: Any) -> list[str]:
    """Answers what orders memory in a function, in the order of its text."""
    found = _ORDERINGS[machine].findall(code(machine, function, *types))
    return [" ".join(one.split()) for one in found]


@pytest.mark.parametrize("function", [load, acquire, release], ids=lambda one: one.__name__)
def test_acquire_and_release_cost_nothing_on_x86(function: Any) -> None:
    assert orderings(X86, function, WORDS) == []


def test_a_released_store_costs_nothing_on_x86() -> None:
    assert orderings(X86, store, WORDS, INT) == []


def test_only_the_sequential_fence_locks_the_bus_on_x86() -> None:
    assert orderings(X86, sequential, WORDS) in (["lock"], ["mfence"])


def test_fences_keep_plain_moves_in_their_order_on_x86() -> None:
    """No instruction is needed, but the compiler must not swap the moves around it either."""
    lines = code(X86, release, WORDS).splitlines()
    first = next(number for number, line in enumerate(lines) if "$1, (" in line)
    second = next(number for number, line in enumerate(lines) if "$2, 64(" in line)

    assert first < second


@pytest.mark.parametrize(
    ("function", "types", "expected"),
    [
        (load, (WORDS,), ["ldar"]),
        (store, (WORDS, INT), ["stlr"]),
        (acquire, (WORDS,), ["dmb ishld"]),
        (release, (WORDS,), ["dmb ish"]),
        (sequential, (WORDS,), ["dmb ish"]),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_each_ordering_is_its_instruction_on_aarch64(
    function: Any, types: tuple[Any, ...], expected: list[str]
) -> None:
    found = [one.replace("ldapr", "ldar") for one in orderings(ARM, function, *types)]

    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "types", "arm", "x86"),
    [
        (ring.publish, (WORDS, INT), ["stlr", "dmb ish"], ["lock"]),  # the wake, when parkable
        (ring.poll, (WORDS, INT), ["ldar"], []),
        (ring.release, (WORDS, INT, INT), ["stlr"], []),
        (ring.slowest_gating, (WORDS,), ["ldar"], []),
        (ring.claim, (WORDS, INT), ["dmb ish"], []),
        (ring.is_intact, (WORDS, INT), ["dmb ishld"], []),
        (ring.oldest_intact, (WORDS,), ["dmb ishld"], []),
        (observer.observe, (WORDS, ROWS, INT, ROWS), ["ldar", "dmb ishld", "stlr"], []),
        (latest.write_latest, (WORDS, WORDS), ["dmb ish", "stlr"], []),
        (latest.begin_change, (WORDS,), ["dmb ish"], []),
        (latest.begin_other, (WORDS,), ["dmb ish"], []),
        (latest.end_change, (WORDS,), ["stlr"], []),
        (latest.version_of, (WORDS,), ["ldar"], []),
        (latest.is_unchanged, (WORDS, INT), ["dmb ishld"], []),
        (park._raise_flag, (WORDS, INT, INT), ["dmb ish"], ["lock"]),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_every_protocol_carries_its_orderings_and_no_more(
    function: Any, types: tuple[Any, ...], arm: list[str], x86: list[str]
) -> None:
    """In the order of the text, repetitions of unrolled loops left out."""
    on_arm = [one.replace("ldapr", "ldar") for one in orderings(ARM, function, *types)]
    on_x86 = [one.replace("mfence", "lock") for one in orderings(X86, function, *types)]

    assert list(dict.fromkeys(on_arm)) == arm
    assert list(dict.fromkeys(on_x86)) == x86


def test_pause_is_the_hint_of_the_machine() -> None:
    assert "\tpause" in code(X86, spin)
    assert "\tyield" in code(ARM, spin)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(8, np.int64)[::2],
        np.zeros((2, 4), np.int64),
        np.zeros(8, np.int32),
        np.zeros(8, np.float64),
    ],
    ids=["strided", "table", "narrow", "float"],
)
def test_words_without_an_address_by_index_are_refused_at_compile_time(array: Any) -> None:
    with pytest.raises(numba.core.errors.TypingError):
        numba.njit(load)(array)


def test_now_is_the_monotonic_clock() -> None:
    for _ in range(100):
        before, ours, after = time.monotonic_ns(), now_ns(), time.monotonic_ns()

        assert before <= ours <= after


def test_epoch_is_the_real_time_clock() -> None:
    for _ in range(100):
        before, ours, after = (
            time.clock_gettime_ns(time.CLOCK_REALTIME),
            epoch_ns(),
            time.clock_gettime_ns(time.CLOCK_REALTIME),
        )

        assert before <= ours <= after


def test_a_handler_is_called_by_its_address_with_all_five_arrays() -> None:
    row, out = np.array([1, 2, 3, 4], np.int64), np.array([0, 5], np.int64)
    answer = loops.call(handler_address(loops.add_up), row, out)

    assert answer == 54_321
    assert out.tolist() == [4 + 10 * 3 + 100 * 2, 5]


def test_a_handler_has_one_address_in_a_process() -> None:
    assert handler_address(loops.add_up) == handler_address(loops.add_up) > 0


@jit
def two_words(row: Words, view: Words) -> int:
    return int(row[0] + view[0])


def test_what_is_no_handler_has_no_address() -> None:
    two_words(np.zeros(1, np.int64), np.zeros(1, np.int64))
    for wrong in (load, two_words, len, None, loops.call):
        with pytest.raises(TypeError, match=r"must be compiled with shm\.jit\.handler"):
            handler_address(wrong)


@stage
def add_to(address: int) -> int:
    """Adds one to the word at `address` and answers it."""
    words = words_at(address, 1)
    words[0] += 1
    return int(words[0])


@jit
def call_at(function: int, argument: int) -> int:
    return call_stage(function, argument)


def test_a_stage_is_called_by_its_address() -> None:
    word = np.array([41], np.int64)

    assert call_at(stage_address(add_to), int(word.ctypes.data)) == 42
    assert word.tolist() == [42]


def test_what_is_no_stage_has_no_address() -> None:
    call_at(stage_address(add_to), int(np.zeros(1, np.int64).ctypes.data))
    for wrong in (two_words, loops.add_up, call_at, len, None):
        with pytest.raises(TypeError, match=r"must be compiled with shm\.jit\.stage"):
            stage_address(wrong)


def test_views_at_an_address_are_the_memory_itself() -> None:
    memory = np.arange(12, dtype=np.int64)
    address = int(memory.ctypes.data)
    words_at(address, 12)[3] = -1
    rows_at(address, 3, 4)[2, 1] = -2

    assert memory[[3, 9]].tolist() == [-1, -2]
    assert rows_at(address, 3, 4).shape == (3, 4)
    assert bytes_at(address, 96).tobytes() == memory.tobytes()


def test_a_system_call_takes_the_kernels_own_numbers() -> None:
    number = 172 if os.uname().machine == "aarch64" else 39

    assert syscall(number, 0, 0, 0, 0, 0, 0) == os.getpid()
    assert syscall(1 << 20, 0, 0, 0, 0, 0, 0) == -1


def test_a_users_own_numba_functions_keep_their_own_cache() -> None:
    config: Any = numba.config

    assert "tickring" not in config.CACHE_DIR


def test_what_holds_the_gil_is_not_interrupted_by_a_busy_thread() -> None:
    """The other thread runs bytecode for ever; it gets no turn inside a call that holds."""
    counts = [0]
    is_over = threading.Event()

    def busy() -> None:
        while not is_over.is_set():
            counts[0] += 1

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        held_spin(1)
        moved = []
        for _ in range(5):
            before = counts[0]
            held_spin(2_000_000)
            moved.append(counts[0] - before)
    finally:
        is_over.set()
        thread.join()

    assert min(moved) == 0


@held
def held_spin(duration_ns: int) -> int:
    end_ns = now_ns() + duration_ns
    while now_ns() < end_ns:
        pause()
    return 0
