"""What can be known about the containers without an engine to run them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from config.load import load
from config.settings import MonitorSettings
from config.topology import rings
from tests.workers.monitored import PLANS, mark, served
from tests.workers.observed_run import observed_run, small_settings
from workers import board
from workers.board import WorkerState
from workers.context import Memory
from workers.memory import create_all, plan_run, remove_all
from workers.metrics import HELP, PREFIX, Exposition, FrameRate

ROOT: Final = Path(__file__).parents[1]
SERVICES: Final = {"engine", "timescaledb", "redis", "prometheus", "grafana"}
DASHBOARD: Final = ROOT / "config" / "grafana" / "dashboards" / "tickring.json"
ALERTS: Final = ROOT / "config" / "prometheus" / "alerts.yml"
METRIC: Final = re.compile(r"\b(?:tickring_\w+|\w+_seconds(?:_bucket)?|websocket_message_rate)\b")


def read_yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = read_yaml(ROOT / "docker-compose.yml")
    return document


def test_compose_file_satisfies_the_compose_schema() -> None:
    checker = str(Path(sys.executable).with_name("check-jsonschema"))
    command = [checker, "--builtin-schema", "vendor.compose-spec", str(ROOT / "docker-compose.yml")]

    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


def test_compose_client_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False).returncode:
        pytest.skip("the docker compose client is not on this machine")
    secrets = {"TICKRING_DB_PASSWORD": "a", "TICKRING_GRAFANA_PASSWORD": "b"}

    done = subprocess.run(
        [docker, "compose", "config", "--quiet"],
        cwd=ROOT, env=os.environ | secrets, check=False, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def test_every_service_is_there_with_a_health_check(compose: dict[str, Any]) -> None:
    services = compose["services"]

    assert set(services) == SERVICES
    assert {name for name in services if "healthcheck" in services[name]} == SERVICES


def probe(compose: dict[str, Any], port: int) -> int:
    """Runs the engine's health check as the container does, at another port."""
    _, _, flag, code = compose["services"]["engine"]["healthcheck"]["test"]
    assert "127.0.0.1:9464/" in code
    code = code.replace("127.0.0.1:9464/", f"127.0.0.1:{port}/")
    return subprocess.run([sys.executable, flag, code], check=False, capture_output=True).returncode


@pytest.mark.parametrize("state", [WorkerState.READY, WorkerState.FAILED])
def test_engine_is_healthy_in_its_container_while_its_workers_are(
    compose: dict[str, Any], segment_prefix: str, tmp_path: Path, state: WorkerState
) -> None:
    settings = small_settings(segment_prefix, monitor=MonitorSettings(host="0.0.0.0"))
    with observed_run(settings, tmp_path, *PLANS) as memory:
        mark(memory)
        memory.board().set(0, board.STATE, state)
        code = served(memory, lambda port: asyncio.to_thread(probe, compose, port))

    assert (code == 0) == (state == WorkerState.READY)


def test_every_port_is_published_on_loopback(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service["ports"]]

    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert len(ports) == len(set(ports)) == len(SERVICES)


def test_every_named_volume_is_declared_and_every_mounted_path_exists(
    compose: dict[str, Any],
) -> None:
    sources = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
    ]

    assert {source for source in sources if source[0] != "."} == set(compose["volumes"])
    assert [source for source in sources if source[0] == "." and not (ROOT / source).exists()] == []


def test_secrets_come_from_the_environment_and_stop_the_start_when_unset(
    compose: dict[str, Any],
) -> None:
    variables = [
        f"{name}={value}"
        for service in compose["services"].values()
        for name, value in service.get("environment", {}).items()
        if "PASSWORD" in name or "@" in str(value)
    ]

    assert len(variables) == 3
    assert [line for line in variables if re.search(r"\$\{TICKRING_\w+:\?", line) is None] == []


def test_shared_memory_of_the_container_holds_every_ring(compose: dict[str, Any]) -> None:
    needed = sum(
        plan.capacity * plan.row_bytes for plan in rings(load(ROOT / "config" / "compose.toml", {}))
    )
    given = int(compose["services"]["engine"]["shm_size"].removesuffix("mb")) << 20

    assert given >= 2 * needed


def test_engine_port_is_the_one_that_prometheus_scrapes(compose: dict[str, Any]) -> None:
    monitor = load(ROOT / "config" / "compose.toml", {}).monitor
    jobs = read_yaml(ROOT / "config" / "prometheus" / "prometheus.yml")["scrape_configs"]

    assert jobs[0]["static_configs"][0]["targets"] == [f"engine:{monitor.port}"]
    assert compose["services"]["engine"]["ports"] == [f"127.0.0.1:{monitor.port}:{monitor.port}"]


def test_compose_profile_takes_its_urls_from_variables_that_compose_sets(
    compose: dict[str, Any],
) -> None:
    settings = load(ROOT / "config" / "compose.toml", {})

    assert {settings.store.url_env, settings.bus.url_env} == set(
        compose["services"]["engine"]["environment"]
    )


def test_prometheus_files_pass_promtool(promtool: str) -> None:
    command = [promtool, "check", "config", str(ROOT / "config" / "prometheus" / "prometheus.yml")]

    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_provisions_the_data_source_that_the_dashboard_uses() -> None:
    folder = ROOT / "config" / "grafana" / "provisioning" / "datasources"
    (source,) = read_yaml(folder / "prometheus.yml")["datasources"]
    panels = json.loads(DASHBOARD.read_text())["panels"]

    used = {target["datasource"]["uid"] for panel in panels for target in panel["targets"]}

    assert used == {source["uid"]}


def test_panels_have_their_own_place_and_number() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


def expressions() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for group in read_yaml(ALERTS)["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


@pytest.fixture
def exported_names(tmp_path: Path, segment_prefix: str) -> set[str]:
    """Every metric that a monitor shows of a run that has not begun, and may show once it has."""
    settings = load(None, {"engine": {"name": segment_prefix}})
    run = plan_run(settings, tmp_path)
    segments = create_all(run)
    memory = Memory(run)
    try:
        text = Exposition(memory, FrameRate(memory)).text().decode()
    finally:
        memory.close()
        remove_all(segments)
    return {*re.findall(r"(?m)^# TYPE (\w+)", text), *(PREFIX + name for name in HELP)}


def test_dashboard_and_alerts_use_only_metrics_that_the_engine_exports(
    exported_names: set[str],
) -> None:
    used = {name.removesuffix("_bucket") for text in expressions() for name in METRIC.findall(text)}

    assert used - exported_names == set()
    assert len(used) >= 15


def test_who_is_silent_is_asked_as_the_supervisor_asks() -> None:
    (rules,) = (group["rules"] for group in read_yaml(ALERTS)["groups"])
    (silent,) = (rule["expr"] for rule in rules if rule["alert"] == "TickringWorkerSilent")

    assert silent == "tickring_heartbeat_age_seconds > tickring_heartbeat_age_max_seconds"


def test_a_halt_and_a_worker_that_is_down_wake_somebody() -> None:
    (rules,) = (group["rules"] for group in read_yaml(ALERTS)["groups"])
    critical = {rule["alert"] for rule in rules if rule["labels"]["severity"] == "critical"}

    assert critical == {
        "TickringDown", "TickringHalted", "TickringWorkerDown", "TickringWorkerSilent",
    }  # fmt: skip


def test_docker_image_ends_as_a_user_without_rights() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()

    assert [line for line in lines if line.startswith("USER")] == ["USER tickring"]


def test_docker_build_gets_everything_that_it_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = [
        name
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    ]

    assert [
        name for name in copied if f"!{name}" not in ignored or not (ROOT / name).exists()
    ] == []
