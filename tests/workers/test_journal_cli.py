"""The journal's command line: what is there, what is damaged, and the records for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import JournalSettings
from engine.records import LEVEL_0, LEVELS_SIDE, TAG, Kind, Side, pack, tag
from tests.workers.journal_bench import (
    BITCOIN,
    GENERATION,
    context_of,
    opened_run,
    publish,
    record_run,
    rows_for,
    small_settings,
    tell_instruments,
)
from workers import journal_cli
from workers.context import Memory
from workers.journal import JournalError, generation_folder, segment_files
from workers.recorder import RecorderAgent


@pytest.fixture
def memory(segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    journal = JournalSettings(segment_bytes_max=5_000, flush="none")
    with opened_run(small_settings(segment_prefix, journal=journal), tmp_path) as memory:
        tell_instruments(memory, BITCOIN)
        yield memory


def folder_of(memory: Memory, ring: str) -> Path:
    return generation_folder(memory.run.data_dir, GENERATION) / ring


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_ls_names_every_ring_with_its_records(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    record_run(memory, 90, step=15)
    journal_cli.ls(memory.run.data_dir, as_json=True)
    found = {it["ring"]: it for it in map(json.loads, lines(capsys))}

    assert len(found) == 9
    assert {it["records"] for it in found.values()} == {90}
    assert found["orders"]["files"] == len(segment_files(folder_of(memory, "orders"))) > 1
    journal_cli.ls(memory.run.data_dir, as_json=False)
    text = "\n".join(lines(capsys))
    assert f"{GENERATION:08d}  engine {memory.run.settings.engine.name}" in text
    assert text.count(" whole ") == 9


def test_verify_counts_every_frame_of_a_whole_journal(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    record_run(memory, 90, step=15)

    assert journal_cli.verify(memory.run.data_dir, as_json=False) == 0
    assert lines(capsys)[-1] == "810 records, no damage"


def test_verify_names_file_and_offset_of_a_flipped_bit(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    record_run(memory, 90, step=15)
    path = segment_files(folder_of(memory, "orders"))[1].path
    wrong = bytearray(path.read_bytes())
    wrong[70] ^= 2
    path.write_bytes(wrong)

    assert journal_cli.verify(memory.run.data_dir, as_json=False) == 1
    fault = f"frame records must match their checksum: file={path} offset=0\n"
    assert fault in capsys.readouterr().err
    assert journal_cli.verify(memory.run.data_dir, as_json=True) == 1
    found = [it for it in map(json.loads, lines(capsys)) if it["ring"] == "orders"]
    assert fault.strip() in found[0]["faults"]


def test_verify_misses_a_file_that_was_taken_away(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    record_run(memory, 90, step=15)
    files = segment_files(folder_of(memory, "orders"))
    files[1].path.unlink()

    assert journal_cli.verify(memory.run.data_dir, as_json=False) == 1
    expected = f"file={files[2].path} expected={files[1].first}"
    assert f"files must follow each other: {expected}" in capsys.readouterr().err


def test_torn_end_is_said_and_is_no_damage(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    record_run(memory, 90, step=15)
    last = segment_files(folder_of(memory, "orders"))[-1].path
    last.write_bytes(last.read_bytes()[:-1])

    assert journal_cli.verify(memory.run.data_dir, as_json=False) == 0
    assert [line for line in lines(capsys) if line.endswith(" torn")]


def test_torn_end_before_another_file_is_damage(memory: Memory) -> None:
    record_run(memory, 90, step=15)
    first = segment_files(folder_of(memory, "orders"))[0].path
    first.write_bytes(first.read_bytes()[:-1])

    assert journal_cli.verify(memory.run.data_dir, as_json=True) == 1


def test_show_prints_symbols_and_decimals(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    record_run(memory, 20)
    journal_cli.show(memory.run.data_dir, "orders", 4, 5, "", as_json=True)
    found = [json.loads(line) for line in lines(capsys)]
    row = rows_for("orders", 4, 1)[0]

    assert [it["sequence"] for it in found] == [4, 5]
    assert found[0]["symbol"] == "BTCUSDT"
    assert found[0]["price"] == str(BITCOIN.price(int(row[7])))
    journal_cli.show(memory.run.data_dir, "orders", 4, 4, "", as_json=False)
    assert f"price={BITCOIN.price(int(row[7]))} " in lines(capsys)[0]


def test_quote_shows_price_and_quantity_of_both_sides(
    memory: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    record_run(memory, 4)
    journal_cli.show(memory.run.data_dir, "market.0", 0, 0, "QUOTE", as_json=True)
    found = json.loads(lines(capsys)[0])
    row = rows_for("market.0", 0, 1)[0].tolist()

    assert found["bid_price"] == str(BITCOIN.price(row[6]))
    assert found["bid_quantity"] == str(BITCOIN.quantity(row[7]))
    assert found["ask_price"] == str(BITCOIN.price(row[8]))
    assert found["ask_quantity"] == str(BITCOIN.quantity(row[9]))
    journal_cli.show(memory.run.data_dir, "market.0", 0, 0, "QUOTE", as_json=False)
    assert "bid_ticks" not in (line := lines(capsys)[0])
    assert f" bid_price={BITCOIN.price(row[6])} bid_quantity={BITCOIN.quantity(row[7])} " in line


def test_show_keeps_to_a_kind(memory: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    record_run(memory, 20)
    journal_cli.show(memory.run.data_dir, "market.0", 0, -1, "trade", as_json=True)
    found = [json.loads(line) for line in lines(capsys)]

    assert [it["sequence"] for it in found] == [1, 5, 9, 13, 17]
    assert {it["kind"] for it in found} == {"trade"}


def test_depth_shows_its_levels(memory: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    producer = memory.producer("market.0")
    publish(producer, "market.0", 1)
    row = producer.row(0)
    row[TAG] = tag(int(Kind.DEPTH), 1, 0, 0)
    row[LEVELS_SIDE] = pack(2, int(Side.SELL), 0, 0)
    row[LEVEL_0 : LEVEL_0 + 4] = 5_000_012, 150_000, 5_000_013, 0
    recorder = RecorderAgent(context_of(memory, "recorder"))
    recorder.on_start()
    recorder.do_work()
    recorder.on_close()
    journal_cli.show(memory.run.data_dir, "market.0", 0, -1, "", as_json=True)
    found = json.loads(lines(capsys)[0])

    assert found["side"] == "SELL"
    assert found["levels"] == [["50000.12", "1.50000"], ["50000.13", "0.00000"]]


def test_unknown_ring_and_kind_are_named(memory: Memory) -> None:
    record_run(memory, 1)

    with pytest.raises(ValueError, match=r"given=order known=.*orders"):
        journal_cli.show(memory.run.data_dir, "order", 0, -1, "", as_json=False)
    with pytest.raises(ValueError, match=r"given=QUOT known=QUOTE"):
        journal_cli.show(memory.run.data_dir, "orders", 0, -1, "QUOT", as_json=False)


def test_folder_without_a_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=f"no journal in folder={tmp_path}"):
        journal_cli.ls(tmp_path, as_json=False)
