"""workers room: how many depth snapshots an ingest worker may ask for.

The venue counts request weight by address, in whole minutes. Half of a minute's weight is for
snapshots, in equal parts for every ingest worker of the engine, so that no word must be shared; the
other half is left to whatever else uses the address. What the venue itself counts (its header) and
what it orders (Retry-After) hold beyond that, for all instruments of this worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.venues import Market

MINUTE_NS = 60_000_000_000
BAN_S_MIN = 120.0  # the venue's shortest ban; for one that comes without Retry-After
FULL_SHARE = 0.9  # of what the venue allows; beyond, nobody of us asks in this minute
_TOO_MANY, _BANNED = 429, 418


class SnapshotBudget:
    """One worker's part. Called by: one event loop.

    Args:
        market: whose limits.
        weight: of one snapshot.
        workers: ingest workers of this engine.
        clock: answers epoch ns.
    """

    def __init__(
        self, market: Market, weight: int, workers: int, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.weight = weight
        self.weight_max = max(weight, market.weight_per_minute // 2 // max(1, workers))
        self._full = int(market.weight_per_minute * FULL_SHARE)
        self._clock = clock
        self._minute = -1
        self._spent = 0
        self._until_ns = 0

    def take(self) -> bool:
        """Takes the weight of one snapshot; False when none may be asked for now."""
        now_ns = self._roll()
        if now_ns < self._until_ns or self._spent + self.weight > self.weight_max:
            return False
        self._spent += self.weight
        return True

    def _roll(self) -> int:
        now_ns = self._clock()
        minute = now_ns // MINUTE_NS
        if minute != self._minute:
            self._minute, self._spent = minute, 0
        return now_ns

    def heard(self, used_weight: int) -> None:
        """Takes what the venue says that this address has used in this minute."""
        now_ns = self._roll()
        if used_weight >= self._full:
            self._wait_until(now_ns - now_ns % MINUTE_NS + MINUTE_NS)

    def refused(self, status: int, retry_after_s: float) -> None:
        """Takes a refusal: nobody asks before the venue's time is over."""
        now_ns = self._roll()
        if status == _BANNED:
            retry_after_s = retry_after_s or BAN_S_MIN
        if status == _TOO_MANY and not retry_after_s:
            self._wait_until(now_ns - now_ns % MINUTE_NS + MINUTE_NS)
        self._wait_until(now_ns + int(retry_after_s * 1e9))

    def _wait_until(self, until_ns: int) -> None:
        self._until_ns = max(self._until_ns, until_ns)
