"""Bench rival: the same ring in C (ring_reference.c), compiled when the benchmark starts.

Its loops run in the same two processes over the same POSIX shared memory as ours; ctypes calls each
once, for millions of records.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

from bench.support.ring_runs import Loops
from shm.segment import Words

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
COMPILE_S_MAX = 60.0
_WORD, _POINTER = ctypes.c_int64, ctypes.c_void_p


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    shapes = {
        "ring_write": (_POINTER, _WORD, _WORD, _WORD),
        "ring_read": (_POINTER, _WORD, _POINTER),
        "ring_ping": (_POINTER, _WORD, _POINTER),
        "ring_pong": (_POINTER, _WORD),
        "ring_write_paced": (_POINTER, _WORD, _WORD),
        "ring_read_paced": (_POINTER, _WORD, _POINTER, _WORD),
    }
    for name, arguments in shapes.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = _WORD if name in ("ring_ping", "ring_pong") else None
    return library


def compiler() -> str:
    """Answers the C compiler of this machine, "" when there is none."""
    return shutil.which(os.environ.get("CC", "cc")) or ""


def build(folder: Path) -> Loops:
    """Compiles the reference into `folder` and answers its loops.

    Raises:
        RuntimeError: when there is no compiler, or it refuses.
    """
    if not compiler():
        raise RuntimeError("no C compiler: install one, or name it in CC")
    target = folder / "ring_reference.so"
    words = [compiler(), *FLAGS, "-o", str(target), str(SOURCE)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=COMPILE_S_MAX)
    if done.returncode:
        raise RuntimeError(f"the compiler must accept {SOURCE.name}: {done.stderr.strip()[-400:]}")
    return _loops(_typed(ctypes.CDLL(str(target))))


def _loops(library: ctypes.CDLL) -> Loops:
    def write(ports: Words, count: int, batch: int, readers: int) -> None:
        library.ring_write(ports.ctypes.data, count, batch, readers)

    def write_alone(ports: Words, count: int) -> None:
        library.ring_write(ports.ctypes.data, count, 1, 0)

    def read(ports: Words, count: int, out: Words) -> None:
        library.ring_read(ports.ctypes.data, count, out.ctypes.data)

    def ping(ports: Words, count: int, out: Words) -> int:
        return int(library.ring_ping(ports.ctypes.data, count, out.ctypes.data))

    def pong(ports: Words, count: int) -> int:
        return int(library.ring_pong(ports.ctypes.data, count))

    def write_paced(ports: Words, count: int, gap_ps: int) -> None:
        library.ring_write_paced(ports.ctypes.data, count, gap_ps)

    def read_paced(ports: Words, count: int, out: Words) -> None:
        library.ring_read_paced(ports.ctypes.data, count, out.ctypes.data, len(out))

    return Loops("c_reference", write, write_alone, read, ping, pong, write_paced, read_paced)
