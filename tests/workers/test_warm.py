"""What takes long to compile is compiled once, by several processes, and shown by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shm.jit import jit, watched
from workers import warm


def _python(cache: Path, *words: str) -> list[str]:
    """Runs Python with a cache of its own; answers the lines it printed."""
    environment = os.environ | {"TICKRING_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_module_is_compiled_by_name_once_and_comes_from_the_cache_then(tmp_path: Path) -> None:
    words = ("-m", "workers.warm", "workers.ringwarm")
    first, second = _python(tmp_path, *words), _python(tmp_path, *words)

    assert {"shm.ring.claim", "shm.ring.publish", "shm.jit.now_ns"} <= set(first)
    assert second == []


@pytest.mark.multiprocess
def test_an_empty_cache_lacks_every_long_module(tmp_path: Path) -> None:
    asked = "from workers import warm; print(*warm._cold(), sep='\\n')"

    assert _python(tmp_path, "-c", asked) == [name for name, _ in warm.LONG]


def test_every_long_module_is_one_that_is_loaded() -> None:
    assert {name for name, _ in warm.LONG} <= set(warm.LOADED)


@pytest.mark.multiprocess
def test_a_process_that_fails_is_not_mourned() -> None:
    names: list[str] = []
    warm._share_out(["no.such.module", "json"], names.append)

    assert names == []


def test_only_a_first_compilation_is_told() -> None:
    told: list[str] = []

    def plus_one(value: int) -> int:
        return value + 1

    with watched(told.append):
        compiled = jit(plus_one)
        compiled(1)
        compiled(2)
    compiled(1.5)  # type: ignore[arg-type]  # another form, no longer watched

    assert told == [f"{__name__}.plus_one"]
