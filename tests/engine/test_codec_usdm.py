"""USD-M frames as records: exact, by the rule of `pu`, and never a wrong number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from engine.book import UPDATE_ID, checksum
from engine.codec_layout import DONE, REFETCH
from engine.instruments import Instrument
from engine.records import TRADE_OFF_BOOK, BookState, Kind, flags_of, kind_of
from engine.venues import USDM
from tests.engine.scratch_feed import Levels, Scratch, fields, recorded, scratch_feed

PERPETUAL = Instrument(
    index=0, symbol="BTCUSDT", base="BTC", quote="USDT", price_decimals=2, tick_units=10,
    quantity_decimals=3, lot_units=1,
)  # fmt: skip
STREAMS = ("bookTicker", "trade", "depth@0ms", "markPrice@1s")
TIME_MS = 1_680_652_700_435


@pytest.fixture
def scratch(segment_prefix: str) -> Iterator[Scratch]:
    with scratch_feed(segment_prefix, PERPETUAL, streams=STREAMS, market=USDM.name) as made:
        made.rows()
        yield made


def frame(stream: str, **data: object) -> bytes:
    text = json.dumps({"stream": f"btcusdt@{stream}", "data": data}, separators=(",", ":"))
    return text.encode()


def quote(u: int, **values: object) -> bytes:
    data: dict[str, object] = {
        "e": "bookTicker", "u": u, "s": "BTCUSDT", "b": "28145.10", "B": "3.868",
        "a": "28145.20", "A": "6.887", "T": TIME_MS, "E": TIME_MS + 5,
    }  # fmt: skip
    return frame("bookTicker", **(data | values))


def trade(t: int, **values: object) -> bytes:
    data: dict[str, object] = {
        "e": "trade", "E": TIME_MS + 3, "T": TIME_MS, "s": "BTCUSDT", "t": t, "p": "28145.10",
        "q": "0.002", "X": "MARKET", "m": True,
    }  # fmt: skip
    return frame("trade", **(data | values))


def depth(first: int, last: int, previous: int, bids: Levels, asks: Levels) -> bytes:
    return frame(
        "depth@0ms", e="depthUpdate", E=TIME_MS, T=TIME_MS - 1, s="BTCUSDT", U=first, u=last,
        pu=previous, b=bids, a=asks,
    )  # fmt: skip


def mark(**values: object) -> bytes:
    data: dict[str, object] = {
        "e": "markPriceUpdate", "E": TIME_MS, "s": "BTCUSDT", "p": "28147.27373413",
        "P": "28142.15563565", "i": "28159.75642857", "r": "-0.00002754", "T": TIME_MS + 1_000,
    }  # fmt: skip
    return frame("markPrice@1s", **(data | values))


def snapshot(last: int, bids: Levels, asks: Levels) -> bytes:
    body = {"lastUpdateId": last, "E": TIME_MS, "T": TIME_MS, "bids": bids, "asks": asks}
    return json.dumps(body).encode()  # with spaces, as the venue once wrote it


BIDS: Levels = [("28145.10", "3.818")]
ASKS: Levels = [("28145.20", "6.887")]


def states(scratch: Scratch) -> list[BookState]:
    return [
        BookState(fields(row)["state"]) for row in scratch.rows() if kind_of(row) == Kind.BOOK_STATE
    ]


def test_quote_is_exact_and_keeps_the_venues_time(scratch: Scratch) -> None:
    scratch.take(quote(7))

    [row] = scratch.rows()
    found = fields(row)
    assert {name: found[name] for name in ("update_id", "bid_ticks", "bid_lots")} == {
        "update_id": 7, "bid_ticks": 281_451, "bid_lots": 3_868,
    }  # fmt: skip
    assert (found["ask_ticks"], found["ask_lots"]) == (281_452, 6_887)
    assert found["venue_ns"] == TIME_MS * 1_000_000


@pytest.mark.parametrize(
    ("origin", "flags"),
    [
        ("MARKET", 0),
        ("INSURANCE_FUND", TRADE_OFF_BOOK),
        ("NA", TRADE_OFF_BOOK),
        ("A" * 24, TRADE_OFF_BOOK),
    ],
)
def test_trade_says_whether_it_was_made_off_the_book(
    scratch: Scratch, origin: str, flags: int
) -> None:
    scratch.take(trade(3, X=origin))

    [row] = scratch.rows()
    assert flags_of(row) == flags
    assert fields(row)["quantity_lots"] == 2


def test_mark_price_keeps_eight_decimals_and_the_sign_of_funding(scratch: Scratch) -> None:
    scratch.take(mark())

    [row] = scratch.rows()
    found = fields(row)
    assert kind_of(row) == Kind.MARK
    want = {
        "mark_e8": "28147.27373413", "settle_e8": "28142.15563565", "index_e8": "28159.75642857",
        "funding_e8": "-0.00002754",
    }  # fmt: skip
    assert {name: found[name] for name in want} == {
        name: int(Decimal(text).scaleb(8)) for name, text in want.items()
    }
    assert found["next_funding_ns"] == (TIME_MS + 1_000) * 1_000_000


def test_contract_without_funding_has_a_mark_price_all_the_same(scratch: Scratch) -> None:
    scratch.take(mark(r="", T=0))

    [row] = scratch.rows()
    assert (fields(row)["funding_e8"], fields(row)["next_funding_ns"]) == (0, 0)


def test_frames_in_another_order_or_with_new_keys_are_read_all_the_same(scratch: Scratch) -> None:
    data = json.loads(trade(5))["data"]
    turned = frame("trade", **dict(reversed(data.items())))
    scratch.take(turned, mark(ap="28147.1"), quote(9, st=1))

    assert [Kind(kind_of(row)) for row in scratch.rows()] == [Kind.TRADE, Kind.MARK, Kind.QUOTE]


@pytest.mark.parametrize(
    "wrong",
    [
        quote(1, b="28145.15"),  # off the grid of 0.10
        quote(1, b="2.8e4"),
        quote(1, T="soon"),
        trade(1, q="0.0005"),
        trade(1, X="made up"),
        trade(1, X="A" * 25),
        mark(p="28147.273734131"),
        mark(r="--0.1"),
        mark(r="0.0001x"),
        depth(5, 4, 3, [], []),
        depth(5, 6, 5, [], []),  # follows a frame that is not before it
    ],
)
def test_wrong_frame_is_rejected_and_its_neighbours_are_not(scratch: Scratch, wrong: bytes) -> None:
    scratch.take(quote(1), wrong, quote(2))

    assert [fields(row)["update_id"] for row in scratch.rows()] == [1, 2]
    assert scratch.counts()["ingest_rejected_frames_total"] == 1
    assert list(scratch.feed.rejected) == [wrong]


def test_book_follows_by_the_id_before_and_not_by_counting(scratch: Scratch) -> None:
    scratch.take(depth(8, 12, 7, BIDS, ASKS))
    assert scratch.sync(0, snapshot(10, BIDS, ASKS)) == (DONE, DONE)
    scratch.take(depth(40, 50, 12, [("28145.00", "1.000")], []), depth(99, 101, 50, [], BIDS[:0]))

    assert states(scratch) == [BookState.SYNCED]
    assert int(scratch.memory.books[0][UPDATE_ID]) == 101


def test_records_of_a_run_begin_behind_the_run_before_them(scratch: Scratch) -> None:
    scratch.sync(0, snapshot(10, BIDS, ASKS))
    scratch.take(depth(8, 12, 7, BIDS, []), depth(40, 50, 12, BIDS, []))

    ids = [
        (fields(row)["first_id"], fields(row)["last_id"])
        for row in scratch.rows()
        if kind_of(row) == Kind.DEPTH
    ]
    assert ids[-2:] == [(8, 12), (13, 50)]


@pytest.mark.parametrize(
    ("first", "last", "previous", "state"),
    [
        (8, 10, 7, BookState.SYNCED),  # u = L: nothing new in it
        (9, 12, 8, BookState.SYNCED),  # overlaps
        (10, 12, 9, BookState.SYNCED),  # begins with L itself
        (11, 12, 10, BookState.SYNCED),  # follows exactly
        (20, 25, 10, BookState.SYNCED),  # follows exactly, ids between are nobody's
        (11, 12, 9, BookState.STALE_GAP),  # its U is behind L and it follows another frame
        (20, 25, 15, BookState.STALE_GAP),
    ],
)
def test_first_frame_behind_a_snapshot_must_follow_or_overlap_it(
    scratch: Scratch, first: int, last: int, previous: int, state: BookState
) -> None:
    scratch.sync(0, snapshot(10, BIDS, ASKS))
    scratch.take(depth(first, last, previous, [], []))

    assert states(scratch)[-1] == state


def test_lost_frame_is_noticed_at_the_next_one(scratch: Scratch) -> None:
    scratch.sync(0, snapshot(10, BIDS, ASKS))
    scratch.take(depth(9, 12, 8, [], []), depth(30, 31, 20, [], []))

    assert states(scratch) == [BookState.SYNCED, BookState.STALE_GAP]


def test_snapshot_older_than_what_is_held_is_asked_for_again(scratch: Scratch) -> None:
    scratch.take(depth(20, 25, 15, [], []))

    assert scratch.sync(0, snapshot(10, BIDS, ASKS))[0] == REFETCH


@pytest.mark.parametrize("name", ["usdm_btcusdt_20240718.gz", "usdm_btcusdt_20230404.dat.gz"])
def test_recording_is_decoded_whole_and_ends_with_the_right_book(
    recordings: Path, segment_prefix: str, name: str
) -> None:
    lines = (recordings / "expected.jsonl").read_text().splitlines()
    want = next(found for line in lines if (found := json.loads(line))["files"] == [name])
    with scratch_feed(
        segment_prefix, PERPETUAL, streams=STREAMS, market=USDM.name, capacity=1 << 15
    ) as scratch:
        told: list[BookState] = []
        for message in recorded(recordings / name):
            if message.startswith(b'{"last'):
                assert scratch.sync(0, message) == (DONE, DONE)
            else:
                scratch.take(message)
            told += states(scratch)
        counts = scratch.counts()
        assert told == [BookState.STALE_START, BookState.SYNCED]
        for stream, count in want["counts"].items():
            assert counts[f'ingest_frames_total{{stream="{stream}"}}'] == count
        assert counts["ingest_rejected_frames_total"] == 0
        final = want["final_book"]
        book = scratch.memory.books[0]
        assert int(book[UPDATE_ID]) == final["u"]
        assert checksum(book, PERPETUAL) == final["sha256_of_lines_side_price_qty"]
