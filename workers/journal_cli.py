"""workers room: `tickring journal ls|verify|show`, as plain functions that print.

Damage is one line with the file, the offset and what does not hold; `verify` and `show` then answer
or raise so that the command ends with a status other than 0. With `as_json` every line is one
object.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from engine.instruments import Instrument
from engine.records import DEPTH_LEVELS_MAX, BookState, Kind, Side, flags_of, instrument_of
from shm.segment import Words
from workers.journal import (
    JournalError,
    Tail,
    generation_folder,
    generations,
    read_generation,
    read_instruments,
    rings_of,
)
from workers.journal_inspect import RingReport, list_ring, verify_ring
from workers.messages import Messages, decimal_name, decimal_text, parts, word_of
from workers.tables import PART_MASK

WHOLE, DAMAGED = 0, 1  # exit statuses of verify
SHOW_ROWS = 1_000  # read in one go
_SECOND_NS = 1_000_000_000
_HIDDEN = frozenset({"v", "ring", "run", "sequence", "kind", "symbol", "time_ns"})


def ls(data_dir: Path, as_json: bool) -> None:  # noqa: FBT001 - the command line's own flag
    """Prints the runs and rings of a journal with their records, files and times.

    Raises:
        JournalError: there is no journal, or its facts are unreadable.
    """
    for generation in _known(data_dir):
        if not as_json:
            _say(_run_title(data_dir, generation))
        for report in _reports(data_dir, generation, list_ring):
            if as_json:
                _say_json(_report_fields(report))
            else:
                _say(f"  {_report_text(report)}  {utc(report.first_ns)} .. {utc(report.last_ns)}")
                _say_faults(report)


def verify(data_dir: Path, as_json: bool) -> int:  # noqa: FBT001 - the command line's own flag
    """Proves every checksum and sequence; prints a line a ring; answers the exit status.

    Raises:
        JournalError: there is no journal, or its facts are unreadable.
    """
    records, faults = 0, 0
    for generation in _known(data_dir):
        for report in _reports(data_dir, generation, verify_ring):
            records += report.records
            faults += len(report.faults)
            if as_json:
                _say_json(_report_fields(report))
            else:
                _say(f"{generation:08d} {_report_text(report)}")
                _say_faults(report)
    if not as_json:
        _say(f"{records:,} records, {'no damage' if faults == 0 else f'{faults} faults'}")
    return DAMAGED if faults else WHOLE


def show(  # noqa: PLR0913, PLR0917 - one argument an option of the command
    data_dir: Path, ring: str, first: int, last: int, kind: str, as_json: bool,  # noqa: FBT001
    generation: int = 0,
) -> None:  # fmt: skip
    """Prints records of a ring, oldest first.

    Args:
        data_dir: of the engine.
        ring: name, for example market.0.
        first: sequence of the first record.
        last: sequence of the last record; -1 for the end.
        kind: only this kind, for example QUOTE; "" for all.
        as_json: one object a line.
        generation: of the run; 0 for the last one that has this ring.

    Raises:
        ValueError: there is no such ring or kind.
        JournalError: the journal is damaged, or no longer holds `first`.
    """
    wanted = _kind_number(kind)
    run = generation or _last_with(data_dir, ring)
    folder = generation_folder(data_dir, run)
    facts = read_generation(folder)
    if facts is None:
        raise JournalError(f"a run must have a journal: folder={folder}")
    messages = Messages(run, facts.clock_offset_ns)
    messages.instruments = read_instruments(folder)
    write = _say_json if as_json else _say_record
    try:
        for row in _rows(Tail(folder, ring, first), last):
            if wanted in (0, int(row[1]) & PART_MASK):
                write(record_fields(messages, ring, row))
    except BrokenPipeError:
        # Whoever read us has enough; the flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def record_fields(messages: Messages, ring: str, row: Words) -> dict[str, Any]:
    """Answers a record with symbols, names and decimals.

    Args:
        messages: of the run.
        ring: name.
        row: (16,) int64.
    """
    fields = messages.message(ring, row.tolist())
    if fields["kind"] == "depth":
        _open_depth(fields, _instrument(messages, row), row)
    elif fields["kind"] == "trade":
        fields["aggressor_side"] = word_of(Side, fields["aggressor_side"])
    elif fields["kind"] == "book_state":
        fields["state"] = word_of(BookState, fields["state"])
    return fields


def utc(epoch_ns: int) -> str:
    """Answers a time as ISO 8601 with nanoseconds; `-` for 0."""
    if epoch_ns == 0:
        return "-"
    seconds, rest = divmod(epoch_ns, _SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _instrument(messages: Messages, row: Words) -> Instrument | None:
    index, known = instrument_of(row), messages.instruments
    return known[index] if index < len(known) else None


def _open_depth(fields: dict[str, Any], instrument: Instrument | None, row: Words) -> None:
    """Replaces the packed levels by [price, quantity] pairs."""
    count, side, _, _ = parts(fields.pop("levels_side"))
    levels = []
    for level in range(DEPTH_LEVELS_MAX):
        ticks, lots = fields.pop(f"price_{level}"), fields.pop(f"lots_{level}")
        if level >= count:
            continue
        if instrument is None:
            levels.append([ticks, lots])
        else:
            price, quantity = instrument.price(ticks), instrument.quantity(lots)
            levels.append([decimal_text(price), decimal_text(quantity)])
    fields |= {"side": word_of(Side, side), "flags": int(flags_of(row)), "levels": levels}


def _rows(tail: Tail, last: int) -> Iterator[Words]:
    try:
        while len(rows := tail.read(SHOW_ROWS)):
            for row in rows:
                if 0 <= last < row[0]:
                    return
                yield row
    finally:
        tail.close()


def _known(data_dir: Path) -> list[int]:
    found = generations(data_dir)
    if not found:
        raise JournalError(f"an engine must have run here: no journal in folder={data_dir}")
    return found


def _last_with(data_dir: Path, ring: str) -> int:
    known = {run: rings_of(generation_folder(data_dir, run)) for run in _known(data_dir)}
    holding = [run for run, rings in known.items() if ring in rings]
    if not holding:
        names = ", ".join(sorted({name for rings in known.values() for name in rings}))
        raise ValueError(f"a ring must be one of the journaled: given={ring} known={names}")
    return max(holding)


def _kind_number(kind: str) -> int:
    if not kind:
        return 0
    try:
        return int(Kind[kind.upper()])
    except KeyError:
        known = ", ".join(it.name for it in Kind)
        raise ValueError(f"a kind must be one of the known: given={kind} known={known}") from None


def _reports(
    data_dir: Path, generation: int, look: Callable[[Path, str], RingReport]
) -> Iterator[RingReport]:
    folder = generation_folder(data_dir, generation)
    for ring in rings_of(folder):
        yield look(folder, ring)


def _run_title(data_dir: Path, generation: int) -> str:
    facts = read_generation(generation_folder(data_dir, generation))
    if facts is None:
        return f"{generation:08d}  has no facts: its recorder did not start"
    started = utc(facts.started_ns)
    return f"{generation:08d}  engine {facts.engine}  started {started}  version {facts.version}"


def _report_fields(report: RingReport) -> dict[str, Any]:
    return report._asdict() | {"records": report.records}


def _report_text(report: RingReport) -> str:
    state = "damaged" if report.faults else "torn" if report.torn_bytes else "whole"
    return (
        f"{report.ring:<16} {report.records:>12,} records  {report.files:>5,} files"
        f"  {report.size_bytes:>14,} bytes  {state}"
    )


def _say_faults(report: RingReport) -> None:
    for fault in report.faults:
        sys.stderr.write(f"{fault}\n")


def _say_record(fields: dict[str, Any]) -> None:
    rest = " ".join(
        f"{name}={value}"
        for name, value in fields.items()
        if name not in _HIDDEN and not _is_shown_as_decimal(name, fields)
    )
    kind, symbol = fields["kind"].upper(), fields["symbol"] or "-"
    _say(f"{fields['sequence']:>10} {utc(fields['time_ns'])} {kind:<13} {symbol:<10} {rest}")


def _is_shown_as_decimal(name: str, fields: dict[str, Any]) -> bool:
    shown = decimal_name(name, fields)
    return bool(shown) and fields.get(shown) is not None


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _say_json(fields: dict[str, Any]) -> None:
    _say(msgspec.json.encode(fields).decode())
