"""What keeps a good-looking configuration from starting is said before anything starts."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.load import load
from config.placement import unpin_absent
from workers.exchange.capture import scan
from workers.exchange.keys import make_ed25519_pair, write_pair
from workers.preflight import problems

ROOT = Path(__file__).parents[2]
VENUE = {"rest_url": "http://h:1", "stream_url": "ws://h:1", "order_url": "ws://h:1"}
KEYS = {"key_env": "PREFLIGHT_KEY", "secret_env": "PREFLIGHT_SECRET"}
MAKER = {"name": "mine", "use": "engine.strategies.maker:STRATEGY"}
NS = 1_700_000_000_000_000_000
TOP = (
    '{"stream":"abcusdt@bookTicker","data":{"u":1,"s":"ABCUSDT","b":"10.5","B":"3.0",'
    '"a":"10.7","A":"4.5"}}'
)

Said = Callable[..., list[str]]


@pytest.fixture
def said(tmp_path: Path) -> Said:
    """Answers the problems of the demo with some sections changed."""

    def ask(overrides: dict[str, Any], folder: Path = tmp_path / "data") -> list[str]:
        settings = unpin_absent(load(None, overrides), frozenset())
        return list(problems(settings, folder))

    return ask


def test_the_demo_can_start_in_a_folder_that_is_not_there_yet(said: Said, tmp_path: Path) -> None:
    assert said({}) == []
    assert said({}, tmp_path / "a" / "b" / "c") == []
    assert list(tmp_path.iterdir()) == []  # nothing was made


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            {"strategies": [MAKER | {"use": "nope.mod:STRATEGY"}]},
            r"strategies.mine.use: strategy module must be importable: use=nope.mod:STRATEGY",
        ),
        (
            {"strategies": [MAKER | {"use": "engine.strategies.maker:NOTHING"}]},
            "strategies.mine.use: strategy must exist in its module",
        ),
        (
            {"strategies": [MAKER | {"parameters": {"no_such": 1.0}}]},
            "strategies.mine.parameters: parameter must be known: strategy=maker parameter=no_such",
        ),
        (
            {"store": {"url_env": "PREFLIGHT_URL"}},
            "store.url_env must name an environment variable that is set: name=PREFLIGHT_URL",
        ),
        (
            {"store": {"url": "sqlite:///nowhere/at/all.db"}},
            "store.url must name a file in a folder that exists: path=nowhere/at/all.db",
        ),
        ({"bus": {"url_env": "PREFLIGHT_URL"}}, "bus.url_env must name a variable that is set"),
        ({"monitor": {"host": "not an address"}}, "monitor.host must be an address of this host"),
        ({"monitor": {"host": ""}}, "monitor.host must be an address of this host: host=''"),
        ({"monitor": {"host": "203.0.113.7"}}, "monitor.host must be an address of this host"),
        ({"exchange": {"host": "300.1.1.1"}}, "exchange.host must be an address of this host"),
        ({"exchange": {"capture": ["nowhere.gz"]}}, "exchange.capture: a recording must be read"),
        (
            {"venue": VENUE | KEYS},
            "venue.key_env must name an environment variable that is set: key_env=PREFLIGHT_KEY",
        ),
        ({"venue": VENUE | {"secret_file": "nowhere"}}, "venue.secret_file must hold an API key"),
    ],
)
def test_what_cannot_start_is_one_line_with_key_value_and_rule(
    said: Said, overrides: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFLIGHT_URL", raising=False)
    lines = said(overrides)

    assert lines[0].startswith(expected)
    assert "\n" not in lines[0]


def test_every_problem_is_said(said: Said) -> None:
    lines = said({"venue": VENUE | KEYS, "monitor": {"host": ""}, "store": {"url_env": "NO_SUCH"}})

    assert [line.partition(" ")[0] for line in lines] == [
        "store.url_env", "venue.key_env", "venue.secret_env", "monitor.host",
    ]  # fmt: skip


def test_what_does_not_run_is_not_asked_for(said: Said) -> None:
    """A venue needs no exchange.host, and a monitor that is off no address."""
    off = {"enabled": False, "host": "nonsense"}
    lines = said({"venue": VENUE | KEYS, "monitor": off, "exchange": {"host": "nonsense"}})

    assert [line.partition(" ")[0] for line in lines] == ["venue.key_env", "venue.secret_env"]


def test_addresses_from_the_environment_are_looked_at_and_not_shown(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFLIGHT_URL", "mysql://me:secret@host/db")
    lines = said({"store": {"url_env": "PREFLIGHT_URL"}, "bus": {"url_env": "PREFLIGHT_URL"}})

    assert [line.partition(" ")[0] for line in lines] == ["store.url", "bus.url_env"]
    assert "secret" not in " ".join(lines)


def test_keys_of_a_venue_are_enough(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFLIGHT_KEY", "key")
    monkeypatch.setenv("PREFLIGHT_SECRET", make_ed25519_pair().secret)

    assert said({"venue": VENUE | KEYS}) == []


def test_a_secret_that_signs_nothing_is_refused_and_not_shown(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFLIGHT_KEY", "key")
    monkeypatch.setenv("PREFLIGHT_SECRET", "-----BEGIN PRIVATE KEY-----\nabcdef")
    (line,) = said({"venue": VENUE | KEYS})

    assert line.startswith("venue.secret_env must name a usable secret")
    assert "abcdef" not in line


def test_a_key_file_that_others_may_read_is_refused(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_pair(path, make_ed25519_pair())
    venue = VENUE | {"secret_file": str(path)}
    assert said({"venue": venue}) == []
    path.chmod(0o640)

    assert "mode=0640" in said({"venue": venue})[0]


def test_a_port_that_an_engine_holds_already_is_no_problem(said: Said) -> None:
    """`check` must not fail because the engine that it checks is running."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        assert said({"monitor": {"port": taken.getsockname()[1]}}) == []


def test_a_data_folder_that_is_a_file_is_refused(said: Said, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")

    for folder in (file, file / "below"):
        (line,) = said({}, folder)
        assert line.startswith("engine.data_dir must be a folder that can be made and written: d")
        assert f"data_dir={folder}, {file} is not a folder" in line


def test_a_damaged_count_of_runs_is_said_before_the_start(said: Said, tmp_path: Path) -> None:
    (tmp_path / "generation").write_text("seven")
    (line,) = said({}, tmp_path)

    assert line.startswith("engine.data_dir: a generation file must hold the number")


def test_symbols_must_be_in_the_recordings(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_text(f"{NS} {TOP}\n")
    lines = said({"exchange": {"capture": [str(path)]}})

    assert lines == ["market.symbols must be in the recordings: symbol=BTCUSDT recorded=ABCUSDT"]


def test_a_recording_that_was_read_already_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_text(f"{NS} {TOP}\n")
    found = scan([path])
    path.unlink()
    overrides = {"exchange": {"capture": [str(path)]}, "market": {"symbols": ["ABCUSDT"]}}
    settings = unpin_absent(load(None, overrides), frozenset())

    assert list(problems(settings, tmp_path, found)) == []
    assert "must be readable" in next(problems(settings, tmp_path))


def test_a_core_that_is_not_there_is_said(tmp_path: Path) -> None:
    workers = [
        {"name": "trader", "agents": ["ingest.0", "signal", "risk", "execution"], "core": 4_000},
        {"name": "rest", "agents": ["exchange", "recorder", "store", "logs", "monitor"]},
    ]
    (line,) = problems(load(None, {"workers": workers}), tmp_path)

    assert line.startswith("workers.trader.core must be a core this process may use: core=4000")


def test_a_users_own_strategy_is_found(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "preflight_strategy.py").write_text(
        "from engine.strategies.maker import STRATEGY as MAKER\nSTRATEGY = MAKER\n"
    )
    overrides = {
        "engine": {"strategy_dir": str(tmp_path)},
        "strategies": [MAKER | {"use": "preflight_strategy:STRATEGY"}],
    }

    assert said(overrides) == []


def test_the_live_profile_wants_nothing_but_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TICKRING_API_KEY", "TICKRING_API_SECRET", "TICKRING_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = unpin_absent(load(ROOT / "config" / "live.example.toml", {}), frozenset())
    lines = list(problems(settings, tmp_path))

    assert [line.partition(" ")[0] for line in lines] == ["venue.key_env", "venue.secret_env"]
