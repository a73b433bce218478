"""workers room: the control port of faults: WebSocket path /faults, signed like the order API.

    faults.arm     script, the text of a fault script: takes the place of what was armed
    faults.clear   nothing is armed any more
    faults.counts  how often each rule has been injected, by its number and kind
    book           symbol: the exchange's own book: update id, levels of both sides, and the SHA-256
                   of a line "b PRICE QUANTITY" or "a PRICE QUANTITY" per level, best first, bids
                   before asks, each ended by a line feed, numbers with eight places

Requests are held against the exchange's true clock, whatever skew is armed, so that a skew can be
taken back. Frames that a fault holds back when another script is armed are lost with their rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import ClassVar, Final

from workers.exchange.authority import SIGNED_PARAMS
from workers.exchange.errors import ExchangeError, unsupported
from workers.exchange.exchange import Exchange
from workers.exchange.faults import FaultError, Script, parse_script
from workers.exchange.methods import Method
from workers.exchange.params import Params, listed, required
from workers.exchange.reports import Report
from workers.exchange.session import OrderSession, refuse_unknown

FAULTS_PATH: Final = "/faults"
BAD_SCRIPT: Final = -1130
_KNOWN: Final = {
    "faults.arm": frozenset({"script"}),
    "faults.clear": frozenset[str](),
    "faults.counts": frozenset[str](),
    "book": frozenset({"symbol"}),
}


class FaultSession(OrderSession):
    """One connection to the control port; see the module."""

    methods: ClassVar[Mapping[str, Method]] = {}

    def _perform(self, name: str, params: Params, now_ns: int) -> object:
        """Does one method, when whoever asks has signed it."""
        if name not in _KNOWN:
            raise unsupported()
        refuse_unknown(params, _KNOWN[name] | SIGNED_PARAMS)
        exchange = self._exchange
        exchange.authority.check(params, None, now_ns)
        if name == "book":
            return book_report(exchange, params)
        if name == "faults.arm":
            try:
                exchange.hub.arm(parse_script(required(params, "script"), "request"))
            except FaultError as error:
                raise ExchangeError(BAD_SCRIPT, str(error)) from None
        elif name == "faults.clear":
            exchange.hub.arm(Script(0, ()))
        return exchange.hub.injector.counts()


def book_report(exchange: Exchange, params: Params) -> Report:
    """Answers one symbol's own book.

    Raises:
        ExchangeError: -1102 or -1121 for the symbol.
    """
    instrument = listed(params, exchange.trading.listings).instrument
    update_id, bids, asks = exchange.market.book(instrument.symbol)
    digest = hashlib.sha256()
    for side, levels in (("b", bids), ("a", asks)):
        for price_ticks, lots in levels:
            texts = instrument.price_text(price_ticks), instrument.quantity_text(lots)
            digest.update(f"{side} {texts[0]} {texts[1]}\n".encode())
    return {
        "symbol": instrument.symbol,
        "updateId": update_id,
        "levels": [len(bids), len(asks)],
        "sha256": digest.hexdigest(),
    }
