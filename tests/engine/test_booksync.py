"""The spot rule: what goes on the ring is a whole book, or is said not to be."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.book import UPDATE_ID, apply_row, checksum, levels, new_book
from engine.codec_feed import HELD_RECORDS_MAX
from engine.codec_layout import (
    BROKEN,
    DONE,
    FULL,
    REFETCH,
    SYNC_IGNORED,
    SYNC_OVERFLOWS,
    SYNC_WANT,
)
from engine.instruments import Instrument
from engine.records import (
    DEPTH_FIRST,
    DEPTH_LAST,
    DEPTH_SNAPSHOT,
    STATE,
    BookState,
    Kind,
    Side,
    kind_of,
)
from shm.segment import Words
from tests.engine.scratch_feed import (
    BTCUSDT,
    ETHUSDT,
    HOLD_NS_MAX,
    Scratch,
    depth_frame,
    fields,
    kinds,
    quote_frame,
    recorded,
    scratch_feed,
    snapshot_body,
)

GAPS = 'ingest_gaps_total{symbol="BTCUSDT"}'
SNAPSHOT = snapshot_body(10, [("99", "1"), ("98", "2")], [("101", "3")])


@pytest.fixture
def scratch(segment_prefix: str) -> Iterator[Scratch]:
    with scratch_feed(segment_prefix, BTCUSDT, silence_ns_max=1_000) as made:
        made.rows()
        yield made


def states(rows: list[Words]) -> list[BookState]:
    return [BookState(int(row[STATE])) for row in rows if kind_of(row) == Kind.BOOK_STATE]


def bids(scratch: Scratch) -> list[tuple[int, int]]:
    return levels(scratch.memory.books[0], int(Side.BUY))


def synced(scratch: Scratch) -> None:
    assert scratch.sync(0, SNAPSHOT) == (DONE, DONE)
    scratch.rows()


def test_snapshot_and_what_was_held_go_on_the_ring_in_order(scratch: Scratch) -> None:
    scratch.take(depth_frame(8, 9, [("97", "9")], []))
    scratch.take(depth_frame(10, 12, [("99", "5")], []), depth_frame(13, 13, [("98", "0")], []))

    assert scratch.rows() == []
    assert scratch.sync(0, SNAPSHOT) == (DONE, DONE)

    rows = scratch.rows()
    run = DEPTH_FIRST | DEPTH_LAST
    assert kinds(rows) == [
        (Kind.DEPTH, DEPTH_FIRST | DEPTH_SNAPSHOT),
        (Kind.DEPTH, DEPTH_LAST | DEPTH_SNAPSHOT),
        (Kind.DEPTH, run),
        (Kind.DEPTH, run),
        (Kind.BOOK_STATE, 0),
    ]
    assert states(rows) == [BookState.SYNCED]
    assert bids(scratch) == [(9900, 500_000_000)]
    assert scratch.memory.books[0][UPDATE_ID] == 13


def test_reader_of_the_ring_builds_the_same_book(scratch: Scratch) -> None:
    mine = new_book(64)
    scratch.take(depth_frame(10, 12, [("99", "5")], []))
    scratch.sync(0, SNAPSHOT)
    scratch.take(depth_frame(13, 14, [("97", "1")], [("101", "0"), ("102", "4")]))
    for row in scratch.rows():
        if kind_of(row) == Kind.DEPTH:
            apply_row(mine, row)

    assert checksum(mine, BTCUSDT) == checksum(scratch.memory.books[0], BTCUSDT)
    assert mine[UPDATE_ID] == 14


def test_snapshot_older_than_the_first_frame_held_is_fetched_again(scratch: Scratch) -> None:
    scratch.take(depth_frame(12, 15, [], []))

    assert scratch.sync(0, SNAPSHOT) == (REFETCH, REFETCH)
    assert scratch.feed.wanted() == [0]
    assert scratch.sync(0, snapshot_body(13, [], [])) == (DONE, DONE)


def test_snapshot_that_ends_right_before_the_first_frame_will_do(scratch: Scratch) -> None:
    scratch.take(depth_frame(11, 15, [], []))

    assert scratch.sync(0, SNAPSHOT) == (DONE, DONE)


def test_first_frame_behind_a_snapshot_may_overlap_it_and_later_ones_may_not(
    scratch: Scratch,
) -> None:
    synced(scratch)
    scratch.take(depth_frame(9, 11, [("99", "7")], []))
    first = states(scratch.rows())
    scratch.take(depth_frame(11, 12, [("99", "8")], []))

    assert (first, states(scratch.rows())) == ([], [BookState.STALE_GAP])
    assert bids(scratch)[0] == (9900, 700_000_000)


def test_gap_makes_the_book_stale_until_the_next_snapshot(scratch: Scratch) -> None:
    synced(scratch)
    scratch.take(depth_frame(11, 12, [("99", "5")], []), depth_frame(14, 15, [("99", "6")], []))
    rows = scratch.rows()
    state = fields(rows[-1])

    assert states(rows) == [BookState.STALE_GAP]
    assert (state["detail_1"], state["detail_2"], state["reason_count"]) == (13, 14, 1)
    assert bids(scratch)[0] == (9900, 500_000_000)
    assert scratch.counts()[GAPS] == 1
    assert scratch.feed.wanted() == [0]

    scratch.take(depth_frame(16, 17, [("96", "1")], []))
    assert scratch.rows() == []
    assert scratch.sync(0, snapshot_body(15, [("99", "6")], [("101", "3")])) == (DONE, DONE)
    assert states(scratch.rows()) == [BookState.SYNCED]
    assert bids(scratch) == [(9900, 600_000_000), (9600, 100_000_000)]
    assert scratch.feed.wanted() == []


def test_lost_frame_that_was_rejected_is_a_gap(scratch: Scratch) -> None:
    synced(scratch)
    scratch.take(depth_frame(11, 12, [("99", "oops")], []), depth_frame(13, 13, [], []))

    assert states(scratch.rows()) == [BookState.STALE_GAP]


def test_frame_that_is_not_newer_is_ignored(scratch: Scratch) -> None:
    synced(scratch)
    scratch.take(depth_frame(9, 10, [("99", "5")], []), depth_frame(11, 11, [], []))

    assert states(scratch.rows()) == []
    assert scratch.feed.sync[0, SYNC_IGNORED] == 1
    assert bids(scratch)[0] == (9900, 100_000_000)


def test_gap_among_held_frames_wants_another_snapshot(scratch: Scratch) -> None:
    scratch.take(depth_frame(10, 12, [], []), depth_frame(14, 15, [], []))

    assert scratch.sync(0, SNAPSHOT) == (DONE, BROKEN)
    assert BookState.SYNCED not in states(scratch.rows())
    assert scratch.feed.wanted() == [0]
    assert scratch.counts()[GAPS] == 1


def test_crossed_book_is_stale(scratch: Scratch) -> None:
    synced(scratch)
    scratch.take(depth_frame(11, 12, [("101", "5")], []))

    assert states(scratch.rows()) == [BookState.STALE_CROSSED]
    assert scratch.feed.sync[0, SYNC_WANT] == 1


def test_silent_book_is_stale_and_is_synced_again_by_a_frame_that_follows(
    scratch: Scratch,
) -> None:
    scratch.sync(0, SNAPSHOT, now_ns=100)
    scratch.rows()
    scratch.feed.announce_silent(1_100)
    still = states(scratch.rows())
    scratch.feed.announce_silent(1_101)
    scratch.feed.announce_silent(1_102)
    late = states(scratch.rows())
    scratch.take(depth_frame(11, 12, [("99", "5")], []), now_ns=2_000)

    assert (still, late) == ([], [BookState.STALE_SILENT])
    assert states(scratch.rows()) == [BookState.SYNCED]
    assert scratch.feed.wanted() == []


def test_silent_book_that_missed_a_frame_has_a_gap(scratch: Scratch) -> None:
    scratch.sync(0, SNAPSHOT, now_ns=100)
    scratch.feed.announce_silent(5_000)
    scratch.rows()
    scratch.take(depth_frame(12, 12, [], []), now_ns=6_000)

    assert states(scratch.rows()) == [BookState.STALE_GAP]


def test_disconnection_gives_up_what_was_held(scratch: Scratch) -> None:
    scratch.take(depth_frame(5, 6, [], []))
    scratch.feed.announce(BookState.STALE_DISCONNECTED, 1)
    scratch.feed.announce(BookState.STALE_DISCONNECTED, 1)

    assert states(scratch.rows()) == [BookState.STALE_DISCONNECTED]
    assert scratch.sync(0, SNAPSHOT) == (DONE, DONE)


def fill_hold(scratch: Scratch) -> None:
    level = [("99", "1")]
    for number in range(11, HELD_RECORDS_MAX + 11):
        scratch.take(depth_frame(number, number, level, []))
    last = HELD_RECORDS_MAX + 11
    scratch.feed.append(depth_frame(last, last, level, []), 2)


def test_full_hold_waits_for_the_snapshot_and_loses_nothing(scratch: Scratch) -> None:
    fill_hold(scratch)

    assert scratch.feed.decode(HOLD_NS_MAX) == FULL
    assert scratch.feed.take_snapshot(0, SNAPSHOT, 1, 1) == DONE
    while scratch.feed.go_on(0, 1) == FULL:
        scratch.rows()
    assert scratch.feed.decode(HOLD_NS_MAX) == DONE
    assert scratch.memory.books[0][UPDATE_ID] == HELD_RECORDS_MAX + 11


def test_full_hold_waits_no_longer_than_its_limit(scratch: Scratch) -> None:
    fill_hold(scratch)

    assert scratch.feed.decode(HOLD_NS_MAX + 1) == DONE
    assert scratch.feed.sync[0, SYNC_OVERFLOWS] == 1
    assert scratch.sync(0, SNAPSHOT) == (REFETCH, REFETCH)
    assert scratch.sync(0, snapshot_body(HELD_RECORDS_MAX + 11, [], [])) == (DONE, DONE)


def test_quotes_flow_while_the_book_is_stale(scratch: Scratch) -> None:
    scratch.take(depth_frame(5, 6, [], []), quote_frame(1))

    assert [Kind(kind_of(row)) for row in scratch.rows()] == [Kind.QUOTE]


def test_unreadable_snapshot_changes_nothing(scratch: Scratch) -> None:
    wrong = snapshot_body(10, [("99.001", "1")], [])

    assert scratch.sync(0, wrong)[0] < 0
    assert scratch.rows() == []
    assert scratch.feed.wanted() == [0]


def test_snapshot_of_another_shape_is_read(scratch: Scratch) -> None:
    shaped = {"asks": [["101", "3"]], "bids": [["99", "1"]], "new": 1, "lastUpdateId": 10}

    assert scratch.sync(0, json.dumps(shaped).encode()) == (DONE, DONE)
    assert bids(scratch) == [(9900, 100_000_000)]


def test_full_ring_loses_nothing(segment_prefix: str) -> None:
    """Every step is refused until there is room, and then goes on where it was."""
    with scratch_feed(segment_prefix, BTCUSDT, capacity=8) as made:
        feed, mine = made.feed, new_book(64)
        for number in range(11, 31):
            feed.append(depth_frame(number, number, [(str(number), "1")], []), 1)
        feed.decode(1)
        seen = made.rows()
        body = snapshot_body(10, [(str(price), "1") for price in range(1, 10)], [])
        assert feed.take_snapshot(0, body, 1, 1) == DONE
        while feed.go_on(0, 1) == FULL:
            seen += made.rows()
        for number in range(31, 61):
            feed.append(depth_frame(number, number, [(str(number), "1")], []), 1)
        while feed.decode(1) == FULL:
            seen += made.rows()
        seen += made.rows()
        for row in seen:
            if kind_of(row) == Kind.DEPTH:
                apply_row(mine, row)

        assert [fields(row)["sequence"] for row in seen] == list(range(len(seen)))
        assert states(seen) == [BookState.STALE_START, BookState.SYNCED]
        want = [(100 * price, 100_000_000) for price in range(60, 10, -1)]
        assert levels(mine, int(Side.BUY))[:50] == want
        assert checksum(mine, BTCUSDT) == checksum(made.memory.books[0], BTCUSDT)


def test_frame_that_can_never_fit_the_ring_is_rejected_and_becomes_a_gap(
    segment_prefix: str,
) -> None:
    with scratch_feed(segment_prefix, BTCUSDT, capacity=8) as made:
        made.sync(0, snapshot_body(10, [], []))
        made.rows()
        many = [(str(price), "1") for price in range(1, 40)]
        made.take(depth_frame(11, 11, many, []), depth_frame(12, 12, [], []))

        assert states(made.rows()) == [BookState.STALE_GAP]
        assert made.counts()["ingest_rejected_frames_total"] == 1


def test_batch_that_waits_for_room_takes_more_frames(segment_prefix: str) -> None:
    with scratch_feed(segment_prefix, BTCUSDT, capacity=4) as made:
        made.rows()
        for number in range(10):
            made.feed.append(quote_frame(number), 1)
        seen: list[int] = []
        number = 10
        while made.feed.decode(1) == FULL or number < 20:
            seen += [fields(row)["update_id"] for row in made.rows()]
            if number < 20:
                made.feed.append(quote_frame(number), 1)
                made.feed._move_together()
                number += 1
        seen += [fields(row)["update_id"] for row in made.rows()]

        assert seen == list(range(20))


@given(lost=st.sets(st.integers(0, 29), max_size=4), snapshot_at=st.integers(0, 29))
def test_any_lost_frame_is_noticed(lost: set[int], snapshot_at: int) -> None:
    """Whatever is lost: a book said to be SYNCED equals the venue's."""
    with scratch_feed(f"test-{os.getpid()}-booksync", BTCUSDT) as made:
        mine, is_synced = new_book(64), False
        venue: dict[int, int] = {}
        for number in range(30):
            venue[number % 7 + 1] = number + 1
            level = (str(number % 7 + 1), str(number + 1))
            if number not in lost:
                made.take(depth_frame(number + 1, number + 1, [level], []))
            body = [(str(price), str(size)) for price, size in venue.items()]
            if number >= snapshot_at and made.feed.wanted():
                made.sync(0, snapshot_body(number + 1, body, []))
            for row in made.rows():
                if kind_of(row) == Kind.DEPTH:
                    apply_row(mine, row)
                elif kind_of(row) == Kind.BOOK_STATE:
                    is_synced = row[STATE] == BookState.SYNCED
            if is_synced and number not in lost:
                want = {price * 100: size * 10**8 for price, size in venue.items()}
                assert dict(levels(mine, int(Side.BUY))) == want


@pytest.mark.parametrize(
    ("name", "one"),
    [("spot_btcusdt_20240808", BTCUSDT), ("spot_ethusdt_20240808", ETHUSDT)],
)
def test_replayed_recording_ends_in_the_expected_book(
    recordings: Path, segment_prefix: str, name: str, one: Instrument
) -> None:
    lines = (recordings / "expected.jsonl").read_text().splitlines()
    want = next(json.loads(line) for line in lines if name in line)
    mine = new_book(4096)
    with scratch_feed(segment_prefix, BTCUSDT, ETHUSDT, capacity=65_536) as made:
        for message in recorded(recordings / f"{name}.gz"):
            if message.startswith(b'{"last'):
                assert made.sync(one.index, message) == (DONE, DONE)
                continue
            made.take(message)
            for row in made.rows():
                if kind_of(row) == Kind.DEPTH:
                    apply_row(mine, row)
        book = want["final_book"]
        counts = made.counts()

    assert checksum(mine, one) == book["sha256_of_lines_side_price_qty"]
    assert mine[UPDATE_ID] == book["u"]
    assert counts[f'ingest_gaps_total{{symbol="{one.symbol}"}}'] == want["gaps"]
    for stream, count in want["counts"].items():
        assert counts[f'ingest_frames_total{{stream="{stream}"}}'] == count


@pytest.mark.parametrize(
    ("frames", "silent_ns"),
    [(10, 1_000_001), (40, 20_001)],
    ids=["before its rhythm is known", "twenty usual gaps"],
)
def test_silence_is_told_by_the_streams_own_rhythm(
    segment_prefix: str, frames: int, silent_ns: int
) -> None:
    with scratch_feed(segment_prefix, BTCUSDT, silence_ns_max=1_000_000) as scratch:
        scratch.sync(0, SNAPSHOT, now_ns=1_000)
        for number in range(1, frames + 1):
            scratch.take(depth_frame(10 + number, 10 + number, [], []), now_ns=1_000 * number)
        scratch.rows()
        last_ns = 1_000 * frames
        scratch.feed.announce_silent(last_ns + silent_ns - 1)
        assert scratch.rows() == []

        scratch.feed.announce_silent(last_ns + silent_ns)

        [row] = scratch.rows()
        assert fields(row)["state"] == BookState.STALE_SILENT
        assert scratch.counts()['ingest_silent_total{symbol="BTCUSDT"}'] == 1
