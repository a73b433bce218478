"""workers room: what anybody may ask over REST and WebSocket: time, symbols and depth."""

from __future__ import annotations

import msgspec

from engine.venues import SPOT, USDM
from workers.exchange import errors
from workers.exchange.exchange import Exchange
from workers.exchange.params import Params, bounded_number, listed, optional, symbol_list
from workers.exchange.reports import Report, time_of

DEPTH_DEFAULT = 100
USDM_DEPTH_DEFAULT = 500
USDM_DEPTHS = (5, 10, 20, 50, 100, 500, 1_000)  # no other number of levels is served there
INFO_WEIGHTS = {SPOT.name: 20, USDM.name: 1}


def ping(exchange: Exchange, params: Params, now_ns: int) -> Report:
    """Answers nothing, to show that somebody is there."""
    exchange.weights.spend(1, now_ns)
    return {}


def server_time(exchange: Exchange, params: Params, now_ns: int) -> Report:
    """Answers the exchange's time."""
    exchange.weights.spend(1, now_ns)
    return {"serverTime": time_of(now_ns) + exchange.hub.injector.skew_ms}


def exchange_info(exchange: Exchange, params: Params, now_ns: int) -> Report:
    """Answers the symbols, all or those asked for.

    Raises:
        ExchangeError: -1121 for a symbol that is not listed, -1128 for two ways of asking at once.
    """
    exchange.weights.spend(INFO_WEIGHTS[exchange.venue.name], now_ns)
    listings = exchange.trading.listings
    many = optional(params, "symbols")
    if many is not None and "symbol" in params:
        raise errors.bad_combination()
    if many is not None:
        asked = [listed({"symbol": symbol}, listings) for symbol in symbol_list(many)]
    elif "symbol" in params:
        asked = [listed(params, listings)]
    else:
        asked = list(listings.values())
    return exchange.describe([listing.instrument for listing in asked], now_ns)


def depth(exchange: Exchange, params: Params, now_ns: int) -> msgspec.Raw:
    """Answers a depth snapshot of one symbol.

    Raises:
        ExchangeError: -1102, -1121 or -1130 for the parameters; -4021 for a number of levels that
            USD-M does not serve.
    """
    listing = listed(params, exchange.trading.listings)
    venue = exchange.venue
    default = USDM_DEPTH_DEFAULT if venue is USDM else DEPTH_DEFAULT
    limit = bounded_number(params, "limit", default, venue.snapshot_levels_max)
    if venue is USDM and limit not in USDM_DEPTHS:
        raise errors.ExchangeError(-4021, f"'{limit}' is not valid depth limit.")
    exchange.weights.spend(venue.snapshot_weight(limit), now_ns)
    symbol, injector = listing.instrument.symbol, exchange.hub.injector
    body = exchange.market.depth(symbol, limit)
    return msgspec.Raw(injector.snapshot(symbol, limit, body) if injector.rules else body)
