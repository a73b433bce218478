"""workers room: what must hold before anything is compiled or started; `check` and `run` ask it.

`config` checks a file by itself; this looks at the world around it: cores, the data folder, modules
of strategies, addresses, keys, the configured database and bus, recordings. Nothing is connected to
and nothing is written: a database that is down is no reason not to trade.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from redis.connection import parse_url

from config import placement
from config.settings import Settings, VenueSettings
from config.topology import agents, is_exchange_embedded, takes_orders
from workers.bus import bus_url
from workers.endpoints import KEY_FILE
from workers.exchange.capture import CaptureError, Scan, scan
from workers.exchange.faults import FaultError, read_script
from workers.exchange.keys import KeyPair, read_pair
from workers.memory import last_generation
from workers.store import make_database
from workers.store_database import database_url, is_postgres, scrubbed, sqlite_path
from workers.strategies import loaded


def problems(settings: Settings, data_dir: Path, found: Scan | None = None) -> Iterator[str]:
    """Yields one line for everything that would keep this configuration from starting here.

    Args:
        settings: a configuration that `config.load` accepted.
        data_dir: where the engine will live.
        found: what the configured recordings hold, when they have been read already.
    """
    yield from placement.host_problems(settings, frozenset(os.sched_getaffinity(0)))
    yield from _data_dir(data_dir)
    yield from _store(settings, data_dir)
    yield from _bus(settings)
    yield from _key(settings, data_dir)
    yield from _hosts(settings)
    yield from _recordings(settings, found)
    yield from _faults(settings)
    yield from _strategies(settings)  # last: the first time, each compiles its own few functions


def _data_dir(data_dir: Path) -> Iterator[str]:
    """The folder is there or can be made, and counts its runs."""
    above = (data_dir, *data_dir.absolute().parents)
    nearest = next(path for path in above if os.path.exists(path))  # noqa: PTH110 - never raises
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        state = "not writable" if nearest.is_dir() else "not a folder"
        yield (
            "engine.data_dir must be a folder that can be made and written:"
            f" data_dir={data_dir}, {nearest} is {state}; give another with --data-dir"
        )
        return
    try:
        last_generation(data_dir)
    except (ValueError, OSError) as error:
        yield f"engine.data_dir: {error}"


def _strategies(settings: Settings) -> Iterator[str]:
    for item in settings.strategies:
        try:
            loaded(settings, item)
        except ValueError as error:
            yield str(error)


def _store(settings: Settings, data_dir: Path) -> Iterator[str]:
    try:
        url = database_url(settings.store)
        make_database(url, data_dir)
    except ValueError as error:
        yield str(error)
        return
    key = "store.url_env" if settings.store.url_env else "store.url"
    if not is_postgres(url):
        path = sqlite_path(url, data_dir)
        if path.is_dir() or (url != "sqlite" and not path.parent.is_dir()):
            yield f"{key} must name a file in a folder that exists: path={path}"


def _bus(settings: Settings) -> Iterator[str]:
    if "bus" not in agents(settings):
        return
    try:
        url = bus_url(settings)
    except ValueError as error:
        yield str(error)
        return
    try:
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError as error:
        key = "bus.url_env" if settings.bus.url_env else "bus.url"
        yield f"{key} must give Redis's address: {scrubbed(str(error), url)}"


def _key(settings: Settings, data_dir: Path) -> Iterator[str]:
    """The venue's key can be had; the built-in exchange makes its own at the first start."""
    venue = settings.venue
    if not takes_orders(settings):
        return
    if is_exchange_embedded(settings):
        if (data_dir / KEY_FILE).exists():
            yield from _key_file("engine.data_dir", data_dir / KEY_FILE)
    elif venue.secret_file:
        yield from _key_file("venue.secret_file", Path(venue.secret_file).expanduser())
    else:
        yield from _key_variables(venue)


def _key_file(key: str, path: Path) -> Iterator[str]:
    try:
        read_pair(path).credential()
    except (OSError, ValueError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
        yield f"{key} must hold an API key and its secret: file={path}: {reason}"


def _key_variables(venue: VenueSettings) -> Iterator[str]:
    names = {"key_env": venue.key_env, "secret_env": venue.secret_env}
    missing = [key for key, name in names.items() if not os.environ.get(name)]
    for key in missing:
        yield (
            f"venue.{key} must name an environment variable that is set: {key}={names[key]};"
            " set it, or name a 0600 file as venue.secret_file"
        )
    if missing:
        return
    try:
        KeyPair(os.environ[venue.key_env], os.environ[venue.secret_env]).credential()
    except ValueError as error:
        yield f"venue.secret_env must name a usable secret: secret_env={venue.secret_env}: {error}"


def _hosts(settings: Settings) -> Iterator[str]:
    if settings.monitor.enabled:
        yield from _host("monitor.host", settings.monitor.host)
    if is_exchange_embedded(settings):
        yield from _host("exchange.host", settings.exchange.host)


def _host(key: str, host: str) -> Iterator[str]:
    """Something can listen on the address; the port is left alone, we may hold it already."""
    reason = "it is empty"
    if host:
        try:
            family, kind, _, _, address = socket.getaddrinfo(
                host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind) as probe:
                probe.bind(address)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        else:
            return
    yield f"{key} must be an address of this host: host={host!r}: {reason.lower()}"


def _faults(settings: Settings) -> Iterator[str]:
    if settings.exchange.faults:
        try:
            read_script(settings.exchange.faults)
        except FaultError as error:
            yield f"exchange.faults: {error}"


def _recordings(settings: Settings, found: Scan | None) -> Iterator[str]:
    if not settings.exchange.capture:
        return
    try:
        found = found or scan(settings.exchange.capture)
    except CaptureError as error:
        yield f"exchange.capture: {error}"
        return
    for symbol in settings.market.symbols:
        if symbol not in found.symbols:
            recorded = ",".join(found.symbols)
            yield f"market.symbols must be in the recordings: symbol={symbol} recorded={recorded}"
