"""What takes long to compile is compiled once, by several processes, and shown by name."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
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


def test_only_a_first_compilation_is_told(tmp_path: Path) -> None:
    """The source is new each time, so that no cache has it."""
    place = tmp_path / "told_once.py"
    place.write_text(f"def plus_one(value):  # {secrets.token_hex(8)}\n    return value + 1\n")
    spec = spec_from_file_location("told_once", place)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    told: list[str] = []
    with watched(told.append):
        compiled = jit(module.plus_one)
        compiled(1)
        compiled(2)
    compiled(1.5)  # another form, no longer watched

    assert told == ["told_once.plus_one"]
