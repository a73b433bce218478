"""Fixtures of the shared-memory room's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shm import segment
from shm.segment import Segment
from tests.shm import loops
from tests.shm.processes import Children
from workers import ringwarm

LAYOUT = segment.fingerprint("test words", 1)


@pytest.fixture(scope="session")
def compiled() -> None:
    """Everything that a forked process would otherwise load by itself."""
    ringwarm.warm()
    loops.warm()


@pytest.fixture
def children(compiled: None) -> Iterator[Children]:
    """Starts processes; whatever still runs at the end is killed."""
    with Children() as living:
        yield living


@pytest.fixture
def scratch(segment_prefix: str) -> Iterator[Segment]:
    """A ready segment of 2**16 words, for what the processes of a test tell each other."""
    made = segment.create(f"{segment_prefix}-scratch", 1 << 19, LAYOUT, 1)
    made.set_ready()
    yield made
    made.unlink()
    made.close()
