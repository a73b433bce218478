"""A feed over real shared memory of its own, an exact reader to hold it against, and frames."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.book import book_words
from engine.codec_feed import Feed, FeedMemory
from engine.codec_layout import DONE, SUMS_WORDS, TOPS_WORDS
from engine.codec_streams import FeedPlan
from engine.instruments import INSTRUMENTS_MAX, Instrument
from engine.records import DTYPES, LEVEL_0, LEVELS_SIDE, BookState, Kind, flags_of, kind_of, part
from engine.venues import SPOT
from shm import handles, ring, segment
from shm.segment import Words
from shm.stats import BODY_BYTES, LAYOUT, Stats

STREAMS = ("bookTicker", "trade", "depth@100ms")
LEVELS_MAX = 4096
HOLD_NS_MAX = 1_000
BTCUSDT = Instrument(
    index=0, symbol="BTCUSDT", base="BTC", quote="USDT", price_decimals=2, tick_units=1,
    quantity_decimals=8, lot_units=1,
)  # fmt: skip
ETHUSDT = Instrument(
    index=1, symbol="ETHUSDT", base="ETH", quote="USDT", price_decimals=2, tick_units=1,
    quantity_decimals=8, lot_units=1,
)  # fmt: skip
# A grid that is no power of ten: ticks of 0.05, lots of 0.25.
COARSE = Instrument(
    index=2, symbol="ODDUSDT", base="ODD", quote="USDT", price_decimals=2, tick_units=5,
    quantity_decimals=2, lot_units=25,
)  # fmt: skip


class Scratch(NamedTuple):
    """A feed and everything around it."""

    feed: Feed
    consumer: handles.Consumer
    memory: FeedMemory
    stats: Stats

    def take(self, *frames: bytes, now_ns: int = 1) -> None:
        """Decodes frames as one batch."""
        for frame in frames:
            assert self.feed.append(frame, now_ns)
        assert self.feed.decode(now_ns) == DONE

    def rows(self) -> list[Words]:
        """Answers copies of the records since the last call and gives them back to the ring."""
        first, last = self.consumer.released + 1, self.consumer.cursor
        found = [self.consumer.row(sequence).copy() for sequence in range(first, last + 1)]
        self.consumer.release(last)
        return found

    def counts(self) -> dict[str, int]:
        """Answers the counters by label."""
        return {sample.label: sample.value for sample in self.stats.samples()}

    def sync(self, slot: int, body: bytes, now_ns: int = 1) -> tuple[int, int]:
        """Takes a snapshot and goes on with it; answers both statuses."""
        taken = self.feed.take_snapshot(slot, body, now_ns, now_ns)
        return taken, self.feed.go_on(slot, now_ns) if taken == DONE else taken


@contextmanager
def scratch_feed(
    prefix: str,
    *instruments: Instrument,
    capacity: int = 4096,
    levels_max: int = LEVELS_MAX,
    silence_ns_max: int = 1 << 60,
    streams: tuple[str, ...] = STREAMS,
    market: str = SPOT.name,
) -> Iterator[Scratch]:
    """Makes a feed of `instruments` with one gating reader, started and wanting snapshots."""
    kinds = (ring.GATING,)
    made = ring.create(
        f"{prefix}.market", 1, capacity=capacity, row_bytes=128, kinds=kinds, parkable=False
    )
    counted = segment.create(f"{prefix}.stats", BODY_BYTES, LAYOUT, 1)
    counted.set_ready()
    memory = FeedMemory(
        np.zeros((len(instruments), book_words(levels_max)), np.int64),
        np.zeros((len(instruments), SUMS_WORDS), np.int64),
        np.zeros((INSTRUMENTS_MAX, TOPS_WORDS), np.int64),
    )
    plan = FeedPlan(instruments, streams, 3, levels_max, silence_ns_max, HOLD_NS_MAX, market)
    stats = Stats(counted)
    feed = Feed(plan, memory, handles.Producer(made), stats)
    feed.clear_books()
    feed.announce(BookState.STALE_START, 1)
    feed.want_all()
    try:
        yield Scratch(feed, handles.Consumer(made, 0), memory, stats)
    finally:
        for one in (made, counted):
            one.unlink()
            one.close()


def fields(row: Words) -> dict[str, int]:
    """Answers a record's fields by name."""
    record = row.view(DTYPES[Kind(kind_of(row))])[0]
    names = record.dtype.names or ()
    return {name: int(record[name]) for name in names if name != "unused"}


def depth_levels(rows: list[Words]) -> list[tuple[int, int, int]]:
    """Answers (side, ticks, lots) of every level of a run of DEPTH records."""
    return [
        (part(row[LEVELS_SIDE], 1), int(row[LEVEL_0 + 2 * k]), int(row[LEVEL_0 + 2 * k + 1]))
        for row in rows
        for k in range(part(row[LEVELS_SIDE], 0))
    ]


def kinds(rows: list[Words]) -> list[tuple[Kind, int]]:
    """Answers kind and flags of each record."""
    return [(Kind(kind_of(row)), flags_of(row)) for row in rows]


def quote_frame(u: int = 1, **values: str) -> bytes:
    """Answers a bookTicker frame as the venue writes it."""
    v = {"s": "BTCUSDT", "b": "1.00", "B": "2.0", "a": "1.01", "A": "3.0"} | values
    return (
        f'{{"stream":"{v["s"].lower()}@bookTicker","data":{{"u":{u},"s":"{v["s"]}",'
        f'"b":"{v["b"]}","B":"{v["B"]}","a":"{v["a"]}","A":"{v["A"]}"}}}}'
    ).encode()


def trade_frame(t: int, p: str, q: str, *, maker: bool = True, symbol: str = "BTCUSDT") -> bytes:
    """Answers a trade frame as the venue writes it."""
    return (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":1723161255343,'
        f'"s":"{symbol}","t":{t},"p":"{p}","q":"{q}","T":1723161255342,'
        f'"m":{str(maker).lower()},"M":true}}}}'
    ).encode()


Levels = list[tuple[str, str]]


def depth_frame(
    first: int, last: int, bids: Levels, asks: Levels, symbol: str = "BTCUSDT"
) -> bytes:
    """Answers a depthUpdate frame as the venue writes it."""
    data = {"e": "depthUpdate", "E": 1723161255208, "s": symbol, "U": first, "u": last}
    body = data | {"b": bids, "a": asks}
    text = {"stream": f"{symbol.lower()}@depth@100ms", "data": body}
    return json.dumps(text, separators=(",", ":")).encode()


def snapshot_body(last: int, bids: Levels, asks: Levels) -> bytes:
    """Answers a REST depth snapshot as the venue writes it."""
    body = {"lastUpdateId": last, "bids": bids, "asks": asks}
    return json.dumps(body, separators=(",", ":")).encode()


def exact(frame: bytes) -> dict[str, Any]:
    """Reads a frame with the standard library alone: numbers as exact decimals."""
    return json.loads(frame, parse_float=Decimal)["data"]  # type: ignore[no-any-return]


def exact_steps(text: object, decimals: int, units: int) -> int:
    """Reads decimal text as steps of a grid; raises ValueError when that is not exact."""
    if not isinstance(text, str) or not text.replace(".", "", 1).isdecimal() or not text.isascii():
        raise ValueError(text)
    steps, rest = divmod(Decimal(text).scaleb(decimals), units)
    if rest:
        raise ValueError(text)
    return int(steps)


def recorded(path: Path) -> Iterator[bytes]:
    """Yields the messages of a recording."""
    with gzip.open(path) as lines:
        for line in lines:
            yield line.partition(b" ")[2].rstrip(b"\n")
