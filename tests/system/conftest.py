"""Fixtures of the whole-engine tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.system.engine import Engine


class Starter(Protocol):
    """Starts an engine that the fixture ends."""

    def __call__(self, *arguments: str, config: str = "") -> Engine: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts engines that leave nothing behind in shared memory."""
    with contextlib.ExitStack() as stack:
        started: list[Engine] = []

        def begin(*arguments: str, config: str = "") -> Engine:
            folder = tmp_path / f"engine-{len(started)}"
            folder.mkdir()
            started.append(stack.enter_context(Engine(folder, *arguments, config=config)))
            return started[-1]

        yield begin
        for engine in started:
            if engine.process.poll() in {0, 1, 2}:
                assert engine.segments() == [], "an ordered end leaves no shared memory"
