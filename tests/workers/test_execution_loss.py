"""Execution against a scripted venue: every loss, and every death of a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import ordertable
from engine.orders import ORDER_STATE
from engine.positions import FILLS, POSITION_LOTS
from engine.records import (
    CLIENT_ID,
    CUMULATIVE_LOTS,
    LAST_LOTS,
    LAST_TICKS,
    LEAVES_LOTS,
    STATUS,
    VENUE_CODE,
    OrderState,
    Reason,
    RequestState,
    Side,
    client_id_of,
    client_text,
    flags_of,
)
from engine.venuemessages import NO_SESSION
from shm.ring import READER_BASE, RELEASED
from tests.workers.execution_rig import (
    GENERATION,
    Rig,
    Venue,
    VenueOrder,
    placed,
    play,
    request_state,
    state,
)

QUICK_MS = 100


@pytest.mark.parametrize(("code", "status"), [(-1007, 400), (-1000, 400), (-1003, 503)])
def test_a_refusal_that_says_nothing_makes_the_order_unknown(
    segment_prefix: str, tmp_path: Path, code: int, status: int
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, order = await placed(rig, venue)
        await venue.refuse(request, code, status)
        unknown = (await rig.reported(Reason.SENT, Reason.UNKNOWN))[-1]
        query = await rig.until(lambda: venue.take("order.status"))
        await venue.answer(query, order.result())
        resolved = (await rig.reported(Reason.UNKNOWN, Reason.RESOLVED))[-1]

        assert state(unknown) == OrderState.UNKNOWN
        assert state(resolved) == OrderState.NEW

    play(scenario, segment_prefix, tmp_path)


def test_an_unanswered_order_is_unknown_and_never_sent_again(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        client_id, _, order = await placed(rig, venue, lots=10)
        unknown = (await rig.reported(Reason.SENT, Reason.UNKNOWN))[-1]
        query = await rig.until(lambda: venue.take("order.status"))
        order.trade("0.00010", 91)
        await venue.answer(query, order.result())
        trades = await rig.until(lambda: venue.take("myTrades"))
        await venue.answer(trades, [order.my_trade("0.00010", 91, "599.50")])
        fill = (await rig.reported(Reason.UNKNOWN, Reason.FILL))[-1]

        assert (state(unknown), request_state(unknown)) == (
            OrderState.UNKNOWN,
            RequestState.TIMEOUT,
        )
        assert query["params"]["origClientOrderId"] == client_text(client_id)
        assert trades["params"]["orderId"] == 7001
        assert (state(fill), fill[LAST_TICKS]) == (OrderState.FILLED, 59_950)
        assert rig.counter("fills_recovered_total") == 1
        assert [r["method"] for r in venue.seen].count("order.place") == 1

    play(scenario, segment_prefix, tmp_path, request_ms_max=QUICK_MS)


def test_an_order_that_never_arrived_is_rejected_after_several_answers(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        await placed(rig, venue)
        for _ in range(3):
            query = await rig.until(lambda: venue.take("order.status"))
            assert rig.reasons() == [Reason.SENT, Reason.UNKNOWN]
            await venue.refuse(query, -2013)
        resolved = (await rig.reported(Reason.UNKNOWN, Reason.RESOLVED))[-1]

        assert (state(resolved), resolved[VENUE_CODE]) == (OrderState.REJECTED, -2013)

    play(
        scenario, segment_prefix, tmp_path, request_ms_max=QUICK_MS, receive_window_ms=3 * QUICK_MS
    )


def test_an_order_is_not_given_up_before_its_receive_window_has_passed(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, _, order = await placed(rig, venue)
        for _ in range(4):
            query = await rig.until(lambda: venue.take("order.status"))
            await venue.refuse(query, -2013)
        query = await rig.until(lambda: venue.take("order.status"))
        assert rig.reasons() == [Reason.SENT, Reason.UNKNOWN]
        await venue.answer(query, order.result())
        resolved = (await rig.reported(Reason.RESOLVED))[-1]

        assert state(resolved) == OrderState.NEW

    play(scenario, segment_prefix, tmp_path, request_ms_max=QUICK_MS, receive_window_ms=60_000)


def test_a_lost_connection_leaves_requests_unknown_and_recovers_missed_fills(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, first, working = await placed(rig, venue, lots=10)
        await venue.answer(first, working.ack())
        await rig.reported(Reason.ACK)
        _, second, lost = await placed(rig, venue, lots=5)
        lost.order_id = 7002
        working.trade("0.00003", 11)
        venue.open_orders = [working.result(), lost.result()]
        await venue.hang_up()
        unknown = (await rig.reported(Reason.SENT, Reason.UNKNOWN))[-1]
        assert request_state(unknown) == RequestState.DISCONNECTED
        trades = await rig.until(lambda: venue.take("myTrades"))
        await venue.answer(trades, [working.my_trade("0.00003", 11)])
        query = await rig.until(lambda: venue.take("order.status"))
        await venue.answer(query, working.result())
        await rig.until(lambda: rig.agent._memory.is_ready)
        await rig.until(lambda: Reason.FILL in rig.reasons())

        tail = rig.told()[4:]
        assert sorted(Reason(int(r[STATUS]) >> 32 & 0x7FFF) for r in tail) == [
            Reason.FILL,
            Reason.RESOLVED,
        ]
        assert rig.position()[POSITION_LOTS] == 3
        assert rig.agent._memory.live_count == 2
        assert second["params"]["quantity"] == "0.00005"
        assert [r["method"] for r in venue.seen].count("order.place") == 2

    play(scenario, segment_prefix, tmp_path)


def test_an_order_that_ended_while_we_were_away_ends_here_too(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, order = await placed(rig, venue, lots=10)
        await venue.answer(request, order.ack())
        await rig.reported(Reason.ACK)
        await venue.hang_up()
        order.status = "CANCELED"
        query = await rig.until(lambda: venue.take("order.status"))
        await venue.answer(query, order.result())
        report = (await rig.reported(Reason.ACK, Reason.CANCELED))[-1]

        assert state(report) == OrderState.CANCELED

    play(scenario, segment_prefix, tmp_path)


def test_an_order_without_a_connection_is_refused_at_once(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        venue.is_silent_for = {"userDataStream.subscribe.signature"}
        await venue.hang_up()
        await rig.until(lambda: not rig.agent._memory.is_ready)
        rig.order()
        report = (await rig.reported(Reason.REJECT))[-1]

        assert (state(report), report[VENUE_CODE]) == (OrderState.REJECTED, NO_SESSION)
        assert rig.counter("rejects_total") == 1

    play(scenario, segment_prefix, tmp_path)


def test_a_cancel_wanted_while_away_is_sent_after_the_reconnect(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        client_id, request, order = await placed(rig, venue)
        await venue.answer(request, order.ack())
        await rig.reported(Reason.ACK)
        venue.open_orders = [order.result()]
        venue.is_silent_for = {"userDataStream.subscribe.signature"}
        await venue.hang_up()
        await rig.until(lambda: not rig.agent._memory.is_ready)
        rig.cancel(client_id)
        rig.agent.do_work()
        venue.is_silent_for = set()
        await venue.hang_up()
        await rig.until(lambda: venue.take("order.cancel"))

        assert rig.reasons()[-1] == Reason.CANCEL_SENT

    play(scenario, segment_prefix, tmp_path)


def test_an_open_order_of_ours_is_adopted_and_a_foreign_one_left_alone(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, ours = await placed(rig, venue, lots=10)
        await venue.refuse(request, -2010)
        await rig.reported(Reason.REJECT)
        ours.params["newClientOrderId"] = client_text(client_id_of(3, 8))
        ours.traded, ours.status = ours.traded + 0, "NEW"
        foreign = VenueOrder({**ours.params, "newClientOrderId": "somebody"}, 9)
        venue.open_orders = [foreign.result(), ours.result()]
        await venue.hang_up()
        report = (await rig.reported(Reason.ADOPTED))[-1]
        await venue.say(ours.trade("0.00004", 77))
        fill = (await rig.reported(Reason.ADOPTED, Reason.FILL))[-1]

        assert report[CLIENT_ID] == client_id_of(3, 8)
        assert (report[LAST_TICKS], report[LAST_LOTS], report[LEAVES_LOTS]) == (60_000, 10, 10)
        assert (flags_of(report), state(report)) == (Side.BUY, OrderState.NEW)
        assert state(fill) == OrderState.PARTIALLY_FILLED
        assert rig.counter("foreign_orders_total") == 1
        assert rig.counter("adopted_orders_total") == 1
        assert "order.cancel" not in [r["method"] for r in venue.seen]

    play(scenario, segment_prefix, tmp_path)


def test_a_killed_worker_goes_on_where_it_stopped(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, first, working = await placed(rig, venue, lots=10)
        await venue.answer(first, working.ack())
        await venue.say(working.trade("0.00002", 1))
        await rig.reported(Reason.FILL)
        _, _, lost = await placed(rig, venue, lots=5)
        await rig.reported(Reason.SENT)
        third = rig.order(lots=7)
        lost.order_id = 7002
        venue.open_orders = [working.result(), lost.result()]
        await rig.kill_and_restart()
        await rig.reported(Reason.UNKNOWN, Reason.RESOLVED, Reason.SENT)
        request = await rig.until(lambda: venue.take("order.place"))

        assert request["params"]["newClientOrderId"] == client_text(third)
        assert [r["method"] for r in venue.seen].count("order.place") == 3
        await venue.say(working.trade("0.00003", 2))
        await rig.reported(Reason.FILL)
        assert rig.position()[POSITION_LOTS] == 5
        assert rig.position()[FILLS] == 2

    play(scenario, segment_prefix, tmp_path)


def test_a_worker_killed_between_socket_and_report_tells_it_afterwards(
    segment_prefix: str, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    async def scenario(rig: Rig, venue: Venue) -> None:
        session = rig.agent._session
        send = session.send_buffer

        def send_and_die(buffer: bytearray, at: int) -> None:
            send(buffer, at)
            raise Killed

        session.send_buffer = send_and_die  # type: ignore[method-assign]
        rig.order(lots=10)
        rig.order(lots=5)
        with pytest.raises(Killed):
            rig.agent.do_work()
        await rig.kill_and_restart()
        await rig.until(lambda: len(rig.reasons()) == 3)

        assert rig.reasons() == [Reason.SENT, Reason.UNKNOWN, Reason.SENT]
        assert [int(r[LAST_LOTS]) for r in rig.told()] == [10, 10, 5]
        assert [r["method"] for r in venue.seen].count("order.place") == 2

    play(scenario, segment_prefix, tmp_path)


def test_a_worker_killed_between_report_and_table_is_mended_from_the_ring(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, order = await placed(rig, venue, lots=10)
        await venue.answer(request, order.ack())
        await rig.reported(Reason.ACK)
        before = rig.agent._memory.table.copy()
        await venue.say(order.trade("0.00004", 3))
        await venue.say(order.trade("0.00001", 4))
        await rig.reported(Reason.FILL, Reason.FILL)
        rig.agent._memory.table[:] = before
        venue.open_orders = [order.result()]
        await rig.kill_and_restart()
        await venue.say(order.trade("0.00005", 5))
        reports = await rig.reported(Reason.SENT, Reason.ACK, *[Reason.FILL] * 3)

        assert [int(r[CUMULATIVE_LOTS]) for r in reports] == [0, 0, 4, 5, 10]
        assert (rig.position()[POSITION_LOTS], rig.position()[FILLS]) == (10, 3)

    play(scenario, segment_prefix, tmp_path)


def test_a_worker_killed_before_a_refusal_was_told_tells_it_afterwards(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        client_id = rig.order()
        rig.agent._memory.table[ordertable.TAKEN] = 1
        await rig.kill_and_restart()
        report = (await rig.reported(Reason.REJECT))[-1]

        assert (int(report[CLIENT_ID]), state(report)) == (client_id, OrderState.REJECTED)
        assert "order.place" not in [r["method"] for r in venue.seen]

    play(scenario, segment_prefix, tmp_path)


def test_a_record_that_is_in_the_table_is_not_sent_again(
    segment_prefix: str, tmp_path: Path
) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, order = await placed(rig, venue, lots=10)
        await venue.answer(request, order.ack())
        await rig.reported(Reason.ACK)
        venue.open_orders = [order.result()]
        # As if the worker had died after the row was written and before anything else was.
        rig.agent._memory.table[ordertable.TAKEN] = 0
        rig.orders.control[READER_BASE + RELEASED] = -1
        await rig.kill_and_restart()
        for _ in range(20):
            rig.agent.do_work()

        assert [r["method"] for r in venue.seen].count("order.place") == 1
        assert rig.reasons() == [Reason.SENT, Reason.ACK]

    play(scenario, segment_prefix, tmp_path)


def test_a_ghost_order_is_cancelled(segment_prefix: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, order = await placed(rig, venue)
        await venue.refuse(request, -2010)
        await rig.reported(Reason.REJECT)
        await venue.say(order.event("NEW"))
        await rig.until(lambda: venue.take("order.cancel"))

        assert rig.counter("ghost_orders_total") == 1
        row = rig.agent._memory.find(client_id_of(GENERATION, 1))
        assert rig.agent._memory.word(row, ORDER_STATE) == OrderState.REJECTED

    play(scenario, segment_prefix, tmp_path)
