"""What differs between markets: addresses in the right place, weights by size."""

from __future__ import annotations

import pytest

from engine.venues import MARKETS, SPOT, USDM, market_of


def test_usdm_streams_go_to_the_two_addresses_that_serve_them() -> None:
    streams = ("bookTicker", "depth@100ms", "aggTrade", "markPrice@1s")
    public, market = USDM.urls("wss://venue", ("BTCUSDT",), streams)

    assert public == "wss://venue/public/stream?streams=btcusdt@bookTicker/btcusdt@depth@100ms"
    assert market == "wss://venue/market/stream?streams=btcusdt@aggTrade/btcusdt@markPrice@1s"


def test_no_connection_carries_more_streams_than_the_venue_allows() -> None:
    symbols = [f"S{number}USDT" for number in range(150)]
    urls = list(USDM.urls("wss://venue", symbols, ("bookTicker", "depth@0ms")))
    sizes = [len(url.partition("streams=")[2].split("/")) for url in urls]

    assert sizes == [200, 100]


def test_spot_is_asked_for_microseconds() -> None:
    [url] = SPOT.urls("wss://venue", ("BTCUSDT",), ("trade",))

    assert url.endswith("/stream?streams=btcusdt@trade&timeUnit=MICROSECOND")


@pytest.mark.parametrize(
    ("market", "levels", "weight"),
    [(SPOT, 100, 5), (SPOT, 101, 25), (SPOT, 5_000, 250), (USDM, 1_000, 20), (USDM, 50, 2)],
)
def test_a_snapshot_weighs_by_its_levels(market: object, levels: int, weight: int) -> None:
    assert market_of(getattr(market, "name", "")).snapshot_weight(levels) == weight


@pytest.mark.parametrize("market", MARKETS)
def test_market_is_found_by_name_and_by_kind(market: object) -> None:
    for text in (getattr(market, "name", ""), getattr(market, "kind", "")):
        assert market_of(text) is market


def test_unknown_market_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="must be one of spot, usdm: given='coinm'"):
        market_of("coinm")
