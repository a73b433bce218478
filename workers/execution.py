"""workers room: the execution agent: orders to the venue, reports and positions back.

A duty cycle takes what risk let pass, hands it to the socket, gives up on overdue requests and asks
about uncertain orders. The event loop of the worker feeds what the venue says in between.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns

from config.settings import Settings
from engine import control, ordertable, positions
from workers import orderwarm
from workers.agent import Phase, SegmentPlan
from workers.chain import Stage
from workers.context import AgentContext
from workers.endpoints import credential, endpoints
from workers.orderdesk import OrderDesk
from workers.ordermemory import OrderMemory, Rings
from workers.orderrecovery import Book
from workers.ordersession import OrderSession

SWEEP_NS = 1_000_000
CANCEL_ALL_NS = 500_000_000  # how often orders that are still open are cancelled again
POLL_S = 0.005


class RefusedError(ValueError):
    """The venue will not have our key: nothing that a restart could mend."""

    is_configuration = True


class ExecutionAgent:
    """Sends orders and keeps what became of them.

    Args:
        context: what the worker gives its agents.
    """

    def __init__(self, context: AgentContext) -> None:
        self.role_name = context.agent
        self._context = context
        self._venue = context.settings.venue
        self._drain_ns = int(context.settings.engine.drain_s_max * 0.8e9)
        self._sweep_ns = 0
        self._cancel_ns = 0
        self._cancel_until_ns = 0

    @staticmethod
    def segments(settings: Settings, agent: str) -> tuple[SegmentPlan, ...]:
        """Answers the memory that execution owns."""
        del settings, agent
        return (
            SegmentPlan(ordertable.SEGMENT, ordertable.TABLE_WORDS * 8, ordertable.LAYOUT),
            SegmentPlan(positions.SEGMENT, positions.SEGMENT_BYTES, positions.LAYOUT),
        )

    def on_start(self) -> None:
        """Attaches memory and mends what a worker before us left behind."""
        context = self._context
        orderwarm.warm()
        rings = Rings(
            context.consumer("orders"),
            context.producer("reports"),
            context.producer(f"steps.{context.agent}"),
        )
        table = context.segment(ordertable.SEGMENT).words(0, ordertable.TABLE_WORDS)
        cells = context.segment(positions.SEGMENT).words(0, positions.SEGMENT_BYTES // 8)
        self._control = context.control()
        self._book = Book()
        self._memory = OrderMemory(
            rings, table, cells, context.stats, self._venue.receive_window_ms
        )
        self._memory.resume()
        self._desk = OrderDesk(
            memory=self._memory,
            book=self._book,
            key=lambda: credential(context),
            venue=self._venue,
            latency=context.stats.histogram("order_execution_latency_seconds"),
            logger=context.logger,
        )
        self._desk.session = self._session = OrderSession(
            lambda: endpoints(context).order_url,
            self._venue,
            self._desk,
            context.logger,
            lambda: context.wake(),  # noqa: PLW0108 - the runner sets it later
        )

    async def open(self) -> None:
        """Connects; the worker is READY once the venue has told us our open orders.

        Raises:
            RefusedError: the venue refuses our key.
        """
        while not (instruments := self._context.instruments()):  # noqa: ASYNC110 - shared memory
            await asyncio.sleep(POLL_S)
        self._book.set(instruments)
        self._memory.set_instruments(instruments)
        self._session.start()
        fault = ""
        while not self._memory.is_ready:
            if self._session.fault != fault:
                fault = self._session.fault
                self._note_fault(fault)
            if self._desk.refusal:
                raise RefusedError(
                    f"the venue must accept our key: {self._desk.refusal};"
                    " check the key, its permissions and this host's clock"
                )
            self._desk.sweep(monotonic_ns())
            await asyncio.sleep(POLL_S)

    def _note_fault(self, fault: str) -> None:
        """Leaves behind why we are not READY; the supervisor shows it while we try on."""
        if fault:
            self._context.stats.error(f"the order connection must be made: {fault}")

    def stage(self) -> Stage:
        """Answers the compiled part of the duty cycle."""
        return self._desk.stage()

    def do_work(self) -> int:
        """Sends orders, settles what is uncertain; answers the work count."""
        desk = self._desk
        work = desk.take_orders() + desk.read_inbox()
        now = monotonic_ns()
        if now >= self._sweep_ns:
            self._sweep_ns = now + SWEEP_NS
            work += desk.sweep(now)
            if control.halt_level(self._control) >= control.CANCEL_ALL:
                self._cancel_all(now)
        return work

    def _cancel_all(self, now: int) -> None:
        if now >= self._cancel_ns and self._memory.live_count:
            self._cancel_ns = now + CANCEL_ALL_NS
            self._desk.cancel_all()

    def on_phase(self, phase: Phase) -> bool:
        """Cancels open orders and waits for their end; leaves the venue in CLOSE at the latest."""
        if phase == Phase.CANCEL:
            return self._is_flat(monotonic_ns())
        if phase >= Phase.CLOSE:
            self._session.leave()
        return True

    def _is_flat(self, now: int) -> bool:
        if self._cancel_until_ns == 0:
            self._cancel_until_ns = now + self._drain_ns
        self._cancel_all(now)
        live = self._memory.live_count
        if live and now >= self._cancel_until_ns:
            self._context.logger.error("orders stay open at the venue", live_orders=live)
            return True
        return live == 0 and self._memory.rings.orders.lag == 0

    async def close(self) -> None:
        """Closes the connection."""
        await self._session.stop()

    def on_close(self) -> None:
        """Nothing to give back: memory is the worker's."""
