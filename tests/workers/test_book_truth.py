"""Whatever goes wrong on the way: a book that is not marked STALE is the exchange's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from config.settings import ExchangeSettings, MarketSettings, RingSettings, VenueSettings
from engine.book import UPDATE_ID, apply_row, levels, new_book
from engine.instruments import Instrument
from engine.records import DEPTH_LAST, STATE, BookState, Kind, Side, flags_of, kind_of
from engine.venues import MARKETS, Market
from shm.segment import Words
from tests.workers.ingest_rig import Rig, on_a_loop, plans, running
from tests.workers.observed_run import observed_run, small_settings
from tests.workers.small_venue import until
from workers.exchange import depth_streams, synthetic_market
from workers.exchange.server import ExchangeServer

pytestmark = pytest.mark.slow

SYMBOL = "BTCUSDT"
STEP_MS = 4  # between depth frames, instead of the market's own 100 ms
FRAMES_MIN = 60
Levels = dict[Decimal, Decimal]
Book = tuple[Levels, Levels]


def hasten(monkeypatch: pytest.MonkeyPatch, step_ms: int) -> None:
    """Lets the exchange send depth@100ms more often."""
    for periods in (depth_streams.SPOT_DEPTHS, depth_streams.USDM_DEPTHS):
        monkeypatch.setitem(periods, "depth@100ms", step_ms)
    step_ns = step_ms * depth_streams.NS_PER_MS
    monkeypatch.setattr(synthetic_market, "step_ns", lambda _: step_ns)


class Truth:
    """The exchange's own book at every update id that left it. It listens like anybody else."""

    is_combined = True
    unit_ns = 1_000_000

    def __init__(self, server: ExchangeServer) -> None:
        exchange = server._exchange
        assert exchange is not None
        self.books: dict[int, Book] = {}
        self.frames = 0
        self._market = exchange.market
        self._ask = exchange.market.depth
        exchange.hub.channel(f"{SYMBOL.lower()}@depth@100ms").listeners[self] = None
        exchange.market.depth = self.depth  # type: ignore[method-assign]

    def send(self, frame: bytes) -> None:
        """A depth frame leaves at the moment at which the book is as it says."""
        self.frames += 1
        self._keep(self._ask(SYMBOL, 5_000))
        assert json.loads(frame)["data"]["u"] in self.books

    def depth(self, symbol: str, limit: int) -> bytes:
        body = self._ask(symbol, limit)
        if symbol == SYMBOL:
            self._keep(self._ask(symbol, 5_000))
        return body

    def _keep(self, body: bytes) -> None:
        found = json.loads(body)
        sides = [
            {Decimal(price): Decimal(quantity) for price, quantity in found[side]}
            for side in ("bids", "asks")
        ]
        self.books[found["lastUpdateId"]] = (sides[0], sides[1])


class Mirror:
    """What a reader of the ring makes of its records, checked at every update."""

    def __init__(self, instrument: Instrument, truth: Truth) -> None:
        self._instrument, self._truth = instrument, truth
        self._book = new_book(5_000)
        self.is_synced = False
        self.checked = 0
        self.states: list[BookState] = []

    def take(self, row: Words) -> None:
        if kind_of(row) == Kind.BOOK_STATE:
            self.states.append(BookState(int(row[STATE])))
            self.is_synced = self.states[-1] == BookState.SYNCED
            if self.is_synced:
                self._check()
        elif kind_of(row) == Kind.DEPTH:
            apply_row(self._book, row)
            if self.is_synced and flags_of(row) & DEPTH_LAST:
                self._check()

    def _check(self) -> None:
        book, one = self._book, self._instrument
        mine = tuple(
            {one.price(ticks): one.quantity(lots) for ticks, lots in levels(book, side)}
            for side in (int(Side.BUY), int(Side.SELL))
        )
        assert mine == self._truth.books[int(book[UPDATE_ID])]
        self.checked += 1


DEPTHS = 'stream = "*@depth@100ms"'
INDEXES = st.integers(0, 40).map(lambda index: f"index = {index}")
CHANCES = st.integers(1, 30).map(lambda percent: f"probability = {percent / 100}\ntimes = 4")
OF_FRAMES = st.one_of(
    st.sampled_from(("drop", "corrupt", "truncate", "duplicate", "reorder", "half_close")),
    st.sampled_from(("close", "reset")),
).map(lambda kind: f'kind = "{kind}"\n{DEPTHS}')
DELAY = st.integers(1, 40).map(lambda ms: f'kind = "delay"\n{DEPTHS}\ndelay_ms = {ms}')
SHUTDOWN = st.just(f'kind = "shutdown"\n{DEPTHS}\nlead_s = 0.02')
OF_SNAPSHOTS = st.sampled_from(("refuse", "stale")).map(
    lambda kind: f'kind = "{kind}"\nprobability = 0.5\ntimes = 3'
)
RULE = st.one_of(
    st.builds("{}\n{}".format, OF_FRAMES, st.one_of(INDEXES, CHANCES)),
    st.builds("{}\n{}".format, DELAY, st.one_of(INDEXES, CHANCES)),
    st.builds("{}\n{}".format, SHUTDOWN, INDEXES),
    OF_SNAPSHOTS,
)
SCRIPT = st.builds(
    lambda seed, rules: f"seed = {seed}\n" + "".join(f"[[faults]]\n{rule}\n" for rule in rules),
    st.integers(0, 1_000),
    st.lists(RULE, min_size=1, max_size=5),
)


@contextmanager
def script_of(text: str) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "faults.toml"
        path.write_text(text)
        yield path


async def check(prefix: str, folder: Path, market: Market, script: Path) -> None:
    """Lets an exchange and an ingest agent live through a script."""
    wanted = MarketSettings(symbols=(SYMBOL,), silence_ms_max=400, silence_ms_min=200)
    server = ExchangeServer(
        ExchangeSettings(rate_per_s=1_500, faults=str(script)), wanted, keys={}, venue=market
    )
    port = await server.open()
    base = f"127.0.0.1:{port}"
    venue = VenueSettings(
        kind=market.kind, rest_url=f"http://{base}", stream_url=f"ws://{base}",
        reconnect_ms=1, reconnect_ms_max=8,
    )  # fmt: skip
    rings = RingSettings(market=4_096, decisions=64, log=256)
    settings = small_settings(prefix, market=wanted, venue=venue, rings=rings)
    try:
        with observed_run(settings, folder, *plans(settings, "ingest.0")) as memory:  # type: ignore[arg-type]
            truth = Truth(server)
            async with running(memory) as rig:
                await _live(rig, truth)
    finally:
        await server.close()


async def _live(rig: Rig, truth: Truth) -> None:
    feed = rig.agent._feed
    assert feed is not None
    mirror = Mirror(feed.plan.instruments[0], truth)
    taken = 0

    def step() -> None:
        nonlocal taken
        rig.step()
        for row in rig.seen[taken:]:
            mirror.take(row)
        taken = len(rig.seen)

    await until(lambda: truth.frames >= FRAMES_MIN, step)
    checked = mirror.checked
    await until(lambda: mirror.is_synced and mirror.checked > checked + 5, step)


@pytest.mark.parametrize("market", MARKETS, ids=lambda market: str(market.name))
def test_book_that_is_not_stale_is_the_exchanges_own(
    segment_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    market: Market,
) -> None:
    hasten(monkeypatch, STEP_MS)
    number = 0

    @profile(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(SCRIPT)
    def lives(text: str) -> None:
        nonlocal number
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        with script_of(text) as script:
            on_a_loop(lambda: check(f"{segment_prefix}-{number}", folder, market, script))

    lives()


def test_a_wrong_book_is_told_from_the_right_one() -> None:
    instrument = Instrument(
        index=0, symbol=SYMBOL, base="BTC", quote="USDT", price_decimals=2, tick_units=1,
        quantity_decimals=5, lot_units=1,
    )  # fmt: skip

    class Other:
        def __init__(self) -> None:
            self.books: dict[int, Book] = {0: ({Decimal(1): Decimal(1)}, {})}

    with pytest.raises(AssertionError):
        Mirror(instrument, Other())._check()  # type: ignore[arg-type]
