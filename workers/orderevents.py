"""workers room: what the account's events mean for orders.

An event and the answer to the request that caused it come in any order; both go through the same
state machine, and a fill counts once by its trade id.
"""

from __future__ import annotations

from typing import Protocol

from engine.instruments import Instrument
from engine.ordercodec import lots_of, ticks_of
from engine.orders import (
    GHOST,
    MISSING_FILLS,
    ORDER_CUMULATIVE,
    ORDER_ID,
    ORDER_STATE,
    OVERFILL,
    Event,
)
from engine.ordertable import NOT_FOUND
from engine.records import OrderState, client_text
from engine.venuemessages import ExecutionReport, OrderResult
from workers.log import Logger
from workers.orderlayout import REPORTS_FULL
from workers.ordermemory import Fill, OrderMemory
from workers.orderrecovery import Book, Recovery, fee_of, own_number

ENDED_BY = {
    "CANCELED": Event.CANCELED,
    "EXPIRED": Event.EXPIRED,
    "TRADE_PREVENTION": Event.EXPIRED,
}
ENDED_STREAMS = frozenset({"eventStreamTerminated", "serverShutdown"})


class Speaker(Protocol):
    """What events need of the desk."""

    def cancel(self, row: int) -> None:
        """Sends a cancel, or remembers that it is wanted."""

    def drop(self) -> None:
        """Gives the connection up; a new one follows."""


class OrderEvents:
    """Takes the account's events into the orders.

    Args:
        memory: the orders.
        book: the instruments.
        speaker: sends cancels, drops the connection.
        recovery: asks about what stays uncertain.
        logger: of this worker.
    """

    def __init__(
        self,
        memory: OrderMemory,
        book: Book,
        speaker: Speaker,
        recovery: Recovery,
        logger: Logger,
    ) -> None:
        self._memory, self._book, self._speaker = memory, book, speaker
        self._recovery, self._logger = recovery, logger

    def after(self, row: int, status: int, delay_ns: int = 0) -> None:
        """Does what the outcome of an event asks for."""
        if status in {MISSING_FILLS, REPORTS_FULL, OVERFILL}:
            if status == OVERFILL:
                self._logger.error(
                    "fill exceeds its order",
                    client_id=client_text(self._memory.word(row, ORDER_ID)),
                )
            self._recovery.schedule(row, delay_ns)
        elif status == GHOST:
            self._memory.counters.ghosts.add()
            self._speaker.cancel(row)
        elif status > 0 and self._memory.word(row, ORDER_STATE) == OrderState.UNKNOWN:
            self._recovery.schedule(row, delay_ns)

    def on_event(self, event: ExecutionReport) -> None:
        """Handles one event of the account; raises ValueError for a number off its grid."""
        if event.kind != "executionReport":
            if event.kind in ENDED_STREAMS:
                self._logger.warning("venue ends the event stream", reason=event.kind)
                self._speaker.drop()
            return
        instrument = self._book.by_symbol.get(event.symbol)
        number = own_number(event.client_id, event.original_client_id)
        if number < 0 or instrument is None:
            if event.execution == "NEW":
                self._memory.counters.foreign.add()
            return
        row = self._memory.find(number)
        if row == NOT_FOUND:
            row = self._adopt(number, event, instrument)
        if row != NOT_FOUND:
            self._on_execution(row, event, instrument)

    def _adopt(self, number: int, event: ExecutionReport, instrument: Instrument) -> int:
        if event.execution not in {"NEW", "TRADE"}:
            return NOT_FOUND
        before = lots_of(event.cumulative, instrument) - lots_of(event.last_quantity, instrument)
        order = OrderResult(
            symbol=event.symbol,
            order_id=event.order_id,
            price=event.price,
            orig_qty=event.quantity,
            executed_qty=f"{instrument.quantity(before):f}",
            time_in_force=event.time_in_force,
            type=event.type,
            side=event.side,
        )
        return self._recovery.adopt(number, order, instrument)

    def _on_execution(self, row: int, event: ExecutionReport, instrument: Instrument) -> None:
        memory = self._memory
        traded = lots_of(event.cumulative, instrument)
        if event.execution == "TRADE":
            fee_e8, asset = fee_of(event.fee, event.fee_asset, instrument)
            fill = Fill(
                event.trade_id,
                ticks_of(event.last_price, instrument),
                lots_of(event.last_quantity, instrument),
                fee_e8,
                asset,
                event.is_maker,
                event.order_id,
            )
            self.after(row, memory.fill(row, fill))
            if traded > memory.word(row, ORDER_CUMULATIVE):
                self._recovery.schedule(row)
        elif event.execution == "NEW":
            self.after(row, memory.apply(row, Event.ACK, venue_id=event.order_id))
        elif event.execution == "REJECTED":
            memory.apply(row, Event.REJECT, venue_id=event.order_id)
        elif event.execution in ENDED_BY:
            ended = ENDED_BY[event.execution]
            status = memory.apply(row, ended, venue_cumulative=traded, venue_id=event.order_id)
            self.after(row, status)
