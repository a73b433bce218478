"""Fixtures shared by every room's tests: names, ports, recordings and real servers.

A resource that this machine cannot have skips its tests, and the reason is printed (`-rs`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hypothesis
import pytest

from tests import servers

ROOT: Final = Path(__file__).resolve().parent.parent
SHARED_MEMORY: Final = Path("/dev/shm")  # where Linux shows POSIX shared memory

# The first call of a compiled function takes seconds, so no example has a deadline.
hypothesis.settings.register_profile("quick", max_examples=25, deadline=None)
hypothesis.settings.register_profile(
    "ci", max_examples=200, deadline=None, derandomize=True, print_blob=True
)
hypothesis.settings.register_profile("deep", max_examples=5_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test that wants more cores than this process may use."""
    cores = len(os.sched_getaffinity(0))
    for marker in item.iter_markers("cores"):
        if marker.args[0] > cores:
            pytest.skip(f"needs {marker.args[0]} cores, this process may use {cores}")


@pytest.fixture
def segment_prefix() -> Iterator[str]:
    """A prefix no other test has; whatever bears it must be gone from /dev/shm afterwards.

    It is also a valid engine name: segments of an engine carry the engine's name.
    """
    prefix = f"test-{os.getpid()}-{secrets.token_hex(3)}"
    yield prefix
    left = sorted(path for path in SHARED_MEMORY.iterdir() if prefix in path.name)
    for path in left:
        path.unlink(missing_ok=True)

    assert [path.name for path in left] == [], "the test left shared memory behind"


@pytest.fixture
def free_port() -> int:
    """A loopback port that was free a moment ago."""
    return servers.free_port()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL server for the whole run; tests keep apart by table or database names."""
    try:
        with servers.postgres() as url:
            yield url
    except servers.MissingServerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis server for the whole run; tests keep apart by channel prefixes."""
    try:
        with servers.redis() as url:
            yield url
    except servers.MissingServerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's checker."""
    try:
        return servers.promtool()
    except servers.MissingServerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recorded market data; it belongs to others and is never part of ours."""
    folder = ROOT.parent / "shared" / "data" / "binance_hft"
    if not folder.is_dir():
        pytest.skip(f"real recordings are not on this machine: looked for {folder}")
    return folder
