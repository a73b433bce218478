"""The fuzzer finds nothing in some thousands of frames, and does find what is wrong on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from engine.instruments import Instrument
from tests.engine.fuzz_codec import MARKETS, Case, Oracle, fuzz, oracle_of, try_case
from tests.engine.fuzz_mutate import SNAPSHOT
from tests.engine.fuzz_oracle import Wanted
from tests.engine.scratch_feed import BTCUSDT, COARSE, ETHUSDT, scratch_feed

SPOT = oracle_of(MARKETS["spot"])


@pytest.mark.slow
@pytest.mark.parametrize("market", MARKETS)
def test_mutated_frames_become_exact_records_or_are_rejected(
    segment_prefix: str, market: str
) -> None:
    report = fuzz(segment_prefix, 1, lambda count: count >= 6_000, market=MARKETS[market])

    assert [finding.line() for finding in report.findings] == []
    assert report.ends["read"] > 1_000
    assert report.ends["rejected"] > 1_000


def _off_by_one(name: str, market: str) -> Oracle:
    oracle = oracle_of(MARKETS[market])

    def read(frame: bytes, kind: str, one: Instrument) -> Wanted | None:
        want = oracle(frame, kind, one)
        if want is None or name not in want.values:
            return want
        return Wanted(want.values | {name: want.values[name] + 1}, want.levels)

    return read


@pytest.mark.parametrize(
    ("market", "name"),
    [
        *(("spot", name) for name in ("bid_ticks", "quantity_lots", "venue_ns", "last_id")),
        *(("usdm", name) for name in ("mark_e8", "funding_e8", "next_funding_ns", "flags")),
    ],
)
def test_a_record_that_differs_by_one_is_found_with_its_frame(
    segment_prefix: str, market: str, name: str
) -> None:
    wrong = _off_by_one(name, market)
    report = fuzz(segment_prefix, 2, lambda count: count >= 200, wrong, MARKETS[market])

    assert report.findings
    assert all(name in finding.what for finding in report.findings)
    assert report.findings[0].case.frame.hex() in report.findings[0].line()


def test_a_level_that_is_missing_is_found(segment_prefix: str) -> None:
    def read(frame: bytes, kind: str, one: Instrument) -> Wanted | None:
        want = SPOT(frame, kind, one)
        return want._replace(levels=want.levels[1:]) if want is not None else None

    report = fuzz(segment_prefix, 3, lambda count: count >= 200, read)

    assert {finding.case.kind for finding in report.findings} == {"depth", "snapshot"}


@pytest.mark.parametrize("kind", ["bookTicker", "trade", "depth", SNAPSHOT])
def test_a_frame_nested_deeply_ends_nothing(segment_prefix: str, kind: str) -> None:
    """Some Pythons have stack enough to skip what nobody reads, some have not."""
    frame = MARKETS["spot"].makers[kind](np.random.default_rng(1), BTCUSDT, 7)
    at = frame.rfind(b'{"') + 1
    frame = frame[:at] + b'"zz":' + b"[" * 5_000 + b"]" * 5_000 + b"," + frame[at:]

    with scratch_feed(segment_prefix, BTCUSDT, ETHUSDT, COARSE) as scratch:
        scratch.rows()

        found, verdict = try_case(scratch, Case(kind, 0, frame, is_kept=False), SPOT)

    assert found == ""
    assert verdict in {"read", "rejected"}
