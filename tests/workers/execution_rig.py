"""A real execution agent on real shared memory, and a venue that says what a test tells it to.

The venue is a WebSocket server from another library than the agent's client. It answers what every
connection begins with by itself and leaves every other request to the test.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from config.settings import EngineSettings, RingSettings, Settings, VenueSettings, WorkerSettings
from engine.control import CONTROL_WORDS
from engine.control import LAYOUT as CONTROL_LAYOUT
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX, Instrument, to_words
from engine.instruments import LAYOUT as INSTRUMENTS_LAYOUT
from engine.positions import POSITION_WORDS, SEGMENT, SEGMENT_BYTES, cell
from engine.records import (
    CLIENT_ID,
    PRICE_TICKS,
    PUBLISH_NS,
    QUANTITY_LOTS,
    ROW_WORDS,
    STATUS,
    STATUS_ORDER,
    STATUS_REASON,
    STATUS_REQUEST,
    TAG,
    TERMS,
    TRIGGER,
    TRIGGER_NS,
    Kind,
    OrderState,
    OrderType,
    Reason,
    RequestState,
    Side,
    TimeInForce,
    client_id_of,
    client_text,
    pack,
    part,
    tag,
)
from shm.handles import Consumer
from shm.jit import now_ns
from shm.latest import Latest
from shm.segment import Words
from workers import loglevels
from workers.agent import SegmentPlan
from workers.context import AgentContext, Memory, Run
from workers.exchange.keys import KeyPair, make_hmac_pair, write_pair
from workers.execution import ExecutionAgent
from workers.memory import create_all, remove_all

GENERATION = 5
DEADLINE_S = 20.0
BTC = Instrument(
    index=0, symbol="BTCUSDT", base="BTC", quote="USDT",
    price_decimals=2, tick_units=1, quantity_decimals=5, lot_units=1,
)  # fmt: skip
Json = dict[str, Any]


def settings_of(name: str, key_file: Path, port: int, **venue: Any) -> Settings:
    """Answers a configuration whose venue is the test's own."""
    return Settings(
        engine=EngineSettings(name=name, drain_s_max=2.0),
        rings=RingSettings(market=1024, decisions=8192, log=1024),
        venue=VenueSettings(
            rest_url="http://127.0.0.1:1",
            stream_url="ws://127.0.0.1:1",
            order_url=f"ws://127.0.0.1:{port}/ws-api/v3",
            secret_file=str(key_file),
            reconnect_ms=5,
            reconnect_ms_max=20,
            **venue,
        ),
        workers=(
            WorkerSettings(name="trader", agents=("ingest.0", "signal", "risk", "execution")),
            WorkerSettings(name="rest", agents=("recorder", "store", "logs", "monitor")),
        ),
    )


class Venue:
    """Records every request; a test takes them one by one and answers them as it likes."""

    def __init__(self) -> None:
        self.open_orders: list[Json] = []
        self.seen: list[Json] = []
        self.connections: list[ServerConnection] = []
        self.is_silent_for: set[str] = set()
        self.refusal: tuple[int, int, str] | None = None  # of the first request of a connection
        self._waiting: deque[tuple[ServerConnection, Json]] = deque()
        self._server: Server | None = None

    async def start(self) -> int:
        """Serves on a free loopback port and answers it."""
        self._server = await serve(self._serve, "127.0.0.1", 0)
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def stop(self) -> None:
        """Closes everything."""
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            async for text in connection:
                request = json.loads(text)
                self.seen.append(request)
                await self._on_request(connection, request)
        except ConnectionClosed:
            return

    async def _on_request(self, connection: ServerConnection, request: Json) -> None:
        method = request["method"]
        if method in self.is_silent_for:
            return
        if method in {"session.logon", "userDataStream.subscribe.signature"} and self.refusal:
            status, code, message = self.refusal
            await self._send(connection, request, status, error={"code": code, "msg": message})
        elif method in {"session.logon", "userDataStream.subscribe"} or method.endswith(
            "subscribe.signature"
        ):
            await self._send(connection, request, 200, result={"subscriptionId": 0})
        elif method == "openOrders.status":
            await self._send(connection, request, 200, result=self.open_orders)
        else:
            self._waiting.append((connection, request))

    async def _send(
        self, connection: ServerConnection, request: Json, status: int, **body: object
    ) -> None:
        await connection.send(json.dumps({"id": request["id"], "status": status, **body}))

    def take(self, method: str) -> Json | None:
        """Answers the next request, which must be of this method, or None."""
        if not self._waiting:
            return None
        request = self._waiting.popleft()[1]
        assert request["method"] == method, f"wanted {method}: {request}"
        return request

    async def answer(self, request: Json, result: object) -> None:
        """Grants a request."""
        await self._send(self.connections[-1], request, 200, result=result)

    async def refuse(self, request: Json, code: int, status: int = 400) -> None:
        """Refuses a request."""
        error = {"code": code, "msg": "no"}
        await self._send(self.connections[-1], request, status, error=error)

    async def say(self, event: Json) -> None:
        """Sends an event of the account."""
        await self.connections[-1].send(json.dumps({"subscriptionId": 0, "event": event}))

    async def hang_up(self) -> None:
        """Cuts the connection without a goodbye."""
        self.connections[-1].transport.abort()


class VenueOrder:
    """An order as the venue keeps it, for building its messages."""

    def __init__(self, params: Json, order_id: int = 7001) -> None:
        self.params, self.order_id = params, order_id
        self.traded = Decimal(0)
        self.status = "NEW"

    @property
    def client_id(self) -> str:
        """As we named it."""
        return str(self.params["newClientOrderId"])

    def trade(self, quantity: str, trade_id: int, price: str = "600.00") -> Json:
        """Trades a part of it; answers the event."""
        self.traded += Decimal(quantity)
        is_done = self.traded == Decimal(self.params["quantity"])
        self.status = "FILLED" if is_done else "PARTIALLY_FILLED"
        return self.event(
            "TRADE", l=quantity, L=price, t=trade_id, n="0.00000100", N="USDT", m=True
        )

    def event(self, execution: str, **more: object) -> Json:
        """Answers an executionReport about its present state."""
        known = {
            "e": "executionReport", "E": 1, "s": self.params["symbol"], "c": self.client_id,
            "S": self.params["side"], "o": self.params["type"], "f": "GTC",
            "q": self.params["quantity"], "p": self.params.get("price", "0"), "C": "",
            "x": execution, "X": self.status, "r": "NONE", "i": self.order_id,
            "l": "0.00000000", "z": f"{self.traded:.8f}", "L": "0.00000000", "n": "0", "N": None,
            "T": 1, "t": -1, "I": 3, "w": True, "m": False,
        }  # fmt: skip
        return known | more

    def end(self, execution: str = "CANCELED") -> Json:
        """Ends it; answers the event, which names the cancel first and the order second."""
        self.status = execution
        return self.event(execution, c="cancel-1", C=self.client_id)

    def ack(self) -> Json:
        """Answers order.place's result."""
        return {
            "symbol": "BTCUSDT", "orderId": self.order_id, "clientOrderId": self.client_id,
            "transactTime": 1,
        }  # fmt: skip

    def result(self) -> Json:
        """Answers what a query or a cancel says about it."""
        return {
            "symbol": "BTCUSDT", "orderId": self.order_id, "clientOrderId": self.client_id,
            "origClientOrderId": self.client_id, "price": self.params.get("price", "0"),
            "origQty": self.params["quantity"], "executedQty": f"{self.traded:.8f}",
            "status": self.status, "timeInForce": "GTC", "type": self.params["type"],
            "side": self.params["side"],
        }  # fmt: skip

    def my_trade(self, quantity: str, trade_id: int, price: str = "600.00") -> Json:
        """Answers one row of myTrades."""
        return {
            "symbol": "BTCUSDT", "id": trade_id, "orderId": self.order_id, "price": price,
            "qty": quantity, "commission": "0.00000100", "commissionAsset": "USDT",
            "isMaker": True,
        }  # fmt: skip


class Rig:
    """One run's memory with an execution agent in it, stepped by the test."""

    def __init__(self, settings: Settings, data_dir: Path) -> None:
        plans = (
            *ExecutionAgent.segments(settings, "execution"),
            SegmentPlan("control", CONTROL_WORDS * 8, CONTROL_LAYOUT),
            SegmentPlan(
                "instruments", 8 * (1 + INSTRUMENTS_MAX * INSTRUMENT_WORDS), INSTRUMENTS_LAYOUT
            ),
            loglevels.segment_plan(),
        )
        self.run = Run(settings, data_dir, GENERATION, plans)
        self.made = create_all(self.run)
        self.memory = Memory(self.run)
        self.control = self.memory.control()
        self.orders = self.memory.producer("orders")
        self.reports = self.memory.producer("reports")
        self._tell_instruments()
        self.agent = self._new_agent()
        self._intents = 0

    def _tell_instruments(self) -> None:
        words = self.memory.segment("instruments").words(0, 1 + INSTRUMENTS_MAX * INSTRUMENT_WORDS)
        table = np.zeros((INSTRUMENTS_MAX, INSTRUMENT_WORDS), np.int64)
        table[0] = to_words(BTC)
        Latest(words).write(table.reshape(-1))

    def _new_agent(self) -> ExecutionAgent:
        logger = self.memory.logger("trader")
        return ExecutionAgent(AgentContext(self.memory, "trader", "execution", logger))

    async def start(self) -> None:
        """Starts the agent; returns when it is ready for orders."""
        self.agent.on_start()
        await asyncio.wait_for(self.agent.open(), DEADLINE_S)

    async def kill_and_restart(self) -> None:
        """Ends the agent as kill -9 does, without a word to anyone, and starts another."""
        session = self.agent._session
        task, transport = session._task, session.transport
        assert task is not None
        task.cancel()
        if transport is not None:
            session.transport = None  # a dead process hears nothing
            transport.disconnect(graceful=False)
        await asyncio.gather(task, return_exceptions=True)
        self.agent = self._new_agent()
        await self.start()

    def order(
        self,
        *,
        lots: int = 10,
        ticks: int = 60_000,
        side: Side = Side.BUY,
        trigger_ns: int = 0,
        age_ns: int = 0,
    ) -> int:
        """Lets an order pass, as risk would; answers its client id."""
        self._intents += 1
        client_id = client_id_of(GENERATION, self._intents)
        row = np.zeros(ROW_WORDS, np.int64)
        row[TAG] = tag(int(Kind.ORDER_NEW), 0, 0, 1)
        row[PUBLISH_NS] = now_ns() - age_ns
        row[TRIGGER_NS], row[TRIGGER] = trigger_ns or now_ns(), 40 + self._intents
        row[CLIENT_ID], row[PRICE_TICKS], row[QUANTITY_LOTS] = client_id, ticks, lots
        row[TERMS] = pack(int(side), int(OrderType.LIMIT), int(TimeInForce.GTC), 1)
        assert self.orders.append(row) >= 0
        return client_id

    def cancel(self, client_id: int) -> None:
        """Lets a cancel pass."""
        row = np.zeros(ROW_WORDS, np.int64)
        row[TAG] = tag(int(Kind.ORDER_CANCEL), 0, 0, 1)
        row[CLIENT_ID] = client_id
        assert self.orders.append(row) >= 0

    def told(self) -> list[Words]:
        """Answers copies of every report so far."""
        return [self.reports.row(s).copy() for s in range(self.reports.cursor + 1)]

    def reasons(self) -> list[Reason]:
        """Answers why each report so far was written."""
        return [Reason(part(int(row[STATUS]), STATUS_REASON)) for row in self.told()]

    def position(self) -> Words:
        """Answers what other workers read about our position."""
        words = self.memory.segment(SEGMENT).words(0, SEGMENT_BYTES // 8)
        read = Latest(cell(words, 0)).read()
        assert len(read) == POSITION_WORDS
        return read

    def counter(self, name: str) -> int:
        """Answers a counter."""
        return self.memory.stats("trader").counter(name).value

    def consumer(self, name: str, reader: str) -> Consumer:
        """Answers another worker's end of a ring."""
        consumer: Consumer = self.memory.consumer(name, reader)
        return consumer

    async def until(self, holds: Callable[[], object], what: str = "") -> Any:
        """Steps the agent until something holds; answers it."""
        deadline = time.monotonic() + DEADLINE_S
        while not (found := holds()):
            self.agent.do_work()
            assert time.monotonic() < deadline, f"{what or 'condition'}: {self.reasons()}"
            await asyncio.sleep(0.0005)
        return found

    async def reported(self, *reasons: Reason) -> list[Words]:
        """Waits until the last reports are these; answers all."""
        wanted = list(reasons)
        await self.until(lambda: self.reasons()[-len(wanted) :] == wanted, f"wanted {wanted}")
        return self.told()

    async def close(self) -> None:
        """Ends the agent and removes the memory."""
        try:
            await self.agent.close()
            self.agent.on_close()
        finally:
            self.remove()

    def remove(self) -> None:
        """Removes the memory."""
        self.memory.close()
        remove_all(self.made)


def state(report: Words) -> OrderState:
    """Answers a report's order state."""
    return OrderState(part(int(report[STATUS]), STATUS_ORDER))


def request_state(report: Words) -> RequestState:
    """Answers a report's request state."""
    return RequestState(part(int(report[STATUS]), STATUS_REQUEST))


Scenario = Callable[[Rig, Venue], Awaitable[None]]


def play(
    scenario: Scenario, prefix: str, folder: Path, *, pair: KeyPair | None = None, **venue: Any
) -> None:
    """Runs a scenario with an agent that is connected to a fresh venue."""

    async def live() -> None:
        stage = Venue()
        port = await stage.start()
        key_file = folder / "key"
        write_pair(key_file, pair or make_hmac_pair())
        rig = Rig(settings_of(prefix, key_file, port, **venue), folder)
        try:
            await rig.start()
            await scenario(rig, stage)
        finally:
            await rig.close()
            await stage.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())


async def placed(rig: Rig, venue: Venue, **order: Any) -> tuple[int, Json, VenueOrder]:
    """Lets an order pass and takes its request; answers client id, request and order."""
    client_id = rig.order(**order)
    request = await rig.until(lambda: venue.take("order.place"), "order.place")
    assert request["params"]["newClientOrderId"] == client_text(client_id)
    return client_id, request, VenueOrder(request["params"])
