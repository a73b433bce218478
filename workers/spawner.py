"""workers room: starts worker processes, and waits for the end of any of them.

Processes come from a warm forkserver: a process that has imported and compiled everything and only
forks. A dead worker is back in tens of milliseconds; a cold start would take seconds.

One selector lives as long as the engine: the supervisor waits fifty times a second, and making a
selector anew each time costs more than the wait.
"""

from __future__ import annotations

import multiprocessing
import os
import selectors
import socket
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from workers import stopsignals
from workers.context import Run
from workers.runner import run_worker


def warm_context() -> ForkServerContext:
    """Starts the forkserver that has everything loaded; answers the context it works for."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a threaded process must not be forked
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workers.preload"])
    with stopsignals.blocked_for_children():
        # The forkserver's start would do this as well, and then unblock what is blocked.
        forkserver.resource_tracker.ensure_running()  # type: ignore[attr-defined]
    with stopsignals.blocked_for_children():
        forkserver.ensure_running()
    return context


class Spawner:
    """Starts processes and hears of their end. Called by: the supervisor.

    Args:
        context: how processes are started.
        clock: answers CLOCK_MONOTONIC, ns.
    """

    def __init__(self, context: ForkServerContext, clock: Callable[[], int]) -> None:
        self._context = context
        self.clock = clock
        self._selector = selectors.DefaultSelector()

    def start(self, note_end: Callable[[], None], run: Run, name: str, index: int) -> BaseProcess:
        """Starts a worker's process; `wait` calls `note_end` from its end on."""
        process: BaseProcess = self._context.Process(
            target=run_worker, args=(run, name, index), daemon=False
        )
        with stopsignals.blocked_for_children():  # a forkserver that died is started again here
            process.start()
        self._selector.register(process.sentinel, selectors.EVENT_READ, note_end)
        return process

    def forget(self, process: BaseProcess) -> None:
        """Gives back what belongs to an ended process."""
        self._selector.unregister(process.sentinel)  # before its number can be another's
        process.close()

    def wake_for(self, readable: socket.socket) -> None:
        """Lets `wait` end early when a socket has news."""
        self._selector.register(readable, selectors.EVENT_READ)

    def wait(self, seconds: float) -> None:
        """Waits for an end or for news, `seconds` at most."""
        for key, _ in self._selector.select(seconds):
            if key.data is not None:
                key.data()

    def close(self) -> None:
        """Gives the selector back."""
        self._selector.close()
