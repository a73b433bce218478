"""How agents may be placed in workers, and workers on cores."""

from __future__ import annotations

from typing import Any

import pytest

from config.load import ConfigError, load
from config.placement import host_problems, host_warnings, unpin_absent
from config.settings import Settings

TRADER: dict[str, Any] = {"name": "trader", "agents": ["ingest.0", "signal", "risk", "execution"]}
REST: dict[str, Any] = {
    "name": "rest",
    "agents": ["exchange", "recorder", "store", "logs", "monitor"],
}


def placed(*workers: dict[str, Any], **sections: object) -> Settings:
    return load(None, {"workers": list(workers), **sections})


def without(worker: dict[str, Any], agent: str) -> dict[str, Any]:
    return worker | {"agents": [name for name in worker["agents"] if name != agent]}


@pytest.mark.parametrize("agent", TRADER["agents"] + REST["agents"])
def test_leaving_out_any_agent_is_refused_and_named(agent: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)must (have|run).*{agent}"):
        placed(without(TRADER, agent), without(REST, agent))


def test_a_ring_that_nobody_writes_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        placed(without(TRADER, "risk"), REST | {"agents": [*REST["agents"]]})

    assert "ring must have all its readers: ring=market.0" in str(error.value)


def test_an_agent_in_two_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="agent=signal workers=trader,twin"):
        placed(TRADER, REST, {"name": "twin", "agents": ["signal"]})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "Trader"}, "workers.name must match"),
        ({"name": "supervisor"}, "not be supervisor"),
        ({"name": "rest"}, "workers.name must not repeat"),
        ({"core": -2}, "workers.trader.core must be a core's number"),
        ({"nice": 20}, "workers.trader.nice must be -20 to 19"),
        ({"scheduler": "fifo"}, "workers.trader.priority must be 1 to 99 under fifo"),
        ({"priority": 5}, "workers.trader.priority must be 0 unless"),
        ({"timer_slack_ns": 0}, "workers.trader.timer_slack_ns must be positive"),
        ({"linger_us": -1}, "workers.trader.linger_us must be 0 to 100000"),
        ({"linger_us": 100}, "linger_us=100 agents=ingest.0,signal,risk,execution"),
        ({"agents": ["sginal"]}, "workers.trader.agents must be of"),
        ({"agents": ["ingest.8"]}, "workers.trader.agents must be of"),
        ({"ingest_symbols": {"ingest.1": ["BTCUSDT"]}}, "must name ingest agents of this worker"),
        ({"ingest_symbols": {"ingest.0": ["XYZ"]}}, "must be in market.symbols: symbol=XYZ"),
    ],
)
def test_a_worker_that_cannot_be_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        placed(TRADER | change, REST)

    assert expected in str(error.value)


def test_ingest_agents_must_not_share_a_symbol() -> None:
    twin = {"name": "twin", "agents": ["ingest.1"]}

    with pytest.raises(ConfigError, match=r"symbol=BTCUSDT agents=ingest\.0,ingest\.1"):
        placed(TRADER, REST, twin)


def test_ingest_agents_may_split_the_symbols() -> None:
    first = TRADER | {"ingest_symbols": {"ingest.0": ["BTCUSDT"]}}
    second = {
        "name": "second",
        "agents": ["ingest.1"],
        "ingest_symbols": {"ingest.1": ["ETHUSDT"]},
    }

    assert placed(first, REST, second, market={"symbols": ["ETHUSDT", "BTCUSDT"]}).workers


def test_ingest_agents_are_numbered_without_a_gap() -> None:
    trader = TRADER | {"agents": ["ingest.1", "signal", "risk", "execution"]}

    with pytest.raises(ConfigError, match=r"without a gap: agent=ingest\.1"):
        placed(trader, REST)


def test_two_workers_on_one_core_clash() -> None:
    with pytest.raises(ConfigError, match=r"workers\.rest\.core must differ from workers\.trader"):
        placed(TRADER | {"core": 1}, REST | {"core": 1})


@pytest.mark.parametrize("way", [{"nice": 19}, {"scheduler": "idle"}])
def test_a_worker_that_gives_way_may_share_a_core(way: dict[str, Any]) -> None:
    assert placed(TRADER | {"core": 1}, REST | {"core": 1} | way).workers


def test_a_log_level_for_an_unknown_worker_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"log\.levels must name workers: worker=trade"):
        load(None, {"log": {"levels": {"trade": "debug"}}})


def test_an_unknown_log_level_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"log\.levels\.trader must be one of"):
        load(None, {"log": {"levels": {"trader": "loud"}}})


def test_a_core_that_the_host_lacks_is_named() -> None:
    settings = placed(TRADER | {"core": 7}, REST)

    (problem,) = host_problems(settings, frozenset({0, 1}))

    assert problem.startswith("workers.trader.core must be a core this process may use: core=7")


def test_a_worker_that_spins_without_a_core_is_warned_about() -> None:
    spinning = placed(TRADER | {"idle": "spin"}, REST)

    assert len(list(host_warnings(spinning, frozenset({0, 1})))) == 1


def test_absent_cores_can_be_let_go() -> None:
    settings = unpin_absent(placed(TRADER | {"core": 7}, REST | {"core": 0}), frozenset({0, 1}))

    assert [worker.core for worker in settings.workers] == [-1, 0]
    assert list(host_problems(settings, frozenset({0, 1}))) == []


def test_more_spinning_workers_than_cores_is_warned() -> None:
    spinning = {"idle": "spin"}
    settings = placed(TRADER | spinning | {"core": 0}, REST | spinning | {"core": 1})

    assert [line for line in host_warnings(settings, frozenset({0})) if "idle=spin" in line]
    assert list(host_warnings(settings, frozenset({0, 1}))) == []


def test_a_spinning_worker_without_a_core_or_under_fifo_is_warned() -> None:
    fifo = {"idle": "spin", "scheduler": "fifo", "priority": 1}
    settings = placed(TRADER | fifo, REST)

    warned = list(host_warnings(settings, frozenset({0, 1})))

    assert [("core" in line, "fifo" in line) for line in warned] == [(True, False), (False, True)]
