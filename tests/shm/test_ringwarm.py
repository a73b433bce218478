"""Warming loads every compiled function of the room, in one form, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shm import segment
from tests.conftest import ROOT
from workers import ringwarm

# Every function compiled in the room, with the number of its compiled forms, in a new process.
LISTING = """
from importlib import import_module
from pathlib import Path
from workers import ringwarm
ringwarm.warm()
for path in sorted(Path("shm").glob("[a-z]*.py")):
    module = import_module(f"shm.{path.stem}")
    for name, found in sorted(vars(module).items()):
        signatures = getattr(found, "signatures", None)
        if signatures is not None and found.py_func.__module__ == module.__name__:
            print(f"{path.stem}.{name}", len(signatures))
"""
# Not called from Python: part of their callers' code.
INSIDE_OTHERS = {
    "jit.syscall", "ring._wake",
    "latest.begin_change", "latest.begin_other", "latest.end_change", "latest.version_of",
    "latest.is_unchanged",
    "park._raise_flag", "park._sleep_ns", "park._sleep", "park._wait", "park._wait_one",
}  # fmt: skip


@pytest.mark.multiprocess
def test_each_compiled_function_has_one_form_after_warming() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTING], cwd=ROOT, capture_output=True, text=True, check=True,
        timeout=250,
    )  # fmt: skip
    forms = dict(line.split() for line in done.stdout.splitlines())

    assert len(forms) > 30
    assert {name: count for name, count in forms.items() if count != "1"}.keys() <= INSIDE_OTHERS


def test_warming_leaves_no_name_in_shared_memory() -> None:
    ringwarm.warm()

    assert segment.names("tickring-warm-") == []
