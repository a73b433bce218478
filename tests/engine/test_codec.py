"""The compiled codec against an exact reader: the same numbers, or none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec_feed import REJECTED_BYTES_MAX, REJECTED_MAX
from engine.instruments import Instrument
from engine.records import (
    DEPTH_FIRST,
    DEPTH_LAST,
    BookState,
    Kind,
    Side,
    instrument_of,
    kind_of,
    source_of,
)
from shm.segment import Words
from tests.engine.scratch_feed import (
    BTCUSDT,
    COARSE,
    ETHUSDT,
    Scratch,
    depth_frame,
    depth_levels,
    exact,
    exact_steps,
    fields,
    kinds,
    quote_frame,
    recorded,
    scratch_feed,
    snapshot_body,
    trade_frame,
)

REJECTED = "ingest_rejected_frames_total"
EMPTY = snapshot_body(0, [], [])


@pytest.fixture
def scratch(segment_prefix: str) -> Iterator[Scratch]:
    with scratch_feed(segment_prefix, BTCUSDT, ETHUSDT, COARSE) as made:
        made.rows()
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Scratch]:
    """One feed for all examples of a property."""
    with scratch_feed(f"test-{os.getpid()}-codec", BTCUSDT, COARSE) as made:
        yield made


def ticks(one: Instrument, text: object) -> int:
    return exact_steps(text, one.price_decimals, one.tick_units)


def lots(one: Instrument, text: object) -> int:
    return exact_steps(text, one.quantity_decimals, one.lot_units)


def expected(one: Instrument, data: dict[str, Any]) -> dict[str, int]:
    """What a quote or trade record must say; raises ValueError where it cannot say it exactly."""
    if "b" in data:
        return {
            "update_id": data["u"],
            "bid_ticks": ticks(one, data["b"]),
            "bid_lots": lots(one, data["B"]),
            "ask_ticks": ticks(one, data["a"]),
            "ask_lots": lots(one, data["A"]),
        }
    return {
        "trade_id": data["t"],
        "price_ticks": ticks(one, data["p"]),
        "quantity_lots": lots(one, data["q"]),
        "aggressor_side": int(Side.SELL if data["m"] else Side.BUY),
        "venue_ns": data["T"] * 1_000_000,
    }


def said(row: Words, names: dict[str, int]) -> dict[str, int]:
    found = fields(row)
    return {name: found[name] for name in names}


def test_quote_becomes_a_record_that_is_its_own_trigger(scratch: Scratch) -> None:
    first = scratch.consumer.cursor + 1
    scratch.take(quote_frame(7, b="61837.63000000", B="3.78826000", a="61837.64", A="0"), now_ns=5)

    [row] = scratch.rows()

    assert (kind_of(row), instrument_of(row), source_of(row)) == (Kind.QUOTE, 0, 3)
    assert fields(row) == {
        "sequence": first, "kind": 1, "flags": 0, "instrument": 0, "source": 3, "publish_ns": 5,
        "trigger_ns": 5, "trigger": first, "update_id": 7, "bid_ticks": 6183763,
        "bid_lots": 378826000, "ask_ticks": 6183764, "ask_lots": 0, "venue_ns": 0,
    }  # fmt: skip


def test_trade_says_who_took(scratch: Scratch) -> None:
    scratch.take(trade_frame(1, "5.00", "1", maker=True), trade_frame(2, "5.01", "2", maker=False))

    sold, bought = (fields(row) for row in scratch.rows())

    assert (sold["aggressor_side"], bought["aggressor_side"]) == (Side.SELL, Side.BUY)
    assert sold["venue_ns"] == 1723161255342 * 1_000_000


def test_depth_frame_becomes_a_run_of_four_levels_a_record(scratch: Scratch) -> None:
    bids = [(f"{price}.00", "1.5") for price in range(100, 95, -1)]
    scratch.sync(0, EMPTY)
    scratch.rows()
    scratch.take(depth_frame(1, 9, bids, [("101.00", "0.00000000")]))

    rows = scratch.rows()

    assert kinds(rows) == [(Kind.DEPTH, DEPTH_FIRST), (Kind.DEPTH, 0), (Kind.DEPTH, DEPTH_LAST)]
    assert {(fields(row)["first_id"], fields(row)["last_id"]) for row in rows} == {(1, 9)}
    assert depth_levels(rows) == [
        *((Side.BUY, price * 100, 150_000_000) for price in range(100, 95, -1)),
        (Side.SELL, 10_100, 0),
    ]


def test_depth_frame_without_levels_still_gives_one_record(scratch: Scratch) -> None:
    scratch.sync(0, EMPTY)
    scratch.rows()
    scratch.take(depth_frame(1, 1, [], []))

    rows = scratch.rows()

    assert kinds(rows) == [(Kind.DEPTH, DEPTH_FIRST | DEPTH_LAST)]
    assert depth_levels(rows) == []


def test_a_batch_is_published_once(scratch: Scratch) -> None:
    before = scratch.consumer.cursor
    for number in range(100):
        scratch.feed.append(quote_frame(number), 1)

    assert scratch.consumer.cursor == before
    scratch.feed.decode(2)

    assert [fields(row)["update_id"] for row in scratch.rows()] == list(range(100))


def test_frames_are_counted_by_stream(scratch: Scratch) -> None:
    scratch.take(quote_frame(1), quote_frame(2), trade_frame(1, "1", "1", symbol="ETHUSDT"))

    counts = scratch.counts()

    assert counts['ingest_frames_total{stream="btcusdt@bookTicker"}'] == 2
    assert counts['ingest_frames_total{stream="ethusdt@trade"}'] == 1
    assert counts["ingest_records_total"] == scratch.consumer.cursor + 1


@pytest.mark.parametrize(
    "frame",
    [
        (
            b'{"data":{"A":"3","a":"2","B":"4","b":"1","s":"BTCUSDT","u":5},'
            b'"stream":"btcusdt@bookTicker"}'
        ),
        (
            b'{ "stream" : "btcusdt@bookTicker", "data": {"u": 5, "s": "BTCUSDT", "b": "1",\n'
            b'"B":"4", "a":"2", "A":"3" } }'
        ),
        (
            b'{"stream":"btcusdt@bookTicker","data":{"u":5,"s":"BTCUSDT","b":"1","B":"4","a":"2",'
            b'"A":"3","T":9,"new":{"deep":[1,"x"]}}}'
        ),
    ],
    ids=["another order", "spaces", "unknown keys"],
)
def test_json_of_another_shape_gives_the_same_record(scratch: Scratch, frame: bytes) -> None:
    scratch.take(quote_frame(4), frame, quote_frame(6))

    rows = [fields(row) for row in scratch.rows()]

    assert [row["update_id"] for row in rows] == [4, 5, 6]
    assert (rows[1]["bid_ticks"], rows[1]["bid_lots"]) == (100, 400_000_000)
    assert scratch.counts()[REJECTED] == 0


def test_trade_and_depth_of_another_shape_are_read_too(scratch: Scratch) -> None:
    scratch.sync(0, EMPTY)
    scratch.rows()
    older = json.loads(trade_frame(3, "1.5", "2"))
    older["data"] |= {"b": 88, "a": 50}
    spaced = json.dumps(json.loads(depth_frame(1, 2, [("1", "2")], [])))
    scratch.take(json.dumps(older).encode(), spaced.encode())

    trade, depth = scratch.rows()

    assert (fields(trade)["trade_id"], fields(trade)["price_ticks"]) == (3, 150)
    assert depth_levels([depth]) == [(Side.BUY, 100, 200_000_000)]


WRONG = {
    "off the tick": quote_frame(b="1.001"),
    "beyond the grid": quote_frame(B="0.000000001"),
    "exponent": quote_frame(b="1e3"),
    "sign": quote_frame(b="-1"),
    "plus": quote_frame(b="+1"),
    "too many digits": quote_frame(b="1" * 17),
    "huge": quote_frame(b="9" * 400),
    "empty": quote_frame(b=""),
    "no whole part": quote_frame(b=".5"),
    "no fraction": quote_frame(b="1."),
    "two points": quote_frame(b="1.0.0"),
    "infinity": quote_frame(b="Infinity"),
    "blank": quote_frame(b=" 1"),
    "escape": quote_frame(b="\\u0031"),
    "number for text": quote_frame().replace(b'"b":"1.00"', b'"b":1.00'),
    "text for number": quote_frame().replace(b'"u":1', b'"u":"1"'),
    "fraction for whole": quote_frame().replace(b'"u":1', b'"u":1.5'),
    "exponent for whole": quote_frame().replace(b'"u":1', b'"u":1e2'),
    "negative id": quote_frame().replace(b'"u":1', b'"u":-1'),
    "leading zero": quote_frame().replace(b'"u":1', b'"u":01'),
    "huge id": quote_frame().replace(b'"u":1', b'"u":' + b"1" * 19),
    "null": quote_frame().replace(b'"1.01"', b"null"),
    "missing key": quote_frame().replace(b'"A":"3.0"', b'"X":"3.0"'),
    "another symbol": quote_frame().replace(b'"BTCUSDT"', b'"ETHUSDT"'),
    "unknown stream": quote_frame().replace(b"btcusdt@", b"xrpusdt@"),
    "longer symbol": quote_frame().replace(b'"BTCUSDT"', b'"BTCUSDTX"'),
    "cut": quote_frame()[:-1],
    "longer": quote_frame() + b"}",
    "two frames": quote_frame() * 2,
    "no frame": b'{"result":null,"id":1}',
    "not json": b"hello",
    "nothing": b"",
    "another event": trade_frame(1, "1", "1").replace(b'"e":"trade"', b'"e":"other"'),
    "wrong maker": trade_frame(1, "1", "1").replace(b'"m":true', b'"m":1'),
    "time that leaves int64": trade_frame(1, "1", "1").replace(b"1723161255342", b"9" * 17),
    "value that leaves int64": trade_frame(1, "9999999999999999", "9999999999"),
    "level of three": depth_frame(1, 1, [("1", "1")], []).replace(b'["1","1"]', b'["1","1","1"]'),
    "level of one": depth_frame(1, 1, [("1", "1")], []).replace(b'["1","1"]', b'["1"]'),
    "broken last level": depth_frame(1, 1, [("1", "1"), ("2", "x")], []),
    "ids turned round": depth_frame(2, 1, [], []),
}


@pytest.mark.parametrize("frame", WRONG.values(), ids=WRONG.keys())
def test_wrong_frame_is_rejected_and_its_neighbours_are_not(scratch: Scratch, frame: bytes) -> None:
    scratch.sync(0, EMPTY)
    scratch.rows()
    scratch.take(quote_frame(1), frame, quote_frame(2))

    assert [fields(row)["update_id"] for row in scratch.rows()] == [1, 2]
    assert scratch.counts()[REJECTED] == 1
    assert list(scratch.feed.rejected) == [frame]


def test_rejected_frames_are_kept_within_bounds(scratch: Scratch) -> None:
    scratch.take(*(b"x" * 9_000 for _ in range(REJECTED_MAX + 5)))

    assert scratch.counts()[REJECTED] == REJECTED_MAX + 5
    assert [len(frame) for frame in scratch.feed.rejected] == [REJECTED_BYTES_MAX] * REJECTED_MAX


def test_a_venue_that_says_goodbye_is_heard(scratch: Scratch) -> None:
    scratch.take(b'{"e":"serverShutdown","E":1770123456789}')

    assert scratch.feed.is_shutdown_told
    assert scratch.counts()[REJECTED] == 0


def test_grid_that_is_no_power_of_ten_is_exact(scratch: Scratch) -> None:
    scratch.take(quote_frame(1, s="ODDUSDT", b="10.15", B="1.75", a="10.2000", A="0.25"))
    scratch.take(quote_frame(2, s="ODDUSDT", b="10.16", B="1.75", a="10.2000", A="0.25"))

    [row] = scratch.rows()

    assert (fields(row)["bid_ticks"], fields(row)["bid_lots"]) == (203, 7)
    assert scratch.counts()[REJECTED] == 1


DIGITS = st.text("0123456789", min_size=1, max_size=12)
DECIMALS = st.one_of(DIGITS, st.builds("{}.{}".format, DIGITS, DIGITS))
GRIDDED = st.builds(
    "{}.{:02d}{}".format,
    st.integers(0, 10**12),
    st.integers(0, 99),
    st.integers(0, 6).map("0".__mul__),
)


@given(b=DECIMALS | GRIDDED, a=GRIDDED, q=GRIDDED, r=DECIMALS | GRIDDED, u=st.integers(0, 10**18))
def test_quotes_are_exact_or_rejected(
    shared: Scratch, b: str, a: str, q: str, r: str, u: int
) -> None:
    for one in (BTCUSDT, COARSE):
        shared.rows()
        frame = quote_frame(u, s=one.symbol, b=b, a=a, B=q, A=r)
        shared.take(frame)
        for row in shared.rows():
            want = expected(one, exact(frame))
            assert said(row, want) == want


@given(p=GRIDDED, q=GRIDDED, places=st.integers(0, 4))
def test_values_on_the_grid_are_never_rejected(
    shared: Scratch, p: str, q: str, places: int
) -> None:
    shared.rows()
    small = q[-10:].lstrip(".") if "." in q[-10:] else "1.00"
    frame = quote_frame(1, b=p + "0" * places, B="0" + small, a=p, A="0" + small)
    shared.take(frame)

    [row] = shared.rows()

    assert said(row, expected(BTCUSDT, exact(frame))) == expected(BTCUSDT, exact(frame))


FRAMES = [
    quote_frame(400900217, b="25.35", B="31.21", a="25.36", A="40.66"),
    trade_frame(12345, "61837.63000000", "0.02000000"),
]


@given(
    frame=st.sampled_from(FRAMES),
    cuts=st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=3)), max_size=3
    ),
)
def test_mutated_frames_never_give_a_wrong_number(
    shared: Scratch, frame: bytes, cuts: list[tuple[int, int, bytes]]
) -> None:
    for place, length, more in cuts:
        frame = frame[:place] + more + frame[place + length :]
    shared.rows()
    shared.take(frame)
    for row in shared.rows():
        want = expected(BTCUSDT, exact(frame))
        assert said(row, want) == want


@given(
    bids=st.lists(st.tuples(GRIDDED, DECIMALS), max_size=9),
    asks=st.lists(st.tuples(GRIDDED, GRIDDED), max_size=9),
)
def test_depth_levels_are_exact_or_the_frame_is_rejected(
    shared: Scratch, bids: list[tuple[str, str]], asks: list[tuple[str, str]]
) -> None:
    shared.feed.want_all()
    shared.feed.announce(BookState.STALE_DISCONNECTED, 1)
    shared.take(depth_frame(5, 6, bids, asks))
    shared.rows()
    shared.sync(0, EMPTY.replace(b"0", b"4"))
    runs = [row for row in shared.rows() if fields(row).get("first_id") == 5]
    if runs:
        sides = [(Side.BUY, *level) for level in bids] + [(Side.SELL, *level) for level in asks]
        want = [(side, ticks(BTCUSDT, p), lots(BTCUSDT, q)) for side, p, q in sides]
        assert depth_levels(runs) == want


@pytest.mark.parametrize(
    ("name", "one"),
    [("spot_btcusdt_20240808.gz", BTCUSDT), ("spot_ethusdt_20240808.gz", ETHUSDT)],
)
def test_recorded_frames_decode_to_the_exact_readers_numbers(
    recordings: Path, segment_prefix: str, name: str, one: Instrument
) -> None:
    with scratch_feed(segment_prefix, BTCUSDT, ETHUSDT, capacity=65_536) as made:
        made.rows()
        frames = [frame for frame in recorded(recordings / name) if b"@" in frame[:40]]
        plain = [frame for frame in frames if b"@depth" not in frame[:40]]
        for start in range(0, len(plain), 4_096):
            batch = plain[start : start + 4_096]
            made.take(*batch)
            rows = made.rows()
            assert len(rows) == len(batch)
            for row, frame in zip(rows, batch, strict=True):
                want = expected(one, exact(frame))
                assert said(row, want) == want


@pytest.mark.parametrize(
    ("name", "one"),
    [("spot_btcusdt_20240808.gz", BTCUSDT), ("spot_ethusdt_20240808.gz", ETHUSDT)],
)
def test_recorded_depth_decodes_to_the_exact_readers_levels(
    recordings: Path, segment_prefix: str, name: str, one: Instrument
) -> None:
    with scratch_feed(segment_prefix, BTCUSDT, ETHUSDT, capacity=65_536) as made:
        frames = [frame for frame in recorded(recordings / name) if b"@depth" in frame[:40]]
        first = exact(frames[0])["U"] - 1
        made.sync(one.index, snapshot_body(first, [], []))
        made.rows()
        for frame in frames:
            made.take(frame)
            data = exact(frame)
            sides = [(Side.BUY, *level) for level in data["b"]]
            sides += [(Side.SELL, *level) for level in data["a"]]
            rows = [row for row in made.rows() if kind_of(row) == Kind.DEPTH]
            want = [(side, ticks(one, p), lots(one, q)) for side, p, q in sides]
            assert depth_levels(rows) == want


def test_trade_sums_carry_beyond_int64(scratch: Scratch) -> None:
    with localcontext() as context:
        context.prec = 80
        total = Decimal(0)
        for number in range(40):
            scratch.take(trade_frame(number, "999999.99", "450.12345678"))
            total += Decimal("999999.99") * Decimal("450.12345678")
        sums = scratch.memory.sums[0]
        valid = sums[8 + 8 * (int(sums[0]) & 1) :]

        assert Decimal(int(valid[2]) + (int(valid[3]) << 62)).scaleb(-10) == total
