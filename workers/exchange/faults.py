"""workers room: fault scripts: what the exchange is told to do wrong, read from TOML.

    seed = 7                          # of every draw; the same script does the same again

    [[faults]]
    kind = "drop"                     # drop, duplicate, reorder, delay, corrupt, truncate:
    stream = "btcusdt@depth@100ms"    # frames of streams that match this shell pattern
    index = 5                         # the sixth such frame of a connection; or a list of them
    #probability = 0.01               # or by chance; without either, every frame
    #times = 3                        # at most; without it once for every index, else no limit
    #connection = 0                   # only the first connection to market streams

Further kinds, each with the keys that `KINDS` names: `silence` (a stream says nothing for
`seconds`, 0 for ever, while its socket stays open); `close`, `reset` and `half_close` a connection,
and `shutdown`, which sends serverShutdown and closes after `lead_s`, all at a frame or `after_s`
seconds from the opening; `mute` (the handshake completes and no stream says anything; its index
counts connections); `refuse`, `slow` (answered `delay_ms` later, as the book was at the
request) and `stale` (repeats the first snapshot that was asked for with the same symbol and limit)
for depth snapshots; `limit` (429 or 418 with Retry-After, for every path or one); `skew`
(`skew_ms` is added to /time, exchangeInfo, event times and the clock that signed requests are held
against).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE_BYTES_MAX: Final = 1 << 20
RULES_MAX: Final = 64
INDEXES_MAX: Final = 10_000
COUNT_MAX: Final = 1 << 31
SECONDS_MAX: Final = 1_000_000.0
UNLIMITED: Final = 1 << 62


class FaultError(ValueError):
    """A fault script that is not what it must be; the message names file, rule, key and value."""

    is_configuration = True  # a worker that meets it is not started again


class Number(NamedTuple):
    """What a key's number must be."""

    least: float
    most: float
    is_whole: bool = True


@dataclass(frozen=True)
class Rule:
    """One fault of a script; what its kind does not read has the value of no meaning."""

    number: int  # from 0, in the order of the script
    kind: str
    stream: str = "*"
    path: str = "*"
    index: frozenset[int] = frozenset()
    probability: float = 1.0
    times: int = UNLIMITED
    connection: int = -1
    after_s: float = -1.0
    copies: int = 1
    behind: int = 1
    bytes: int = 1
    keep_bytes: int = -1
    delay_ms: int = 0
    seconds: float = 0.0
    lead_s: float = 1.0
    code: int = 1001
    status: int = 503
    retry_after_s: int = 0
    skew_ms: int = 0

    @property
    def name(self) -> str:
        """Names the rule in counts: its number and its kind."""
        return f"{self.number} {self.kind}"


class Script(NamedTuple):
    """A whole fault script."""

    seed: int
    rules: tuple[Rule, ...]


_CHANCE = ("index", "probability", "times")
_FRAME = ("stream", "connection", *_CHANCE)
_END = (*_FRAME, "after_s")
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "drop": _FRAME,
    "duplicate": (*_FRAME, "copies"),
    "reorder": (*_FRAME, "behind"),
    "delay": (*_FRAME, "delay_ms"),
    "corrupt": (*_FRAME, "bytes"),
    "truncate": (*_FRAME, "keep_bytes"),
    "silence": (*_END, "seconds"),
    "close": (*_END, "code"),
    "reset": _END,
    "half_close": _END,
    "shutdown": (*_END, "lead_s"),
    "mute": ("connection", *_CHANCE),
    "refuse": (*_CHANCE, "status", "retry_after_s"),
    "slow": (*_CHANCE, "delay_ms"),
    "stale": _CHANCE,
    "limit": (*_CHANCE, "path", "status", "retry_after_s"),
    "skew": ("skew_ms",),
}
_REQUIRED: Final = {"delay": "delay_ms", "slow": "delay_ms", "skew": "skew_ms", "limit": "status"}
_NUMBERS: Final = {
    "probability": Number(0, 1, is_whole=False),
    "times": Number(1, COUNT_MAX),
    "connection": Number(0, COUNT_MAX),
    "after_s": Number(0, SECONDS_MAX, is_whole=False),
    "copies": Number(1, 100),
    "behind": Number(1, 1_000),
    "bytes": Number(1, 1_000),
    "keep_bytes": Number(0, COUNT_MAX),
    "delay_ms": Number(1, 600_000),
    "seconds": Number(0, SECONDS_MAX, is_whole=False),
    "lead_s": Number(0, SECONDS_MAX, is_whole=False),
    "code": Number(1_000, 4_999),
    "status": Number(400, 599),
    "retry_after_s": Number(0, 1_000_000),
    "skew_ms": Number(-(10**10), 10**10),
}
CODES_UNSENT: Final = (1_004, 1_005, 1_006, 1_015)  # no close frame may carry them
_STATUSES: Final = (429, 418)  # of limit


def read_script(path: str | Path) -> Script:
    """Reads a fault script from a file.

    Raises:
        FaultError: it cannot be read, is no TOML, or breaks a rule.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = (error.strerror or "unknown").lower()
        raise FaultError(f"a fault script must be readable: file={path}: {reason}") from None
    try:
        return parse_script(content.decode(), str(path))
    except UnicodeDecodeError as error:
        raise FaultError(
            f"a fault script must be UTF-8 text: file={path} offset={error.start}"
        ) from None


def parse_script(text: str, where: str) -> Script:
    """Reads a fault script from text; `where` names it in messages.

    Raises:
        FaultError: it is no TOML, or breaks a rule.
    """
    if len(text) > FILE_BYTES_MAX:
        raise FaultError(f"a fault script must be small: file={where} bytes_max={FILE_BYTES_MAX}")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FaultError(f"a fault script must be TOML: file={where}: {error}") from None
    seed, tables = document.pop("seed", 0), document.pop("faults", [])
    if document:
        raise FaultError(
            f"a fault script must have no other keys than seed and faults: file={where}"
            f" key={next(iter(document))}; write [[faults]] above each rule"
        )
    if type(seed) is not int or not 0 <= seed <= COUNT_MAX:
        raise FaultError(f"seed must be a whole number from 0: file={where} seed={seed!r}")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise FaultError(f"faults must be tables: file={where}; write [[faults]] above each rule")
    if len(tables) > RULES_MAX:
        raise FaultError(
            f"a fault script must be short: file={where} rules={len(tables)} rules_max={RULES_MAX}"
        )
    return Script(seed, tuple(_rule(number, table, where) for number, table in enumerate(tables)))


def _rule(number: int, table: dict[str, Any], where: str) -> Rule:
    at = f"file={where} rule={number}"
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise FaultError(f"kind must be one of {', '.join(KINDS)}: {at} kind={kind!r}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key == "kind":
            continue
        if key not in KINDS[kind]:
            raise FaultError(
                f"a key must be one that {kind} reads: {at} key={key} value={value!r};"
                f" take it away, or one of {', '.join(KINDS[kind])}"
            )
        values[key] = _value(key, value, at)
    required = _REQUIRED.get(kind)
    if required is not None and required not in values:
        raise FaultError(f"{kind} must have {required}: {at} key={required}; add it")
    if "index" in values and "probability" in values:
        raise FaultError(
            f"a rule must have index or probability: {at} key=probability"
            f" value={values['probability']}; take one of them away"
        )
    _check_answer(kind, values, at)
    if "after_s" in values and ("index" in values or "probability" in values):
        raise FaultError(
            f"after_s must stand without index and probability: {at} key=after_s"
            f" value={values['after_s']}; take one of them away"
        )
    if "index" in values:
        values.setdefault("times", len(values["index"]))
    return Rule(number=number, kind=kind, **values)


def _check_answer(kind: str, values: dict[str, Any], at: str) -> None:
    """Holds what the exchange is told to say against what may be said."""
    if kind == "limit" and values["status"] not in _STATUSES:
        raise FaultError(f"status of limit must be 429 or 418: {at} status={values['status']}")
    if values.get("code") in CODES_UNSENT:
        raise FaultError(
            f"code must be one that a close frame may carry: {at} code={values['code']};"
            " write another than 1004, 1005, 1006 and 1015"
        )


def _value(key: str, value: object, at: str) -> object:
    if key == "index":
        return _indexes(value, at)
    if key in _NUMBERS:
        least, most, is_whole = _NUMBERS[key]
        is_number = type(value) is int or (type(value) is float and not is_whole)
        if not is_number or not least <= value <= most:  # type: ignore[operator]
            noun = "a whole number" if is_whole else "a number"
            raise FaultError(f"{key} must be {noun} from {least} to {most}: {at} {key}={value!r}")
        return value
    if not isinstance(value, str) or not value:
        raise FaultError(
            f"{key} must be a shell pattern: {at} {key}={value!r};"
            ' write a name, or "*" for everything'
        )
    return value


def _indexes(value: object, at: str) -> frozenset[int]:
    listed = value if isinstance(value, list) else [value]
    fits = all(type(number) is int and 0 <= number <= COUNT_MAX for number in listed)
    if not fits or not 1 <= len(listed) <= INDEXES_MAX:
        raise FaultError(
            f"index must be a whole number from 0, or a list of 1 to {INDEXES_MAX} of them:"
            f" {at} index={str(value)[:80]}"
        )
    return frozenset(listed)
