"""Which single values a configuration may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.load import ConfigError, load

VENUE = {"rest_url": "http://h:1", "stream_url": "ws://h:1", "order_url": "ws://h:1"}
TAKER = {"name": "taker", "use": "engine.strategies.imbalance:STRATEGY"}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"engine": {"name": "Demo"}}, "engine.name must match"),
        ({"engine": {"name": "a" * 25}}, "engine.name must match"),
        ({"engine": {"data_dir": ""}}, "engine.data_dir must name a folder"),
        ({"engine": {"drain_s_max": 0.0}}, "engine.drain_s_max must be positive"),
        ({"engine": {"heartbeat_ms_max": -1}}, "engine.heartbeat_ms_max must be positive"),
        ({"engine": {"restarts_max": -1}}, "engine.restarts_max must not be negative"),
        ({"engine": {"ready_s_max": float("inf")}}, "engine.ready_s_max must be finite"),
        ({"market": {"symbols": []}}, "market.symbols must hold 1 to"),
        ({"market": {"symbols": ["btcusdt"]}}, "market.symbols must be upper-case"),
        ({"market": {"symbols": ["BTCUSDT", "BTCUSDT"]}}, "market.symbols must not repeat"),
        ({"market": {"streams": ["kline"]}}, "market.streams must be of"),
        ({"market": {"streams": []}}, "market.streams must name some"),
        ({"market": {"snapshot_levels": 9_999}}, "market.snapshot_levels must be at most"),
        ({"venue": {"rest_url": "http://h:1"}}, "venue.stream_url must be given"),
        ({"exchange": {"enabled": False}}, "exchange.enabled must be true"),
        ({"exchange": {"port": 70_000}}, "exchange.port must be 0 to 65535"),
        ({"exchange": {"rate_per_s": 0.0}}, "exchange.rate_per_s must be positive"),
        ({"exchange": {"balances": {"BTC": "1e3"}}}, "exchange.balances.BTC must be a plain"),
        ({"exchange": {"maker_fee_bps": 2e4}}, "exchange.maker_fee_bps must be within"),
        ({"exchange": {"seed": -1}}, "exchange.seed must not be negative"),
        ({"strategies": [TAKER, TAKER]}, "strategies must not repeat: name=taker"),
        ({"strategies": [TAKER | {"use": "nothing"}]}, "strategies.taker.use must be module:"),
        ({"strategies": [TAKER | {"symbols": ["XY"]}]}, "strategies.taker.symbols must be in"),
        ({"risk": {"position_max": "0.0"}}, "risk.position_max must be a positive decimal"),
        ({"risk": {"order_value_max": "-1"}}, "risk.order_value_max must be a positive decimal"),
        ({"risk": {"open_orders_max": 0}}, "risk.open_orders_max must be positive"),
        ({"risk_overrides": [{"symbol": "XYZ"}]}, "risk_overrides.symbol must be in"),
        (
            {"risk_overrides": [{"symbol": "BTCUSDT", "messages_per_s_max": 5}]},
            "risk_overrides.BTCUSDT.messages_per_s_max must stand in [risk]",
        ),
        (
            {"risk_overrides": [{"symbol": "BTCUSDT", "position_max": "-1"}]},
            "risk_overrides.BTCUSDT.position_max must be a positive decimal",
        ),
        (
            {"risk_overrides": [{"symbol": "BTCUSDT", "stale_ms_max": 0}]},
            "risk_overrides.BTCUSDT.stale_ms_max must be positive",
        ),
        (
            {"risk_overrides": [{"symbol": "BTCUSDT", "position_max": 1}]},
            "risk_overrides.BTCUSDT.position_max must be a string: position_max=1",
        ),
        ({"venue": VENUE, "exchange": {"capture": ["a.gz"]}}, "exchange.capture must be left out"),
        (
            {"venue": VENUE, "exchange": {"capture": ["a.gz"], "enabled": False}},
            "exchange.capture must be left out",
        ),
        ({"journal": {"segment_bytes_max": 0}}, "journal.segment_bytes_max must be positive"),
        ({"store": {"url": "oracle://h"}}, "store.url must be an address"),
        ({"store": {"url_env": "MY URL"}}, "store.url_env must name an environment variable"),
        ({"bus": {"url": "redis://h:port"}}, "bus.url must be an address"),
        ({"bus": {"prefix": ""}}, "bus.prefix must not be empty"),
        ({"monitor": {"port": -1}}, "monitor.port must be 0 to 65535"),
        ({"rings": {"market": 100}}, "rings.market must be a power of two"),
        ({"rings": {"market": 0}}, "rings.market must be a power of two"),
        ({"rings": {"market": 2}}, "rings.market must be 64 to"),
    ],
)
def test_a_value_outside_its_range_is_refused(overrides: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, overrides)

    assert f": {expected}" in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        {"market": {"batch_window_ms": 0}},
        {"exchange": {"speed": 0.0, "maker_fee_bps": -0.5}},
        {"store": {"url": "sqlite:///run.db"}},
        {"store": {"url": "postgresql://user@127.0.0.1:5432/ticks"}},
        {"bus": {"url": "redis://127.0.0.1:6379/0"}},
        {"bus": {"url": "unix:///run/redis.sock"}},
        {"risk_overrides": [{"symbol": "BTCUSDT", "position_max": "0.5"}]},
        {"strategies": []},
    ],
)
def test_values_at_the_edge_are_taken(overrides: dict[str, Any]) -> None:
    assert load(None, overrides).engine.name == "demo"


@pytest.mark.parametrize(
    "name", ["demo", "bare-metal", "live.example", "futures.example", "compose"]
)
def test_every_shipped_profile_loads(name: str) -> None:
    profile = Path(__file__).parents[2] / "config" / f"{name}.toml"

    assert load(profile, {}).workers
