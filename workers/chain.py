"""workers room: the hot path of a whole process as one compiled call.

An agent with a compiled inner loop offers it as a *stage*: a function and the address of its words.
The runner strings the stages of a process together in the order of its agents, so what one stage
publishes the next one finds in the same call: from a market data frame to the bytes of the order
that it causes, with nothing of Python in between. An agent does not know whether it runs alone or
in company; it only has to be done by Python what its stage left over (`Stage.after`).

Words of a chain, all private to the process:

    word         field       meaning
    0            clock_ns    CLOCK_MONOTONIC at the end of the last call
    1            stages      how many there are
    8 + 4 k      function    address of stage k
    9 + 4 k      argument    what it is called with
    10 + 4 k     work        what it answered last: a work count, 0 when idle
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from shm.jit import call_stage, jit, now_ns, stage_address, words_at

CLOCK_NS, STAGES = 0, 1
STAGE_AT, STAGE_WORDS = 8, 4
FUNCTION, ARGUMENT, WORK = range(3)
STAGES_MAX = 16
CHAIN_WORDS = STAGE_AT + STAGE_WORDS * STAGES_MAX


class Stage(NamedTuple):
    """What an agent hands to the runner.

    Attributes:
        function: made by `shm.jit.stage`; answers a work count, 0 when idle.
        argument: the address it is called with.
        after: does in Python what the stage left over; called when it answered work.
    """

    function: Callable[[int], int]
    argument: int
    after: Callable[[], object] | None


@runtime_checkable
class StagedAgent(Protocol):
    """An agent whose inner loop is compiled; its `do_work` then only looks after the rest."""

    def stage(self) -> Stage:
        """Answers the stage. Called by: the runner, once, after on_start and open."""


@jit
def run(address: int) -> int:
    """Calls every stage of the chain at `address` once, in order; answers the sum of their work."""
    chain = words_at(address, CHAIN_WORDS)
    total = 0
    for index in range(chain[STAGES]):
        base = STAGE_AT + STAGE_WORDS * index
        work = call_stage(chain[base + FUNCTION], chain[base + ARGUMENT])
        chain[base + WORK] = work
        total += work
    chain[CLOCK_NS] = now_ns()
    return total


class Chain:
    """The stages of one process. Called by: its runner only."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        """Binds the stages.

        Raises:
            TypeError: a function was not made by `shm.jit.stage`.
        """
        self._stages = tuple(stages)
        assert len(self._stages) <= STAGES_MAX, "a process hosts few agents"
        self._words = np.zeros(CHAIN_WORDS, np.int64)
        self._words[STAGES] = len(self._stages)
        for index, stage in enumerate(self._stages):
            base = STAGE_AT + STAGE_WORDS * index
            self._words[base + FUNCTION] = stage_address(stage.function)
            self._words[base + ARGUMENT] = stage.argument
        self._view = self._words.data
        self._address = int(self._words.ctypes.data)
        # The last stage first: what leaves the process waits for nobody's housekeeping.
        self._after = [
            (STAGE_AT + STAGE_WORDS * index + WORK, stage.after)
            for index, stage in reversed(list(enumerate(self._stages)))
            if stage.after is not None
        ]

    def run(self) -> int:
        """Runs every stage once and what they left over; answers the work count."""
        work = run(self._address)
        if work:
            for place, after in self._after:
                if self._view[place]:
                    after()
        return work

    @property
    def clock_ns(self) -> int:
        """CLOCK_MONOTONIC in ns at the end of the last run."""
        return self._view[CLOCK_NS]


def warm() -> None:
    """Compiles the chain, or loads it from the cache, without a stage."""
    Chain(()).run()
