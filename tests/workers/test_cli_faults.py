"""The commands that arm faults, over a real exchange: alone, and inside an engine's data folder."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop

from config.settings import ExchangeSettings, VenueSettings, WorkerSettings
from tests.workers.exchange.clients import HMAC, QUIET, serving
from tests.workers.observed_run import observed_run, small_settings
from workers.cli import main
from workers.context import Memory
from workers.endpoints import EXCHANGE_PLAN, EXCHANGE_WORDS, KEY_FILE, PORT
from workers.exchange import fault_client
from workers.exchange.keys import make_hmac_pair, write_pair
from workers.memory import write_run

SCRIPT = '[[faults]]\nkind = "drop"\n[[faults]]\nkind = "skew"\nskew_ms = 3600000\n'
WORKERS = (
    WorkerSettings(name="trader", agents=("ingest.0", "signal", "risk", "execution")),
    WorkerSettings(name="rest", agents=("exchange", "recorder", "store", "logs", "monitor")),
)


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


class Shell:
    """Runs `tickring faults` in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], port: int) -> None:
        self.folder, self.port = folder, port
        self._capsys = capsys
        self.key = folder / "key"
        write_pair(self.key, HMAC)

    def __call__(self, *words: str) -> Said:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["faults", *words])
        heard = self._capsys.readouterr()
        return Said(int(end.value.code or 0), heard.out, heard.err)

    def alone(self, *words: str) -> Said:
        """Asks the exchange by its address."""
        url = f"ws://127.0.0.1:{self.port}"
        return self(*words, "--url", url, "--key-file", str(self.key))

    def script(self, text: str = SCRIPT) -> str:
        path = self.folder / "script.toml"
        path.write_text(text)
        return str(path)


@contextmanager
def served(settings: ExchangeSettings = QUIET) -> Iterator[int]:
    """An exchange on a thread of its own, as the commands wait for what it says."""
    loop = uvloop.new_event_loop()
    context = serving(settings)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        _, port = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result()
        yield port
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    with served() as port:
        yield Shell(tmp_path, capsys, port)


@pytest.fixture
def engine(shell: Shell, segment_prefix: str) -> Iterator[Memory]:
    """The memory of an engine whose exchange is the shell's."""
    settings = small_settings(segment_prefix, workers=WORKERS)
    folder = shell.folder / "data"
    folder.mkdir()
    with observed_run(settings, folder, EXCHANGE_PLAN) as memory:
        write_run(memory.run)
        write_pair(folder / KEY_FILE, HMAC)
        tell_port(memory, shell.port)
        yield memory


def tell_port(memory: Memory, port: int) -> None:
    memory.segment("exchange").words(0, EXCHANGE_WORDS)[PORT] = port


def one_line(said: Said, text: str) -> None:
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("tickring: ")
    assert text in said.err


class TestAlone:
    def test_rules_are_armed_counted_and_cleared(self, shell: Shell) -> None:
        script = shell.script()

        assert shell.alone("counts") == (0, "no rules are armed\n", "")
        assert shell.alone("arm", script) == (0, f"armed 2 rules of {script}\n", "")
        assert shell.alone("counts").out == "0 drop: 0\n1 skew: 0\n"
        assert shell.alone("clear") == (0, "no rules are armed\n", "")
        assert shell.alone("counts").out == "no rules are armed\n"

    def test_json_is_the_counts(self, shell: Shell) -> None:
        armed = {"0 drop": 0, "1 skew": 0}

        assert json.loads(shell.alone("arm", shell.script(), "--json").out) == armed
        assert json.loads(shell.alone("counts", "--json").out) == armed
        assert json.loads(shell.alone("clear", "--json").out) == {}

    def test_a_bad_script_is_told_by_its_name_and_arms_nothing(self, shell: Shell) -> None:
        shell.alone("arm", shell.script())
        said = shell.alone("arm", path := shell.script('[[faults]]\nkind = "no"'))

        one_line(said, "kind must be one of drop, ")
        assert f"file={path} rule=0 kind='no'" in said.err
        assert "0 drop" in shell.alone("counts").out

    def test_a_script_that_is_not_there_is_one_line(self, shell: Shell) -> None:
        one_line(shell.alone("arm", "nowhere"), "a fault script must be readable: file=nowhere")

    def test_a_script_is_armed_up_to_what_a_request_may_hold(self, shell: Shell) -> None:
        rule = '[[faults]]\nkind = "drop"\n'
        most = fault_client.MESSAGE_BYTES_MAX - 1_000
        assert shell.alone("arm", shell.script(rule + "#" * most)).code == 0
        said = shell.alone("arm", shell.script(rule + "#" * (most + 1_000)))

        one_line(said, "a request must be short: method=faults.arm bytes=")

    def test_a_wrong_key_is_refused(self, shell: Shell) -> None:
        other = shell.folder / "other"
        write_pair(other, make_hmac_pair())
        url = f"ws://127.0.0.1:{shell.port}"

        one_line(shell("clear", "--url", url, "--key-file", str(other)), "the exchange must agree")

    def test_address_and_key_go_together(self, shell: Shell) -> None:
        one_line(shell("clear", "--url", "ws://127.0.0.1:1"), "must come together: url=ws://")
        one_line(shell("clear", "--key-file", "k"), "must come together: key_file=k")

    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1:1", "ws://127.0.0.1", "ws://127.0.0.1:x", "ws://:1", "9100",
                "ws://127.0.0.1:1/faults", "ws://[::1", "ws://127.0.0.1:99999"],
    )  # fmt: skip
    def test_an_address_must_be_one(self, shell: Shell, url: str) -> None:
        said = shell("clear", "--url", url, "--key-file", str(shell.key))

        one_line(said, f"--url must be ws://HOST:PORT: given={url}")

    def test_nobody_there_is_one_line(self, shell: Shell, free_port: int) -> None:
        url = f"ws://127.0.0.1:{free_port}"
        said = shell("clear", "--url", url, "--key-file", str(shell.key))

        one_line(said, f"a built-in exchange must answer: url={url} error=connection refused")

    def test_somebody_who_is_silent_is_one_line(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fault_client, "REPLY_S_MAX", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"ws://127.0.0.1:{server.getsockname()[1]}"
            said = shell("clear", "--url", url, "--key-file", str(shell.key))

        one_line(said, "a built-in exchange must answer")

    def test_a_key_file_that_is_not_there_is_one_line(self, shell: Shell) -> None:
        one_line(shell("clear", "--url", "ws://127.0.0.1:1", "--key-file", "nowhere"), "nowhere")


class TestEngine:
    def test_the_engine_of_the_data_folder_is_found(self, shell: Shell, engine: Memory) -> None:
        folder = str(engine.run.data_dir)

        assert shell("arm", shell.script(), "--data-dir", folder).code == 0
        assert shell("counts", "--data-dir", folder).out == "0 drop: 0\n1 skew: 0\n"
        assert shell.alone("counts").out == "0 drop: 0\n1 skew: 0\n"
        assert shell("clear", "--data-dir", folder).out == "no rules are armed\n"

    def test_an_exchange_without_a_port_is_not_running(self, shell: Shell, engine: Memory) -> None:
        tell_port(engine, 0)
        said = shell("counts", "--data-dir", folder := str(engine.run.data_dir))

        one_line(said, f"an engine must be running: data_dir={folder}")

    def test_a_folder_where_none_ran_is_one_line(self, shell: Shell) -> None:
        one_line(shell("counts", "--data-dir", "nowhere"), "an engine must have run here")

    def test_an_engine_that_has_ended_is_one_line(
        self, shell: Shell, segment_prefix: str, tmp_path: Path
    ) -> None:
        with observed_run(small_settings(segment_prefix, workers=WORKERS), tmp_path) as memory:
            write_run(memory.run)

        one_line(shell("counts", "--data-dir", str(tmp_path)), "an engine must be running")

    def test_an_engine_at_a_venue_is_told_so(
        self, shell: Shell, segment_prefix: str, tmp_path: Path
    ) -> None:
        venue = VenueSettings(rest_url="http://127.0.0.1:1", stream_url="ws://127.0.0.1:1")
        settings = small_settings(segment_prefix, workers=WORKERS, venue=venue)
        with observed_run(settings, tmp_path) as memory:
            write_run(memory.run)
            said = shell("counts", "--data-dir", str(tmp_path))

        one_line(said, "the engine must serve the built-in exchange: data_dir=")
