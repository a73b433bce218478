"""config room: what single values must hold, whatever processes they end up in.

Every check yields lines of the form `key must hold what: name=value`. Nothing is raised here:
`config.load` adds the file's name to the first line and raises it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

from config.settings import RiskOverride, RiskSettings, Section, Settings, StrategySettings
from config.topology import is_exchange_embedded
from engine.risk import WINDOW_MAX
from engine.venues import CCXT_PREFIX, market_of

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")
CAPACITY_RECORDS_MIN: Final = 64
CAPACITY_RECORDS_MAX: Final = 1 << 24  # 2 GiB of 128-byte records
SNAPSHOT_LEVELS_MAX: Final = 5_000  # what the venue serves at most
SYMBOLS_MAX: Final = 64
VENUE_KINDS: Final = ("binance-spot", "binance-usdm")
STRATEGIES_MAX: Final = 32
MESSAGES_MIN: Final = 2  # one of them is the cancels' reserve

_SYMBOL: Final = re.compile(r"[A-Z0-9]{2,20}")
_CCXT: Final = re.compile(r"ccxt:[a-z0-9_]{1,40}")
_DECIMAL: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
_USE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_POSITIVE: Final = re.compile(
    r".*_(ns|ms|s)(_max)?|(.*_)?(bytes|rows|files|batch|orders)_max|snapshot_levels|price_collar_bps"
)


def problems(settings: Settings) -> Iterator[str]:
    """Yields one line for every broken rule, most basic first."""
    for check in _CHECKS:
        yield from check(settings)


def _engine(settings: Settings) -> Iterator[str]:
    engine = settings.engine
    if NAME.fullmatch(engine.name) is None:
        yield f"engine.name must match {NAME.pattern}: name={engine.name!r}"
    if not engine.data_dir:
        yield "engine.data_dir must name a folder: data_dir=''"
    if engine.restarts_max < 0:
        yield f"engine.restarts_max must not be negative: restarts_max={engine.restarts_max}"


def _numbers(settings: Settings) -> Iterator[str]:
    """Floats are finite; durations, sizes and rates are positive."""
    for path, section in _sections(settings):
        for field in section.__struct_fields__:
            value = getattr(section, field)
            key = f"{path}.{field}"
            if not isinstance(value, int | float):
                continue
            if not math.isfinite(value):
                yield f"{key} must be finite: {field}={value}"
            elif _must_be_positive(key, field) and value <= 0:
                yield f"{key} must be positive: {field}={value}"


def _must_be_positive(key: str, field: str) -> bool:
    zero_means_at_once = key == "market.batch_window_ms"
    return not zero_means_at_once and _POSITIVE.fullmatch(field) is not None


def _sections(settings: Settings) -> Iterator[tuple[str, Section]]:
    """Yields every section with its dotted name."""
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, Section):
            yield name, value
            continue
        for item in value:
            yield f"{name}.{getattr(item, 'name', None) or item.symbol}", item


def _market(settings: Settings) -> Iterator[str]:
    market = settings.market
    if not 1 <= len(market.symbols) <= SYMBOLS_MAX:
        yield f"market.symbols must hold 1 to {SYMBOLS_MAX}: count={len(market.symbols)}"
    for symbol in market.symbols:
        if _SYMBOL.fullmatch(symbol) is None:
            yield f"market.symbols must be upper-case letters and digits: symbol={symbol!r}"
    yield from _unique("market.symbols", "symbol", market.symbols)
    kind = settings.venue.kind
    known = market_of(kind if kind in VENUE_KINDS else CCXT_PREFIX).streams
    if not market.streams:
        yield f"market.streams must name some of {', '.join(known)}: count=0"
    for stream in market.streams:
        if stream not in known:
            yield f"market.streams must be of {', '.join(known)}: stream={stream!r}"
    for what in ("depth", "markPrice"):
        twice = [stream for stream in market.streams if stream.partition("@")[0] == what]
        if len(twice) > 1:
            yield f"market.streams must hold one {what} stream: streams={','.join(twice)}"
    yield from _unique("market.streams", "stream", market.streams)
    if market.snapshot_levels > SNAPSHOT_LEVELS_MAX:
        yield (
            f"market.snapshot_levels must be at most {SNAPSHOT_LEVELS_MAX}: "
            f"snapshot_levels={market.snapshot_levels}"
        )


def _venue(settings: Settings) -> Iterator[str]:
    venue = settings.venue
    given = {
        "rest_url": (venue.rest_url, ("http", "https")),
        "stream_url": (venue.stream_url, ("ws", "wss")),
        "order_url": (venue.order_url, ("ws", "wss")),
    }
    yield from _venue_kind(settings, [key for key, (url, _) in given.items() if url])
    for key, (url, schemes) in given.items():
        if url:
            yield from _address(f"venue.{key}", url, schemes)
    for key in ("key_env", "secret_env"):
        name = getattr(venue, key)
        if _VARIABLE.fullmatch(name) is None:
            yield f"venue.{key} must name an environment variable; give the name, not the secret"


def _venue_kind(settings: Settings, given: list[str]) -> Iterator[str]:
    """The addresses are those that this kind of venue has, all of them or none."""
    kind, enabled = settings.venue.kind, settings.exchange.enabled
    needed = {"binance-usdm": ["rest_url", "stream_url"]}.get(
        kind, ["rest_url", "stream_url", "order_url"]
    )
    if kind not in VENUE_KINDS and _CCXT.fullmatch(kind) is None:
        yield f"venue.kind must be {', '.join(VENUE_KINDS)} or ccxt:NAME: kind={kind!r}"
    elif kind not in VENUE_KINDS:
        if given:
            yield f"venue.{given[0]} must not be given: ccxt knows it: kind={kind}; take it away"
    elif extra := [key for key in given if key not in needed]:
        yield (
            f"venue.{extra[0]} must not be given: orders to this market are not there yet:"
            f" kind={kind}; take it away, and the engine only listens"
        )
    elif missing := [key for key in needed if key not in given]:
        if given:
            yield f"venue.{missing[0]} must be given when another venue address is: {missing[0]}=''"
        elif not enabled:
            yield (
                "exchange.enabled must be true when no venue address is given: enabled=false; "
                f"set venue.{', '.join(needed[:-1])} and {needed[-1]} to trade elsewhere"
            )


def _exchange(settings: Settings) -> Iterator[str]:
    exchange = settings.exchange
    yield from _port("exchange", exchange.port)
    if exchange.seed < 0:
        yield f"exchange.seed must not be negative: seed={exchange.seed}"
    if exchange.speed < 0:
        yield f"exchange.speed must not be negative: speed={exchange.speed}"
    for key in ("maker_fee_bps", "taker_fee_bps"):
        fee = getattr(exchange, key)
        if abs(fee) > 10_000:  # noqa: PLR2004 - basis points in one
            yield f"exchange.{key} must be within 10000 either way: {key}={fee}"
    for asset, amount in exchange.balances.items():
        if _DECIMAL.fullmatch(amount) is None:
            yield f"exchange.balances.{asset} must be a plain decimal: {asset}={amount!r}"
    if exchange.faults and not is_exchange_embedded(settings):
        yield (
            "exchange.faults must be left out when orders go to a venue: only the built-in exchange"
            f" takes a script: faults={exchange.faults}; take it or [venue] away"
        )
    if exchange.capture and not is_exchange_embedded(settings):
        where = f"venue.rest_url={settings.venue.rest_url}" if exchange.enabled else "enabled=false"
        yield (
            "exchange.capture must be left out when orders go to a venue: only the built-in"
            f" exchange plays recordings: capture={exchange.capture[0]} {where}; take the"
            " recording away, or [venue] (and enabled=false of [exchange])"
        )


def _strategies(settings: Settings) -> Iterator[str]:
    if len(settings.strategies) > STRATEGIES_MAX:
        yield f"strategies must be at most {STRATEGIES_MAX}: count={len(settings.strategies)}"
    yield from _unique("strategies", "name", [item.name for item in settings.strategies])
    for strategy in settings.strategies:
        yield from _strategy(strategy, settings.market.symbols)


def _strategy(strategy: StrategySettings, symbols: tuple[str, ...]) -> Iterator[str]:
    key = f"strategies.{strategy.name}"
    if NAME.fullmatch(strategy.name) is None:
        yield f"strategies.name must match {NAME.pattern}: name={strategy.name!r}"
    if _USE.fullmatch(strategy.use) is None:
        yield f"{key}.use must be module:attribute: use={strategy.use!r}"
    yield from _subset(f"{key}.symbols", strategy.symbols, symbols)
    yield from _unique(f"{key}.symbols", "symbol", strategy.symbols)
    for name, value in strategy.parameters.items():
        if not math.isfinite(value):
            yield f"{key}.parameters.{name} must be finite: {name}={value}"


def _risk(settings: Settings) -> Iterator[str]:
    yield from _limits("risk", settings.risk)
    rate = settings.risk.messages_per_s_max
    if not MESSAGES_MIN <= rate <= WINDOW_MAX:
        yield (
            f"risk.messages_per_s_max must be {MESSAGES_MIN} to {WINDOW_MAX}:"
            f" messages_per_s_max={rate}"
        )
    symbols = [override.symbol for override in settings.risk_overrides]
    yield from _subset("risk_overrides.symbol", symbols, settings.market.symbols)
    yield from _unique("risk_overrides", "symbol", symbols)
    for override in settings.risk_overrides:
        yield from _limits(f"risk_overrides.{override.symbol}", override)
        if override.messages_per_s_max is not None:
            yield (
                f"risk_overrides.{override.symbol}.messages_per_s_max must stand in [risk], for all"
                f" symbols together: messages_per_s_max={override.messages_per_s_max}"
            )


def _limits(path: str, risk: RiskSettings | RiskOverride) -> Iterator[str]:
    for key in ("order_quantity_max", "order_value_max", "position_max"):
        value: str | None = getattr(risk, key)
        if value is None:
            continue
        if _DECIMAL.fullmatch(value) is None or not value.strip("0."):
            yield f"{path}.{key} must be a positive decimal: {key}={value!r}"


def _services(settings: Settings) -> Iterator[str]:
    store = settings.store.url
    if store != "sqlite":
        yield from _address("store.url", store, ("sqlite", "postgresql", "postgres"))
    if settings.bus.url:
        yield from _address("bus.url", settings.bus.url, ("redis", "rediss", "unix"))
    for key, name in (("store", settings.store.url_env), ("bus", settings.bus.url_env)):
        if name and _VARIABLE.fullmatch(name) is None:
            yield f"{key}.url_env must name an environment variable; give the name, not the url"
    if not settings.bus.prefix:
        yield "bus.prefix must not be empty: prefix=''"
    yield from _port("monitor", settings.monitor.port)


def _rings(settings: Settings) -> Iterator[str]:
    for ring in settings.rings.__struct_fields__:
        capacity: int = getattr(settings.rings, ring)
        if capacity <= 0 or capacity & (capacity - 1):
            yield f"rings.{ring} must be a power of two: capacity_records={capacity}"
        elif not CAPACITY_RECORDS_MIN <= capacity <= CAPACITY_RECORDS_MAX:
            yield (
                f"rings.{ring} must be {CAPACITY_RECORDS_MIN} to {CAPACITY_RECORDS_MAX}: "
                f"capacity_records={capacity}"
            )


def _address(key: str, url: str, schemes: tuple[str, ...]) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and bool(parts.netloc or parts.path)
        _ = parts.port  # raises when the port is no number
    except ValueError:
        usable = False
    if not usable:
        yield f"{key} must be an address of scheme {' or '.join(schemes)}: {_field(key)}={url!r}"


def _port(section: str, port: int) -> Iterator[str]:
    if not 0 <= port <= 65_535:  # noqa: PLR2004 - the largest port
        yield f"{section}.port must be 0 to 65535: port={port}"


def _unique(key: str, word: str, items: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for item in items:
        if item in seen:
            yield f"{key} must not repeat: {word}={item}"
        seen.add(item)


def _subset(key: str, items: Iterable[str], symbols: tuple[str, ...]) -> Iterator[str]:
    for item in items:
        if item not in symbols:
            yield f"{key} must be in market.symbols: symbol={item} symbols={','.join(symbols)}"


def _field(key: str) -> str:
    return key.rpartition(".")[2]


_CHECKS: Final[tuple[Callable[[Settings], Iterator[str]], ...]] = (
    _engine,
    _numbers,
    _market,
    _venue,
    _exchange,
    _strategies,
    _risk,
    _services,
    _rings,
)
