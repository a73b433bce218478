"""engine room: what differs between the markets of a venue, as plain data.

Whoever asks, connects, decodes or serves a market reads it from here, so that an address or an
off-by-one rule is written down once. Sources: the venue's documentation of spot and of USD-M
market streams, REST depth and limits, as of 2026.

Sync rules (engine/booksync.py follows them):

    spot     frame U .. u follows when U is the u before it plus one; a snapshot with id L is
             followed by the frame that covers L + 1, frames with u <= L are dropped
    usdm     frame follows when its pu is the u before it; a snapshot with id L is followed by the
             frame with U <= L <= u, frames with u < L are dropped
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple


class Line(NamedTuple):
    """Streams that the venue serves at one path."""

    path: str  # in front of /stream and /ws
    streams: tuple[str, ...]  # as in settings


class Market(NamedTuple):
    """One market of a venue."""

    name: str
    kind: str  # as `[venue] kind` names it
    rest_prefix: str
    lines: tuple[Line, ...]
    query: str  # behind the streams of an address
    retired: tuple[str, ...]  # paths that complete a handshake and then never say anything
    snapshot_levels_max: int
    snapshot_weights: tuple[tuple[int, int], ...]  # (levels up to, request weight)
    weight_per_minute: int
    messages_per_s: int  # that a client may send on one connection, pings and pongs included
    streams_max: int  # of one connection
    connection_s_max: float  # then the venue ends it
    ping_s: float  # between the server's pings
    pong_s_max: float

    @property
    def streams(self) -> tuple[str, ...]:
        """Names every stream that can be read."""
        return tuple(stream for line in self.lines for stream in line.streams)

    @property
    def depth_path(self) -> str:
        """Where depth snapshots are."""
        return f"{self.rest_prefix}depth"

    @property
    def info_path(self) -> str:
        """Where the instruments are."""
        return f"{self.rest_prefix}exchangeInfo"

    def snapshot_weight(self, levels: int) -> int:
        """Answers the request weight of a depth snapshot."""
        return next(weight for most, weight in self.snapshot_weights if levels <= most)

    def urls(self, base: str, symbols: Iterable[str], streams: Iterable[str]) -> Iterator[str]:
        """Yields the addresses of the connections that carry these streams of these symbols."""
        wanted, symbols = tuple(streams), tuple(symbols)
        for line in self.lines:
            names = [
                f"{symbol.lower()}@{stream}"
                for symbol in symbols
                for stream in wanted
                if stream in line.streams
            ]
            for start in range(0, len(names), self.streams_max):
                listed = "/".join(names[start : start + self.streams_max])
                yield f"{base}{line.path}/stream?streams={listed}{self.query}"


SPOT: Final = Market(
    name="spot",
    kind="binance-spot",
    rest_prefix="/api/v3/",
    lines=(Line("", ("bookTicker", "trade", "aggTrade", "depth@100ms", "depth")),),
    query="&timeUnit=MICROSECOND",
    retired=(),
    snapshot_levels_max=5_000,
    snapshot_weights=((100, 5), (500, 25), (1_000, 50), (5_000, 250)),
    weight_per_minute=6_000,
    messages_per_s=5,
    streams_max=1_024,
    connection_s_max=86_400.0,
    ping_s=20.0,
    pong_s_max=60.0,
)
# `trade` is served but not documented there; `aggTrade` is what the venue promises.
USDM: Final = Market(
    name="usdm",
    kind="binance-usdm",
    rest_prefix="/fapi/v1/",
    lines=(
        Line("/public", ("bookTicker", "depth@0ms", "depth@100ms", "depth", "depth@500ms")),
        Line("/market", ("aggTrade", "trade", "markPrice", "markPrice@1s")),
    ),
    query="",
    retired=("",),
    snapshot_levels_max=1_000,
    snapshot_weights=((50, 2), (100, 5), (500, 10), (1_000, 20)),
    weight_per_minute=2_400,
    messages_per_s=10,
    streams_max=200,
    connection_s_max=86_400.0,
    ping_s=180.0,
    pong_s_max=600.0,
)
MARKETS: Final = (SPOT, USDM)
# Any venue of ccxt's: workers/ccxtsession.py writes what comes as frames of spot.
CCXT_PREFIX: Final = "ccxt:"
# Its snapshots are books that ccxt holds anyway: they weigh nothing.
CCXT: Final = SPOT._replace(
    kind=CCXT_PREFIX, rest_prefix="", query="", snapshot_weights=((SPOT.snapshot_levels_max, 0),)
)


def market_of(text: str) -> Market:
    """Answers a market by its name or by its kind in settings.

    Raises:
        ValueError: there is none such.
    """
    if text.startswith(CCXT_PREFIX):
        return CCXT
    for market in MARKETS:
        if text in {market.name, market.kind}:
            return market
    known = ", ".join(market.name for market in MARKETS)
    raise ValueError(f"a market must be one of {known}: given={text!r}")
