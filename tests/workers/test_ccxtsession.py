"""Any venue by ccxt: exact frames from its floats, and a real ccxt client at our exchange."""

from __future__ import annotations

import asyncio
import json
import warnings
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.records import BookState
from tests.engine.scratch_feed import BTCUSDT, fields, scratch_feed
from tests.workers.exchange.clients import DEADLINE_S, serving
from workers.ccxtbook import Frames, exact, instrument_of
from workers.ccxtsession import CcxtSession, Client, Seen, make_client

Book = dict[int, int]
BOOKS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(1, 30), st.integers(1, 10**9), max_size=9),
        st.dictionaries(st.integers(31, 60), st.integers(1, 10**9), max_size=9),
    ),
    min_size=1,
    max_size=8,
)


def _floats(side: Book) -> list[list[float]]:
    return [[ticks / 100, lots / 10**8] for ticks, lots in side.items()]


def _apply(side: dict[Decimal, Decimal], levels: list[list[str]]) -> None:
    for price, quantity in levels:
        side[Decimal(price)] = Decimal(quantity)
        if not Decimal(quantity):
            del side[Decimal(price)]


@given(books=BOOKS)
def test_the_differences_make_every_whole_book_again(books: list[tuple[Book, Book]]) -> None:
    frames = Frames(BTCUSDT)
    bids: dict[Decimal, Decimal] = {}
    asks: dict[Decimal, Decimal] = {}
    ids = []
    for bid_side, ask_side in books:
        frame = frames.book(_floats(bid_side), _floats(ask_side), 1)
        if frame:
            data = json.loads(frame)["data"]
            ids.append((data["U"], data["u"]))
            _apply(bids, data["b"])
            _apply(asks, data["a"])

        assert bids == {BTCUSDT.price(t): BTCUSDT.quantity(q) for t, q in bid_side.items()}
        assert asks == {BTCUSDT.price(t): BTCUSDT.quantity(q) for t, q in ask_side.items()}
    assert ids == [(number, number) for number in range(1, len(ids) + 1)]


def test_the_feed_keeps_the_book_and_a_fault_makes_it_stale(segment_prefix: str) -> None:
    frames = Frames(BTCUSDT)
    with scratch_feed(segment_prefix, BTCUSDT) as scratch:
        wanted = scratch.feed.wanted
        scratch.rows()
        scratch.take(frames.book([[1.0, 2.0]], [[1.01, 0.1]], 1))
        scratch.sync(0, frames.snapshot())
        scratch.take(frames.book([[0.99, 2.0]], [[1.01, 0.1]], 1), frames.top())

        assert wanted() == []
        assert fields(scratch.rows()[-1])["bid_ticks"] == 99

        scratch.take(frames.fault(2))

        assert wanted() == [0]
        with pytest.raises(LookupError, match="whole book first"):
            frames.snapshot()

        scratch.take(frames.book([[0.98, 2.0]], [[1.01, 0.1]], 3))
        scratch.sync(0, frames.snapshot())

        assert wanted() == []
        assert BookState.SYNCED in {fields(row).get("state") for row in scratch.rows()}


ODD_PRICES = [1.001, float("nan"), -1.0, 123456789012345.67, "x", None]


@pytest.mark.parametrize("value", ODD_PRICES)
def test_a_price_that_is_not_exactly_on_the_grid_is_an_error(value: object) -> None:
    with pytest.raises(ValueError, match="price"):
        Frames(BTCUSDT).book([[value, 1.0]], [], 1)


def test_a_float_is_read_as_its_shortest_text() -> None:
    assert exact(0.1, "price", "X") == Decimal("0.1")
    assert exact(1e-08, "price", "X") == Decimal("0.00000001")


def test_a_grid_comes_from_either_precision_mode() -> None:
    market = {"base": "A", "quote": "B", "precision": {"price": "0.05", "amount": "1e-4"}}
    places = {"base": "A", "quote": "B", "precision": {"price": 2, "amount": 0}}

    one, other = instrument_of(0, "AB", market, 4), instrument_of(0, "AB", places, 2)

    assert (one.tick, one.quantity(one.quantity_step_lots)) == (Decimal("0.05"), Decimal("0.0001"))
    assert (other.tick, other.quantity(other.quantity_step_lots)) == (Decimal("0.01"), Decimal(1))


def test_a_resting_quantity_off_todays_lot_is_read_exactly() -> None:
    market = {"base": "A", "quote": "B", "precision": {"price": "0.01", "amount": "0.00001"}}
    made = instrument_of(0, "AB", market, 4)

    frame = Frames(made).book([["1.00", "25.42618900"]], [], 1)

    assert json.loads(frame)["data"]["b"] == [["1.00", "25.42618900"]]
    assert made.lots(Decimal("25.42618900")) == 2_542_618_900
    assert made.quantity_lots_min == 1_000


def test_trades_that_a_session_before_has_brought_do_not_come_again() -> None:
    class Polled:
        """A venue that is asked for trades, and always answers the last two."""

        has: ClassVar = {"fetchTrades": True}
        precisionMode = 4  # noqa: N815 - ccxt's name
        market: ClassVar = {
            "spot": True, "base": "A", "quote": "B", "symbol": "A/B",
            "precision": {"price": "0.01", "amount": "1"},
        }  # fmt: skip

        async def load_markets(self) -> dict[str, Any]:
            return {"A/B": self.market}

        async def fetch_trades(self, _: str) -> list[dict[str, Any]]:
            await asyncio.sleep(0)
            same = {"side": "buy", "timestamp": 1, "price": "1.00", "amount": "1"}
            return [same | {"id": number} for number in ("7", "8")]

    async def frames_of(seen: Seen) -> list[bytes]:
        client: Any = Polled()
        session = CcxtSession("ccxt:polled", ("AB",), ("trade",), client, seen)
        await session.open()
        frames: list[bytes] = []
        running = asyncio.create_task(session.run(frames.append))
        for _ in range(20):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return frames

    async def run() -> None:
        seen: Seen = {}
        assert [json.loads(frame)["data"]["t"] for frame in await frames_of(seen)] == [7, 8]
        assert await frames_of(seen) == []

    asyncio.run(run())


def pointed(port: int, *, watches: bool) -> Client:
    """Ccxt's own client of the real venue, its addresses ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("ccxt", reason="ccxt is not installed")
        client = make_client("ccxt:binance")
    client.options |= {"defaultType": "spot", "fetchMarkets": ["spot"]}
    client.urls["api"]["public"] = f"http://127.0.0.1:{port}/api/v3"
    client.urls["api"]["ws"]["spot"] = f"ws://127.0.0.1:{port}/ws"
    client.has["fetchCurrencies"] = False
    for name in ("watchOrderBook", "watchTrades", "watchBidsAsks"):
        client.has[name] = client.has[name] and watches
    return client


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("watches", [False, True], ids=["polled", "watched"])
def test_ccxt_at_our_exchange_ends_with_the_exchanges_own_book(watches: bool) -> None:  # noqa: FBT001
    async def run() -> None:
        async with serving() as (_, port):
            client = pointed(port, watches=watches)
            streams = ("bookTicker", "depth@100ms")
            session = CcxtSession("ccxt:binance", ("BTCUSDT",), streams, client)
            frames: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1_000)
            await session.open()
            running = asyncio.create_task(session.run(frames.put_nowait))
            try:
                first = await asyncio.wait_for(frames.get(), DEADLINE_S)
                while b"@depth" not in first:
                    first = await asyncio.wait_for(frames.get(), DEADLINE_S)
                body = json.loads(session.snapshot("BTCUSDT"))
                ccxts: Any = client  # its raw calls
                raw = await ccxts.publicGetDepth({"symbol": "BTCUSDT", "limit": 100})
                for side in ("bids", "asks"):
                    found = [[Decimal(p), Decimal(q)] for p, q in body[side][:100]]
                    assert found == [[Decimal(p), Decimal(q)] for p, q in raw[side]]
                [one] = session.instruments()
                assert (one.symbol, one.tick) == ("BTCUSDT", Decimal("0.01"))
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await session.close()

    asyncio.run(run())


def test_an_unknown_venue_is_one_line() -> None:
    pytest.importorskip("ccxt", reason="ccxt is not installed")
    with pytest.raises(ValueError, match="must name an exchange of ccxt: kind=ccxt:nowhere"):
        make_client("ccxt:nowhere")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("watches", [False, True], ids=["polled", "watched"])
def test_a_lost_venue_makes_the_book_stale_and_then_ends_the_session_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    watches: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr("workers.ccxtsession.FAULT_WAIT_S", 0.0)

    async def run() -> None:
        frames: list[dict[str, Any]] = []
        came = asyncio.Event()

        def keep(frame: bytes) -> None:
            frames.append(json.loads(frame)["data"])
            came.set()

        async with serving() as (_, port):
            client = pointed(port, watches=watches)
            session = CcxtSession("ccxt:binance", ("BTCUSDT",), ("depth@100ms",), client)
            await session.open()
            running = asyncio.create_task(session.run(keep))
            await asyncio.wait_for(came.wait(), DEADLINE_S)
            assert session.snapshot("BTCUSDT")
        try:
            with pytest.raises(ConnectionError, match="must keep its subscription") as lost:
                await asyncio.wait_for(running, DEADLINE_S)
            assert len(str(lost.value).splitlines()) == 1
            assert frames[-1]["U"] == frames[-2]["u"] + 2
            with pytest.raises(LookupError):
                session.snapshot("BTCUSDT")
        finally:
            await session.close()

    asyncio.run(run())
