"""The desk against a venue in memory: whatever is lost, doubled or late, the venue's truth wins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.orders import ORDER_CUMULATIVE, ORDER_STATE
from engine.positions import FILLS, POSITION_LOTS
from engine.records import TERMINAL, OrderState, client_number
from shm.jit import now_ns
from tests.workers.execution_rig import Json, Rig, VenueOrder, settings_of
from workers.exchange.keys import make_ed25519_pair, write_pair

SECOND_NS = 1_000_000_000
TURNS_MAX = 60


class Line:
    """Stands where the socket session stands: keeps what the desk sends."""

    def __init__(self) -> None:
        self.sent: list[Json] = []

    def send(self, data: bytes) -> None:
        self.sent.append(json.loads(data))

    def send_buffer(self, buffer: bytearray, at: int) -> None:
        self.sent.append(json.loads(bytes(buffer[at:])))

    def drop(self) -> None:
        raise AssertionError("nothing here ends the connection")

    settle = resume = pause = lambda self: None


class Desk:
    """A real agent's desk, its clock in the test's hand."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.line = rig, Line()
        rig.agent.on_start()
        self.desk = rig.agent._desk
        self.memory = rig.agent._memory
        self.desk.session = self.line  # type: ignore[assignment]
        self.now_ns = now_ns()
        self.desk.recovery._clock = lambda: self.now_ns
        instruments = rig.memory.instruments()
        rig.agent._book.set(instruments)
        self.memory.set_instruments(instruments)
        self.memory.is_ready = True
        self.order_id = 0
        self.trade_id = 0

    def say(self, message: Json) -> None:
        """Lets the desk hear something."""
        self.desk.on_message(json.dumps(message).encode())

    def drain(self) -> None:
        """Reads the reports, as the other workers do."""
        for reader in ("signal", "risk", "recorder"):
            self.rig.consumer("reports", reader).release(self.rig.reports.cursor)
        cursor = self.rig.orders.cursor
        self.rig.consumer("orders", "recorder").release(cursor)
        steps = self.rig.memory.producer("steps.execution")
        self.rig.consumer("steps.execution", "recorder").release(steps.cursor)


@pytest.fixture
def desk(segment_prefix: str, tmp_path: Path) -> Iterator[Desk]:
    write_pair(tmp_path / "key", make_ed25519_pair())
    rig = Rig(settings_of(segment_prefix, tmp_path / "key", 1), tmp_path)
    try:
        yield Desk(rig)
    finally:
        rig.remove()


class Story:
    """One order's life at the venue, and the messages that tell of it."""

    def __init__(self, desk: Desk, fills: list[int], end: str, lots: int) -> None:
        desk.rig.order(lots=lots)
        desk.rig.agent._desk.take_orders()
        self.place = desk.line.sent.pop()
        desk.order_id += 1
        self.order = VenueOrder(self.place["params"], desk.order_id)
        self.trades: list[Json] = []
        self.events = [self.order.event("NEW")]
        for fill in fills:
            desk.trade_id += 1
            quantity = f"{Decimal(fill) / 100_000:.5f}"
            self.events.append(self.order.trade(quantity, desk.trade_id))
            self.trades.append(self.order.my_trade(quantity, desk.trade_id))
        if end and sum(fills) < lots:
            self.events.append(self.order.end(end))
        self.ack = {"id": self.place["id"], "status": 200, "result": self.order.ack()}

    def answer(self, query: Json) -> Json:
        """Answers a query with the truth."""
        known: dict[str, Any] = {"order.status": self.order.result(), "myTrades": self.trades}
        if query["method"] == "order.cancel":
            error = {"code": -2011, "msg": "Unknown order sent."}
            return {"id": query["id"], "status": 400, "error": error}
        return {"id": query["id"], "status": 200, "result": known[query["method"]]}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_venues_truth_wins_over_any_loss_order_and_repetition(
    desk: Desk, data: st.DataObject
) -> None:
    lots = data.draw(st.integers(1, 9))
    fills: list[int] = []
    while sum(fills) < lots and data.draw(st.booleans()):
        fills.append(data.draw(st.integers(1, lots - sum(fills))))
    end = data.draw(st.sampled_from(["", "CANCELED", "EXPIRED"]))
    before = desk.rig.position()
    story = Story(desk, fills, end, lots)
    row = desk.memory.find(client_number(story.order.client_id))
    heard = [story.ack, *({"event": event} for event in story.events)]
    told = data.draw(st.lists(st.sampled_from(range(len(heard))), max_size=2 * len(heard)))
    for index in told:
        desk.say(heard[index])
    desk.desk.recovery.schedule(row)  # what a timeout or a reconnect does
    for _ in range(TURNS_MAX):
        desk.now_ns += SECOND_NS
        desk.desk.recovery.pump(desk.now_ns)
        while desk.line.sent:
            desk.say(story.answer(desk.line.sent.pop(0)))
    desk.drain()

    after = desk.rig.position()
    assert desk.memory.word(row, ORDER_CUMULATIVE) == sum(fills)
    assert after[POSITION_LOTS] - before[POSITION_LOTS] == sum(fills)
    assert after[FILLS] - before[FILLS] == len(fills)
    state = OrderState(desk.memory.word(row, ORDER_STATE))
    wanted = OrderState.PARTIALLY_FILLED if fills else OrderState.NEW
    if sum(fills) == lots:
        wanted = OrderState.FILLED
    elif end:
        wanted = OrderState[end]
    assert state == wanted
    assert (state in TERMINAL) == (not desk.memory.is_live(row))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "status", "result", "error", "event", "e", "c", "i", "l", "z"]
                ),
                inner,
                max_size=5,
            )
        ),
    ),
    st.dictionaries(
        st.sampled_from(list("scSofqpCxXrilzLnNtm")),
        st.text(max_size=12) | st.integers() | st.booleans() | st.none(),
    ),
)
def test_no_message_breaks_the_desk(desk: Desk, message: object, event: Json) -> None:
    desk.desk.on_message(json.dumps(message).encode())
    known = {"e": "executionReport", "s": "BTCUSDT", "c": "TR0000050000000001", "x": "TRADE"}
    desk.say({"event": known | event})
    desk.line.sent.clear()
    desk.drain()

    assert desk.memory.is_ready
