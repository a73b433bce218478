"""The documents point at things that exist and list what the program has."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import typer

from workers.cli import app
from workers.metrics import HELP, PLAIN, PREFIX, RATE_NAME

ROOT: Final = Path(__file__).parents[1]
DOCUMENTS: Final = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
EXAMPLES: Final = sorted((ROOT / "docs" / "examples").glob("*.py"))
SHARED_MEMORY: Final = Path("/dev/shm")
LINK: Final = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
NAMED_FILE: Final = re.compile(r"`((?:shm|engine|config|workers|tests|bench|docs)/[\w./-]+)`")


def commands() -> Iterator[str]:
    """Yields every command of the command line; of a group only the group's name."""
    yield from typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_exist(document: Path) -> None:
    text = document.read_text()
    links = [document.parent / link for link in LINK.findall(text)]
    named = [ROOT / name for name in NAMED_FILE.findall(text)]

    assert [str(path) for path in (*links, *named) if not path.exists()] == []


def test_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`(?:tickring )?([a-z-]+)[^`]*`", text))

    assert set(commands()) - named == set()


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_run_and_leave_nothing_behind(example: Path) -> None:
    before = set(SHARED_MEMORY.iterdir())
    done = subprocess.run(
        [sys.executable, example], cwd=ROOT, capture_output=True, text=True, check=False
    )
    left = {path for path in SHARED_MEMORY.iterdir() if path.name.startswith("example")} - before

    assert (done.returncode, done.stderr, left) == (0, "", set())
    assert done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_in_documents_exist(document: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    asked = set(re.findall(r"(?:^    |`)make ([a-z]+)", document.read_text(), re.MULTILINE))

    assert asked - targets == set()


def test_every_metric_is_documented() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    source = (ROOT / "workers" / "metrics.py").read_text()
    names = {*PLAIN, RATE_NAME, *(PREFIX + name for name in HELP)}
    names |= {PREFIX + name for name in re.findall(r'PREFIX \+ "(\w+)"', source)}

    assert {
        name for name in names if f"`{name}`" not in text and f"`{name}_total`" not in text
    } == (set())


def test_decisions_are_numbered_without_a_gap_and_have_every_part() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    parts = ("**Context.**", "**Decision.**", "**What we measured.**", "**Consequences.**")

    assert [page.name[:4] for page in pages] == [f"{n:04}" for n in range(1, len(pages) + 1)]
    assert [
        (page.name, part)
        for page in pages
        for part in (*parts, "**Revisit when**")
        if part not in page.read_text()
    ] == []
