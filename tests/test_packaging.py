"""What a user gets from the wheel, and that the package says the truth about itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = ("shm", "engine", "config", "workers")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    section: dict[str, Any] = document["project"]
    return section


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from this checkout with the environment's own hatchling."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    command = [*build, "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


def test_wheel_holds_the_four_rooms_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == set(ROOMS)


@pytest.mark.parametrize(
    "name",
    [
        *("config/demo.toml", "config/bare-metal.toml", "config/live.example.toml"),
        "config/futures.example.toml",
        *("config/grafana/dashboards/tickring.json", "config/prometheus/prometheus.yml"),
        *("shm/py.typed", "engine/py.typed", "config/py.typed", "workers/py.typed"),
    ],
)
def test_wheel_ships_what_is_no_python(wheel: zipfile.ZipFile, name: str) -> None:
    assert name in wheel.namelist()


def test_wheel_carries_the_licence(wheel: zipfile.ZipFile) -> None:
    (licence,) = (name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))

    assert b"Apache License" in wheel.read(licence)


def test_wheel_has_every_module_of_the_checkout(wheel: zipfile.ZipFile) -> None:
    modules = {
        path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")
    }

    assert modules - set(wheel.namelist()) == set()


def test_console_script_is_the_command_line() -> None:
    (script,) = entry_points(group="console_scripts", name="tickring")

    assert script.value == "workers.cli:main"
    assert callable(script.load())


def test_installed_version_is_the_one_in_the_project(project: dict[str, Any]) -> None:
    assert version("tickring") == project["version"]


def test_changelog_and_images_know_the_version(project: dict[str, Any]) -> None:
    number = project["version"]

    assert f"## [{number}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"tickring:{number}" in (ROOT / "docker-compose.yml").read_text()


def distribution(requirement: str) -> str:
    """The name in a requirement, as its import name is mostly spelled."""
    name = re.split(r"[\[<>=;!~ ]", requirement)[0]
    return name.replace("-", "_").lower()


def imported_packages() -> set[str]:
    trees = [ast.parse(path.read_text()) for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def test_every_dependency_is_imported_and_every_import_is_a_dependency(
    project: dict[str, Any],
) -> None:
    declared = {distribution(text) for text in project["dependencies"]}
    ours = {*ROOMS, *sys.stdlib_module_names, "llvmlite"}  # llvmlite is the half of numba

    assert imported_packages() - ours == declared


def test_every_dependency_has_a_floor_and_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = text[text.index("\ndependencies = [") : text.index("[project.scripts]")]
    lines = [line for line in block.splitlines() if line.startswith('  "')]

    assert [line for line in lines if "# " not in line] == []
    assert [line for line in lines if ">=" not in line and "types-" not in line] == []
