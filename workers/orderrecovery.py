"""workers room: what became of an order when nobody told us: the venue is asked, never assumed.

Three cases come here: a request without an answer (the order is UNKNOWN), a connection that was
away (fills may be missing), and orders of ours at the venue that the table does not know. The venue
is asked with our client order id, a bounded number of times with growing delays; nothing is ever
sent again. That it "does not know" an order is believed only after several answers in a row,
because an order may still be on its way inside the venue. Missing fills come from the account's
trades, each booked once by its trade id, and only then is an order's end believed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from engine.instruments import Instrument
from engine.ordercodec import FEE_PLACES, lots_of, steps, ticks_of
from engine.orders import (
    GHOST,
    MISSING_FILLS,
    ORDER_ABSENCES,
    ORDER_ID,
    ORDER_INSTRUMENT,
    ORDER_QUERIES,
    ORDER_SENT_NS,
    ORDER_STATE,
    ORDER_VENUE_ID,
    QUIET,
    Event,
)
from engine.ordertable import NOT_FOUND
from engine.positions import FEE_BASE, FEE_OTHER, FEE_QUOTE
from engine.records import (
    OrderState,
    OrderType,
    Side,
    TimeInForce,
    client_number,
    client_text,
    pack,
)
from engine.venuemessages import (
    EVENT_OF_STATUS,
    NO_SUCH_ORDER,
    OK,
    Message,
    OrderResult,
    Trade,
    decode_order,
    decode_orders,
    decode_trades,
)
from workers.log import Logger
from workers.orderlayout import REPORTS_FULL, STATUS_QUERY, TRADES_QUERY
from workers.ordermemory import Adopted, Fill, OpenRequest, OrderMemory

ABSENCES_MIN = 3  # answers in a row that make us believe that the venue has no such order
QUERIES_MAX = 40  # about one order until it is certain; then it stays UNKNOWN until a reconnect
ASKED_MAX = 16  # queries under way at once
DELAY_NS = 100_000_000  # before the second query; doubles up to DELAY_NS_MAX
DELAY_NS_MAX = 5_000_000_000
CLIENT_ID_MAX = (1 << 63) - 1  # what a record's word can hold


class Asker(Protocol):
    """What recovery needs of the desk."""

    def ask(self, kind: int, method: str, params: dict[str, str | int], row: int) -> bool:
        """Sends a query; says whether it left."""

    def cancel(self, row: int) -> None:
        """Sends a cancel, or remembers that it is wanted."""


class Book:
    """The instruments by what the venue calls them."""

    def __init__(self) -> None:
        self.by_index: tuple[Instrument, ...] = ()
        self.by_symbol: dict[str, Instrument] = {}

    def set(self, instruments: tuple[Instrument, ...]) -> None:
        """Takes the instruments in index order."""
        self.by_index = instruments
        self.by_symbol = {instrument.symbol: instrument for instrument in instruments}


def own_number(*texts: str) -> int:
    """Answers the client order id in the first text that is one of ours, -1 when none is."""
    for text in texts:
        number = client_number(text)
        if 0 < number <= CLIENT_ID_MAX:
            return number
    return -1


def fee_of(text: str | None, asset: str | None, instrument: Instrument) -> tuple[int, int]:
    """Answers a commission in 1e-8 and which asset it was taken in."""
    fee_e8 = steps(text or "0", FEE_PLACES, 1)
    if asset == instrument.base:
        return fee_e8, FEE_BASE
    return fee_e8, FEE_QUOTE if asset in {instrument.quote, None, ""} else FEE_OTHER


def terms_of(side: str, kind: str, time_in_force: str) -> int:
    """Answers the terms word of an adopted order; its strategy is not known and reads as 0."""
    return pack(
        int(Side[side]),
        int(OrderType.__members__.get(kind, OrderType.LIMIT)),
        int(TimeInForce.__members__.get(time_in_force, TimeInForce.NONE)),
        0,
    )


class Recovery:
    """Finds out what became of orders.

    Args:
        memory: the orders.
        book: the instruments.
        asker: sends queries and cancels.
        logger: of this worker.
        clock: CLOCK_MONOTONIC in ns.
    """

    def __init__(
        self,
        memory: OrderMemory,
        book: Book,
        asker: Asker,
        logger: Logger,
        clock: Callable[[], int],
    ) -> None:
        self._memory, self._book, self._asker = memory, book, asker
        self._logger, self._clock = logger, clock
        self._grace_ns = memory.receive_window_ms * 1_000_000
        self._due: dict[int, int] = {}  # row -> when to ask; at most one entry a row
        self._asked = 0

    def schedule(self, row: int, delay_ns: int = 0) -> None:
        """Asks about an order after a delay, or earlier when that was wanted already."""
        at_ns = self._clock() + delay_ns
        self._due[row] = min(at_ns, self._due.get(row, at_ns))

    def forget_queries(self) -> None:
        """The connection is gone and every query with it."""
        self._asked = 0

    def pump(self, now_ns: int) -> int:
        """Sends the queries that are due; answers how many."""
        sent = 0
        if self._due and self._memory.is_ready:
            due = [row for row, at_ns in self._due.items() if at_ns <= now_ns]
            for row in due[: max(0, ASKED_MAX - self._asked)]:
                del self._due[row]
                sent += self._ask_status(row)
        return sent

    def _ask_status(self, row: int) -> int:
        memory = self._memory
        if not memory.is_live(row):
            return 0
        tries = memory.word(row, ORDER_QUERIES)
        if tries >= QUERIES_MAX:
            self._logger.error(
                "order stays unknown",
                client_id=client_text(memory.word(row, ORDER_ID)),
                queries=tries,
            )
            return 0
        memory.set_word(row, ORDER_QUERIES, tries + 1)
        params = {**self._names(row), "origClientOrderId": client_text(memory.word(row, ORDER_ID))}
        return self._ask(STATUS_QUERY, "order.status", params, row)

    def _ask_trades(self, row: int) -> None:
        params: dict[str, str | int] = {
            **self._names(row),
            "orderId": self._memory.word(row, ORDER_VENUE_ID),
        }
        self._ask(TRADES_QUERY, "myTrades", params, row)

    def _ask(self, kind: int, method: str, params: dict[str, str | int], row: int) -> int:
        if self._asker.ask(kind, method, params, row):
            self._asked += 1
            return 1
        self._retry(row)
        return 0

    def _names(self, row: int) -> dict[str, str | int]:
        return {"symbol": self._book.by_index[self._memory.word(row, ORDER_INSTRUMENT)].symbol}

    def _retry(self, row: int) -> None:
        doublings = min(self._memory.word(row, ORDER_QUERIES), 10)
        self.schedule(row, min(DELAY_NS << doublings, DELAY_NS_MAX))

    def on_lost(self, request: OpenRequest) -> None:
        """A query stayed without an answer."""
        self._asked = max(0, self._asked - 1)
        self._retry(request.row)

    def on_answer(self, request: OpenRequest, message: Message) -> None:
        """A query was answered."""
        self._asked = max(0, self._asked - 1)
        if self._memory.word(request.row, ORDER_ID) != request.client_id:
            return
        if message.status != OK:
            self._on_refusal(request.row, message.error.code if message.error else 0)
        elif request.kind == STATUS_QUERY:
            self._on_status(request.row, decode_order(message.result))
        else:
            self._on_trades(request.row, decode_trades(message.result))

    def _on_refusal(self, row: int, code: int) -> None:
        memory = self._memory
        if code != NO_SUCH_ORDER:
            self._retry(row)
            return
        absences = memory.word(row, ORDER_ABSENCES) + 1
        memory.set_word(row, ORDER_ABSENCES, absences)
        # Once its receive window has passed, the venue itself would refuse the order on arrival.
        age_ns = self._clock() - memory.word(row, ORDER_SENT_NS)
        if absences < ABSENCES_MIN or age_ns < self._grace_ns:
            self._retry(row)
            return
        state = memory.word(row, ORDER_STATE)
        is_open_question = state in {OrderState.UNKNOWN, OrderState.PENDING_NEW}
        event = Event.ABSENT if is_open_question else Event.CANCELED
        if memory.apply(row, event, code=NO_SUCH_ORDER) == REPORTS_FULL:
            self._retry(row)

    def _on_status(self, row: int, order: OrderResult) -> None:
        memory = self._memory
        memory.set_word(row, ORDER_ABSENCES, 0)
        memory.set_word(row, ORDER_VENUE_ID, order.order_id)
        event = EVENT_OF_STATUS.get(order.status, Event.WORKING)  # FILLED: the trades end it
        traded = lots_of(order.executed_qty, self._instrument(row))
        self._after(row, memory.apply(row, event, venue_cumulative=traded, venue_id=order.order_id))

    def _instrument(self, row: int) -> Instrument:
        return self._book.by_index[self._memory.word(row, ORDER_INSTRUMENT)]

    def _after(self, row: int, status: int) -> None:
        """Does what the outcome of a query asks for."""
        if status == MISSING_FILLS:
            self._ask_trades(row)
        elif status == GHOST:
            self._memory.counters.ghosts.add()
            self._asker.cancel(row)
        elif status == REPORTS_FULL or (
            status == QUIET and self._memory.word(row, ORDER_STATE) == OrderState.UNKNOWN
        ):
            self._retry(row)
        else:
            self._memory.set_word(row, ORDER_QUERIES, 0)

    def _on_trades(self, row: int, trades: list[Trade]) -> None:
        memory = self._memory
        instrument = self._instrument(row)
        for trade in sorted(trades, key=lambda trade: trade.id):
            if trade.order_id != memory.word(row, ORDER_VENUE_ID):
                continue
            fee_e8, asset = fee_of(trade.commission, trade.commission_asset, instrument)
            fill = Fill(
                trade.id,
                ticks_of(trade.price, instrument),
                lots_of(trade.qty, instrument),
                fee_e8,
                asset,
                trade.is_maker,
                trade.order_id,
            )
            if memory.fill(row, fill) > 0:
                memory.counters.recovered.add()
        if memory.is_live(row):
            self._retry(row)  # now its status can be believed

    def on_open_orders(self, message: Message) -> None:
        """Compares the venue's open orders with ours, after every connect."""
        seen = set()
        for order in decode_orders(message.result):
            number = own_number(order.client_order_id)
            instrument = self._book.by_symbol.get(order.symbol)
            if number < 0 or instrument is None:
                self._memory.counters.foreign.add()
                continue
            try:
                seen.add(self._on_open_order(number, order, instrument))
            except (ValueError, KeyError) as error:  # one bad order must not hide the others
                self._memory.counters.bad_messages.add()
                self._logger.error(  # noqa: TRY400 - the venue's mistake, not ours
                    "open order not understood", detail=str(error)[:200]
                )
        for row in self._memory.live_rows():
            if row not in seen:
                self._memory.set_word(row, ORDER_QUERIES, 0)
                self.schedule(row)

    def _on_open_order(self, number: int, order: OrderResult, instrument: Instrument) -> int:
        memory = self._memory
        row = memory.find(number)
        if row == NOT_FOUND:
            return self.adopt(number, order, instrument)
        if memory.is_live(row):
            traded = lots_of(order.executed_qty, instrument)
            memory.set_word(row, ORDER_VENUE_ID, order.order_id)
            event = Event.WORKING
            status = memory.apply(row, event, venue_cumulative=traded, venue_id=order.order_id)
            self._after(row, status)
        return row

    def adopt(self, number: int, order: OrderResult, instrument: Instrument) -> int:
        """Enters an open order of ours that the table does not know; answers its row."""
        row = self._memory.adopt(
            Adopted(
                number,
                instrument.index,
                terms_of(order.side, order.type, order.time_in_force),
                ticks_of(order.price, instrument),
                lots_of(order.orig_qty, instrument),
                lots_of(order.executed_qty, instrument),
                order.order_id,
            )
        )
        self._logger.warning("order adopted", client_id=client_text(number), found=row != NOT_FOUND)
        return row
