"""The journal's writer and its Tail: nothing torn, nothing twice, nothing left out."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.frames import HEADER_BYTES, Moment, Origin, ring_code
from tests.workers.journal_bench import await_until, kill, rows_for, start, write_journal
from workers.journal import (
    JournalError,
    Tail,
    generation_folder,
    generations,
    segment_files,
    segment_path,
    write_facts,
)
from workers.journal_writer import RingWriter

ORDERS = Origin(ring_code("orders"), 3, 128)
NOW = Moment(1, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return generation_folder(tmp_path, 3)


def writer_at(folder: Path, segment_bytes_max: int = 1 << 20) -> RingWriter:
    return RingWriter(folder / "orders", ORDERS, segment_bytes_max)


def read_all(tail: Tail, records_max: int = 1_000) -> list[int]:
    found: list[int] = []
    while len(rows := tail.read(records_max)):
        assert np.array_equal(rows, rows_for("orders", int(rows[0, 0]), len(rows)))
        found += rows[:, 0].tolist()
    return found


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=30),
    segment_records_max=st.integers(1, 60),
    records_max=st.integers(1, 50),
    data=st.data(),
)
def test_tail_reads_what_was_written_from_any_place(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int], segment_records_max: int, records_max: int, data: st.DataObject,
) -> None:  # fmt: skip
    folder = generation_folder(tmp_path_factory.mktemp("journal"), 3)
    write_journal(folder, "orders", sizes, segment_records_max * 128)
    first = data.draw(st.integers(0, sum(sizes)))
    tail = Tail(folder, "orders", first)

    assert read_all(tail, records_max) == list(range(first, sum(sizes)))
    assert tail.next_sequence == sum(sizes)
    tail.close()


def test_files_are_private(folder: Path) -> None:
    write_journal(folder, "orders", [1, 1], 100)
    write_facts(folder / "generation.json", {})

    assert len(segment_files(folder / "orders")) == 2
    for path in folder.parent.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_tail_waits_for_a_journal_that_does_not_exist_yet(folder: Path) -> None:
    tail = Tail(folder, "orders", 0)

    assert len(tail.read(10)) == 0
    write_journal(folder, "orders", [2], 1_000)
    assert read_all(tail) == [0, 1]
    tail.close()


def test_tail_never_returns_a_torn_frame(folder: Path) -> None:
    write_journal(folder, "orders", [2, 3], 1 << 20)
    path = segment_path(folder / "orders", 0)
    whole = path.read_bytes()
    end = HEADER_BYTES + 2 * 128
    path.write_bytes(whole[:end])
    tail = Tail(folder, "orders", 0)

    assert read_all(tail) == [0, 1]
    for cut in range(end, len(whole)):
        path.write_bytes(whole[:cut])
        assert len(tail.read(10)) == 0, cut
    path.write_bytes(whole)
    assert read_all(tail) == [2, 3, 4]
    tail.close()


def test_writer_cuts_a_tail_torn_at_every_byte_and_goes_on(folder: Path) -> None:
    write_journal(folder, "orders", [2, 3], 1 << 20)
    path = segment_path(folder / "orders", 0)
    whole = path.read_bytes()
    end = HEADER_BYTES + 2 * 128
    for cut in range(end, len(whole)):
        path.write_bytes(whole[:cut])
        writer = writer_at(folder)

        found = writer.recover(0)

        assert (found.next_sequence, found.torn_bytes, found.fault) == (2, cut - end, "")
        writer.append(rows_for("orders", 2, 3), NOW)
        writer.close()
        tail = Tail(folder, "orders", 0)
        assert read_all(tail) == [0, 1, 2, 3, 4]
        tail.close()


def test_writer_finds_the_end_of_a_journal_that_is_whole(folder: Path) -> None:
    write_journal(folder, "orders", [2, 3, 4, 1], 800)
    writer = writer_at(folder)

    assert writer.recover(0) == (10, 0, "")
    writer.close()


def test_writer_leaves_damage_as_evidence_and_goes_on_in_a_new_file(folder: Path) -> None:
    write_journal(folder, "orders", [2, 3], 1 << 20)
    path = segment_path(folder / "orders", 0)
    wrong = bytearray(path.read_bytes())
    wrong[-1] ^= 1
    path.write_bytes(wrong)
    writer = writer_at(folder)

    found = writer.recover(0)

    assert found.next_sequence == 2
    assert f"frame records must match their checksum: file={path} offset=320" == found.fault
    writer.append(rows_for("orders", 2, 3), NOW)
    writer.close()
    assert path.read_bytes() == wrong
    tail = Tail(folder, "orders", 0)
    assert read_all(tail) == [0, 1, 2, 3, 4]
    tail.close()


def test_writer_renames_a_file_that_is_damaged_from_its_first_byte(folder: Path) -> None:
    write_journal(folder, "orders", [2], 1 << 20)
    path = segment_path(folder / "orders", 0)
    path.write_bytes(b"?" + path.read_bytes()[1:])
    writer = writer_at(folder)

    assert writer.recover(0).next_sequence == 0
    writer.append(rows_for("orders", 0, 1), NOW)
    writer.close()
    assert path.with_suffix(".damaged").exists()
    tail = Tail(folder, "orders", 0)
    assert read_all(tail) == [0]
    tail.close()


def test_tail_names_file_and_offset_of_damage(folder: Path) -> None:
    write_journal(folder, "orders", [2, 3, 1], 1 << 20)
    path = segment_path(folder / "orders", 0)
    wrong = bytearray(path.read_bytes())
    wrong[HEADER_BYTES + 2 * 128 + HEADER_BYTES + 40] ^= 1
    path.write_bytes(wrong)
    tail = Tail(folder, "orders", 0)

    assert len(tail.read(100)) == 2
    with pytest.raises(JournalError, match=rf"checksum: file={path} offset=320"):
        tail.read(1)
    tail.close()


def test_tail_names_a_sequence_that_the_journal_no_longer_holds(folder: Path) -> None:
    write_journal(folder, "orders", [2, 3], 100)
    segment_path(folder / "orders", 0).unlink()
    tail = Tail(folder, "orders", 1)

    with pytest.raises(JournalError, match="wanted=1 first=2"):
        tail.read(1)


def test_tail_refuses_the_journal_of_another_run(folder: Path) -> None:
    write_journal(folder, "orders", [2], 1_000)
    other = folder.with_name("00000004")
    folder.rename(other)
    tail = Tail(other, "orders", 0)

    with pytest.raises(JournalError, match="belong to this journal"):
        tail.read(1)
    tail.close()


def test_second_writer_is_refused(folder: Path) -> None:
    first, second = writer_at(folder), writer_at(folder)
    first.recover(0)

    with pytest.raises(JournalError, match="one writer"):
        second.recover(0)
    first.close()


def test_write_that_stops_half_way_is_finished_later(folder: Path) -> None:
    """RLIMIT_FSIZE makes the kernel take a part of a frame, as a full disk does."""
    writer = writer_at(folder)
    writer.recover(0)
    writer.append(rows_for("orders", 0, 2), NOW)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (330, 390, 500, 500):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                writer.append(rows_for("orders", 2, 9), NOW)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (folder / "orders" / segment_path(folder, 0).name).stat().st_size == limit

    assert writer.append(rows_for("orders", 2, 30), NOW) == 9
    writer.append(rows_for("orders", 11, 1), NOW)
    writer.close()
    tail = Tail(folder, "orders", 0)
    assert read_all(tail) == list(range(12))
    tail.close()


def test_generations_are_found_by_their_number(tmp_path: Path) -> None:
    assert generations(tmp_path) == []
    for number in (12, 3):
        generation_folder(tmp_path, number).mkdir(parents=True)
    (tmp_path / "journal" / "notes").mkdir()

    assert generations(tmp_path) == [3, 12]


def write_with_pauses(folder: Path, sizes: list[int], bytes_max: int = 4_000) -> None:
    origin = Origin(ring_code("orders"), int(folder.name), 128)
    writer = RingWriter(folder / "orders", origin, bytes_max)
    writer.recover(0)
    for size in sizes:
        rows = rows_for("orders", writer.next_sequence, size)
        writer.append(rows, NOW)
        os.sched_yield()
    writer.close()


@pytest.mark.multiprocess
@pytest.mark.slow
def test_tail_follows_a_writer_in_another_process_over_many_files(folder: Path) -> None:
    sizes: list[int] = np.random.default_rng(5).integers(1, 40, 2_000).tolist()
    total = sum(sizes)
    process = start(write_with_pauses, folder, sizes)
    tail = Tail(folder, "orders", 0)
    found: list[int] = []

    def caught_up() -> bool:
        found.extend(read_all(tail, 77))
        return len(found) >= total

    await_until(caught_up, "the tail reaches the end")

    assert found == list(range(total))
    process.join()
    tail.close()


def write_until_killed(folder: Path) -> None:
    write_with_pauses(folder, [17] * 1_000_000, bytes_max=500_000)


def await_files(folder: Path, count: int) -> None:
    await_until(lambda: len(segment_files(folder / "orders")) > count, "files appear")


@pytest.mark.multiprocess
@pytest.mark.slow
def test_tail_reads_every_whole_frame_of_a_writer_that_was_killed(folder: Path) -> None:
    for _ in range(5):
        process = start(write_until_killed, folder)
        await_files(folder, len(segment_files(folder / "orders")))
        kill(process)
    tail = Tail(folder, "orders", 0)
    found = read_all(tail, 10_000)
    tail.close()

    assert found == list(range(len(found)))
    assert len(found) % 17 == 0
