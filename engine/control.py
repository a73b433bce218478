"""engine room: the kill switch and the phase of the whole engine, words that anyone may read.

Segment `control`, words of int64, each on its own pair of cache lines, each with one writer:

    word 0    operator_halt     the command line (`tickring halt`, `resume`), one at a time
    word 16   supervisor_halt   supervisor: restart budget spent, drain under way
    word 32   phase             supervisor: see workers/agent.py
    word 48   exit_request      supervisor: 1 when every worker must leave at once

A halt word is a level: 0 trade, 1 no new orders, 2 cancel all as well. The higher counts.
The words work without any process answering: risk reads them before every order.
"""

from __future__ import annotations

from shm.jit import jit, load_acquire, store_release
from shm.segment import Words, fingerprint

OPERATOR_HALT, SUPERVISOR_HALT, PHASE, EXIT_REQUEST = 0, 16, 32, 48
CONTROL_WORDS = 64
TRADE, NO_NEW, CANCEL_ALL = range(3)
PHASE_RUN, PHASE_QUIET = 1, 2
LAYOUT = fingerprint("control", 1)


@jit
def halt_level(control: Words) -> int:
    """Answers the halt level in force: TRADE, NO_NEW or CANCEL_ALL; a draining engine is NO_NEW."""
    # Pairs with set_word: a halt is seen by the next check after it was stored.
    level = max(load_acquire(control, OPERATOR_HALT), load_acquire(control, SUPERVISOR_HALT))
    if load_acquire(control, PHASE) >= PHASE_QUIET:
        level = max(level, NO_NEW)
    return level


@jit
def set_word(control: Words, index: int, value: int) -> None:
    """Stores one control word. Called by: that word's one writer."""
    # Pairs with halt_level and every reader of the phase.
    store_release(control, index, value)
