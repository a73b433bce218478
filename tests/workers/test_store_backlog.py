"""What the journal holds and the database does not, ring by ring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.journal_bench import (
    GENERATION,
    journaled,
    opened_run,
    record_run,
    store_settings,
)
from workers.context import Memory
from workers.store_backlog import RunBacklog, open_run


@pytest.fixture
def memory(segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    with opened_run(store_settings(segment_prefix), tmp_path) as memory:
        record_run(memory, 5)
        yield memory


@pytest.fixture
def backlog(memory: Memory) -> Iterator[RunBacklog]:
    opened = open_run(memory.run.data_dir, GENERATION)
    assert opened is not None
    opened.seek({})
    yield opened
    opened.close()


def test_only_rings_with_something_further_are_looked_at(
    memory: Memory, backlog: RunBacklog
) -> None:
    nothing = dict.fromkeys(journaled(memory), 0)

    assert backlog.read(100, nothing) == []
    (part,) = backlog.read(100, {**nothing, "orders": 5})
    assert (part.ring, len(part.rows)) == ("orders", 5)


def test_a_ring_whose_end_is_not_known_is_looked_at(memory: Memory, backlog: RunBacklog) -> None:
    assert {part.ring for part in backlog.read(10_000, {})} == set(journaled(memory))
