"""The collector: order, rotation, what survives kill -9, and the reader of its files."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import LogSettings
from engine.eventcodes import INFO
from shm.segment import Words
from tests.workers.observed_run import agent_context, observed_run, small_settings
from workers import logs
from workers.agent import Phase
from workers.context import Memory
from workers.log import Logger
from workers.logfile import existing, log_path
from workers.loglines import Line, decode_line
from workers.logpack import pack
from workers.logrows import PORT_PID, write_again
from workers.logs import BATCH_MAX, Console, LogsAgent, Source, due, merge

LATER_NS = 1 << 62
WORKERS = ("trader", "keeper", "supervisor")
LATE = Line("2025-01-01T00:00:00.000000000Z", "info", "trader", 1, 1, 0, "late", {})


def stamped(logger: Logger, time_ns: int, event: str) -> None:
    """Logs as if at another time."""
    payload, form = pack(event, {})
    write_again(int(logger.port.ctypes.data) | INFO, id(payload), form, time_ns, time_ns)


def started(memory: Memory) -> LogsAgent:
    agent = LogsAgent(agent_context(memory, "watcher", "logs"))
    agent.on_start()
    return agent


def drain(agent: LogsAgent) -> None:
    for _ in range(1_000):
        if agent.on_phase(Phase.LOGS):
            return
    raise AssertionError("the collector drains its rings")


def lines_of(data_dir: Path) -> list[Line]:
    files = reversed(existing(log_path(data_dir), 100))
    return [decode_line(raw) for file in files for raw in file.read_bytes().splitlines()]


@pytest.fixture
def memory(segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    with observed_run(small_settings(segment_prefix), tmp_path) as memory:
        yield memory


class TestCollector:
    def test_lines_of_all_workers_stand_by_time(self, memory: Memory, tmp_path: Path) -> None:
        agent = started(memory)
        loggers = [memory.logger(worker) for worker in WORKERS]
        for number in range(60):
            loggers[number % 3].info("step", number=number)
        drain(agent)
        agent.on_close()

        lines = lines_of(tmp_path)
        assert [line.fields["number"] for line in lines] == list(range(60))
        assert [line.worker for line in lines[:3]] == list(WORKERS)
        assert {line.pid for line in lines} == {os.getpid()}
        assert {line.run for line in lines} == {1}

    def test_fresh_rows_wait_for_rings_that_may_be_late(
        self, memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "HOLD_NS", LATER_NS)
        agent = started(memory)
        memory.logger("trader").info("fresh")

        assert agent.do_work() == 0
        drain(agent)
        assert [line.event for line in lines_of(tmp_path)] == ["fresh"]
        agent.on_close()

    def test_half_full_ring_does_not_wait(
        self, memory: Memory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "HOLD_NS", LATER_NS)
        agent = started(memory)
        logger = memory.logger("trader")
        for _ in range(40):
            logger.info("burst")

        assert agent.do_work() == 40
        agent.on_close()

    def test_every_row_is_counted_and_every_drop_is_told(
        self, memory: Memory, tmp_path: Path
    ) -> None:
        agent = started(memory)
        logger = memory.logger("trader")
        for _ in range(100):
            logger.info("flood")
        drain(agent)
        drain(agent)
        agent.on_close()

        stats = memory.stats("watcher")
        lines = lines_of(tmp_path)
        told = [line for line in lines if line.event == "log messages dropped"]
        assert stats.counter("log_dropped_total", worker="trader").value == 44
        assert [(line.fields["of"], line.fields["count"]) for line in told] == [("trader", 44)]
        assert stats.counter("log_records_total").value == len(lines) == 57

    def test_collector_that_takes_over_repeats_and_loses_nothing(
        self, memory: Memory, tmp_path: Path
    ) -> None:
        """The first one has written rows it could not release: the worst moment to be killed."""
        first = started(memory)
        logger = memory.logger("trader")
        for number in range(30):
            logger.info("step", number=number)
        for source in first._sources:
            source.release = lambda *_: None  # type: ignore[method-assign]
        first.do_work()
        first.on_phase(Phase.LOGS)
        assert first._sources[0].consumer.lag == 30
        for number in range(30, 50):
            logger.info("step", number=number)

        second = started(memory)
        drain(second)
        second.on_close()
        assert [line.fields["number"] for line in lines_of(tmp_path)] == list(range(50))

    def test_disk_that_refuses_costs_no_line(
        self, memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        agent = started(memory)
        memory.logger("trader").info("kept")

        def refuse(*_: object) -> int:
            raise OSError(errno.ENOSPC, "no space left")

        with monkeypatch.context() as broken:
            broken.setattr(os, "write", refuse)
            assert agent.on_phase(Phase.LOGS)
        assert memory.stats("watcher").errors()[0].text.startswith("log file must be writable")
        drain(agent)

        assert [line.event for line in lines_of(tmp_path)] == ["kept"]
        agent.on_close()

    def test_pid_of_compiled_events_is_the_writers(self, memory: Memory, tmp_path: Path) -> None:
        agent = started(memory)
        logger = memory.logger("trader")
        logger.info("ready")
        logger.port[PORT_PID] = 0
        logger.info("unsigned")
        drain(agent)
        agent.on_close()

        assert {line.pid for line in lines_of(tmp_path)} == {os.getpid()}

    def test_console_shows_lines_for_people(
        self, segment_prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings = small_settings(segment_prefix, log=LogSettings(console=True))
        with observed_run(settings, tmp_path) as memory:
            agent = started(memory)
            with (tmp_path / "console").open("w+") as stream:
                assert agent._console is not None
                agent._console = Console(stream)
                memory.logger("trader").warning("order late", order="TR 1")
                drain(agent)
                agent.on_close()
                stream.seek(0)
                text = stream.read()

        assert 'warning  trader       order late order="TR 1"' in text
        assert capsys.readouterr().err == ""

    def test_console_that_nobody_reads_any_more_ends_nobody(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        stream = os.fdopen(writing, "w")
        console = Console(stream)
        console.write([LATE, LATE])
        console.write([LATE])
        assert console.left_out == 3
        with pytest.raises(BrokenPipeError):
            stream.close()  # what it still holds

    def test_console_that_takes_nothing_holds_nobody_up(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        with pytest.raises(BlockingIOError):
            fill(writing)
        os.set_blocking(writing, True)
        with os.fdopen(writing, "w") as stream:
            console = Console(stream)
            console.write([LATE, LATE])
            assert console.left_out == 2
            os.close(reading)


def fill(pipe: int) -> None:
    while True:
        os.write(pipe, b"x" * 65_536)


def sources(memory: Memory) -> list[Source]:
    stats = memory.stats("watcher")
    return [
        Source(
            worker,
            memory.consumer(f"log.{worker}", "logs"),
            stats.counter("log_dropped_total", worker=worker),
        )
        for worker in WORKERS
    ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    folder = tmp_path_factory.mktemp("merge")
    with observed_run(small_settings(f"test-merge-{os.getpid()}"), folder) as memory:
        yield memory


class TestMerge:
    @given(data=st.data())
    def test_merged_lines_ascend_when_no_row_is_later_than_the_hold(
        self, shared: Memory, data: st.DataObject
    ) -> None:
        """Model: rows become visible up to `hold` late, in any interleaving of the rings."""
        hold_ns = 50
        rows = data.draw(
            st.lists(
                st.tuples(st.sampled_from(WORKERS), st.integers(0, 30), st.integers(0, hold_ns)),
                max_size=55,
            )
        )
        loggers = {worker: shared.logger(worker) for worker in WORKERS}
        clock, visible = 1_000, dict.fromkeys(WORKERS, 0)
        todo: list[tuple[int, int, str]] = []
        for worker, step, delay in rows:
            clock += step
            visible[worker] = max(visible[worker], clock + delay)
            todo.append((visible[worker], clock, worker))
        readers = sources(shared)
        written: list[int] = []

        def collect(cutoff_ns: int) -> None:
            parts = due(readers, cutoff_ns)
            written.extend(int(line.event) for line in merge(parts, 1))
            for part in parts:
                part.source.release(part.rows, part.times)

        for seen_ns, stamp_ns, worker in sorted(todo, key=lambda row: row[0]):
            collect(seen_ns - hold_ns - 1)
            stamped(loggers[worker], stamp_ns, str(stamp_ns))
        collect(LATER_NS)

        # A ring's rows that stand across its end come in two parts.
        collect(LATER_NS)
        assert written == sorted(stamp_ns for _, stamp_ns, _ in todo)

    def test_ring_with_more_than_a_batch_holds_the_others_back(self, memory: Memory) -> None:
        readers = sources(memory)
        readers[0].poll = _few(readers[0])  # type: ignore[method-assign]
        for number in range(6):
            stamped(memory.logger("trader"), 100 + number, "a")
        stamped(memory.logger("keeper"), 103, "b")

        parts = due(readers, LATER_NS)
        assert [len(part.rows) for part in parts] == [2]
        assert BATCH_MAX > 2

    def test_row_that_is_no_message_becomes_a_line_that_says_so(self, memory: Memory) -> None:
        logger = memory.logger("trader")
        logger.info("good")
        consumer = memory.consumer("log.trader", "logs")
        consumer.rows[0, 5] = -1

        lines = merge(due(sources(memory), LATER_NS), 1)
        assert lines[0].event == "log_row_unreadable"


def _few(source: Source) -> Callable[[], Words]:
    def poll() -> Words:
        return source.consumer.poll(2)

    return poll


CHILD = """
import sys
from pathlib import Path
from tests.workers.observed_run import agent_context, small_settings
from workers import loglevels
from workers.context import Memory, Run
from workers.logs import LogsAgent

name, folder = sys.argv[1], Path(sys.argv[2])
memory = Memory(Run(small_settings(name), folder, 1, (loglevels.segment_plan(),)))
agent = LogsAgent(agent_context(memory, "watcher", "logs"))
agent.on_start()
print("ready", flush=True)
while True:
    agent.do_work()
"""


@pytest.mark.multiprocess
@pytest.mark.slow
def test_collector_killed_in_the_middle_loses_no_line_and_repeats_none(
    segment_prefix: str, tmp_path: Path, memory: Memory
) -> None:
    logger = memory.logger("trader")
    number = 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, segment_prefix, str(tmp_path)],
            stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        for _ in range(400):
            while unwritten(memory) > 48:
                os.sched_yield()
            logger.info("step", number=number)
            number += 1
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    agent = started(memory)
    drain(agent)
    agent.on_close()

    numbers = [line.fields["number"] for line in lines_of(tmp_path) if line.worker == "trader"]
    assert numbers == list(range(number))
    assert logger.dropped == 0


def unwritten(memory: Memory) -> int:
    return int(memory.consumer("log.trader", "logs").lag)


def test_levels_of_the_configuration_hold_and_may_change(memory: Memory) -> None:
    levels = memory.log_levels()
    logger = memory.logger("trader")
    levels.set("trader", "error")
    logger.info("not wanted")
    levels.set("trader", "info")
    logger.info("wanted")

    assert levels.level("trader") == "info"
    assert memory.observe("log.trader")[0] == 0
    assert logger.level == INFO
    with pytest.raises(ValueError, match="a log level needs a worker that runs: worker=nobody"):
        levels.set("nobody", "info")
