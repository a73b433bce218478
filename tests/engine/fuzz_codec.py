"""Fuzzes the feed for minutes: `python -m tests.engine.fuzz_codec --minutes 5 [--seed N] [--json]`.

Each frame goes through the real feed and, beside it, through the exact reader of fuzz_oracle.py:
no frame may crash the feed, every record must say what the exact reader reads, and a frame that
cannot be read must leave no record, be counted and be kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from engine.codec_feed import REJECTED_BYTES_MAX
from engine.codec_layout import DONE
from engine.instruments import Instrument
from engine.records import DEPTH_SNAPSHOT, BookState, Kind, flags_of, kind_of
from shm.segment import Words
from tests.engine.fuzz_mutate import KEEPING, SNAPSHOT, SPOILING, SPOT, Market, Rng
from tests.engine.fuzz_oracle import Wanted, wanted, wanted_snapshot
from tests.engine.fuzz_usdm import USDM
from tests.engine.scratch_feed import (
    BTCUSDT,
    COARSE,
    ETHUSDT,
    Scratch,
    depth_levels,
    fields,
    scratch_feed,
    snapshot_body,
)

MARKETS = {market.name: market for market in (SPOT, USDM)}
INSTRUMENTS = (BTCUSDT, ETHUSDT, COARSE)
FRAMES_PER_FEED = 4_096  # then a fresh feed, so that no state hides a fault for ever
REJECTED = "ingest_rejected_frames_total"
DATA_KINDS = (Kind.QUOTE, Kind.TRADE, Kind.DEPTH, Kind.MARK)
Oracle = Callable[[bytes, str, Instrument], Wanted | None]


class Case(NamedTuple):
    """One frame to try."""

    kind: str  # of the market's table
    slot: int
    frame: bytes
    is_kept: bool  # it says the same as a frame of the venue: it must be read


class Finding(NamedTuple):
    """A frame that the feed took wrongly."""

    case: Case
    what: str
    market: str

    def line(self) -> str:
        """Answers what is wrong, the frame and the command to repeat it."""
        again = f"--market {self.market} --kind {self.case.kind} --slot {self.case.slot}"
        hexed = self.case.frame.hex()
        shown = hexed if len(hexed) <= 8_000 else f"{hexed[:8_000]}...({len(hexed) // 2} bytes)"
        return (
            f"the feed must agree with the exact reader: {self.what} frame={shown}; repeat with "
            f"python -m tests.engine.fuzz_codec {again} --frame HEX"
        )


def oracle_of(market: Market) -> Oracle:
    """Answers the exact reader of a market."""

    def read(frame: bytes, kind: str, one: Instrument) -> Wanted | None:
        if kind == SNAPSHOT:
            return wanted_snapshot(frame, one)
        return wanted(frame, INSTRUMENTS, market.readers)

    return read


def cases(rng: Rng, market: Market) -> Iterator[Case]:
    """Yields frames without end: whole, rewritten and spoilt ones."""
    kinds = list(market.makers)
    number = 1
    while True:
        number += int(rng.integers(1, 100))
        kind = kinds[int(rng.integers(0, len(kinds)))]
        slot = int(rng.integers(0, len(INSTRUMENTS)))
        frame = market.makers[kind](rng, INSTRUMENTS[slot], number)
        keeps = int(rng.integers(0, 6)) == 0
        spoils = 0 if keeps else int(rng.integers(0, 4))
        if keeps:
            frame = KEEPING[int(rng.integers(0, len(KEEPING)))](rng, frame)
        for turn in range(spoils):
            # The last mutations need JSON, which only a frame not yet spoilt surely is.
            choice = len(SPOILING) - (1 if turn else 0)
            frame = SPOILING[int(rng.integers(0, choice))](rng, frame)
        yield Case(kind, slot, frame, is_kept=spoils == 0)


def _made(prefix: str, market: Market) -> AbstractContextManager[Scratch]:
    return scratch_feed(prefix, *INSTRUMENTS, streams=market.streams, market=market.name)


def _data_rows(scratch: Scratch) -> list[Words]:
    return [row for row in scratch.rows() if kind_of(row) in DATA_KINDS]


def _stale(scratch: Scratch) -> None:
    scratch.feed.want_all()
    scratch.feed.announce(BookState.STALE_DISCONNECTED, 1)
    scratch.rows()


def _take_snapshot(scratch: Scratch, case: Case) -> tuple[list[Words], bool]:
    _stale(scratch)
    taken, _ = scratch.sync(case.slot, case.frame)
    return _data_rows(scratch), taken != DONE


def _take_frame(scratch: Scratch, case: Case, want: Wanted | None) -> tuple[list[Words], bool]:
    if case.kind == "depth":
        _stale(scratch)
    before = scratch.counts()[REJECTED]
    scratch.take(case.frame)
    is_rejected = scratch.counts()[REJECTED] == before + 1
    if is_rejected and scratch.feed.rejected[-1] != case.frame[:REJECTED_BYTES_MAX]:
        raise AssertionError("a rejected frame must be kept")
    rows = _data_rows(scratch)
    if want is not None and "first_id" in want.values and not is_rejected:
        body = snapshot_body(max(0, want.values["first_id"] - 1), [], [])
        for slot in range(len(INSTRUMENTS)):
            scratch.sync(slot, body)
            rows += [row for row in _data_rows(scratch) if not flags_of(row) & DEPTH_SNAPSHOT]
    return rows, is_rejected


def _differs(rows: list[Words], want: Wanted) -> str:
    for row in rows:
        found = fields(row)
        said = {name: found[name] for name in want.values}
        if said != want.values:
            return f"record says {said}, frame says {want.values}"
    got = depth_levels(rows) if kind_of(rows[0]) == Kind.DEPTH else []
    return "" if got == want.levels else f"record says levels {got}, frame says {want.levels}"


def try_case(scratch: Scratch, case: Case, oracle: Oracle) -> tuple[str, str]:
    """Feeds one frame; answers what is wrong, empty when nothing is, and how it ended."""
    want = oracle(case.frame, case.kind, INSTRUMENTS[case.slot])
    try:
        if case.kind == SNAPSHOT:
            rows, is_rejected = _take_snapshot(scratch, case)
        else:
            rows, is_rejected = _take_frame(scratch, case, want)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
        return f"the feed raised {type(error).__name__}: {str(error)[:200]}", "raised"
    end = "rejected" if is_rejected else "read" if rows else "dropped"
    return _wrong(case, want, rows, end), end


def _wrong(case: Case, want: Wanted | None, rows: list[Words], end: str) -> str:
    """Answers what is wrong with how a frame ended, empty when nothing is."""
    if end == "rejected":
        if rows:
            return "a rejected frame left records"
        return "a whole frame was rejected" if case.is_kept and want is not None else ""
    if want is None:
        # Goodbye is heard and not counted, wherever a frame says it.
        is_goodbye = not rows and b'"serverShutdown"' in case.frame
        return "" if is_goodbye else f"a frame that says nothing was {end}, not rejected"
    return _differs(rows, want) if rows else ""


class Report(NamedTuple):
    """What a run did."""

    ends: Counter[str]  # frames by how they ended
    findings: list[Finding]


def fuzz(
    prefix: str,
    seed: int,
    is_over: Callable[[int], bool],
    oracle: Oracle | None = None,
    market: Market = SPOT,
) -> Report:
    """Tries frames until `is_over(frames so far)`; at most 20 findings, one of a kind of fault."""
    made = cases(np.random.default_rng(seed), market)
    report = Report(Counter(), [])
    read, seen, count = oracle or oracle_of(market), set[str](), 0
    while not is_over(count):
        with _made(f"{prefix}-{count}", market) as scratch:
            scratch.rows()
            for _ in range(FRAMES_PER_FEED):
                case = next(made)
                what, end = try_case(scratch, case, read)
                report.ends[end] += 1
                count += 1
                if what and (sort := f"{case.kind} {what[:40]}") not in seen and len(seen) < 20:
                    seen.add(sort)
                    report.findings.append(Finding(case, what, market.name))
                if end == "raised" or is_over(count):
                    break
    return report


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.engine.fuzz_codec", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--market", choices=sorted(MARKETS), default="spot")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--frame", help="try this one frame, as hex, instead")
    parser.add_argument("--kind", default="bookTicker", help="kind of --frame")
    parser.add_argument("--slot", type=int, default=0, help="instrument of --frame")
    return parser.parse_args()


def _timed(prefix: str, args: argparse.Namespace) -> Report:
    begun, length = time.monotonic(), float(args.minutes) * 60
    columns = (TextColumn("fuzzing"), BarColumn(), TextColumn("{task.fields[frames]} frames"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as shown:
        task = shown.add_task("fuzzing", total=length, frames=0)

        def is_over(count: int) -> bool:
            spent = time.monotonic() - begun
            if count % 256 == 0:
                shown.update(task, completed=min(spent, length), frames=count)
            return spent >= length

        return fuzz(prefix, args.seed, is_over, market=MARKETS[args.market])


def _once(prefix: str, args: argparse.Namespace) -> Report:
    market = MARKETS[args.market]
    case = Case(args.kind, args.slot, bytes.fromhex(args.frame), is_kept=False)
    with _made(prefix, market) as scratch:
        what, end = try_case(scratch, case, oracle_of(market))
    return Report(Counter([end]), [Finding(case, what, market.name)] if what else [])


def main() -> int:
    """Runs as the arguments say; answers 1 when something was found."""
    args = _arguments()
    prefix = f"fuzz-{os.getpid()}"
    report = _once(prefix, args) if args.frame else _timed(prefix, args)
    lines = [finding.line() for finding in report.findings]
    if args.json:
        found = {"seed": args.seed, "frames": dict(report.ends), "findings": lines}
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        ends = " ".join(f"{end}={count}" for end, count in sorted(report.ends.items()))
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        total = f"seed={args.seed} frames={report.ends.total()}"
        sys.stdout.write(f"{total} {ends} findings={len(lines)}\n")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
