"""workers room: decides when a fault of a script happens, counts it and logs it.

Every rule draws from a generator of its own, seeded by the script's seed and the rule's number, so
a rule does the same whatever stands beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from fnmatch import fnmatchcase

import numpy as np

from workers.exchange.errors import ExchangeError
from workers.exchange.faults import Rule, Script

DEPTH_PATHS = "*/depth"

_LOG = logging.getLogger("tickring.exchange")


class ArmedRule:
    """One rule at work: what it has seen and done."""

    def __init__(self, rule: Rule, seed: int) -> None:
        self.rule = rule
        self.injected = 0
        self.chance = np.random.default_rng((seed, rule.number))
        self._seen: dict[int, int] = {}  # by connection; requests count as one connection

    def is_due(self, connection: int = 0) -> int:
        """Counts one more frame, request or connection; answers its index if it is due, else -1."""
        rule = self.rule
        if rule.connection not in {-1, connection}:
            return -1
        index = self._seen.get(connection, 0)
        self._seen[connection] = index + 1
        if self.injected >= rule.times:
            return -1
        if rule.index:
            return index if index in rule.index else -1
        return index if rule.probability >= 1 or self.chance.random() < rule.probability else -1

    def happened(self, what: str, index: int, connection: int = -1) -> None:
        """Counts a fault and logs it."""
        self.injected += 1
        rule = self.rule
        _LOG.warning(
            "fault injected rule=%d kind=%s what=%s frame=%d connection=%d",
            rule.number,
            rule.kind,
            what,
            index,
            connection,
        )

    def forget(self, connection: int) -> None:
        """Forgets a connection that is gone."""
        self._seen.pop(connection, None)


class Injector:
    """The rules that are armed now."""

    def __init__(self) -> None:
        self.rules: tuple[ArmedRule, ...] = ()
        self._first: dict[tuple[str, int], bytes] = {}  # (symbol, limit) -> snapshot

    def arm(self, script: Script) -> None:
        """Arms a script in place of the one before. Called by: the server and `StreamHub.arm`."""
        self.rules = tuple(ArmedRule(rule, script.seed) for rule in script.rules)

    def counts(self) -> dict[str, int]:
        """Answers how often each rule was injected."""
        return {armed.rule.name: armed.injected for armed in self.rules}

    def of_kind(self, *kinds: str) -> Iterable[ArmedRule]:
        """Answers the armed rules of some kinds, in their order."""
        return [armed for armed in self.rules if armed.rule.kind in kinds]

    @property
    def skew_ms(self) -> int:
        """Answers what all skews add to the exchange's time together."""
        return sum(armed.rule.skew_ms for armed in self.of_kind("skew"))

    def refusal(self, path: str, now_ns: int) -> ExchangeError | None:
        """Answers how a request for `path` is refused, None when it is not."""
        for armed in self.of_kind("limit", "refuse"):
            rule = armed.rule
            is_meant = matches(path, rule.path if rule.kind == "limit" else DEPTH_PATHS)
            index = armed.is_due() if is_meant else -1
            if index >= 0:
                armed.happened(path, index)
                is_limit = rule.kind == "limit"
                wait_s = max(1, rule.retry_after_s) if is_limit else rule.retry_after_s
                retry_ms = now_ns // 1_000_000 + 1_000 * wait_s if wait_s else 0
                code = -1003 if is_limit else -1000
                message = "Too many requests." if is_limit else "Service unavailable."
                return ExchangeError(code, message, status=rule.status, retry_after_ms=retry_ms)
        return None

    def slowness_s(self, path: str) -> float:
        """Answers how long the answer to a request for `path` is to be held back, 0 for not."""
        delay_s = 0.0
        for armed in self.of_kind("slow"):
            index = armed.is_due() if matches(path, DEPTH_PATHS) else -1
            if index >= 0:
                armed.happened(path, index)
                delay_s = max(delay_s, armed.rule.delay_ms / 1_000)
        return delay_s

    def snapshot(self, symbol: str, limit: int, body: bytes) -> bytes:
        """Answers `body`, the snapshot as it is, or the first one that was asked for like this."""
        first = self._first.setdefault((symbol, limit), body)
        for armed in self.of_kind("stale"):
            index = armed.is_due()
            if index >= 0:
                armed.happened(symbol, index)
                return first
        return body

    def forget(self, connection: int) -> None:
        """Forgets a connection that is gone."""
        for armed in self.rules:
            armed.forget(connection)


def matches(name: str, pattern: str) -> bool:
    """Says whether a stream or path is one that a rule means."""
    return fnmatchcase(name, pattern)
