"""workers room: journal records as messages for programs outside the engine.

One record is one flat object. Version 1 has these fields; a later version may add fields, and
changes the number when it takes one away or changes its meaning:

    v               1
    kind            the record's kind in lower case: signal, intent_new, intent_cancel, order_new,
                    order_cancel, denial, risk_state, report, ...
    ring, run, sequence   which ring, which run of the engine, which record: unique together
    symbol          instrument, "" where the record concerns none
    time_ns         when the record was written, ns since 1970
    trigger_ns      when the bytes that caused the chain were read, ns since 1970; 0 when unknown
    trigger         sequence of the record that caused the chain

Signals: strategy, value (decimal), value_ppm, reference_1, reference_2.
Intents and orders: client_id, side, type, time_in_force, strategy, price, price_ticks, quantity,
quantity_lots, intent, clock_ns (ns since 1970), venue_order_id.
Denials: client_id, side, type, time_in_force, strategy, code, code_number, limit, observed, intent,
clock_ns. Risk states: state, reason, version, clock_ns.
Reports: client_id, order_state, request_state, reason, liquidity, venue_order_id, trade_id, price,
price_ticks, quantity, quantity_lots, cumulative, cumulative_lots, leaves, leaves_lots, fee,
fee_asset, venue_code. States are FIX words in capitals.

Quotes, in the journal only: bid_price, bid_ticks, bid_quantity, bid_lots, ask_price, ...

Prices, quantities and fees are exact decimals as text (null without a known instrument); ticks and
lots are the integers behind them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from enum import IntEnum
from typing import Any, Final

import numpy as np

from engine.instruments import Instrument
from engine.records import (
    DTYPES,
    HEADER,
    Kind,
    OrderState,
    OrderType,
    Reason,
    RequestState,
    Side,
    TimeInForce,
    client_text,
)
from shm.segment import Words

VERSION: Final = 1
LIQUIDITY: Final = ("", "MAKER", "TAKER")
_PART_MASK: Final = 0x7FFF
_FEE_DECIMALS: Final = 8
_PPM_DECIMALS: Final = 6
_HEADER_NAMES: Final = frozenset(name for name, _ in HEADER)
_WITHOUT_INSTRUMENT: Final = (Kind.RISK_STATE, Kind.STEP)
_PAYLOADS: Final[dict[int, tuple[tuple[str, int], ...]]] = {
    kind: tuple(
        (name, int(dtype.fields[name][1]) // 8)
        for name in dtype.names or ()
        if dtype.fields is not None and name not in _HEADER_NAMES and name != "unused"
    )
    for kind, dtype in DTYPES.items()
}


def parts(word: int) -> tuple[int, int, int, int]:
    """Splits a packed word into its four parts."""
    low, second, third, fourth = (word >> shift & _PART_MASK for shift in (0, 16, 32, 48))
    return low, second, third, fourth


def word_of(enumeration: type[IntEnum], number: int) -> str:
    """Answers the name of a number in an enumeration, or the number itself as text."""
    try:
        return enumeration(number).name
    except ValueError:
        return str(number)


def decimal_text(value: Decimal) -> str:
    """Answers an exact decimal without an exponent: 0.00001, not 1E-5."""
    return f"{value:f}"


class Messages:
    """Makes messages of one run's records. Called by: one task."""

    def __init__(
        self,
        run: int,
        clock_offset_ns: int,
        *,
        strategies: tuple[str, ...] = (),
        denials: Mapping[int, str] | None = None,
    ) -> None:
        """Binds what no record says.

        Args:
            run: generation.
            clock_offset_ns: to add to the run's CLOCK_MONOTONIC for ns since 1970.
            strategies: names by number.
            denials: names of denial codes by number.
        """
        self._run = run
        self._offset_ns = clock_offset_ns
        self._strategies = strategies
        self._denials = denials or {}
        self.instruments: tuple[Instrument, ...] = ()

    def message(self, ring: str, row: list[int]) -> dict[str, Any]:
        """Answers the message of one record.

        Args:
            ring: name.
            row: its 16 words, plain integers.
        """
        sequence, tag, publish_ns, trigger_ns, trigger = row[:5]
        kind, _, index, _ = parts(tag)
        instrument = None
        if index < len(self.instruments) and kind not in _WITHOUT_INSTRUMENT:
            instrument = self.instruments[index]
        result: dict[str, Any] = {
            "v": VERSION,
            "kind": word_of(Kind, kind).lower(),
            "ring": ring,
            "run": self._run,
            "sequence": sequence,
            "symbol": instrument.symbol if instrument else "",
            "time_ns": publish_ns + self._offset_ns,
            "trigger_ns": trigger_ns + self._offset_ns if trigger_ns else 0,
            "trigger": trigger,
        }
        payload = {name: row[place] for name, place in _PAYLOADS.get(kind, ())}
        return result | self._payload(kind, payload, instrument)

    def _payload(
        self, kind: int, words: dict[str, int], instrument: Instrument | None
    ) -> dict[str, Any]:
        fields: dict[str, Any] = dict(words)
        if "clock_ns" in fields:
            fields["clock_ns"] += self._offset_ns
        if "client_id" in fields:
            fields["client_id"] = client_text(words["client_id"])
        if "terms" in fields:
            self._open_terms(fields, fields.pop("terms"))
        _add_decimals(fields, words, instrument)
        if kind == Kind.SIGNAL:
            fields["strategy"] = self._strategy(words["strategy"])
            fields["value"] = decimal_text(Decimal(words["value_ppm"]).scaleb(-_PPM_DECIMALS))
        elif kind == Kind.DENIAL:
            fields["code_number"] = words["code"]
            fields["code"] = self._denials.get(words["code"], str(words["code"]))
        elif kind == Kind.REPORT:
            _open_report(fields, words, instrument)
        return fields

    def _open_terms(self, fields: dict[str, Any], terms: int) -> None:
        side, order_type, time_in_force, strategy = parts(terms)
        fields["side"] = word_of(Side, side)
        fields["type"] = word_of(OrderType, order_type)
        fields["time_in_force"] = word_of(TimeInForce, time_in_force)
        fields["strategy"] = self._strategy(strategy)

    def _strategy(self, number: int) -> str:
        return self._strategies[number] if number < len(self._strategies) else str(number)


def decimal_name(name: str, names: Collection[str]) -> str:
    """Answers what the decimal beside a field of ticks or lots is called, "" for any other field.

    price_ticks -> price, but bid_ticks -> bid_price where there is bid_lots as well.

    Args:
        name: of the field.
        names: of all fields of the record.
    """
    for ending, other, word in (("_ticks", "_lots", "price"), ("_lots", "_ticks", "quantity")):
        if name.endswith(ending):
            stem = name.removesuffix(ending)
            return f"{stem}_{word}" if stem + other in names else stem
    return ""


def _add_decimals(
    fields: dict[str, Any], words: dict[str, int], instrument: Instrument | None
) -> None:
    """Puts exact decimals beside every number of ticks and lots."""
    for name, number in words.items():
        if shown := decimal_name(name, words):
            value = None
            if instrument is not None:
                is_price = name.endswith("_ticks")
                value = instrument.price(number) if is_price else instrument.quantity(number)
            fields[shown] = decimal_text(value) if value is not None else None


def _open_report(
    fields: dict[str, Any], words: dict[str, int], instrument: Instrument | None
) -> None:
    state, request, reason, liquidity = parts(fields.pop("status"))
    fields["order_state"] = word_of(OrderState, state)
    fields["request_state"] = word_of(RequestState, request)
    fields["reason"] = word_of(Reason, reason)
    fields["liquidity"] = LIQUIDITY[liquidity] if liquidity < len(LIQUIDITY) else str(liquidity)
    fields["fee"] = decimal_text(Decimal(fields.pop("fee_e8")).scaleb(-_FEE_DECIMALS))
    assets = (instrument.base, instrument.quote) if instrument else ()
    number = words["fee_asset"]
    fields["fee_asset"] = assets[number] if number < len(assets) else "OTHER"


def messages_of(messages: Messages, ring: str, rows: Words) -> list[dict[str, Any]]:
    """Answers the messages of (n, 16) int64 records."""
    assert rows.dtype == np.int64, "records are rows of int64"
    return [messages.message(ring, row) for row in rows.tolist()]
