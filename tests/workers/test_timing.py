"""The timing decorator: measures when bound, and is not noticed when not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from shm.histogram import COUNT, HIGHEST, TOTAL
from shm.stats import Stats
from tests.workers.observed_run import observed_run, small_settings
from workers.timing import Stopwatch, Timed, timed


@pytest.fixture
def stats(segment_prefix: str, tmp_path: Path) -> Iterator[Stats]:
    with observed_run(small_settings(segment_prefix), tmp_path) as memory:
        yield memory.stats("keeper")


def fresh() -> Timed[[int], int]:
    @timed("db_write_latency_seconds")
    def write(rows: int) -> int:
        """Writes."""
        return rows + 1

    return write


def test_unbound_function_works_and_measures_nothing(stats: Stats) -> None:
    assert fresh()(1) == 2
    assert stats.samples() == []


def test_bound_function_lands_in_the_histogram_of_its_name(stats: Stats) -> None:
    write = fresh()
    write.bind(stats)
    assert [write(number) for number in range(3)] == [1, 2, 3]

    words = stats.histogram("db_write_latency_seconds")
    assert words[COUNT] == 3
    assert 0 < words[HIGHEST] <= words[TOTAL]
    assert [sample.label for sample in stats.samples()] == ["db_write_latency_seconds"]


def test_exception_is_measured_and_passes(stats: Stats) -> None:
    @timed("failing_seconds")
    def fail() -> None:
        raise KeyError("x")

    fail.bind(stats)
    with pytest.raises(KeyError):
        fail()

    assert stats.histogram("failing_seconds")[COUNT] == 1


def test_coroutine_is_measured_to_its_end(stats: Stats) -> None:
    @timed("waiting_seconds")
    async def wait() -> str:
        await asyncio.sleep(0.002)
        return "done"

    wait.bind(stats, table="trades")
    answer = asyncio.run(wait())

    words = stats.histogram("waiting_seconds", table="trades")
    assert answer == "done"
    assert words[COUNT] == 1
    assert words[HIGHEST] >= 2_000_000


def test_method_is_measured_with_its_instance(stats: Stats) -> None:
    class Writer:
        rows = 5

        @timed("method_seconds")
        def write(self, more: int) -> int:
            return self.rows + more

    Writer.write.bind(stats)

    assert Writer().write(2) == 7
    assert stats.histogram("method_seconds")[COUNT] == 1


def test_unbind_leaves_the_memory_alone(stats: Stats) -> None:
    write = fresh()
    write.bind(stats)
    write.unbind()
    write(1)

    assert stats.histogram("db_write_latency_seconds")[COUNT] == 0


def test_name_and_docstring_are_the_functions() -> None:
    assert fresh().__doc__ == "Writes."
    assert getattr(fresh(), "__name__", "") == "write"


def test_stopwatch_measures_a_block(stats: Stats) -> None:
    words = stats.histogram("block_seconds")
    watch = Stopwatch(words)
    for _ in range(2):
        with watch:
            pass

    assert words[COUNT] == 2
