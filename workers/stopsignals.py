"""workers room: the signals that ask for the end, and who of the engine hears them.

A terminal that closes, Ctrl-C, `timeout` and a service manager send them to every process of the
engine at once. One process decides how the engine ends, so one process hears them:

    supervisor                      each asks for an ordered stop
    forkserver, resource tracker    begin with them blocked, then ignore them
    worker                          ignores them; SIGTERM counts once the phase is EXIT, when only
                                    the supervisor can mean it
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from engine.control import PHASE
from shm.segment import Words
from workers.agent import Phase

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# Wakes a worker that sleeps, to look at the phase. Who does not handle it yet ignores it, by the
# kernel's default.
NUDGE = signal.SIGURG


@contextmanager
def blocked_for_children() -> Iterator[None]:
    """Blocks the signals in this thread, so that a process started meanwhile begins with that.

    None can end it then before it has had time to ignore them. This process goes on hearing them,
    by its other threads or afterwards. Called by: the supervisor.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Ignores the signals from now on, those that are held back as well."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


class Signals:
    """What a worker hears: nothing but a SIGTERM in phase EXIT."""

    def __init__(self) -> None:
        self._control: Words | None = None
        self.is_asked = False
        ignore()
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(NUDGE, self._wake)  # a handler, however empty, ends a sleep in the kernel

    def watch(self, control: Words) -> None:
        """Learns where the phase stands; before that every signal is ignored."""
        self._control = control

    def _wake(self, _number: int, _frame: object) -> None:
        """Does nothing."""

    def _ask(self, _number: int, _frame: object) -> None:
        if self._control is not None and self._control[PHASE] == Phase.EXIT:
            self.is_asked = True
