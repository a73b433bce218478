"""House rules that no linter knows: order of the rooms, doors, sizes, drawings, dead files."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import config
import engine
import shm
import workers

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = ("shm", "engine", "config", "workers")  # a room imports only rooms to its left
FILE_LINES_MAX: Final = 400
TEST_FILE_LINES_MAX: Final = 650  # a suite of claims about one subject may stay in one place
FUNCTION_LINES_MAX: Final = 50
FILE_BYTES_MAX: Final = 512 * 1024

# What may be imported only behind a door, and the door: a file, or a whole room.
DOORS: Final = {
    "numba": ("shm/jit.py", "shm/vectors.py"),
    "llvmlite": ("shm/jit.py", "shm/vectors.py"),
    "multiprocessing.shared_memory": ("shm/segment.py",),
    "multiprocessing.resource_tracker": ("shm/segment.py",),
    **dict.fromkeys(
        (
            *("asyncio", "socket", "signal", "ssl", "selectors", "subprocess", "threading"),
            *("multiprocessing", "sched", "http", "urllib.request", "sqlite3"),
            *("psutil", "uvloop", "picows", "websockets", "asyncpg", "redis", "msgpack"),
            *("typer", "rich", "prometheus_client", "cryptography", "orjson"),
        ),
        ("workers/",),
    ),
}
# engine is pure: nothing that reads a clock, a file, the environment or chance.
IMPURE: Final = ("time", "datetime", "os", "random", "secrets", "pathlib", "tempfile", "io")


@dataclass(frozen=True)
class Source:
    """One Python file of the project."""

    path: str
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.path.partition("/")[0]

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def files() -> tuple[str, ...]:
    """Every file that is or would be committed, relative to the root."""
    git = shutil.which("git")
    command = [git or "false", "-c", f"safe.directory={ROOT}", "ls-files"]
    command += ["--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    names = done.stdout.splitlines() if done.returncode == 0 else list(walked())
    return tuple(sorted(name for name in names if (ROOT / name).is_file()))


def walked() -> Iterator[str]:
    """Stands in for git where there is none, as in an unpacked source archive."""
    made = {"var", "dist", "build", "node_modules", "__pycache__"}
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and not any(part in made or part.startswith(".") for part in parts):
            yield "/".join(parts)


@cache
def sources() -> tuple[Source, ...]:
    found = []
    for name in files():
        if name.endswith(".py"):
            text = (ROOT / name).read_text()
            found.append(Source(name, text, ast.parse(text, name)))
    return tuple(found)


def room_sources() -> Iterator[Source]:
    return (source for source in sources() if source.room in ROOMS)


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """Yields line and dotted name of everything imported; `from a import b` gives a and a.b."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_rooms_import_only_rooms_to_their_left() -> None:
    wrong = [
        f"{source.path}:{line} imports {name}"
        for source in room_sources()
        for line, name in imported(source)
        for room in (*ROOMS[ROOMS.index(source.room) + 1 :], "tests", "bench")
        if is_within(name, room)
    ]

    assert wrong == []


def test_third_party_modules_are_imported_behind_their_door() -> None:
    wrong = [
        f"{source.path}:{line} imports {name}, whose door is {' or '.join(doors)}"
        for source in room_sources()
        for line, name in imported(source)
        for package, doors in DOORS.items()
        if is_within(name, package)
        and not source.path.startswith(doors)
        and not (source.path == "shm/segment.py" and package == "multiprocessing")
    ]

    assert wrong == []


def test_engine_reads_no_clock_file_environment_or_chance() -> None:
    wrong = [
        f"{source.path}:{line} imports {name}"
        for source in room_sources()
        for line, name in imported(source)
        if source.room == "engine" and name.partition(".")[0] in IMPURE
    ]

    assert wrong == []


def test_imports_are_absolute() -> None:
    wrong = [
        f"{source.path}:{node.lineno}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]

    assert wrong == []


def test_files_are_short() -> None:
    lines = {source.path: source.text.count("\n") for source in sources()}
    limits = {
        path: TEST_FILE_LINES_MAX if path.startswith("tests/") else FILE_LINES_MAX for path in lines
    }

    assert {path: count for path, count in lines.items() if count > limits[path]} == {}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Counts a function's lines without its docstring and decorators."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def test_functions_are_short() -> None:
    long = {
        f"{source.path}:{node.lineno} {node.name}": body_lines(node)
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and body_lines(node) > FUNCTION_LINES_MAX
    }

    assert long == {}


def test_every_module_says_what_it_is() -> None:
    wrong = [source.path for source in sources() if not ast.get_docstring(source.tree)]

    assert wrong == []


def test_every_module_of_a_room_opens_with_its_room() -> None:
    wrong = [
        source.path
        for source in room_sources()
        if not (ast.get_docstring(source.tree) or "").startswith(f"{source.room} room:")
    ]

    assert wrong == []


def test_every_folder_of_a_room_is_a_package() -> None:
    folders = {(ROOT / source.path).parent for source in room_sources()}

    without = [path for path in folders if not (path / "__init__.py").exists()]

    assert [path.relative_to(ROOT).as_posix() for path in without] == []


def test_packages_re_export_nothing() -> None:
    wrong = [
        source.path
        for source in room_sources()
        if source.path.endswith("__init__.py") and len(source.tree.body) > 1
    ]

    assert wrong == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    nothing = {"utils", "util", "common", "base", "helpers", "misc", "core"}

    assert [source.path for source in sources() if Path(source.path).stem in nothing] == []


def written(name: str) -> str:
    """The text of a file of ours, or nothing for bytes and for the licence's own text."""
    try:
        return "" if name == "LICENSE" else (ROOT / name).read_text()
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(r"(?<![\w./~-])/(?:home|root|Users|work|mnt)/\w", id="a path of one machine"),
        pytest.param(r"pypi\.org|pythonhosted|npmjs\.|proxy\.golang", id="a registry's address"),
        pytest.param(r"\b(?:TODO|FIXME|XXX|HACK)\b", id="a leftover marker"),
    ],
)
def test_no_file_holds(pattern: str) -> None:
    here = Path(__file__).relative_to(ROOT).as_posix()
    wrong = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name in files()
        if name != here
        for number, line in enumerate(written(name).splitlines(), 1)
        if re.search(pattern, line)
    ]

    assert wrong == []


def test_no_file_is_large() -> None:
    assert [name for name in files() if (ROOT / name).stat().st_size > FILE_BYTES_MAX] == []


def test_every_benchmark_has_a_drawing_of_its_topology() -> None:
    benchmarks = [
        source for source in sources() if re.fullmatch(r"bench/[a-z]\w+\.py", source.path)
    ]
    wrong = [
        source.path
        for source in benchmarks
        if not re.search(r"-+>|<-+", ast.get_docstring(source.tree) or "")
    ]

    assert wrong == []


def test_every_module_is_imported_or_named_as_an_entry_point() -> None:
    """A module that only tests know is dead, unless a profile or the package names it."""
    used = {
        name
        for source in sources()
        if source.room in (*ROOMS, "bench")
        for _, name in imported(source)
        if name != source.module
    }
    texts = (name for name in files() if re.fullmatch(r"pyproject\.toml|config/[^/]+\.toml", name))
    named = "".join(written(name) for name in texts)
    strings = {
        node.value
        for source in sources()
        if source.room in (*ROOMS, "bench")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    dead = [
        source.path
        for source in room_sources()
        if not source.path.endswith(("__init__.py", "__main__.py"))
        if source.module not in used
        and f"{source.module}:" not in named
        and not any(text.split(":")[0] == source.module for text in strings)
    ]

    assert dead == []


def test_all_rooms_come_from_one_checkout() -> None:
    places = {Path(room.__file__ or "").parent.parent for room in (shm, engine, config, workers)}

    assert places == {ROOT}
