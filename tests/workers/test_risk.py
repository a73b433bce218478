"""What the risk agent makes of its settings."""

from __future__ import annotations

from config.settings import MarketSettings, RiskOverride, RiskSettings, Settings
from workers.risk import parameters


def test_an_override_without_open_orders_keeps_those_of_risk_in_the_order_table() -> None:
    few = Settings(
        market=MarketSettings(symbols=("BTCUSDT", "ETHUSDT")), risk=RiskSettings(open_orders_max=1)
    )
    overrides = (RiskOverride(symbol="ETHUSDT", position_max="1"),)
    also_few = Settings(market=few.market, risk=few.risk, risk_overrides=overrides)
    many = Settings(
        market=few.market,
        risk=few.risk,
        risk_overrides=(RiskOverride(symbol="ETHUSDT", open_orders_max=500),),
    )

    assert list(parameters(also_few, 1)) == list(parameters(few, 1))
    assert list(parameters(many, 1)) != list(parameters(few, 1))
