"""workers room: what one recording holds, read once from end to end; a bad line is told, not fatal.

Continuity is judged by the market's own rule, told from the frames: on spot a difference's first id
must be the last one's last id + 1, on USD-M its `pu` must be the last one's last id.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from workers.exchange.capture import CaptureError, local_time_ns, raw_lines

MALFORMED_MAX = 20  # lines told of one file; the rest is counted
SILENCES_MAX = 3  # told of each stream
STREAMS_MAX = 4_096  # of one file
SKEW_PERCENTS = {"min": 0.0, "p1": 1.0, "p50": 50.0, "p99": 99.0, "max": 100.0}
_US_EVENT_FROM = 10**14  # an event time from here on is microseconds
_UNITS = {"ns": 10**17, "us": 10**14, "ms": 0}


class _Data(msgspec.Struct):
    """Fields that tell order; numbers may be absent."""

    s: str = ""
    e: str = ""
    E: int = 0
    U: int = 0
    u: int = 0
    pu: int = -1
    t: int = -1
    a: Any = None  # id of an aggTrade, price or levels elsewhere


class _Frame(msgspec.Struct):
    stream: str = ""
    data: _Data | None = None
    lastUpdateId: int | None = None  # noqa: N815 - the venue's name


@dataclass
class StreamFacts:
    """One stream of one file."""

    count: int = 0
    gaps: int = 0  # ids that do not continue
    gap_lines: list[int] = field(default_factory=list)  # the first ones
    times_ns: array[int] = field(default_factory=lambda: array("q"))
    last_id: int = -1

    def follow(self, expected: bool, last_id: int, line: int) -> None:  # noqa: FBT001 - one claim
        """Takes the ids of one message; `expected` says whether they continue."""
        if self.last_id >= 0 and not expected:
            self.gaps += 1
            if len(self.gap_lines) < MALFORMED_MAX:
                self.gap_lines.append(line)
        self.last_id = last_id

    def silences_s(self) -> list[float]:
        """Answers the longest times between two messages, longest first."""
        gaps = np.sort(np.diff(np.frombuffer(self.times_ns, np.int64)))[::-1]
        return [round(float(gap) / 1e9, 6) for gap in gaps[:SILENCES_MAX]]


@dataclass
class Facts:
    """One file."""

    path: Path
    market: str = ""
    lines: int = 0
    snapshots: list[int] = field(default_factory=list)  # their lines
    streams: dict[str, StreamFacts] = field(default_factory=dict)
    malformed: int = 0
    problems: list[str] = field(default_factory=list)
    time_back: int = 0
    local_unit: str = ""
    local_digits: int = 0
    event_unit: str = ""
    first_ns: int = 0
    last_ns: int = 0
    skew_ns: array[int] = field(default_factory=lambda: array("q"))

    @property
    def gaps(self) -> int:
        """Answers the ids that do not continue, of all streams."""
        return sum(stream.gaps for stream in self.streams.values())

    @property
    def is_good(self) -> bool:
        """Says whether the file is whole, in order and without gaps."""
        return not (self.problems or self.malformed or self.time_back or self.gaps)

    def skew_ms(self) -> dict[str, float]:
        """Answers local minus event time, percentiles in ms; empty without event times."""
        if not self.skew_ns:
            return {}
        values = np.frombuffer(self.skew_ns, np.int64) / 1e6
        return {
            name: round(float(np.percentile(values, at)), 3) for name, at in SKEW_PERCENTS.items()
        }

    def document(self) -> dict[str, Any]:
        """Answers everything as JSON knows it."""
        span_s = (self.last_ns - self.first_ns) / 1e9
        return {
            "file": str(self.path),
            "market": self.market,
            "lines": self.lines,
            "span_s": round(span_s, 6),
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
            "local_time": {"unit": self.local_unit, "digits": self.local_digits},
            "event_time": {"unit": self.event_unit},
            "snapshot_lines": self.snapshots,
            "streams": {
                name: {
                    "count": stream.count,
                    "rate_per_s": round(stream.count / span_s, 3) if span_s else 0.0,
                    "gaps": stream.gaps,
                    "gap_lines": stream.gap_lines,
                    "silences_s": stream.silences_s(),
                }
                for name, stream in self.streams.items()
            },
            "skew_ms": self.skew_ms(),
            "local_time_back": self.time_back,
            "malformed": self.malformed,
            "problems": self.problems,
            "good": self.is_good,
        }


def facts_of(path: Path) -> Facts:
    """Reads a recording through; what is wrong with it is in the answer."""
    facts = Facts(path)
    decoder = msgspec.json.Decoder(_Frame)
    try:
        for number, text in enumerate(raw_lines(path), start=1):
            facts.lines = number
            try:
                _take(facts, text, decoder, number)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                facts.malformed += 1
                if facts.malformed <= MALFORMED_MAX:
                    facts.problems.append(f"file={path} line={number}: {error}")
    except CaptureError as error:
        facts.problems.append(str(error))
    if not facts.lines:
        facts.problems.append(f"a recording must have lines: file={path}")
    return facts


def _take(facts: Facts, text: bytes, decoder: msgspec.json.Decoder[_Frame], line: int) -> None:
    stamp, space, body = text.partition(b" ")
    if not space or not stamp.isdigit() or len(stamp) > len(str(1 << 62)):
        raise ValueError("a line must be a local time, a space and JSON")
    frame = decoder.decode(body)
    if frame.lastUpdateId is None and (frame.data is None or not frame.stream):
        raise ValueError("a frame must name its stream")
    local_ns = _take_time(facts, stamp)
    if frame.data is None or frame.lastUpdateId is not None:
        facts.snapshots.append(line)
        return
    stream = facts.streams.get(frame.stream)
    if stream is None:
        if len(facts.streams) >= STREAMS_MAX:
            raise ValueError(f"a recording must have at most {STREAMS_MAX} streams")
        stream = facts.streams[frame.stream] = StreamFacts()
    stream.count += 1
    stream.times_ns.append(local_ns)
    data = frame.data
    _tell_market(facts, data)
    if data.E:
        facts.event_unit = "us" if data.E >= _US_EVENT_FROM else "ms"
        facts.skew_ns.append(local_ns - local_time_ns(data.E))
    _follow(stream, data, line)


def _take_time(facts: Facts, stamp: bytes) -> int:
    value = int(stamp)
    local_ns = local_time_ns(value)
    if not facts.first_ns:
        facts.first_ns = facts.last_ns = local_ns
        facts.local_unit = next(unit for unit, least in _UNITS.items() if value >= least)
        facts.local_digits = len(stamp)
    if local_ns < facts.last_ns:
        facts.time_back += 1
        if facts.time_back == 1:
            facts.problems.append(
                f"local time must not go back: file={facts.path} time_ns={local_ns}"
                f" before_ns={facts.last_ns}"
            )
    facts.last_ns = max(facts.last_ns, local_ns)
    return local_ns


def _tell_market(facts: Facts, data: _Data) -> None:
    """Learns the market from what only one of them writes."""
    if data.pu >= 0 or data.e in {"bookTicker", "markPriceUpdate"}:
        facts.market = "usdm"
    elif not facts.market and (data.U or not data.e):
        facts.market = "spot"


def _follow(stream: StreamFacts, data: _Data, line: int) -> None:
    if data.e == "depthUpdate":
        is_next = data.pu == stream.last_id if data.pu >= 0 else stream.last_id + 1 == data.U
        stream.follow(is_next, data.u, line)
    elif data.e == "trade":
        stream.follow(data.t == stream.last_id + 1, data.t, line)
    elif data.e == "aggTrade" and isinstance(data.a, int):
        stream.follow(data.a == stream.last_id + 1, data.a, line)
    elif data.e in {"", "bookTicker"} and data.u:
        stream.follow(data.u > stream.last_id, data.u, line)
