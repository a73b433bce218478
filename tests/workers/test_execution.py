"""Execution against a scripted venue: every order of words."""

from __future__ import annotations

from pathlib import Path

from engine.control import CANCEL_ALL, OPERATOR_HALT, TRADE, set_word
from engine.decision import Input
from engine.positions import CASH, FEES_QUOTE_E8, FILLS, POSITION_LOTS
from engine.records import (
    CLIENT_ID,
    CUMULATIVE_LOTS,
    FEE_ASSET,
    FEE_E8,
    LAST_LOTS,
    LAST_TICKS,
    LEAVES_LOTS,
    REPORT_TRADE_ID,
    REPORT_VENUE_ORDER_ID,
    STATUS,
    STATUS_LIQUIDITY,
    STEP_COUNT,
    STEP_FIRST,
    STEP_INPUT,
    TRIGGER,
    TRIGGER_NS,
    VENUE_CODE,
    OrderState,
    Reason,
    Side,
    client_id_of,
    client_text,
    flags_of,
    part,
    source_of,
)
from engine.venuemessages import STALE_ORDER, UNKNOWN_ORDER
from shm.histogram import COUNT
from tests.workers.execution_rig import GENERATION, Rig, Venue, placed, play, state
from workers.agent import Phase

QUICK_MS = 100


def test_an_order_is_acknowledged_then_filled(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        client_id, request, order = await placed(rig, venue, lots=10)
        await venue.answer(request, order.ack())
        await venue.say(order.event("NEW"))
        await rig.reported(Reason.SENT, Reason.ACK)
        await venue.say(order.trade("0.00010", 55))
        sent, ack, fill = await rig.reported(Reason.SENT, Reason.ACK, Reason.FILL)

        assert [state(r) for r in (sent, ack, fill)] == [
            OrderState.PENDING_NEW,
            OrderState.NEW,
            OrderState.FILLED,
        ]
        assert {int(r[CLIENT_ID]) for r in (sent, ack, fill)} == {client_id}
        assert {int(r[TRIGGER]) for r in (sent, ack, fill)} == {41}
        assert sent[TRIGGER_NS] == fill[TRIGGER_NS] > 0
        assert (flags_of(fill), source_of(fill)) == (Side.BUY, 1)
        assert ack[REPORT_VENUE_ORDER_ID] == 7001
        assert (fill[LAST_TICKS], fill[LAST_LOTS], fill[REPORT_TRADE_ID]) == (60_000, 10, 55)
        assert (fill[CUMULATIVE_LOTS], fill[LEAVES_LOTS]) == (10, 0)
        assert (fill[FEE_E8], fill[FEE_ASSET]) == (100, 1)
        assert part(int(fill[STATUS]), STATUS_LIQUIDITY) == 1
        position = rig.position()
        assert (position[POSITION_LOTS], position[CASH]) == (10, -600_000)
        assert (position[FEES_QUOTE_E8], position[FILLS]) == (100, 1)
        stats = rig.memory.stats("trader")
        assert stats.histogram("tick_to_order_latency_seconds")[COUNT] == 1
        assert stats.histogram("order_execution_latency_seconds")[COUNT] == 1
        names = ("orders_sent_total", "acks_total", "fills_total", "rejects_total")
        assert [rig.counter(name) for name in names] == [1, 1, 1, 0]

    play(scenario, segment_prefix, tmp_path)


def test_each_batch_is_recorded_before_it_is_taken(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        rig.order()
        rig.order()
        await rig.reported(Reason.SENT, Reason.SENT)
        rig.order()
        await rig.reported(Reason.SENT, Reason.SENT, Reason.SENT)

        steps = rig.memory.producer("steps.execution")
        found = [steps.row(s) for s in range(steps.cursor + 1)]
        assert [(int(s[STEP_FIRST]), int(s[STEP_COUNT])) for s in found] == [(0, 2), (2, 1)]
        assert {int(s[STEP_INPUT]) for s in found} == {Input.ORDERS}
        assert rig.consumer("orders", "execution").lag == 0

    play(scenario, segment_prefix, tmp_path)


def test_a_fill_may_come_before_the_answer(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, order = await placed(rig, venue, lots=10)
        await venue.say(order.trade("0.00004", 55))
        await venue.answer(request, order.ack())
        await venue.say(order.trade("0.00006", 56))
        reports = await rig.reported(Reason.SENT, Reason.FILL, Reason.FILL)

        expected = [OrderState.PENDING_NEW, OrderState.PARTIALLY_FILLED, OrderState.FILLED]
        assert [state(r) for r in reports] == expected
        assert [int(r[CUMULATIVE_LOTS]) for r in reports] == [0, 4, 10]

    play(scenario, segment_prefix, tmp_path)


def test_a_fill_told_twice_counts_once(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, order = await placed(rig, venue, lots=10)
        await venue.answer(request, order.ack())
        event = order.trade("0.00004", 55)
        await venue.say(event)
        await venue.say(event)
        await rig.until(lambda: rig.counter("duplicate_fills_total") == 1)

        assert rig.reasons() == [Reason.SENT, Reason.ACK, Reason.FILL]
        assert rig.position()[POSITION_LOTS] == 4

    play(scenario, segment_prefix, tmp_path)


def test_a_refused_order_is_rejected_with_the_venues_code(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, _ = await placed(rig, venue)
        await venue.refuse(request, -2010)
        report = (await rig.reported(Reason.SENT, Reason.REJECT))[-1]

        assert (state(report), report[VENUE_CODE]) == (OrderState.REJECTED, -2010)

    play(scenario, segment_prefix, tmp_path)


def test_an_order_that_waited_too_long_is_not_sent(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        rig.order(age_ns=6_000_000_000)
        report = (await rig.reported(Reason.REJECT))[-1]

        assert (state(report), report[VENUE_CODE]) == (OrderState.REJECTED, STALE_ORDER)

    play(scenario, segment_prefix, tmp_path)


def test_a_cancel_ends_an_order(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        client_id, request, order = await placed(rig, venue)
        await venue.answer(request, order.ack())
        await rig.reported(Reason.ACK)
        rig.cancel(client_id)
        cancel = await rig.until(lambda: venue.take("order.cancel"))
        await venue.say(order.end())
        await venue.answer(cancel, order.result())
        reports = await rig.reported(Reason.CANCEL_SENT, Reason.CANCELED)

        assert cancel["params"]["origClientOrderId"] == client_text(client_id)
        assert [state(r) for r in reports[-2:]] == [OrderState.NEW, OrderState.CANCELED]
        assert rig.counter("cancels_sent_total") == 1

    play(scenario, segment_prefix, tmp_path)


def test_a_fill_beats_a_cancel(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        client_id, request, order = await placed(rig, venue, lots=10)
        await venue.answer(request, order.ack())
        await rig.reported(Reason.ACK)
        rig.cancel(client_id)
        cancel = await rig.until(lambda: venue.take("order.cancel"))
        await venue.refuse(cancel, -2011)
        refused = (await rig.reported(Reason.CANCEL_REJECT))[-1]
        await venue.say(order.trade("0.00010", 3))
        reports = await rig.reported(Reason.CANCEL_SENT, Reason.CANCEL_REJECT, Reason.FILL)

        assert (state(refused), refused[VENUE_CODE]) == (OrderState.NEW, -2011)
        assert state(reports[-1]) == OrderState.FILLED

    play(scenario, segment_prefix, tmp_path)


def test_an_end_is_believed_only_after_all_its_fills(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        client_id, request, order = await placed(rig, venue, lots=10)
        await venue.answer(request, order.ack())
        await rig.reported(Reason.ACK)
        rig.cancel(client_id)
        cancel = await rig.until(lambda: venue.take("order.cancel"))
        fill = order.trade("0.00004", 3)
        ended = order.end()
        await venue.answer(cancel, order.result())
        await venue.say(fill)
        await venue.say(ended)
        reports = await rig.reported(Reason.CANCEL_SENT, Reason.FILL, Reason.CANCELED)

        assert (state(reports[-1]), reports[-1][CUMULATIVE_LOTS]) == (OrderState.CANCELED, 4)

    play(scenario, segment_prefix, tmp_path)


def test_an_order_that_cannot_rest_expires(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, order = await placed(rig, venue)
        await venue.say(order.event("NEW"))
        order.status = "EXPIRED"
        await venue.say(order.event("EXPIRED"))
        await venue.answer(request, order.ack())
        reports = await rig.reported(Reason.SENT, Reason.ACK, Reason.EXPIRED)

        assert state(reports[-1]) == OrderState.EXPIRED

    play(scenario, segment_prefix, tmp_path)


def test_a_cancel_of_an_order_nobody_knows_is_refused_here(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        rig.cancel(client_id_of(GENERATION, 999))
        report = (await rig.reported(Reason.CANCEL_REJECT))[-1]

        assert report[VENUE_CODE] == UNKNOWN_ORDER
        assert "order.cancel" not in [r["method"] for r in venue.seen]

    play(scenario, segment_prefix, tmp_path)


def test_cancel_all_cancels_every_open_order(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        orders = []
        for number in range(3):
            _, request, order = await placed(rig, venue)
            order.order_id += number
            await venue.answer(request, order.ack())
            orders.append(order)
        await rig.until(lambda: rig.counter("acks_total") == 3)
        set_word(rig.control, OPERATOR_HALT, CANCEL_ALL)
        for order in orders:
            cancel = await rig.until(lambda: venue.take("order.cancel"))
            order.status = "CANCELED"
            await venue.answer(cancel, order.result())
        await rig.until(lambda: rig.agent._memory.live_count == 0)
        set_word(rig.control, OPERATOR_HALT, TRADE)

        assert rig.reasons()[-3:] == [Reason.CANCELED] * 3

    play(scenario, segment_prefix, tmp_path)


def test_the_cancel_phase_waits_for_every_end(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, order = await placed(rig, venue)
        await venue.answer(request, order.ack())
        await rig.reported(Reason.ACK)

        assert rig.agent.on_phase(Phase.CANCEL) is False
        cancel = await rig.until(lambda: venue.take("order.cancel"))
        assert rig.agent.on_phase(Phase.CANCEL) is False
        order.status = "CANCELED"
        await venue.answer(cancel, order.result())
        await rig.until(lambda: rig.agent.on_phase(Phase.CANCEL))
        assert rig.agent.on_phase(Phase.CLOSE) is True

    play(scenario, segment_prefix, tmp_path)


def test_the_cancel_phase_gives_up_in_time(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, order = await placed(rig, venue)
        await venue.answer(request, order.ack())
        await rig.reported(Reason.ACK)
        await rig.until(lambda: rig.agent.on_phase(Phase.CANCEL), "bounded wait")

        assert rig.agent._memory.live_count == 1

    play(scenario, segment_prefix, tmp_path)


def test_a_worker_that_comes_back_late_in_a_stop_leaves_the_venue_too(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        session = rig.agent._session
        assert rig.agent.on_phase(Phase.STORE) is True
        await venue.hang_up()
        await rig.until(lambda: session._task is not None and session._task.done(), "it is over")

        assert len(venue.connections) == 1

    play(scenario, segment_prefix, tmp_path)


def test_no_order_is_taken_while_reports_have_no_room(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, order = await placed(rig, venue, lots=10)
        capacity = rig.reports.capacity
        for _ in range(capacity - rig.reports.cursor - 300):
            rig.reports.append(rig.reports.row(0))
        rig.order()
        for _ in range(10):
            rig.agent.do_work()
        assert rig.consumer("orders", "execution").lag == 1
        for _ in range(100):
            rig.reports.append(rig.reports.row(0))
        before = rig.reports.cursor
        await venue.answer(request, order.ack())
        await rig.until(lambda: rig.agent._desk._inbox)
        assert rig.reports.cursor == before
        for reader in ("signal", "risk", "recorder"):
            rig.consumer("reports", reader).release(rig.reports.cursor)
        await rig.until(lambda: venue.take("order.place"))

        assert rig.consumer("orders", "execution").lag == 0
        last = [rig.reports.row(before + n) for n in (1, 2)]
        assert sorted(Reason(int(r[STATUS]) >> 32 & 0x7FFF) for r in last) == [
            Reason.SENT,
            Reason.ACK,
        ]

    play(scenario, segment_prefix, tmp_path)


def test_words_nobody_understands_are_counted_and_survived(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        connection = venue.connections[-1]
        for text in ("", "{", "[]", '{"id":5}', '{"event":{"e":"x"}}', '{"event":{"e":7}}'):
            await connection.send(text)
        _, request, order = await placed(rig, venue)
        await venue.say(order.event("NEW", c="TRFFFFFFFFFFFFFFFF"))
        bad = order.trade("0.00001", 4)
        bad["l"] = "0.000001"  # off the grid
        await venue.say(bad)
        await venue.answer(request, order.ack())
        await rig.reported(Reason.SENT, Reason.ACK)

        assert rig.counter("order_messages_rejected_total") == 5
        assert rig.counter("foreign_orders_total") == 1

    play(scenario, segment_prefix, tmp_path)
