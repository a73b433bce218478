"""workers room: the way of one connection's frames to its socket while faults are armed.

It stands between the channels and the session only then; without faults a channel's listener is
the session itself. Frames are never overtaken by delays, as on a real socket: what comes behind a
delayed frame waits with it. Only `reorder` changes their order.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING

from workers.exchange.injector import ArmedRule, Injector, matches

if TYPE_CHECKING:
    from workers.exchange.streams import StreamSession

GOING_AWAY = 1001  # RFC 6455, section 7.4.1
REORDER_S_MAX = 1.0  # a frame is not held back longer, also when no other follows
WAITING_MAX = 100_000  # frames; a connection with more of them waiting is dropped
MICROSECONDS_DIGITS = 16
_TIME = re.compile(rb'"E":(\d+)')
_ENDS = ("close", "reset", "half_close", "shutdown")


class FaultyLine:
    """One connection's frames; see the module.

    Args:
        session: whose frames these are.
        number: of the connection, from 0 in the order of opening.
        injector: the armed rules.
    """

    def __init__(self, session: StreamSession, number: int, injector: Injector) -> None:
        self.session = session
        self.number = number
        self._injector = injector
        self._waiting: deque[tuple[float, bytes]] = deque()  # (when it may leave, frame)
        self._passed = 0  # frames that left, or wait for their time
        self._behind: list[tuple[int, bytes]] = []  # (when so many have passed, frame)
        self._delay_s, self._lag = 0.0, 0  # of the frame at hand
        self._silent: list[tuple[str, float]] = []  # (pattern, until)
        self._timers: list[asyncio.TimerHandle] = []
        self._timer: asyncio.TimerHandle | None = None
        self._holding: asyncio.TimerHandle | None = None
        self._is_ended = False
        self._is_leaving = False  # a shutdown has been told

    def open(self) -> None:
        """Starts the clocks of faults that come some time after the opening."""
        loop = asyncio.get_running_loop()
        for armed in self._injector.of_kind("mute"):
            index = armed.is_due(self.number if armed.rule.connection >= 0 else -1)
            if index >= 0:
                armed.happened("connection", index, self.number)
                self._silent.append(("*", float("inf")))
        for armed in self._injector.of_kind("silence", *_ENDS):
            rule = armed.rule
            if rule.after_s >= 0 and rule.connection in {-1, self.number}:
                self._timers.append(loop.call_later(rule.after_s, self._on_time, armed))

    def close(self) -> None:
        """Forgets everything that was still to come."""
        for timer in (*self._timers, self._timer, self._holding):
            if timer is not None:
                timer.cancel()
        self._timers.clear()
        self._timer = self._holding = None
        self._drop()

    def _drop(self) -> None:
        self._waiting.clear()
        self._behind.clear()
        self.session.held_bytes = 0

    def frame(self, stream: str, rules: tuple[ArmedRule, ...], frame: bytes) -> None:
        """Takes one frame of a stream, with the rules that mean the stream."""
        self._delay_s, self._lag = 0.0, 0
        frames = [frame]
        for armed in rules:
            is_told = self._is_leaving and armed.rule.kind == "shutdown"
            index = -1 if self._is_ended or is_told else armed.is_due(self.number)
            if index >= 0 and (frames or armed.rule.kind in _ENDS):
                armed.happened(stream, index, self.number)
                frames = self._spoil(armed, frames)
        if self._is_ended or self._is_silent(stream):
            return
        for one in frames:
            self._pass(one)

    def _spoil(self, armed: ArmedRule, frames: list[bytes]) -> list[bytes]:
        """Does what a rule wants; answers what is left of a frame and its copies."""
        rule = armed.rule
        if rule.kind in _ENDS:
            self._end(armed)
        elif rule.kind == "silence":
            self._silence(armed)
        elif rule.kind == "delay":
            self._delay_s = max(self._delay_s, rule.delay_ms / 1_000)
        elif rule.kind == "reorder":
            self._lag = rule.behind
        else:
            return _changed(armed, frames)
        return frames

    def _pass(self, frame: bytes) -> None:
        skew_ms = self._injector.skew_ms
        if skew_ms:
            frame = _skewed(frame, skew_ms)
        if self._lag and len(self._behind) < WAITING_MAX:
            self._behind.append((self._passed + self._lag, frame))
            self.session.held_bytes += len(frame)
            if self._holding is None:
                loop = asyncio.get_running_loop()
                self._holding = loop.call_later(REORDER_S_MAX, self._let_all_go)
            return
        self._passed += 1
        self._leave(frame, self._delay_s)
        self._let_go(self._passed)

    def _let_all_go(self) -> None:
        self._holding = None
        self._let_go(1 << 62)

    def _let_go(self, passed: int) -> None:
        """Sends the frames that were held back until so many have passed."""
        for due, held in tuple(self._behind):
            if due <= passed:
                self._behind.remove((due, held))
                self.session.held_bytes -= len(held)
                self._leave(held, 0.0)

    def _leave(self, frame: bytes, delay_s: float) -> None:
        """Sends a frame, or lets it wait for its time and for those before it."""
        if not delay_s and not self._waiting:
            self.session.send(frame)
            return
        if len(self._waiting) >= WAITING_MAX:
            self._is_ended = True
            self.session.abort()
            return
        loop = asyncio.get_running_loop()
        self._waiting.append((loop.time() + delay_s, frame))
        self.session.held_bytes += len(frame)
        if self._timer is None:
            self._timer = loop.call_later(delay_s, self._send_waiting)

    def _send_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._waiting:
            due_s, frame = self._waiting[0]
            if due_s > loop.time():
                self._timer = loop.call_at(due_s, self._send_waiting)
                return
            self._waiting.popleft()
            self.session.held_bytes -= len(frame)
            if not self._is_ended:
                self.session.send(frame)

    def _is_silent(self, stream: str) -> bool:
        if not self._silent:
            return False
        now_s = asyncio.get_running_loop().time()
        return any(until_s > now_s and matches(stream, name) for name, until_s in self._silent)

    def _silence(self, armed: ArmedRule) -> None:
        rule = armed.rule
        now_s = asyncio.get_running_loop().time()
        until_s = now_s + rule.seconds if rule.seconds else float("inf")
        if (rule.stream, float("inf")) not in self._silent:
            self._silent = [one for one in self._silent if one[1] > now_s]
            self._silent.append((rule.stream, until_s))

    def _on_time(self, armed: ArmedRule) -> None:
        is_told = self._is_leaving and armed.rule.kind == "shutdown"
        if self._is_ended or is_told or armed.injected >= armed.rule.times:
            return
        armed.happened(armed.rule.stream, -1, self.number)
        if armed.rule.kind == "silence":
            self._silence(armed)
        else:
            self._end(armed)

    def _end(self, armed: ArmedRule) -> None:
        """Ends the connection in the rule's way."""
        rule = armed.rule
        if rule.kind == "shutdown":
            self._is_leaving = True
            time = self.session.now_ns // self.session.unit_ns
            self.session.send(b'{"e":"serverShutdown","E":%d}' % time)
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(rule.lead_s, self._close, GOING_AWAY))
            return
        if rule.kind == "close":
            self._close(rule.code)
            return
        self._is_ended = True
        self._drop()
        if rule.kind == "reset":
            self.session.reset()
        else:
            self.session.half_close()

    def _close(self, code: int) -> None:
        self._is_ended = True
        self._drop()
        self.session.close("Closed by a fault", code)


class FaultyListener:
    """A session as the listener of one stream, with the faults that mean it."""

    def __init__(self, line: FaultyLine, stream: str, injector: Injector) -> None:
        self._line = line
        self._stream = stream
        self._rules = tuple(
            armed
            for armed in injector.rules
            if armed.rule.kind in _OF_FRAMES
            and armed.rule.after_s < 0
            and matches(stream, armed.rule.stream)
        )

    @property
    def is_combined(self) -> bool:
        """Says which of the two wrappings the session wants."""
        return self._line.session.is_combined

    @property
    def unit_ns(self) -> int:
        """Says in units of how many ns the session wants its times."""
        return self._line.session.unit_ns

    def send(self, frame: bytes) -> None:
        """Takes one frame of the stream."""
        self._line.frame(self._stream, self._rules, frame)


_OF_FRAMES = frozenset(
    (*_ENDS, "silence", "drop", "duplicate", "reorder", "delay", "corrupt", "truncate")
)


def _changed(armed: ArmedRule, frames: list[bytes]) -> list[bytes]:
    """Answers what a rule makes of a frame and its copies."""
    rule, chance = armed.rule, armed.chance
    if rule.kind == "drop":
        return []
    if rule.kind == "duplicate":
        return frames * (1 + rule.copies)
    if rule.kind == "truncate":
        keep = rule.keep_bytes if rule.keep_bytes >= 0 else int(chance.integers(len(frames[0]) + 1))
        return [frame[:keep] for frame in frames]
    if not frames[0]:
        return frames  # an earlier rule has cut all of it away
    spoilt = bytearray(frames[0])
    for place in chance.integers(len(spoilt), size=rule.bytes):
        spoilt[place] |= 0x80  # JSON of the venue is ASCII, so this can always be told
    return [bytes(spoilt)] * len(frames)


def _skewed(frame: bytes, skew_ms: int) -> bytes:
    """Answers a frame with its event time moved."""

    def moved(match: re.Match[bytes]) -> bytes:
        scale = 1_000 if len(match[1]) >= MICROSECONDS_DIGITS else 1
        return b'"E":%d' % (int(match[1]) + skew_ms * scale)

    return _TIME.sub(moved, frame, count=1)
