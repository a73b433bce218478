"""The compile cache: a change anywhere behind a function gives its file a new folder."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from shm import cachekey
from tests.conftest import ROOT


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder on the import path, with a package whose name no other test has."""
    package = tmp_path / f"user_{secrets.token_hex(4)}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TICKRING_CACHE_DIR", str(tmp_path / "cache"))
    return package


def forget() -> None:
    """Drops what a process remembers of files, as a new process would have none of it."""
    for function in (
        cachekey._source_of, cachekey._digest, cachekey._imports, cachekey.cache_folder,
    ):  # fmt: skip
        function.cache_clear()


def folder(path: Path) -> Path:
    forget()
    return cachekey.cache_folder(path)


def closure(path: Path) -> set[str]:
    forget()
    return {found.stem for found in cachekey.closure(path)}


def test_a_change_in_an_imported_file_changes_the_importers_folder_only(user: Path) -> None:
    helper, strategy, other = user / "helper.py", user / "strategy.py", user / "other.py"
    helper.write_text("FACTOR = 2\n")
    strategy.write_text(f"from {user.name}.helper import FACTOR\n")
    other.write_text("FACTOR = 2\n")
    before = [folder(strategy), folder(other)]
    helper.write_text("FACTOR = 3\n")
    after = [folder(strategy), folder(other)]
    helper.write_text("FACTOR = 2\n")

    assert before[0] != after[0]
    assert before[1] == after[1]
    assert folder(strategy) == before[0]


def test_a_change_two_imports_away_counts_too(user: Path) -> None:
    (user / "far.py").write_text("A = 1\n")
    (user / "near.py").write_text(f"import {user.name}.far\n")
    (user / "strategy.py").write_text(f"import {user.name}.near as near\n")
    before = folder(user / "strategy.py")
    (user / "far.py").write_text("A = 2\n")

    assert folder(user / "strategy.py") != before


def test_imports_in_a_circle_end(user: Path) -> None:
    (user / "a.py").write_text(f"from {user.name} import b\n")
    (user / "b.py").write_text(f"from {user.name} import a\n")

    assert closure(user / "a.py") == closure(user / "b.py") == {"a", "b", "__init__"}


@pytest.mark.parametrize(
    "line",
    [
        "import {package}.helper",
        "import os, {package}.helper as helper",
        "from {package}.helper import FACTOR",
        "from {package} import helper",
        "from {package} import other, helper as short",
        "from {package} import (\n    other,  # a (remark)\n    helper,\n)",
        "from {package} import other, \\\n    helper",
        "    from {package} import helper",
        "from . import helper",
        "from .helper import FACTOR",
        "from . import (other,\n    helper)",
    ],
)
def test_every_way_to_import_a_users_module_is_followed(user: Path, line: str) -> None:
    (user / "helper.py").write_text("FACTOR = 2\n")
    (user / "strategy.py").write_text(line.format(package=user.name) + "\n")

    assert "helper" in closure(user / "strategy.py")


def test_a_relative_import_from_the_folder_above_is_followed(user: Path) -> None:
    (user / "helper.py").write_text("FACTOR = 2\n")
    inner = user / "inner"
    inner.mkdir()
    (inner / "strategy.py").write_text("from ..helper import FACTOR\n")

    assert closure(inner / "strategy.py") == {"strategy", "helper"}


def test_a_users_strategy_depends_on_the_rooms_it_imports(user: Path) -> None:
    (user / "strategy.py").write_text("from shm.jit import handler\n")

    assert closure(user / "strategy.py") == {"strategy", "jit", "cachekey"}


def test_what_is_not_ours_is_left_to_numba(user: Path) -> None:
    (user / "strategy.py").write_text(
        "import json\nimport numpy as np\nimport no_such_module\nfrom numba import njit\n"
        "# import shm.ring\n"
    )

    assert closure(user / "strategy.py") == {"strategy"}


def test_of_installed_packages_only_the_rooms_are_followed(tmp_path: Path) -> None:
    packages = tmp_path / "site-packages"

    assert cachekey._is_ours(packages / "shm" / "ring.py")
    assert not cachekey._is_ours(packages / "somebody" / "shm.py")
    assert cachekey._is_ours(tmp_path / "strategies" / "mine.py")


def test_compiled_rooms_follow_what_they_call() -> None:
    assert {"ring", "jit", "segment", "cachekey"} <= closure(ROOT / "shm" / "park.py")
    assert "park" not in closure(ROOT / "shm" / "ring.py")


def test_the_folder_is_made_for_its_user_alone(user: Path) -> None:
    (user / "strategy.py").write_text("")
    found = folder(user / "strategy.py")

    assert found.name.startswith("strategy-")
    assert found.parent == Path(os.environ["TICKRING_CACHE_DIR"])
    assert found.parent.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_cannot_be_written_is_one_clear_error(
    user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (user / "strategy.py").write_text("")
    taken = user / "a_file"
    taken.write_text("")
    monkeypatch.setenv("TICKRING_CACHE_DIR", str(taken))

    with pytest.raises(OSError, match=f"can be written: path={taken}; set TICKRING_CACHE_DIR"):
        folder(user / "strategy.py")


@pytest.mark.multiprocess
def test_a_new_process_never_runs_stale_machine_code(user: Path) -> None:
    """The claim itself: the constant of a helper is frozen into its caller's machine code."""
    (user / "strategy.py").write_text(
        f"from shm.jit import jit\nfrom {user.name}.helper import scaled\n\n\n"
        "@jit\ndef answer(value):\n    return scaled(value) + 1\n"
    )
    answers = []
    for factor in (2, 3):
        (user / "helper.py").write_text(
            f"from shm.jit import jit\n\n\n@jit\ndef scaled(value):\n    return value * {factor}\n"
        )
        code = f"from {user.name}.strategy import answer; print(answer(10))"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(user.parent), "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=200,
        )  # fmt: skip
        answers.append(done.stdout.strip())

    assert answers == ["21", "31"]
