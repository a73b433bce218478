"""The command line: what it refuses in one line, what it hands on, and what its help teaches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from config.settings import Settings
from engine.control import CANCEL_ALL, NO_NEW, OPERATOR_HALT, TRADE, set_word
from shm import segment
from tests.workers.monitored import PLANS, mark
from tests.workers.observed_run import observed_run, small_settings
from workers import cli_data, cli_live, cli_run, controlsocket
from workers.cli import app, main
from workers.context import Memory
from workers.controlsocket import ControlServer
from workers.memory import write_run

NS = 1_700_000_000_000_000_000
TOP = (
    '{"stream":"abcusdt@bookTicker","data":{"u":1,"s":"ABCUSDT","b":"10.5","B":"3.0",'
    '"a":"10.7","A":"4.5"}}'
)
WORKERS = """
[[workers]]
name = "trader"
agents = ["ingest.0", "signal", "risk", "execution"]
[[workers]]
name = "rest"
agents = ["exchange", "recorder", "store", "logs", "monitor"]
"""
VENUE = """
[venue]
rest_url = "http://127.0.0.1:1"
stream_url = "ws://127.0.0.1:1"
order_url = "ws://127.0.0.1:1"
"""


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


class Shell:
    """Runs commands in this process; an engine or exchange that they start is only written down."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.started: list[Settings] = []

    def __call__(self, *words: str) -> Said:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(list(words))
        heard = self._capsys.readouterr()
        return Said(int(end.value.code or 0), heard.out, heard.err)

    def file(self, text: str, name: str = "ven.toml") -> str:
        """Writes a file; answers its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def recording(self) -> str:
        return self.file(f"{NS} {TOP}\n", "recording")

    def start(self, settings: Settings, *_: object, **__: object) -> Any:
        """Stands for an engine and for the exchange alone."""
        self.started.append(settings)
        return self

    def run(self, _seconds: float | None) -> int:
        return 0

    def serve(self, settings: Settings, *_: object, **__: object) -> int:
        self.started.append(settings)
        return 0


@pytest.fixture
def shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    made = Shell(tmp_path, capsys)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_run, "EngineRun", made.start)
    monkeypatch.setattr(cli_data, "serve", made.serve)
    return made


class TestRun:
    def test_a_recording_is_never_ignored_for_a_venue(self, shell: Shell) -> None:
        """It was: --capture had no effect, and real orders went out."""
        said = shell("run", "--config", shell.file(VENUE + WORKERS), "--capture", shell.recording())

        assert said.code == 2
        assert said.err.count("\n") == 1
        assert "exchange.capture must be left out when orders go to a venue" in said.err
        assert shell.started == []

    def test_a_recording_of_the_file_is_never_ignored_for_a_venue(self, shell: Shell) -> None:
        text = f'{VENUE}[exchange]\ncapture = ["{shell.recording()}"]\n{WORKERS}'
        said = shell("run", "--config", shell.file(text))

        assert (said.code, shell.started) == (2, [])
        assert "ven.toml: exchange.capture must be left out" in said.err

    def test_what_is_not_given_stays_as_in_the_file(self, shell: Shell) -> None:
        text = f"[exchange]\nspeed = 20.0\nloop = true\nseed = 3\n{WORKERS}"
        said = shell("run", "--config", shell.file(text), "--capture", path := shell.recording())
        (settings,) = shell.started

        assert said == (0, "", "")
        assert settings.exchange.capture == (path,)
        assert (settings.exchange.speed, settings.exchange.loop) == (20.0, True)
        assert settings.market.symbols == ("ABCUSDT",)

    def test_what_is_given_lies_over_the_file(self, shell: Shell) -> None:
        text = f'[exchange]\ncapture = ["a"]\nspeed = 20.0\nloop = true\n{WORKERS}'
        words = ("--capture", shell.recording(), "--speed", "max", "--no-loop")
        shell("run", "--config", shell.file(text), *words)

        assert (shell.started[0].exchange.speed, shell.started[0].exchange.loop) == (0.0, False)

    def test_playback_of_the_files_own_recording_may_be_changed(self, shell: Shell) -> None:
        recorded = f'[market]\nsymbols = ["ABCUSDT"]\n[exchange]\ncapture = ["{shell.recording()}"]'
        shell("run", "--config", shell.file(recorded + WORKERS), "--speed", "5", "--loop")

        assert (shell.started[0].exchange.speed, shell.started[0].exchange.loop) == (5.0, True)

    @pytest.mark.parametrize("command", ["run", "exchange"])
    @pytest.mark.parametrize(
        ("words", "named"),
        [(["--speed", "max"], "--speed must"), (["--loop"], "--loop must"),
         (["--loop", "--speed", "2"], "--speed and --loop must")],
    )  # fmt: skip
    def test_playback_of_nothing_is_refused(
        self, shell: Shell, command: str, words: list[str], named: str
    ) -> None:
        said = shell(command, *words)

        assert (said.code, said.err.count("\n"), shell.started) == (2, 1, [])
        assert f"{named} come with a recording" in said.err

    def test_what_cannot_start_is_said_before_anything_is_started(self, shell: Shell) -> None:
        path = shell.file('[monitor]\nhost = ""\n[store]\nurl_env = "NO_SUCH_URL"\n' + WORKERS)
        said = shell("run", "--config", path)

        assert (said.code, shell.started) == (2, [])
        assert [line.partition(" must")[0] for line in said.err.splitlines()] == [
            f"tickring: {path}: store.url_env", f"tickring: {path}: monitor.host",
        ]  # fmt: skip

    def test_a_data_dir_that_is_a_file_is_one_line(self, shell: Shell) -> None:
        said = shell("run", "--data-dir", shell.file("", "taken"))

        assert (said.code, said.err.count("\n")) == (2, 1)
        assert "engine.data_dir must be a folder" in said.err


class TestCheck:
    def test_a_good_configuration_is_shown_and_called_good(self, shell: Shell) -> None:
        said = shell("check", "--data-dir", "elsewhere")

        assert (said.code, said.err) == (0, "")
        assert said.out.endswith("data folder elsewhere\nthe configuration is good\n")
        assert "ingest.0, signal, risk, execution" in said.out
        assert "…" not in said.out
        assert max(map(len, said.out.splitlines())) <= 80

    def test_json_names_workers_rings_and_the_data_folder(self, shell: Shell) -> None:
        document = json.loads(shell("check", "--json", "--data-dir", "elsewhere").out)

        assert document["data_dir"] == "elsewhere"
        assert document["workers"][0]["name"] == "trader"
        assert {"market.0", "orders", "reports"} <= {ring["name"] for ring in document["rings"]}

    @pytest.mark.parametrize("as_json", [[], ["--json"]])
    def test_what_cannot_start_is_not_called_good(self, shell: Shell, as_json: list[str]) -> None:
        text = '[[strategies]]\nname = "mine"\nuse = "nope.mod:STRATEGY"\n'
        said = shell("check", "--config", path := shell.file(text + WORKERS), *as_json)

        assert (said.code, said.out) == (2, "")
        assert said.err == (
            f"tickring: {path}: strategies.mine.use: strategy module must be importable:"
            " use=nope.mod:STRATEGY missing=nope; is its folder on PYTHONPATH\n"
        )

    def test_its_data_dir_is_checked(self, shell: Shell) -> None:
        said = shell("check", "--data-dir", shell.file("", "taken"))

        assert said.code == 2
        assert "engine.data_dir must be a folder" in said.err

    def test_check_and_run_refuse_the_same(self, shell: Shell) -> None:
        path = shell.file('[monitor]\nhost = "nonsense"\n' + VENUE + WORKERS)

        assert shell("check", "--config", path) == shell("run", "--config", path)


class TestExchange:
    def test_the_files_section_counts(self, shell: Shell) -> None:
        recorded = f'[exchange]\ncapture = ["{shell.recording()}"]\nport = 7\nseed = 3\n'
        shell("exchange", "--config", shell.file(f"{recorded}speed = 9.0\nloop = true\n{WORKERS}"))
        found = shell.started[0].exchange

        assert (found.port, found.seed, found.speed, found.loop) == (7, 3, 9.0, True)
        assert len(found.capture) == 1

    def test_what_is_given_lies_over_it(self, shell: Shell) -> None:
        path = shell.file(f"[exchange]\nport = 7\nseed = 3\nrate_per_s = 5.0\n{WORKERS}")
        shell("exchange", "--config", path, "--port", "0", "--seed", "4")
        found = shell.started[0].exchange

        assert (found.port, found.seed, found.rate_per_s) == (0, 4, 5.0)

    def test_a_configuration_for_a_venue_serves_all_the_same(self, shell: Shell) -> None:
        path = shell.file(f"{VENUE}[exchange]\nenabled = false\n{WORKERS}")
        said = shell("exchange", "--config", path, "--capture", shell.recording(), "--speed", "2")

        assert said == (0, "", "")
        assert shell.started[0].exchange.speed == 2.0


def commands() -> Iterator[tuple[str, ...]]:
    """Yields the words of every command, of a group those below it."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for below in getattr(command, "commands", {}) or [""]:
            yield (name, below) if below else (name,)


@pytest.mark.parametrize("words", sorted(commands()), ids=" ".join)
def test_help_shows_a_use_and_says_what_options_take(shell: Shell, words: tuple[str, ...]) -> None:
    said = shell(*words, "--help")

    assert said.code == 0
    assert f"\n  Examples:\n    tickring {' '.join(words)}" in said.out
    options = [line for line in said.out.splitlines() if line.startswith("  --")]
    assert [line for line in options if "<" in line] == []
    for line in options:
        assert "--data-dir" not in line or "without it data_dir of" in " ".join(said.out.split())


def test_bench_without_a_name_lists_the_benchmarks_with_a_line_each(shell: Shell) -> None:
    said = shell("bench")
    found = [line.split(maxsplit=1) for line in said.out.splitlines()]

    assert (said.code, said.err) == (0, "")
    assert "tick-to-order-wire-latency" in [name for name, _ in found]
    assert all(len(text) > 20 for _, text in found)


def test_an_unknown_benchmark_names_the_known_ones(shell: Shell) -> None:
    said = shell("bench", "nonsense")

    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "tick-to-order-wire-latency" in said.err


@pytest.fixture
def paper(segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    """An engine's memory and run file, under a name that no configuration here has."""
    with observed_run(small_settings(segment_prefix), tmp_path / "data", *PLANS) as memory:
        memory.run.data_dir.mkdir()
        write_run(memory.run)
        mark(memory)
        yield memory


class TestLive:
    """An engine of another name than the demo's, and commands that know only its folder."""

    def level(self, paper: Memory) -> int:
        return int(paper.control()[OPERATOR_HALT])

    def test_halt_finds_the_engine_by_its_folder(self, shell: Shell, paper: Memory) -> None:
        folder = str(paper.run.data_dir)

        assert shell("halt", "--data-dir", folder).out == "halted: no new orders\n"
        assert self.level(paper) == NO_NEW
        assert shell("halt", "--cancel", "--data-dir", folder).code == 0
        assert self.level(paper) == CANCEL_ALL

    def test_halt_works_with_a_broken_configuration(self, shell: Shell, paper: Memory) -> None:
        broken = shell.file("[engine", "broken.toml")
        shell("halt", "--config", broken, "--data-dir", str(paper.run.data_dir))

        assert self.level(paper) == NO_NEW

    def test_halt_works_from_the_configuration_without_a_run_file(
        self, shell: Shell, paper: Memory
    ) -> None:
        (paper.run.data_dir / "run.json").unlink()
        path = shell.file(f'[engine]\nname = "{paper.run.settings.engine.name}"\n{WORKERS}')
        said = shell("halt", "--config", path, "--data-dir", str(paper.run.data_dir))

        assert (said.code, self.level(paper)) == (0, NO_NEW)

    def test_halt_without_an_engine_says_so(self, shell: Shell) -> None:
        said = shell("halt", "--data-dir", "nowhere")

        assert (said.code, said.err.count("\n")) == (2, 1)
        assert "an engine must be running: data_dir=nowhere" in said.err

    def test_halt_of_a_killed_engine_says_that_none_runs(
        self, shell: Shell, paper: Memory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(segment, "process_start", lambda _: 0)
        said = shell("halt", "--data-dir", str(paper.run.data_dir))

        assert (said.code, self.level(paper)) == (2, TRADE)
        assert "an engine must be running" in said.err

    def test_resume_leaves_the_halt_when_the_engine_does_not_answer(
        self, shell: Shell, paper: Memory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(controlsocket, "REPLY_S_MAX", 0.05)
        set_word(paper.control(), OPERATOR_HALT, NO_NEW)
        server = ControlServer(paper.run.data_dir, {})  # nobody polls it
        said = shell("resume", "--data-dir", str(paper.run.data_dir))
        server.close()

        assert (said.code, self.level(paper)) == (2, NO_NEW)
        assert "the engine does not answer" in said.err

    def test_resume_leaves_the_halt_when_there_is_no_socket(
        self, shell: Shell, paper: Memory
    ) -> None:
        set_word(paper.control(), OPERATOR_HALT, NO_NEW)

        assert shell("resume", "--data-dir", str(paper.run.data_dir)).code == 2
        assert self.level(paper) == NO_NEW

    @pytest.mark.parametrize(
        ("reply", "code", "level"), [({"halt": 0}, 0, TRADE), ({"error": "no"}, 2, NO_NEW)]
    )
    def test_resume_takes_the_halt_back_when_the_engine_agrees(
        self,
        shell: Shell,
        paper: Memory,
        monkeypatch: pytest.MonkeyPatch,
        reply: dict[str, Any],
        code: int,
        level: int,
    ) -> None:
        set_word(paper.control(), OPERATOR_HALT, NO_NEW)
        seen: list[int] = []

        def answer(_folder: Path, command: str) -> dict[str, Any]:
            assert command == "resume"
            seen.append(self.level(paper))
            return reply

        monkeypatch.setattr(controlsocket, "request", answer)
        said = shell("resume", "--data-dir", str(paper.run.data_dir))

        assert (said.code, self.level(paper)) == (code, level)
        assert seen == [NO_NEW]  # still halted when the engine was asked

    def test_status_reads_past_an_engine_that_does_not_answer(
        self, shell: Shell, paper: Memory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(controlsocket, "REPLY_S_MAX", 0.05)
        monkeypatch.setattr(cli_live, "read_run", lambda _: paper.run)
        server = ControlServer(paper.run.data_dir, {})
        said = shell("status", "--json", "--data-dir", str(paper.run.data_dir))
        server.close()

        assert said.code == 0
        assert "the engine does not answer" in said.err
        assert json.loads(said.out)["engine"] == paper.run.settings.engine.name

    @pytest.mark.parametrize("command", ["status", "stop", "resume"])
    def test_without_an_engine_one_line_says_so(self, shell: Shell, command: str) -> None:
        said = shell(command, "--data-dir", "nowhere")

        assert (said.code, said.err.count("\n")) == (2, 1)
        assert "an engine must be running" in said.err


def test_the_command_itself_is_a_process_without_a_traceback(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "workers.cli", "check", "--config", str(tmp_path / "none.toml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "configuration file must be readable" in done.stderr


def test_a_command_that_runs_nothing_compiles_nothing(tmp_path: Path) -> None:
    """A kill switch must not wait for a compiler, on whatever machine it is pulled first."""
    words = [sys.executable, "-m", "workers.cli", "halt", "--data-dir", str(tmp_path / "nowhere")]
    cache = tmp_path / "cache"
    environment = os.environ | {"TICKRING_CACHE_DIR": str(cache)}
    subprocess.run(words, capture_output=True, check=False, env=environment)

    assert [path for path in cache.rglob("*") if path.is_file()] == []
