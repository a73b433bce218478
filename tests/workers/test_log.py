"""The logger: what lies in the ring after a call, and what a call must never do."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.eventcodes import (
    CRITICAL,
    DEBUG,
    ERROR,
    EVENT_BOOK_STALE,
    EVENT_INTENT_DENIED,
    INFO,
    WARNING,
)
from shm import ring
from shm.handles import Consumer, Producer
from shm.ring import GATING
from shm.segment import Segment
from workers.log import DEFERRED_MAX, Logger, bridge
from workers.loglevels import NAMES
from workers.loglines import Line, read_line, row_of
from workers.logrows import (
    EPOCH_NS,
    LEVEL_MASK,
    MONOTONIC_NS,
    PAYLOAD,
    PAYLOAD_BYTES,
    PORT_ALIGN,
    PORT_OFFSET_NS,
    PORT_OFFSET_UNTIL_NS,
    ROW_BYTES,
    TOO_LONG,
    is_logged,
    log_event,
    warm,
    write_message,
)

CAPACITY = 64


class Bench:
    """A logger and the reading end of its ring."""

    def __init__(self, segment: Segment) -> None:
        self.consumer = Consumer(segment, 0)
        self.level = np.array([INFO], np.int64)
        self.logger = Logger(Producer(segment), "trader", self.level)
        self.place = int(self.logger.port.ctypes.data) | INFO

    def lines(self) -> list[Line]:
        rows = self.consumer.poll(CAPACITY)
        table = memoryview(rows.tobytes())
        found = [
            read_line(head, row_of(table, index), "trader", 1)
            for index, head in enumerate(rows[:, :5].tolist())
        ]
        self.consumer.release(self.consumer.released + len(rows))
        return found


@pytest.fixture
def bench(segment_prefix: str) -> Iterator[Bench]:
    segment = ring.create(
        segment_prefix, 1, capacity=CAPACITY, row_bytes=ROW_BYTES, kinds=(GATING,), parkable=False
    )
    yield Bench(segment)
    segment.unlink()
    segment.close()


class TestLogger:
    def test_message_arrives_with_its_fields(self, bench: Bench) -> None:
        bench.logger.info("order sent", order="TR1", price_ticks=5, ratio=0.5, on=True, none=None)

        line = bench.lines()[0]
        assert (line.level, line.event, line.worker) == ("info", "order sent", "trader")
        assert line.fields == {
            "order": "TR1", "price_ticks": 5, "ratio": 0.5, "on": True, "none": None
        }  # fmt: skip
        assert not line.truncated

    def test_level_below_the_shared_word_writes_nothing(self, bench: Bench) -> None:
        bench.logger.debug("a")
        bench.level[0] = WARNING
        bench.logger.info("b")
        bench.logger.warning("c")
        bench.level[0] = 0
        bench.logger.debug("d")

        assert [line.event for line in bench.lines()] == ["c", "d"]

    def test_times_are_those_of_the_call(self, bench: Bench) -> None:
        before = time.time_ns(), time.monotonic_ns()
        bench.logger.info("now")
        after = time.time_ns(), time.monotonic_ns()

        row = bench.consumer.poll(1)[0]
        assert before[0] <= row[EPOCH_NS] <= after[0]
        assert before[1] <= row[MONOTONIC_NS] <= after[1]

    @pytest.mark.parametrize(
        "name", ["key", "secret", "password", "signature", "api_key", "venue_secret", "API-KEY"]
    )
    def test_secret_fields_never_reach_a_line(self, bench: Bench, name: str) -> None:
        bench.logger.info("signed", **{name: "hunter2", "symbol": "BTCUSDT"})

        assert bench.lines()[0].fields == {name: "***", "symbol": "BTCUSDT"}

    @pytest.mark.parametrize("name", ["key", "secret", "password", "signature"])
    def test_plainly_named_secrets_never_reach_shared_memory(self, bench: Bench, name: str) -> None:
        bench.logger.info("signed", **{name: "hunter2"})

        assert b"hunter2" not in bench.consumer.rows.tobytes()

    def test_secrets_inside_values_and_texts_are_masked(self, bench: Bench) -> None:
        bench.logger.info(
            "call", request={"apiKey": "hunter2", "n": [{"secret": "hunter2"}]},
            url="redis://user:hunter2@host:1/0", query="a=1&signature=hunter2&b=2",
        )  # fmt: skip

        fields = bench.lines()[0].fields
        assert "hunter2" not in str(fields)
        assert fields["query"] == "a=1&signature=***&b=2"
        assert fields["url"] == "redis://user:***@host:1/0"

    def test_values_without_a_msgpack_form_become_text(self, bench: Bench) -> None:
        class Rude:
            def __str__(self) -> str:
                raise RuntimeError("no")

        bench.logger.info("odd", path=Path("a/b"), number=np.int64(7), big=1 << 70)
        bench.logger.info("rude", value=Rude())
        bench.logger.info("broken", text="\ud800")

        odd, rude, broken = bench.lines()
        assert odd.fields == {"path": "a/b", "number": 7, "big": str(1 << 70)}
        assert rude.fields == {"value": "<unprintable Rude: RuntimeError>"}
        assert broken.fields == {"text": "\\ud800"}

    def test_exception_says_what_and_where(self, bench: Bench) -> None:
        try:
            int("bad price")
        except ValueError:
            bench.logger.exception("codec failed", symbol="BTCUSDT")

        line = bench.lines()[0]
        assert line.level == "error"
        assert line.fields["error"] == (
            "ValueError: invalid literal for int() with base 10: 'bad price'"
        )
        assert line.fields["at"].startswith("test_log.py:")

    def test_full_ring_drops_and_counts_but_keeps_room_for_warnings(self, bench: Bench) -> None:
        for number in range(2 * CAPACITY):
            bench.logger.info("flood", number=number)
        room = CAPACITY - bench.consumer.lag
        dropped = bench.logger.dropped
        for _ in range(room + 3):
            bench.logger.warning("trouble")

        assert room == CAPACITY // 8
        assert dropped == 2 * CAPACITY - (CAPACITY - room)
        assert bench.consumer.lag == CAPACITY
        assert bench.logger.dropped == dropped + 3
        assert [line.event for line in bench.lines()].count("trouble") == room

    def test_writing_goes_on_once_the_reader_has_released(self, bench: Bench) -> None:
        for _ in range(2 * CAPACITY):
            bench.logger.info("flood")
        bench.lines()
        bench.logger.info("after")

        assert [line.event for line in bench.lines()] == ["after"]

    def test_message_of_another_thread_waits_for_the_owner_with_its_own_time(
        self, bench: Bench
    ) -> None:
        thread = threading.Thread(target=lambda: bench.logger.warning("from a thread"))
        thread.start()
        thread.join()
        assert bench.consumer.lag == 0
        bench.logger.info("from the owner")

        rows = bench.consumer.poll(2)
        stamps = rows[:, MONOTONIC_NS].tolist()
        assert [line.event for line in bench.lines()] == ["from the owner", "from a thread"]
        assert stamps[1] < stamps[0]

    def test_flush_writes_what_other_threads_left_and_counts_what_was_too_much(
        self, bench: Bench
    ) -> None:
        def chatter() -> None:
            for _ in range(DEFERRED_MAX + 5):
                bench.logger.error("x")

        thread = threading.Thread(target=chatter)
        thread.start()
        thread.join()
        bench.logger.flush()

        assert bench.consumer.lag == CAPACITY
        assert bench.logger.dropped == 5 + DEFERRED_MAX - CAPACITY

    def test_signal_handler_may_log_at_any_moment(self, bench: Bench) -> None:
        class Interrupting:
            def __str__(self) -> str:
                signal.raise_signal(signal.SIGUSR1)
                return "interrupted"

        before = signal.signal(signal.SIGUSR1, lambda *_: bench.logger.info("in the handler"))
        try:
            bench.logger.info("in the middle", value=Interrupting())
        finally:
            signal.signal(signal.SIGUSR1, before)

        assert [line.event for line in bench.lines()] == ["in the handler", "in the middle"]

    def test_message_of_any_thread_arrives_once_or_is_counted(self, bench: Bench) -> None:
        def chatter(first: int) -> None:
            for number in range(first, first + 50):
                bench.logger.info("other", number=number)

        threads = [threading.Thread(target=chatter, args=(50 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        lines = []
        while any(thread.is_alive() for thread in threads) or bench.logger._deferred:
            bench.logger.info("own")
            lines += bench.lines()

        numbers = [line.fields["number"] for line in lines if line.event == "other"]
        assert len(set(numbers)) == len(numbers)
        assert len(numbers) + bench.logger.dropped == 200

    def test_secret_of_another_thread_never_waits_in_the_open(self, bench: Bench) -> None:
        thread = threading.Thread(target=lambda: bench.logger.info("signed", key="hunter2"))
        thread.start()
        thread.join()

        assert "hunter2" not in str(bench.logger._deferred)

    def test_row_holds_nothing_of_the_memory_behind_its_payload(self, bench: Bench) -> None:
        bench.consumer.rows[:] = -1
        payload = b"\x92\xa1e\x80" + b"\xc0" * 9
        for size in range(4, len(payload) + 1):
            write = bench.consumer.cursor + 1
            write_message(bench.place, id(payload[:size]))

            row = bench.consumer.rows[write][PAYLOAD:].tobytes()
            padded = -size % 8
            assert row[: size + padded] == payload[:size] + bytes(padded)
            assert set(row[size + padded :]) == {0xFF}

    def test_payload_that_is_too_long_is_refused_and_nothing_is_written(self, bench: Bench) -> None:
        assert write_message(bench.place, id(b"x" * (PAYLOAD_BYTES + 1))) == TOO_LONG
        assert bench.consumer.lag == 0
        assert write_message(bench.place, id(b"x" * PAYLOAD_BYTES)) == 0

    def test_one_clock_stamps_both_times_until_its_difference_is_read_again(
        self, bench: Bench
    ) -> None:
        port = bench.logger.port
        port[PORT_OFFSET_NS], port[PORT_OFFSET_UNTIL_NS] = 5, 1 << 62
        bench.logger.info("difference is believed")
        port[PORT_OFFSET_UNTIL_NS] = 0
        before_ns = time.time_ns()
        bench.logger.info("clock is asked")

        first, second = bench.consumer.poll(2)
        assert first[EPOCH_NS] - first[MONOTONIC_NS] == 5
        assert before_ns <= second[EPOCH_NS] <= time.time_ns()

    def test_port_begins_where_every_level_fits_below(self, bench: Bench) -> None:
        assert bench.logger.port.ctypes.data % PORT_ALIGN == 0
        assert CRITICAL <= LEVEL_MASK < PORT_ALIGN

    @pytest.mark.parametrize("level", [DEBUG, INFO, WARNING, ERROR, CRITICAL])
    def test_every_method_writes_its_level(self, bench: Bench, level: int) -> None:
        bench.level[0] = DEBUG
        getattr(bench.logger, NAMES[level])("said")

        assert bench.lines()[0].level == NAMES[level]


CHILD = """
import os, signal, sys
import numpy as np
from shm import ring
from shm.handles import Producer
from workers.log import Logger

segment = ring.attach(sys.argv[1], capacity=int(sys.argv[2]), row_bytes=512)
logger = Logger(Producer(segment), "trader", np.zeros(1, np.int64))
for number in range(50):
    logger.info("step", number=number)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.multiprocess
@pytest.mark.slow
def test_message_is_there_for_good_once_the_call_has_returned(
    bench: Bench, segment_prefix: str
) -> None:
    """The writer kills itself right after its last call, as if anybody had."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, segment_prefix, str(CAPACITY)],
        cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip

    assert child.returncode == -signal.SIGKILL
    assert [line.fields["number"] for line in bench.lines()] == list(range(50))


class TestTruncation:
    def test_long_text_is_cut_and_marked(self, bench: Bench) -> None:
        bench.logger.info("long", text="x" * 5_000, symbol="BTCUSDT")

        line = bench.lines()[0]
        assert line.truncated
        assert line.fields["symbol"] == "BTCUSDT"
        assert line.fields["text"].endswith("...")


class TestEventCodes:
    def test_compiled_event_gets_its_words_back(self, bench: Bench) -> None:
        assert log_event(bench.logger.port, EVENT_BOOK_STALE, 1, 3, 42) == 0

        line = bench.lines()[0]
        assert (line.level, line.event) == ("warning", "book_stale")
        assert line.fields == {"instrument": 1, "state": 3, "update_id": 42}

    def test_level_of_the_code_is_checked(self, bench: Bench) -> None:
        assert log_event(bench.logger.port, EVENT_INTENT_DENIED, 1, 2, 3) == -1
        bench.level[0] = 0
        assert is_logged(bench.logger.port, EVENT_INTENT_DENIED)
        assert log_event(bench.logger.port, EVENT_INTENT_DENIED, 1, 2, 3) == 0

    def test_unknown_code_keeps_its_numbers(self, bench: Bench) -> None:
        log_event(bench.logger.port, 999 | WARNING << 16, 7, 8, 9)

        line = bench.lines()[0]
        assert line.event == "unknown_event_code"
        assert line.fields == {"code": 999, "a": 7, "b": 8, "c": 9}


class TestBridge:
    @pytest.fixture(autouse=True)
    def _root_as_before(self) -> Iterator[None]:
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        yield
        root.handlers[:] = handlers
        root.setLevel(level)

    def test_library_records_arrive_and_are_counted(self, bench: Bench) -> None:
        handler = bridge(bench.logger)
        logging.getLogger("asyncio").warning("slow callback: %s ms", 120)
        logging.getLogger("redis").debug("nobody wants this")

        line = bench.lines()[0]
        assert (line.level, line.event) == ("warning", "asyncio")
        assert line.fields == {"message": "slow callback: 120 ms"}
        assert handler.records_total == 1

    def test_format_that_does_not_fit_is_still_told(self, bench: Bench) -> None:
        record = logging.LogRecord("asyncpg", logging.ERROR, "", 1, "%d rows", ("many",), None)
        bridge(bench.logger).emit(record)

        assert bench.lines()[0].fields["message"] == "%d rows"

    def test_second_bridge_replaces_the_first(self, bench: Bench) -> None:
        bridge(bench.logger)
        bridge(bench.logger)
        logging.getLogger("websockets").error("once")

        assert len(bench.lines()) == 1


def test_warming_touches_no_ring(bench: Bench) -> None:
    warm()

    assert bench.consumer.cursor == -1
