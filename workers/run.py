"""workers room: the run command: set up, start, show, stop in order, sum up."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from config.settings import Settings
from config.topology import is_exchange_embedded, spinning_cores, takes_orders, workers
from workers import summary, warm
from workers.commands import handlers
from workers.controlsocket import ControlServer
from workers.dashboard import Dashboard
from workers.endpoints import EXCHANGE_WORDS, PLAYBACK_FINISHED, ensure_exchange_key, key_pair
from workers.listening import check_ports
from workers.memory import plan_run, write_run
from workers.pinning import stepped_back
from workers.status import status
from workers.supervisor import StartError, Supervisor
from workers.terminal import print_line, stderr_console, stdout_console

EXIT_OK, EXIT_FAILED = 0, 1


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[TextIO]:
    """Holds a data folder for one engine.

    Raises:
        BlockingIOError: when another engine holds it.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"a data folder must have one engine: data_dir={data_dir}"
                f" pid={file.read().strip() or 'unknown'}; stop it or pass --data-dir"
            ) from None
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file


class EngineRun:
    """One `tickring run` from the first line to the summary."""

    def __init__(self, settings: Settings, data_dir: Path, *, as_json: bool) -> None:
        self._settings, self._data_dir, self._as_json = settings, data_dir, as_json
        self._console = stderr_console()

    def run(self, seconds: float | None) -> int:
        """Runs until `seconds` are over, a recording has ended, or somebody asks for the end.

        Returns:
            The exit code: 0 after an ordered end in which nothing was lost and no worker had to
            be given up; else 1, also when a worker could not be started.

        Raises:
            OSError: when the data folder or shared memory cannot be had.
            ValueError: when keys, ports or configuration do not fit.
            StartError: when a worker cannot be started because of its configuration.
        """
        with locked(self._data_dir):
            if is_exchange_embedded(self._settings):
                ensure_exchange_key(self._data_dir)
            # What the user must mend is said before anything starts.
            if takes_orders(self._settings):
                key_pair(self._settings, self._data_dir)
            check_ports(self._settings)
            self._warm()
            run = plan_run(self._settings, self._data_dir)
            write_run(run)
            with stepped_back(spinning_cores(self._settings)):
                supervisor = Supervisor(run)
                supervisor.notices.speak_with(self._say)
                try:
                    return self._supervise(supervisor, seconds)
                except StartError as error:
                    if error.is_configuration:
                        raise
                    self._say(f"tickring: {' '.join(str(error).split())}")
                    return EXIT_FAILED
                finally:
                    supervisor.close()

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def _warm(self) -> None:
        steps = len(warm.LOADED)
        with _progress(self._console) as progress:
            what = "compiling (cached for the next start)"
            task = progress.add_task(what, total=steps)
            warm.compile_all(
                told=lambda _: progress.update(task, advance=1, description=what),
                naming=lambda name: progress.update(task, description=f"compiling {name}"),
            )

    def _supervise(self, supervisor: Supervisor, seconds: float | None) -> int:
        server = ControlServer(self._data_dir, handlers(supervisor))
        supervisor.poll_with(server.poll, server.listener)
        started_s = time.monotonic()
        try:
            if self._start(supervisor):
                started_s = time.monotonic()
                self._watch(supervisor, seconds)
        finally:
            elapsed_s = time.monotonic() - started_s
            self._stop(supervisor)
            server.close()
        result = summary.collect(supervisor.memory, elapsed_s, supervisor.forced)
        self._report(result)
        return EXIT_FAILED if summary.failures(result) else EXIT_OK

    def _start(self, supervisor: Supervisor) -> bool:
        with _progress(self._console) as progress:
            task = progress.add_task("starting workers", total=len(workers(self._settings)))

            def told(name: str) -> None:
                progress.update(task, advance=1, description=f"starting workers: {name} ready")

            return supervisor.start(told)

    def _watch(self, supervisor: Supervisor, seconds: float | None) -> None:
        end_s = time.monotonic() + seconds if seconds is not None else float("inf")
        exchange = None
        if is_exchange_embedded(self._settings):
            exchange = supervisor.memory.segment("exchange").words(0, EXCHANGE_WORDS)
        note = f"tickring {self._settings.engine.name}"
        self._tell_pages(supervisor)
        reason = lambda: supervisor.halt_reason  # noqa: E731 - as it is when it is shown
        with Dashboard(supervisor.memory, self._console, note, reason) as dashboard:
            supervisor.poll_with(dashboard.poll)
            while not supervisor.is_stop_asked and time.monotonic() < end_s:
                supervisor.turn()
                if exchange is not None and exchange[PLAYBACK_FINISHED]:
                    return

    def _tell_pages(self, supervisor: Supervisor) -> None:
        url = status(supervisor.memory)["metrics_url"]
        where = f"; metrics at {url}" if url else ""
        self._console.print(f"running; Ctrl-C stops in order{where}", highlight=False)

    def _stop(self, supervisor: Supervisor) -> None:
        self._console.print("stopping: orders first, then the journal, then its readers")
        supervisor.stop()

    def _report(self, result: dict[str, Any]) -> None:
        if self._as_json:
            summary.show(result, self._console)
            print_line(json.dumps(result))  # the contract: the last line on standard output
        else:
            summary.show(result, stdout_console())


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        console=console,
    )
