"""Who hears the signals that ask for the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from engine.control import CONTROL_WORDS, PHASE
from workers.agent import Phase
from workers.stopsignals import STOP_SIGNALS, Signals, blocked_for_children, ignore


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = [(number, signal.getsignal(number)) for number in STOP_SIGNALS]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def test_a_process_that_is_started_meanwhile_cannot_be_ended_before_it_ignores_them() -> None:
    code = (
        "import os, signal\n"
        "from workers.stopsignals import STOP_SIGNALS, ignore\n"
        "for number in STOP_SIGNALS: os.kill(os.getpid(), number)\n"
        "ignore()\n"
        "for number in STOP_SIGNALS: os.kill(os.getpid(), number)\n"
        "print(len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))\n"
    )
    with blocked_for_children():
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True
        )

    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_a_worker_hears_sigterm_in_the_last_phase_only() -> None:
    control = np.zeros(CONTROL_WORDS, np.int64)
    signals = Signals()
    heard = []
    for phase in (None, Phase.RUN, Phase.LOGS, Phase.EXIT):
        if phase is not None:
            signals.watch(control)
            control[PHASE] = phase
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        heard.append(signals.is_asked)

    assert heard == [False, False, False, True]


def test_ignored_signals_do_nothing() -> None:
    ignore()
    for number in STOP_SIGNALS:
        os.kill(os.getpid(), number)

    assert [signal.getsignal(number) for number in STOP_SIGNALS] == [signal.SIG_IGN] * 3
