"""The supervisor over workers that a test makes READY, silent and dead as it likes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.control import CANCEL_ALL, NO_NEW, OPERATOR_HALT, SUPERVISOR_HALT, halt_level, set_word
from tests.workers.fake_processes import Crew, crew, crew_settings
from workers import board as boards
from workers.board import WorkerState
from workers.pinning import FAULT_AFFINITY
from workers.runner import EXIT_CONFIG, EXIT_CRASH
from workers.summary import collect, failures
from workers.supervisor import StartError

NAMES = ("trader", "keeper", "watcher")


@pytest.fixture
def started(segment_prefix: str, tmp_path: Path) -> Iterator[Crew]:
    settings = crew_settings(
        segment_prefix, restarts_max=2, restart_backoff_ms=1, restart_backoff_ms_max=1
    )
    with crew(settings, tmp_path) as made:
        made.start()
        yield made


@pytest.fixture
def waiting(segment_prefix: str, tmp_path: Path) -> Iterator[Crew]:
    """Nobody is started yet, and nobody will be READY by itself."""
    settings = crew_settings(segment_prefix, ready_s_max=5.0, drain_s_max=0.05)
    with crew(settings, tmp_path) as made:
        yield made


def _die(made: Crew, name: str, code: int) -> None:
    made.process(name).die(code)
    made.supervisor.turn()


class TestStart:
    def test_workers_are_started_by_rank(self, waiting: Crew) -> None:
        order: list[str] = []
        waiting.is_docile = True
        assert waiting.supervisor.start(order.append)

        assert order == ["watcher", "keeper", "trader"]
        assert [waiting.state(name) for name in NAMES] == [WorkerState.READY] * 3

    def test_a_worker_that_dies_before_it_was_ready_ends_the_start(self, waiting: Crew) -> None:
        """An unreachable venue: the first death says it, and nothing is tried again."""
        made = waiting

        def live() -> None:
            if len(made.context.processes) == 3:
                made.is_docile = False
                made.supervisor.memory.stats("trader").error("RestError: the venue must answer")
                made.process("trader").die(EXIT_CRASH)

        made.is_docile = True
        made.supervisor.poll_with(live)
        with pytest.raises(StartError) as failed:
            made.supervisor.start()

        assert str(failed.value) == (
            "worker must become READY: worker=trader died (exit 1) before it was READY;"
            " RestError: the venue must answer"
        )
        assert not failed.value.is_configuration
        assert len(made.context.processes["trader"]) == 1
        assert halt_level(made.supervisor.memory.control()) == 0

    def test_the_error_that_came_last_is_told(self, waiting: Crew) -> None:
        stats = waiting.supervisor.memory.stats("watcher")
        for text in ("first", "second", "first"):
            stats.error(text)

        assert waiting.supervisor.notices.last_error("watcher") == "first"

    def test_a_wrong_configuration_is_told_apart(self, waiting: Crew) -> None:
        waiting.supervisor.poll_with(lambda: waiting.process("watcher").die(EXIT_CONFIG))
        with pytest.raises(StartError, match="worker=watcher stopped: its configur") as failed:
            waiting.supervisor.start()

        assert failed.value.is_configuration

    def test_a_worker_that_is_not_ready_in_time_ends_the_start(self, waiting: Crew) -> None:
        waiting.supervisor.poll_with(lambda: waiting.clock.pass_ms(800))
        with pytest.raises(StartError, match="worker=watcher not READY within 5 s, killed; no err"):
            waiting.supervisor.start()

        assert waiting.process("watcher").exitcode == -9

    def test_a_start_that_is_broken_off_is_none(self, waiting: Crew) -> None:
        codes: list[int | None] = []
        waiting.supervisor.poll_with(waiting.supervisor.ask_stop)
        assert waiting.supervisor.start() is False
        waiting.supervisor.stop(lambda _: codes.append(waiting.process("watcher").exitcode))

        assert set(waiting.context.processes) == {"watcher"}
        assert codes == [-9] * 6  # it took part in nothing, so no phase is for it
        assert waiting.supervisor.forced == []

    def test_a_forkserver_that_loads_is_no_host_that_stands_still(self, waiting: Crew) -> None:
        waiting.is_docile = True
        loading_ms = iter([5_000])
        waiting.supervisor.turn()
        waiting.context.on_start = lambda: waiting.clock.pass_ms(next(loading_ms, 0))
        waiting.supervisor.start()

        assert waiting.said == []

    def test_what_the_host_refused_is_said_once(self, waiting: Crew) -> None:
        waiting.is_docile = True
        waiting.board.row(0)[boards.FAULTS] = FAULT_AFFINITY
        waiting.supervisor.start()
        waiting.supervisor.turn()

        assert waiting.said == [
            "warning: host refused a setting: worker=trader refused=core affinity"
        ]


class TestDeath:
    def test_a_dead_worker_is_started_again(self, started: Crew) -> None:
        started.process("trader").die(-9)
        started.turn_until_back("trader")
        started.supervisor.turn()
        started.supervisor.turn()

        assert started.state("trader") == WorkerState.READY
        assert started.worker("trader").restarts == 1
        what = "died (SIGKILL), back in 1 ms"
        assert started.said == [
            f"warning: worker is not well: worker=trader what={what} restarts=1"
        ]

    def test_trading_halts_when_the_budget_is_spent(self, started: Crew) -> None:
        for _ in range(2):
            started.process("keeper").die(-9)
            started.turn_until_back("keeper")
            started.supervisor.turn()
            started.supervisor.turn()
        before = int(started.supervisor.memory.control()[SUPERVISOR_HALT])
        _die(started, "keeper", -9)

        assert before == 0
        assert started.state("keeper") == WorkerState.FAILED
        assert halt_level(started.supervisor.memory.control()) == CANCEL_ALL
        reason = "worker keeper died 3 times in 60 s, given up"
        assert started.supervisor.halt_reason == reason
        assert started.said[-1] == (
            f"critical: trading is halted: level=cancel all reason={reason}"
        )
        (error,) = started.supervisor.memory.stats("supervisor").errors()
        assert "worker=keeper died 3 times" in error.text

    def test_a_given_up_worker_is_not_started_again(self, started: Crew) -> None:
        _die(started, "keeper", EXIT_CONFIG)
        started.clock.pass_ms(800)
        started.supervisor.turn()

        assert len(started.context.processes["keeper"]) == 1

    def test_a_wrong_configuration_halts_at_once(self, started: Crew) -> None:
        _die(started, "keeper", EXIT_CONFIG)

        assert halt_level(started.supervisor.memory.control()) == CANCEL_ALL
        assert started.worker("keeper").restarts == 0

    def test_a_resumed_halt_has_no_reason(self, started: Crew) -> None:
        started.supervisor.halt(NO_NEW, "a test")
        started.supervisor.halt(0, "operator")

        assert started.supervisor.halt_reason == ""
        assert started.said[-1] == "warning: trading is resumed: reason=operator"

    def test_what_an_operator_does_to_the_kill_switch_is_said(self, started: Crew) -> None:
        for level in (NO_NEW, NO_NEW, 0):
            set_word(started.supervisor.memory.control(), OPERATOR_HALT, level)
            started.supervisor.turn()

        assert started.said == [
            "warning: operator halts trading: level=no new orders",
            "warning: operator lets trading go on: level=trading",
        ]

    def test_an_error_that_a_worker_recorded_is_said_once(self, started: Crew) -> None:
        for _ in range(3):
            started.supervisor.memory.stats("keeper").error("database is away: password=secret")
            started.clock.pass_ms(600)
            started.supervisor.turn()

        assert started.said == [
            "error: worker recorded an error: worker=keeper error=database is away: password=***"
        ]


class TestSilence:
    def test_a_silent_worker_is_killed(self, started: Crew) -> None:
        started.is_docile = False
        for _ in range(4):
            started.beat("keeper")
            started.beat("watcher")
            started.clock.pass_ms(600)
            started.supervisor.turn()

        assert started.process("trader").exitcode == -9
        assert started.process("keeper").exitcode is None

    def test_time_in_which_the_host_stood_still_is_no_silence(self, started: Crew) -> None:
        started.supervisor.turn()
        started.clock.pass_ms(3_600_000)
        started.supervisor.turn()

        assert [started.process(name).exitcode for name in NAMES] == [None] * 3
        assert started.said[0].startswith("warning: supervisor stood still: ms=3600")

    def test_a_calm_turn_is_never_taken_for_a_pause(
        self, segment_prefix: str, tmp_path: Path
    ) -> None:
        """However little silence is allowed: or no silence would ever count."""
        with crew(crew_settings(segment_prefix, heartbeat_ms_max=200), tmp_path) as made:
            made.start()
            for _ in range(3):
                made.supervisor.turn()

            assert [text for text in made.said if "stood still" in text] == []

    @pytest.mark.parametrize("beats_after", [0, 1])
    def test_a_worker_that_hangs_is_killed_after_a_pause_as_well(
        self, started: Crew, beats_after: int
    ) -> None:
        started.supervisor.turn()
        started.is_docile = False
        started.clock.pass_ms(3_600_000)
        started.supervisor.turn()
        for _ in range(beats_after):
            started.beat("trader")
        for _ in range(5):
            started.beat("keeper")
            started.beat("watcher")
            started.supervisor.turn()
            started.clock.pass_ms(600)

        assert started.process("trader").exitcode == -9

    def test_a_worker_that_starts_is_given_the_pause_as_well(self, waiting: Crew) -> None:
        pauses = iter([0, 3_600_000])

        def pause() -> None:
            waiting.clock.pass_ms(pause_ms := next(pauses, 0))
            waiting.is_docile = pause_ms > 0 or waiting.is_docile

        waiting.supervisor.poll_with(pause)

        assert waiting.supervisor.start()
        assert len(waiting.context.processes["watcher"]) == 1


class TestStop:
    def test_a_stop_is_clean_when_every_worker_does_its_part(self, started: Crew) -> None:
        phases: list[str] = []
        started.supervisor.stop(phases.append)
        summary = collect(started.supervisor.memory, 1.0, started.supervisor.forced)

        assert phases == ["quiet", "cancel", "close", "journal", "store", "logs"]
        assert [started.state(name) for name in NAMES] == [WorkerState.STOPPED] * 3
        assert failures(summary) == []

    def test_a_worker_that_was_given_up_stays_so(self, started: Crew) -> None:
        _die(started, "keeper", EXIT_CONFIG)
        started.supervisor.stop()
        summary = collect(started.supervisor.memory, 1.0, started.supervisor.forced)

        assert started.state("keeper") == WorkerState.FAILED
        assert summary["workers"]["keeper"]["failed"]
        assert failures(summary) == ["worker keeper was given up"]

    def test_a_worker_that_dies_during_the_stop_is_waited_for(self, started: Crew) -> None:
        started.process("trader").die(-9)
        started.supervisor.stop()

        assert started.worker("trader").restarts == 1
        assert started.process("trader").exitcode == 0
        assert started.supervisor.forced == []

    def test_a_phase_that_takes_too_long_is_a_fault(
        self, segment_prefix: str, tmp_path: Path
    ) -> None:
        with crew(crew_settings(segment_prefix, drain_s_max=0.05), tmp_path) as made:
            made.start()
            index = made.worker("keeper").index
            made.supervisor.poll_with(lambda: made.board.set(index, boards.PHASE_DONE, 2))
            made.supervisor.stop()
            summary = collect(made.supervisor.memory, 1.0, made.supervisor.forced)

        assert summary["forced"] == ["CANCEL", "CLOSE", "JOURNAL", "STORE", "LOGS"]
        assert failures(summary)[0] == "stop phase CANCEL took too long and was cut short"
        assert made.said[0] == "error: stop phase took too long: phase=CANCEL workers=keeper"
