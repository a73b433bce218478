"""What `load` accepts, and the one line it says about everything else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.load import DEFAULT_PROFILE, ConfigError, load

Broken = Callable[[str], str]

WORKERS = """
[[workers]]
name = "trader"
agents = ["ingest.0", "signal", "risk", "execution"]
core = 3

[[workers]]
name = "rest"
agents = ["exchange", "recorder", "store", "logs", "monitor"]
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Broken:
    """Loads a text as `paper.toml` and returns what the error says about it."""
    monkeypatch.chdir(tmp_path)

    def say(text: str) -> str:
        Path("paper.toml").write_text(text)
        with pytest.raises(ConfigError) as error:
            load(Path("paper.toml"), {})
        return str(error.value)

    return say


def test_demo_profile_is_read_when_no_file_is_given() -> None:
    assert load(None, {}).engine.name == "demo"


def test_default_profile_is_shipped_in_the_room() -> None:
    assert DEFAULT_PROFILE.is_file()


def test_a_file_without_sections_has_every_default(tmp_path: Path) -> None:
    file = tmp_path / "plain.toml"
    file.write_text(WORKERS)

    loaded = load(file, {})

    assert (loaded.market.symbols, loaded.rings.market) == (("BTCUSDT",), 65_536)


def test_overrides_lie_over_single_keys_of_a_section() -> None:
    loaded = load(None, {"exchange": {"seed": 11}, "engine": {"data_dir": "elsewhere"}})

    assert loaded.exchange.seed == 11
    assert loaded.exchange.rate_per_s == load(None, {}).exchange.rate_per_s
    assert loaded.engine.data_dir == "elsewhere"


def test_an_override_that_breaks_a_rule_blames_the_command_line() -> None:
    with pytest.raises(ConfigError, match=r"demo\.toml with the command line: exchange\.speed"):
        load(None, {"exchange": {"speed": -1.0}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[engine]\nnme = "x"', "engine.nme must be a known key; did you mean name"),
        ("[engin]", "engin must be a known key; did you mean engine"),
        ('[exchange]\nport = "a"', 'exchange.port must be an integer: port="a"'),
        ("[market]\nsymbols = [3]", "market.symbols[0] must be a string: symbols[0]=3"),
        ("workers = 3", "workers must be a list: workers=3"),
        ("[exchange.balances]\nBTC = 3", "exchange.balances values must be a string"),
        (
            "[market]\nbatch_window_ms = 3",
            "market.batch_window_ms must be one of 0, 1, 5, 10: batch_window_ms=3",
        ),
        ('[[strategies]]\nname = "alpha"', "strategies.alpha.use must be given"),
        ("[[workers]]\nagents = []", "workers[0].name must be given"),
        (
            '[[workers]]\nname = "a"\nagents = []\nidle = "spn"',
            'workers.a.idle must be one of "spin", "yield", "backoff", "park": idle="spn"',
        ),
        ("[exchange]\nspeed = nan", "exchange.speed must be finite: speed=nan"),
        ("[rings]\nlog = 1000", "rings.log must be a power of two: capacity_records=1000"),
    ],
)
def test_a_broken_key_is_named_with_value_and_rule(
    broken: Broken, text: str, expected: str
) -> None:
    assert broken(text).startswith(f"paper.toml: {expected}")


def test_bad_toml_is_named_with_line_and_column(broken: Broken) -> None:
    assert "(line 2, column 7)" in broken('[engine]\nname =\nx = "y"')


def test_a_core_clash_reads_as_in_the_style_page(broken: Broken) -> None:
    feed = '[[workers]]\nname = "feed"\nagents = ["bus"]\ncore = 3\n'
    text = f'[bus]\nurl = "redis://127.0.0.1:6379/0"\n{feed}{WORKERS}'

    assert broken(text).startswith(
        "paper.toml: workers.trader.core must differ from workers.feed.core: core=3"
    )


def test_a_missing_file_is_named_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: .*no such file.*; give another") as error:
        load(tmp_path / "absent.toml", {})

    assert "\n" not in str(error.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        load(tmp_path, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "closed.toml"
    file.write_text(WORKERS)
    file.chmod(0)

    with pytest.raises(ConfigError, match="permission denied"):
        load(file, {})


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "binary.toml"
    file.write_bytes(b"name = '\xff'")

    with pytest.raises(ConfigError, match="UTF-8 text: offset=8"):
        load(file, {})


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "huge.toml"
    file.write_bytes(b"# padding\n" * 200_000)

    with pytest.raises(ConfigError, match="size_bytes_max=1048576"):
        load(file, {})


@pytest.mark.parametrize(
    "text",
    [
        '[venue]\nsecret = "hunter2"',
        '[venue]\nsecret_env = "hunter2 hunter2"',
        '[store]\nurl = "mysql://user:hunter2@host/base"',
        '[store]\nurl = "postgresql://user:hunter2/@ho st:port/base"',
        '[bus]\nurl = "https://user:hunter2@host"',
        '[bus]\nurl = ["redis://user:hunter2@host"]',
    ],
)
def test_no_secret_reaches_an_error(broken: Broken, text: str) -> None:
    assert "hunter2" not in broken(text)


@given(text=st.text(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_file_holds_the_error_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "any.toml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")

    with pytest.raises(ConfigError) as error:  # no text places all agents
        load(file, {})

    assert str(error.value).startswith(str(file))
    assert len(str(error.value).splitlines()) == 1


_SCALARS = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=20), st.lists(st.integers())
)


@given(
    section=st.sampled_from(
        ["engine", "market", "venue", "exchange", "risk", "journal", "store", "log", "bus", "rings"]
    ),
    data=st.data(),
)
def test_any_value_under_any_key_loads_or_is_explained(section: str, data: st.DataObject) -> None:
    keys = getattr(load(None, {}), section).__struct_fields__
    key = data.draw(st.sampled_from(keys))
    value = data.draw(_SCALARS)

    said = f"{section}.{key}"
    try:
        load(None, {section: {key: value}})
    except ConfigError as error:
        said = str(error)

    assert key in said or section in said
    assert len(said.splitlines()) == 1
