"""engine room: why an intent is denied, and the words of the limits in shared memory.

The segment `limits` is a latest cell of LIMITS_WORDS: version, then LIMITS_VALUES values. Its one
writer is the supervisor, which computes them with config/limits.py as soon as it knows the
instruments.

    value 0      loaded          1 when the rest counts
    value 1      messages_max    orders and cancels in any second, all instruments together
    value 2      cancel_reserve  of these, kept free for cancels
    value 16 ..  LIMIT_WORDS for each of INSTRUMENTS_MAX instruments: LIMIT_* below
"""

from __future__ import annotations

from enum import IntEnum

from engine.instruments import INSTRUMENTS_MAX
from shm.segment import fingerprint

LOADED, MESSAGES_MAX, CANCEL_RESERVE, LIMITS_HEADER = 0, 1, 2, 16
LIMIT_WORDS = 8
(
    LIMIT_ORDER_LOTS, LIMIT_ORDER_NOTIONAL, LIMIT_POSITION_LOTS, LIMIT_OPEN_ORDERS,
    LIMIT_COLLAR_PPM, LIMIT_STALE_NS,
) = range(6)  # fmt: skip
# LIMIT_ORDER_NOTIONAL in units of one tick times one lot.
LIMITS_VALUES = LIMITS_HEADER + LIMIT_WORDS * INSTRUMENTS_MAX
LIMITS_WORDS = 1 + LIMITS_VALUES  # with the version of the cell
LIMITS_LAYOUT = fingerprint("limits", 1, LIMITS_HEADER, LIMIT_WORDS, INSTRUMENTS_MAX)
WINDOW_NS = 1_000_000_000  # of the message rate
WINDOW_MAX = 1_024  # highest messages_max
TICKS_CEILING = 1 << 42  # the collar's product of a price and 2,000,000 must fit 64 bits


class RiskReason(IntEnum):
    """Why a RISK_STATE record was written. Values are stable: they are in journals."""

    HALTED = 1  # the level rose: no new orders, or worse
    RESUMED = 2  # the level fell
    LIMITS_LOADED = 3  # limits or instruments came or changed; `version` says which


class DenialCode(IntEnum):
    """Why risk refused an intent. Values are stable: they are in journals."""

    TRADING_HALTED = 1
    LIMITS_NOT_LOADED = 2
    INSTRUMENT_UNKNOWN = 3
    INSTRUMENT_NOT_TRADING = 4
    TERMS_INVALID = 5
    DUPLICATE_CLIENT_ID = 6
    BOOK_NOT_SYNCED = 7
    STALE_MARKET_DATA = 8
    PRICE_MIN = 9
    PRICE_MAX = 10
    PRICE_COLLAR = 11
    QUANTITY_MIN = 12
    QUANTITY_MAX = 13
    ORDER_QUANTITY_MAX = 14
    NOTIONAL_MIN = 15
    NOTIONAL_MAX = 16
    ORDER_VALUE_MAX = 17
    POSITION_LIMIT = 18
    OPEN_ORDERS_MAX = 19
    ORDER_TABLE_FULL = 20
    MESSAGE_RATE = 21
    CANCEL_RATE = 22
    QUANTITY_STEP = 23


# What each code means, and the unit of its limit and of its observed value.
MEANINGS: dict[DenialCode, tuple[str, str]] = {
    DenialCode.TRADING_HALTED: ("the kill switch or a stop forbids new orders", "level"),
    DenialCode.LIMITS_NOT_LOADED: ("no order before limits are there", "loaded"),
    DenialCode.INSTRUMENT_UNKNOWN: ("the venue has not described the instrument", "index"),
    DenialCode.INSTRUMENT_NOT_TRADING: ("the venue does not trade the instrument", "status"),
    DenialCode.TERMS_INVALID: ("side, type and time in force do not go together", "terms"),
    DenialCode.DUPLICATE_CLIENT_ID: ("client order ids only ever rise", "client_id"),
    DenialCode.BOOK_NOT_SYNCED: ("the book has a gap, is crossed, silent or not there", "state"),
    DenialCode.STALE_MARKET_DATA: ("the last market record is too old", "age_ns"),
    DenialCode.PRICE_MIN: ("below the venue's lowest price", "ticks"),
    DenialCode.PRICE_MAX: ("above the venue's highest price", "ticks"),
    DenialCode.PRICE_COLLAR: ("too far from the mid", "ppm"),
    DenialCode.QUANTITY_MIN: ("below the venue's smallest quantity", "lots"),
    DenialCode.QUANTITY_MAX: ("above the venue's largest quantity", "lots"),
    DenialCode.ORDER_QUANTITY_MAX: ("above our largest order quantity", "lots"),
    DenialCode.NOTIONAL_MIN: ("below the venue's smallest value", "ticks_lots"),
    DenialCode.NOTIONAL_MAX: ("above the venue's largest value", "ticks_lots"),
    DenialCode.ORDER_VALUE_MAX: ("above our largest order value", "ticks_lots"),
    DenialCode.POSITION_LIMIT: ("position, open and unknown orders and this one", "lots"),
    DenialCode.OPEN_ORDERS_MAX: ("too many live orders on the instrument", "orders"),
    DenialCode.ORDER_TABLE_FULL: ("no room to keep watch over one more order", "orders"),
    DenialCode.MESSAGE_RATE: ("too many messages in a second; the rest is for cancels", "messages"),
    DenialCode.CANCEL_RATE: ("too many messages in a second, cancels included", "messages"),
    DenialCode.QUANTITY_STEP: ("not a multiple of the venue's step for orders", "lots"),
}
CODES_MAX = 32


def describe(code: int, limit: int, observed: int) -> str:
    """Answers one line for people: `POSITION_LIMIT: limit_lots=200 observed_lots=215`."""
    try:
        known = DenialCode(code)
    except ValueError:
        return f"UNKNOWN_CODE: code={code} limit={limit} observed={observed}"
    unit = MEANINGS[known][1]
    return f"{known.name}: limit_{unit}={limit} observed_{unit}={observed}"
