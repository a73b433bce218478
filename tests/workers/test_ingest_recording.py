"""A recording, sent by a real WebSocket server as fast as it is taken, arrives whole and exact."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from config.settings import MarketSettings, RingSettings
from engine.records import BookState
from tests.engine.scratch_feed import recorded
from tests.workers.ingest_rig import on_a_loop, plans, running, settings_for
from tests.workers.observed_run import observed_run
from tests.workers.small_venue import small_venue, until
from workers.books import read_books, read_trades


@pytest.mark.parametrize("name", ["spot_btcusdt_20240808", "spot_ethusdt_20240808"])
def test_recording_arrives_whole_and_exact(
    recordings: Path, segment_prefix: str, tmp_path: Path, name: str
) -> None:
    lines = (recordings / "expected.jsonl").read_text().splitlines()
    want = next(json.loads(line) for line in lines if name in line)
    symbol = name.split("_")[1].upper()
    messages = list(recorded(recordings / f"{name}.gz"))
    frames = [message for message in messages if b"@" in message[:40]]

    async def test() -> None:
        async with small_venue() as venue:
            [snapshot] = [message for message in messages if message.startswith(b'{"last')]
            venue.snapshots = {symbol: snapshot}
            settings = settings_for(
                segment_prefix,
                venue,
                market=MarketSettings(symbols=(symbol,)),
                rings=RingSettings(market=4096, decisions=64, log=256),
            )
            with observed_run(settings, tmp_path, *plans(settings, "ingest.0")) as memory:  # type: ignore[arg-type]
                async with running(memory) as rig:
                    sending = asyncio.create_task(venue.send(*frames))
                    records = 'ingest_frames_total{stream="%s"}'
                    counts = want["counts"]
                    await until(
                        lambda: all(rig.counter(records % s) >= n for s, n in counts.items()),
                        rig.step,
                    )
                    await sending
                    await until(lambda: rig.consumers[0].lag == 0, rig.step)

                    for stream, count in counts.items():
                        assert rig.counter(records % stream) == count
                    book = want["final_book"]
                    assert read_books(memory)[symbol] == {
                        "u": book["u"],
                        "bids": book["levels"][0],
                        "asks": book["levels"][1],
                        "sha256": book["sha256_of_lines_side_price_qty"],
                    }
                    trades = want["trades"]
                    assert read_trades(memory)[symbol] == {
                        key: trades[key] for key in ("n", "base", "quote")
                    }
                    assert rig.states() == [BookState.STALE_START, BookState.SYNCED]
                    assert rig.counter("ingest_rejected_frames_total") == 0

    on_a_loop(test)
