"""config room: risk limits from decimals to ticks, lots and ns, exactly.

Called by: the supervisor, once the venue has told the grids that limits are counted in.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any

import msgspec
import numpy as np

from config.settings import RiskSettings, Settings
from engine.instruments import INSTRUMENTS_MAX, Instrument
from engine.risk import (
    CANCEL_RESERVE,
    LIMIT_COLLAR_PPM,
    LIMIT_OPEN_ORDERS,
    LIMIT_ORDER_LOTS,
    LIMIT_ORDER_NOTIONAL,
    LIMIT_POSITION_LOTS,
    LIMIT_STALE_NS,
    LIMIT_WORDS,
    LIMITS_HEADER,
    LIMITS_VALUES,
    LOADED,
    MESSAGES_MAX,
    WINDOW_MAX,
)
from shm.segment import Words

_LOTS_MAX = 1 << 60
_PPM_PER_BPS = 100
_NS_PER_MS = 1_000_000
_RESERVED_FOR_CANCELS = 4  # one message in so many


def limit_words(settings: Settings, instruments: tuple[Instrument, ...]) -> Words:
    """Answers the values of the segment `limits`, (LIMITS_VALUES,) int64; see engine/risk.py.

    Raises:
        ValueError: in one line, when a limit does not lie on an instrument's grid or does not fit.
    """
    words = np.zeros(LIMITS_VALUES, np.int64)
    rate = settings.risk.messages_per_s_max
    if not 1 < rate <= WINDOW_MAX:
        raise ValueError(
            f"risk.messages_per_s_max must be 2 to {WINDOW_MAX}: messages_per_s_max={rate}"
        )
    if len(instruments) > INSTRUMENTS_MAX:
        raise ValueError(f"instruments must be at most {INSTRUMENTS_MAX}: count={len(instruments)}")
    words[LOADED], words[MESSAGES_MAX] = 1, rate
    words[CANCEL_RESERVE] = max(1, rate // _RESERVED_FOR_CANCELS)
    for instrument in instruments:
        at = LIMITS_HEADER + LIMIT_WORDS * instrument.index
        words[at : at + LIMIT_WORDS] = _instrument_words(settings, instrument)
    return words


def risk_of(settings: Settings, symbol: str) -> RiskSettings:
    """Answers the limits of a symbol: its override's fields where given, else those of `[risk]`."""
    return msgspec.structs.replace(settings.risk, **_given(settings, symbol))


def _given(settings: Settings, symbol: str) -> dict[str, Any]:
    """Answers what a symbol's override says itself."""
    return {
        field: value
        for override in settings.risk_overrides
        if override.symbol == symbol
        for field in RiskSettings.__struct_fields__
        if (value := getattr(override, field)) is not None
    }


def _instrument_words(settings: Settings, instrument: Instrument) -> Words:
    risk, own = risk_of(settings, instrument.symbol), _given(settings, instrument.symbol)

    def key(field: str) -> str:
        return f"risk_overrides.{instrument.symbol}.{field}" if field in own else f"risk.{field}"

    words = np.zeros(LIMIT_WORDS, np.int64)
    words[LIMIT_ORDER_LOTS] = _lots(key("order_quantity_max"), risk.order_quantity_max, instrument)
    words[LIMIT_POSITION_LOTS] = _lots(key("position_max"), risk.position_max, instrument)
    value = Decimal(risk.order_value_max) / (instrument.tick * instrument.lot)
    words[LIMIT_ORDER_NOTIONAL] = _fit(key("order_value_max"), value.to_integral_value(ROUND_FLOOR))
    words[LIMIT_OPEN_ORDERS] = min(risk.open_orders_max, instrument.orders_max)
    collar = Decimal(repr(float(risk.price_collar_bps))) * _PPM_PER_BPS
    words[LIMIT_COLLAR_PPM] = _fit(
        key("price_collar_bps"), collar.to_integral_value(ROUND_HALF_EVEN)
    )
    words[LIMIT_STALE_NS] = _fit(key("stale_ms_max"), Decimal(risk.stale_ms_max * _NS_PER_MS))
    return words


def _lots(key: str, text: str, instrument: Instrument) -> int:
    try:
        return _fit(key, Decimal(instrument.lots(Decimal(text))))
    except ValueError as error:
        raise ValueError(f"{key} must fit the instrument: {error}") from None


def _fit(key: str, value: Decimal) -> int:
    """Answers a whole number that leaves room for sums in 64 bits."""
    if value > _LOTS_MAX:
        raise ValueError(f"{key} must be smaller: value={value} value_max={_LOTS_MAX}")
    return int(value)
