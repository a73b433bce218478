"""workers room: what is said to the venue about orders, and what its words mean for them.

On every connection the desk logs on (Ed25519) or signs (HMAC), subscribes to the account's events,
asks for the open orders, and only then lets orders pass. The answer to a request and the event
about the same order come in any order; both end in the same state machine, and a fill counts once
by its trade id. A request without an answer makes its order UNKNOWN and is settled by
workers/orderrecovery.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from config.settings import VenueSettings
from engine import ordercodec
from engine.ordercodec import lots_of
from engine.orders import (
    ORDER_CANCEL_WANTED,
    ORDER_ID,
    ORDER_REQUEST_NUMBER,
    Event,
    Request,
)
from engine.ordertable import NOT_FOUND
from engine.venuemessages import (
    CANCEL_REJECTED,
    OK,
    Message,
    decode_message,
    decode_order,
    is_ambiguous,
)
from shm.histogram import record
from shm.jit import epoch_ns, now_ns
from shm.segment import Words
from workers import orderpath
from workers.chain import Stage
from workers.exchange.keys import KeyPair, payload
from workers.log import Logger
from workers.orderevents import OrderEvents
from workers.orderlayout import (
    HANDED,
    IDLE,
    IS_SIGNED,
    LOGON,
    OPEN_QUERY,
    REFUSED,
    STATUS_QUERY,
    SUBSCRIBE,
    TRADES_QUERY,
)
from workers.ordermemory import OpenRequest, OrderMemory
from workers.orderpath import advance, sent
from workers.orderrecovery import Book, Recovery
from workers.ordersession import OrderSession
from workers.ordersigner import Signer

SIGNATURE_CHARACTERS = 64  # HMAC-SHA256 in hexadecimal
MESSAGE_ROOM = 256  # reports that one message may need at most
INBOX_MAX = 65_536  # messages that wait for room; reading stops at the first
GRACE_NS = 200_000_000  # an event may follow an answer this much later
ALREADY_SUBSCRIBED = -2035
FOREVER_NS = 1 << 62


class OrderDesk:
    """Speaks for one account over one connection at a time.

    Args:
        memory: orders, requests, reports.
        book: the instruments.
        key: API key and secret.
        venue: limits of requests.
        latency: histogram of order frame sent to venue's answer.
        logger: of this worker.
    """

    def __init__(
        self,
        *,
        memory: OrderMemory,
        book: Book,
        key: Callable[[], KeyPair],
        venue: VenueSettings,
        latency: Words,
        logger: Logger,
    ) -> None:
        self._memory, self._book, self._find_key = memory, book, key
        self._venue, self._latency, self._logger = venue, latency, logger
        self._signer: Signer | None = None
        self._bind = memory.bind.data
        self._inbox: deque[bytes] = deque()
        self.session: OrderSession | None = None
        self.recovery = Recovery(memory, book, self, logger, now_ns)
        self._events = OrderEvents(memory, book, self, self.recovery, logger)
        self.refusal = ""  # why the venue will not have us, once it said so for good

    # What the duty cycle does.

    def take_orders(self) -> int:
        """Sends what risk let pass; answers how many records were taken."""
        return self._take(advance(self._memory.bind))

    def stage(self) -> Stage:
        """Answers the compiled part of the duty cycle: from an order record to bytes to send."""
        address = int(self._memory.bind.ctypes.data)
        return Stage(orderpath.advance_at, address, self._take_handed)

    def _take_handed(self) -> None:
        self._take(self._bind[HANDED])

    def _take(self, at: int) -> int:
        """Goes on from what `advance` answered; answers how many records were taken."""
        bind = self._memory.bind
        count = 0
        while at != IDLE:  # ends: a batch is bounded
            count += 1
            if at >= 0:
                self._transmit(at)
            elif at == REFUSED:
                self._memory.counters.rejects.add()
            at = advance(bind)
        return count

    def read_inbox(self) -> int:
        """Handles messages that had to wait for room; answers how many."""
        handled = 0
        while self._inbox and self._memory.has_room(MESSAGE_ROOM):
            self._handle(self._inbox.popleft())
            handled += 1
            if not self._inbox and self.session is not None:
                self.session.resume()
        return handled

    def sweep(self, now: int) -> int:
        """Gives up on overdue requests and sends due queries; answers the work count."""
        work = 0
        orderpath.set_clock(self._memory.bind)
        if not self._memory.has_room(MESSAGE_ROOM):
            return 0
        before_ns = now - self._venue.request_ms_max * 1_000_000
        for _ in range(MESSAGE_ROOM // 2):
            request = self._memory.overdue(before_ns)
            if request is None:
                break
            self._on_lost(request, Event.TIMEOUT)
            work += 1
        return work + self.recovery.pump(now)

    def cancel(self, row: int) -> None:
        """Sends a cancel of an order, or remembers that it is wanted."""
        at = orderpath.cancel(self._memory.bind, row)
        if at >= 0:
            self._transmit(at)

    def cancel_all(self) -> int:
        """Cancels every order that is not over; answers how many there are."""
        rows = self._memory.live_rows()
        for row in rows:
            if self._memory.has_room(MESSAGE_ROOM):
                self.cancel(row)
        return len(rows)

    def _transmit(self, at: int) -> None:
        """Hands the current request to the socket, signed where needed, and reports it."""
        memory, session = self._memory, self.session
        assert session is not None, "the desk was given its session"
        if self._bind[IS_SIGNED]:
            assert self._signer is not None, "a signing connection has a key"
            memory.set_signature(self._signer.sign(memory.bytes[at:].tobytes()))
            at = orderpath.write_request(memory.bind)
        session.send_buffer(memory.buffer, at)
        sent(memory.bind)

    # The connection.

    def on_open(self) -> None:
        """Logs on, or begins to sign."""
        self._memory.counters.connections.add()
        self._signer = signer = Signer(self._find_key())
        if signer.is_session:
            self._memory.set_authority(b"", b"")
            self._ask_signed(LOGON, "session.logon")
        else:
            tail = ordercodec.signed_tail(signer.api_key, "0" * SIGNATURE_CHARACTERS)
            self._memory.set_authority(f"apiKey={signer.api_key}".encode("ascii"), tail)
            self._ask_signed(SUBSCRIBE, "userDataStream.subscribe.signature")

    def on_close(self) -> None:
        """Every request under way is lost."""
        self._memory.is_ready = False
        self._inbox_rest()
        while (request := self._memory.overdue(FOREVER_NS)) is not None:
            self._on_lost(request, Event.DISCONNECT)
        self.recovery.forget_queries()

    def _inbox_rest(self) -> None:
        while self._inbox and self._memory.has_room(MESSAGE_ROOM):
            self._handle(self._inbox.popleft())

    def on_message(self, data: bytes) -> None:
        """Handles a message, or keeps it until there is room for the reports it may cause."""
        if self._inbox or not self._memory.has_room(MESSAGE_ROOM):
            if len(self._inbox) >= INBOX_MAX:
                self._logger.error("order messages came too fast", waiting=len(self._inbox))
                self.drop()  # what was missed is recovered after the reconnect
                return
            if not self._inbox and self.session is not None:
                self.session.pause()
            self._inbox.append(data)
            return
        self._handle(data)

    def _handle(self, data: bytes) -> None:
        try:
            message = decode_message(data)
            if message.event is not None:
                self._events.on_event(message.event)
            else:
                self._on_answer(message)
        except (msgspec.MsgspecError, ValueError, KeyError) as error:
            self._memory.counters.bad_messages.add()
            # A traceback would name our decoder; what the operator needs is the venue's mistake.
            self._logger.error(  # noqa: TRY400 - see above
                "order message not understood", detail=str(error)[:200]
            )

    # Requests that are not hot.

    def ask(self, kind: int, method: str, params: dict[str, str | int], row: int) -> bool:
        """Sends a query; says whether it left."""
        return self._send(kind, method, params, row, is_signed=bool(self._bind[IS_SIGNED]))

    def _ask_signed(self, kind: int, method: str) -> None:
        self._send(kind, method, {}, NOT_FOUND, is_signed=True)

    def _send(
        self, kind: int, method: str, params: dict[str, str | int], row: int, *, is_signed: bool
    ) -> bool:
        number = self._memory.open_request(kind, row)
        if number < 0 or self.session is None:
            return False
        full: dict[str, str | int | bool] = dict(params)
        if method != "userDataStream.subscribe":
            full["timestamp"] = epoch_ns() // 1_000_000
            full["recvWindow"] = self._venue.receive_window_ms
        if is_signed:
            assert self._signer is not None, "a signing connection has a key"
            full["apiKey"] = self._signer.api_key
            text = payload({name: str(value) for name, value in full.items()})
            full["signature"] = self._signer.sign(text.encode("ascii")).decode("ascii")
        self.session.send(ordercodec.request(number, method, full))
        return True

    def drop(self) -> None:
        """Gives the connection up; a new one follows."""
        if self.session is not None:
            self.session.drop()

    def _on_lost(self, request: OpenRequest, event: Event) -> None:
        """A request stays without an answer."""
        if request.kind in {Request.PLACE, Request.CANCEL}:
            memory = self._memory
            if memory.word(request.row, ORDER_ID) != request.client_id:
                return
            if memory.word(request.row, ORDER_REQUEST_NUMBER) == request.number:
                memory.apply(request.row, event)
            self.recovery.schedule(request.row)
        elif event == Event.DISCONNECT:
            return  # asked again after the reconnect
        elif request.kind in {STATUS_QUERY, TRADES_QUERY}:
            self.recovery.on_lost(request)
        else:
            self._logger.error("venue does not answer", request=request.kind)
            self.drop()

    # Answers.

    def _on_answer(self, message: Message) -> None:
        request = self._memory.answered(ordercodec.request_number(message.id))
        if request is None:
            return  # came after its time; a query settles what it was about
        if request.kind in {LOGON, SUBSCRIBE, OPEN_QUERY}:
            self._on_handshake(request, message)
        elif request.kind in {STATUS_QUERY, TRADES_QUERY}:
            self.recovery.on_answer(request, message)
        elif self._memory.word(request.row, ORDER_ID) == request.client_id:
            code = message.error.code if message.error is not None else 0
            if message.status != OK and is_ambiguous(message.status, code):
                self._on_lost(request, Event.TIMEOUT)
            elif request.kind == Request.PLACE:
                record(self._latency, now_ns() - request.sent_ns)
                self._on_placed(request.row, message, code)
            else:
                self._on_canceled(request.row, message, code)

    def _on_handshake(self, request: OpenRequest, message: Message) -> None:
        code = message.error.code if message.error is not None else 0
        if message.status != OK and not (request.kind == SUBSCRIBE and code == ALREADY_SUBSCRIBED):
            detail = message.error.msg if message.error is not None else ""
            self._logger.error("venue refuses the order connection", code=code, detail=detail[:200])
            if not is_ambiguous(message.status, code):
                self.refusal = f"code={code} message={detail[:200]}"
            self.drop()
        elif request.kind == LOGON:
            self._send(SUBSCRIBE, "userDataStream.subscribe", {}, NOT_FOUND, is_signed=False)
        elif request.kind == SUBSCRIBE:
            self.ask(OPEN_QUERY, "openOrders.status", {}, NOT_FOUND)
        else:
            self._on_ready(message)

    def _on_ready(self, message: Message) -> None:
        memory = self._memory
        self.refusal = ""
        memory.is_ready = True
        self.recovery.on_open_orders(message)
        for row in memory.live_rows():
            if memory.word(row, ORDER_CANCEL_WANTED):
                self.cancel(row)
        if self.session is not None:
            self.session.settle()
        self._logger.info("order connection ready", live_orders=memory.live_count)

    def _on_placed(self, row: int, message: Message, code: int) -> None:
        if message.status != OK:
            self._memory.apply(row, Event.REJECT, code=code)
            return
        venue_id = decode_order(message.result).order_id
        self._events.after(row, self._memory.apply(row, Event.ACK, venue_id=venue_id))

    def _on_canceled(self, row: int, message: Message, code: int) -> None:
        memory = self._memory
        if message.status != OK:
            memory.apply(row, Event.CANCEL_REJECT, code=code)
            if code == CANCEL_REJECTED and memory.is_live(row):
                self.recovery.schedule(row, GRACE_NS)  # it may have ended: its event will tell
            return
        result = decode_order(message.result)
        traded = -1
        if result.executed_qty:
            traded = lots_of(result.executed_qty, self._book.by_symbol[result.symbol])
        status = memory.apply(
            row, Event.CANCELED, venue_cumulative=traded, venue_id=result.order_id
        )
        self._events.after(row, status, GRACE_NS)  # its fills may still be on their way
