"""Which rings and workers follow from a placement."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import load
from config.topology import agents, rings, spinning_cores, symbols, workers

ROOT = Path(__file__).parents[2]


def test_rings_of_the_demo_have_the_ends_that_the_data_path_needs() -> None:
    ends = {plan.name: (plan.writer, plan.readers) for plan in rings(load(None, {}))}

    assert {name: end for name, end in ends.items() if not name.startswith("log.")} == {
        "market.0": ("ingest.0", ("signal", "risk", "recorder")),
        "signals": ("signal", ("recorder",)),
        "intents": ("signal", ("risk", "recorder")),
        "risk": ("risk", ("signal", "recorder")),
        "orders": ("risk", ("execution", "recorder")),
        "reports": ("execution", ("signal", "risk", "recorder")),
        "steps.signal": ("signal", ("recorder",)),
        "steps.risk": ("risk", ("recorder",)),
        "steps.execution": ("execution", ("recorder",)),
    }


def test_every_process_has_a_log_ring() -> None:
    logs = [plan for plan in rings(load(None, {})) if plan.name.startswith("log.")]

    assert [plan.writer for plan in logs] == [
        *("trader", "exchange", "recorder", "store", "logs", "monitor", "supervisor")
    ]
    assert {(plan.row_bytes, plan.readers) for plan in logs} == {(512, ("logs",))}


def test_every_ingest_agent_has_its_market_ring() -> None:
    settings = load(ROOT / "config" / "bare-metal.toml", {})

    market = [plan.writer for plan in rings(settings) if plan.name.startswith("market.")]

    assert market == ["ingest.0", "ingest.1"]
    assert [symbols(settings, agent) for agent in market] == [("BTCUSDT",), ("ETHUSDT",)]


def test_capacities_follow_the_settings() -> None:
    settings = load(None, {"rings": {"market": 1_024, "decisions": 512, "log": 256}})

    capacities = {plan.name: plan.capacity for plan in rings(settings)}

    assert (capacities["market.0"], capacities["orders"], capacities["log.store"]) == (
        *(1_024, 512, 256),
    )


def test_a_ring_is_parkable_only_when_a_reader_parks() -> None:
    document = [
        {"name": "trader", "agents": ["ingest.0", "signal", "risk"]},
        {"name": "sender", "agents": ["execution"], "idle": "park"},
        {"name": "rest", "agents": ["exchange", "recorder", "store", "logs", "monitor"]},
    ]
    plans = rings(load(None, {"workers": document}))

    assert [plan.name for plan in plans if plan.parkable] == ["orders"]


@pytest.mark.parametrize(
    ("overrides", "agent", "expected"),
    [
        ({}, "bus", False),
        ({"bus": {"url": "redis://127.0.0.1:1/0"}}, "bus", True),
        ({"bus": {"url_env": "BUS_URL"}}, "bus", True),
        ({}, "exchange", True),
        ({"exchange": {"enabled": True}}, "exchange", True),
        ({"monitor": {"enabled": False}}, "monitor", False),
        (
            {"venue": {"rest_url": "http://h", "stream_url": "ws://h", "order_url": "ws://h"}},
            "exchange",
            False,
        ),
    ],
)
def test_services_run_only_when_they_are_configured(
    overrides: dict[str, object],
    agent: str,
    expected: bool,  # noqa: FBT001 - a parametrised expectation
) -> None:
    settings = load(None, overrides)

    assert (agent in agents(settings)) is expected
    assert any(agent in worker.agents for worker in workers(settings)) is expected


def test_a_worker_without_a_needed_agent_does_not_run() -> None:
    settings = load(None, {"monitor": {"enabled": False}})

    assert "monitor" not in [worker.name for worker in workers(settings)]
    assert "log.monitor" not in [plan.name for plan in rings(settings)]


def test_a_worker_keeps_its_core_to_itself_when_it_spins_there() -> None:
    document = [
        {"name": "hot", "agents": ["ingest.0", "signal"], "core": 1, "idle": "spin"},
        {"name": "warm", "agents": ["risk", "execution"], "core": 0, "idle": "backoff"},
        {"name": "loose", "agents": ["exchange", "recorder"], "idle": "spin"},
        {"name": "rest", "agents": ["store", "logs", "monitor"]},
    ]

    assert spinning_cores(load(None, {"workers": document})) == {1}
