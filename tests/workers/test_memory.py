"""What a data folder remembers of its runs, and one line for what is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from shm import latest
from shm.segment import Words
from tests.workers.observed_run import (
    BTCUSDT,
    ETHUSDT,
    observed_run,
    small_settings,
    tell_instruments,
)
from workers.context import Run, segment_prefix
from workers.memory import (
    last_generation,
    next_generation,
    read_prefix,
    read_run,
    write_run,
)


def test_runs_are_counted_from_1(tmp_path: Path) -> None:
    assert last_generation(tmp_path) == 0
    assert [next_generation(tmp_path) for _ in range(3)] == [1, 2, 3]
    assert last_generation(tmp_path) == 3


@pytest.mark.parametrize("content", [b"", b"\n", b"seven", b"1.5", b"-1", b"\xff", b"9" * 40])
def test_a_damaged_count_is_one_line_with_its_file_and_what_to_do(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "generation"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="must hold the number of the last run") as refusal:
        next_generation(tmp_path)

    assert f"file={path} " in (text := str(refusal.value))
    assert f"write the highest folder number of {tmp_path / 'journal'} into it" in text
    assert len(text) < 400
    assert path.read_bytes() == content


def test_a_run_is_found_again_by_its_folder_alone(tmp_path: Path) -> None:
    settings = small_settings("paper")
    write_run(Run(settings, tmp_path, 5, ()))
    found = read_run(tmp_path)

    assert (found.settings, found.generation) == (settings, 5)
    assert read_prefix(tmp_path) == found.prefix == segment_prefix(settings, tmp_path)
    assert found.prefix.startswith("tickring.paper-")


def test_without_a_run_the_caller_hears_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="start one with `tickring run`"):
        read_prefix(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[", b"\xff", b'{"generation": "x"}'])
def test_a_damaged_run_file_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)

    with pytest.raises(ValueError, match=r"a run file must be .* file=.*run\.json"):
        read_run(tmp_path)


def test_instruments_that_come_while_they_are_looked_for_are_whole_or_not_there(
    segment_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = latest.read_latest
    with observed_run(small_settings(segment_prefix), tmp_path) as memory:

        def read_then_told(cell: Words, out: Words) -> int:
            version = read(cell, out)
            monkeypatch.setattr(latest, "read_latest", read)
            tell_instruments(memory)
            return version

        monkeypatch.setattr(latest, "read_latest", read_then_told)

        assert memory.instruments() == ()
        assert memory.instruments() == (BTCUSDT, ETHUSDT)
