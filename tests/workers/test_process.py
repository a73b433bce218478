"""One worker's process as the supervisor sees it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import EngineSettings, WorkerSettings
from tests.workers.fake_processes import Crew, crew, crew_settings, with_nice
from workers import board as boards
from workers.agent import Phase
from workers.board import WorkerState
from workers.patience import COLD_PATIENCE, silence_ns_max
from workers.process import WorkerProcess


@pytest.fixture
def made(segment_prefix: str, tmp_path: Path) -> Iterator[Crew]:
    settings = crew_settings(
        segment_prefix, restarts_max=4, restart_window_s=10.0, restart_backoff_ms=100,
        restart_backoff_ms_max=300,
    )  # fmt: skip
    with crew(settings, tmp_path) as made:
        made.start()
        made.is_docile = False
        yield made


def _ready(made: Crew, worker: WorkerProcess, now_ns: int) -> None:
    made.make_ready(worker.worker.name)
    worker.watch(now_ns)


def _die(made: Crew, worker: WorkerProcess, now_ns: int) -> str:
    """Dies, and is noticed; answers what is told."""
    made.process(worker.worker.name).die(-signal.SIGKILL)
    worker.note_end()
    return worker.watch(now_ns)


def test_the_delay_before_a_restart_doubles_up_to_its_limit(made: Crew) -> None:
    worker, now_ns = made.worker("keeper"), made.clock()
    told = []
    for _ in range(4):
        told.append(_die(made, worker, now_ns))
        assert worker.watch(now_ns + 99_000_000) == ""
        assert worker.state == WorkerState.BACKOFF
        now_ns += 300_000_000
        worker.watch(now_ns)
        _ready(made, worker, now_ns)

    assert told == [f"died (SIGKILL), back in {ms} ms" for ms in (100, 200, 300, 300)]
    assert _die(made, worker, now_ns) == "died 5 times in 10 s, given up"


def test_deaths_of_long_ago_are_forgotten(made: Crew) -> None:
    worker, now_ns = made.worker("keeper"), made.clock()
    told = []
    for _ in range(8):
        told.append(_die(made, worker, now_ns))
        now_ns += 10_000_000_000
        worker.watch(now_ns)
        _ready(made, worker, now_ns)

    assert told == ["died (SIGKILL), back in 100 ms"] * 8


def test_a_phase_is_awaited_from_who_has_been_ready(made: Crew) -> None:
    worker = made.worker("keeper")
    made.board.set(worker.index, boards.PHASE_DONE, Phase.CANCEL)
    ready = worker.phase_done
    _die(made, worker, made.clock())
    dead = worker.phase_done
    worker.expect_exit()

    assert (ready, dead, worker.phase_done) == (Phase.CANCEL, 0, Phase.EXIT)
    assert worker.state == WorkerState.STOPPED


def test_a_worker_that_leaves_with_an_error_says_so(made: Crew) -> None:
    worker = made.worker("keeper")
    worker.expect_exit()
    made.process("keeper").die(1)
    worker.note_end()

    assert worker.watch(made.clock()) == "left with exit 1"
    assert worker.state == WorkerState.STOPPED


def test_a_signal_to_a_process_that_has_just_ended_is_no_fault(made: Crew) -> None:
    made.worker("keeper").send(signal.SIGTERM)  # nobody has its pid

    assert made.state("keeper") == WorkerState.READY


def test_a_worker_is_killed_once(made: Crew) -> None:
    worker, now_ns = made.worker("keeper"), made.clock()
    made.process("keeper").is_killable = False  # the kernel takes its time
    told = [worker.watch(now_ns + 60_000_000_000 * more) for more in (1, 2, 3)]

    assert told[0].startswith("silent for 6")
    assert told[1:] == ["", ""]


def test_background_priority_may_be_silent_for_longer(segment_prefix: str, tmp_path: Path) -> None:
    settings = with_nice(crew_settings(segment_prefix), "keeper", 19)
    with crew(settings, tmp_path) as made:
        made.start()
        made.is_docile = False
        now_ns = made.clock() + 3_000_000_000
        told = [made.worker(name).watch(now_ns) for name in ("trader", "keeper")]

    assert told[0].startswith("silent for ")
    assert told[1] == ""


@pytest.mark.parametrize(
    ("worker", "times"),
    [
        (WorkerSettings(name="a", agents=()), 1),
        (WorkerSettings(name="a", agents=(), nice=-5), 1),
        (WorkerSettings(name="a", agents=(), nice=1), COLD_PATIENCE),
        (WorkerSettings(name="a", agents=(), scheduler="idle"), COLD_PATIENCE),
    ],
)
def test_patience(worker: WorkerSettings, times: int) -> None:
    engine = EngineSettings(heartbeat_ms_max=250)

    assert silence_ns_max(worker, engine) == 250_000_000 * times
