"""workers room: how long to wait before trying again: doubling, with jitter, up to a limit."""

from __future__ import annotations

import numpy as np


class Backoff:
    """Delays of one thing that is tried again and again."""

    def __init__(self, first_ms: int, ms_max: int) -> None:
        self._first_ms, self._ms_max = first_ms, ms_max
        self._chance = np.random.default_rng()
        self.tries = 0

    def next_s(self) -> float:
        """Answers the next delay, half to all of the doubled one, so that clients spread out."""
        whole_ms = min(self._first_ms << min(self.tries, 20), self._ms_max)
        self.tries += 1
        return whole_ms * float(self._chance.uniform(0.5, 1.0)) / 1000

    def reset(self) -> None:
        """Begins again with the first delay."""
        self.tries = 0
