"""workers room: one line to the venue: the connection that carries some streams, kept alive.

The venue ends a connection after a day, and announces a restart (`serverShutdown`). Then a second
connection takes over before the first one ends:

    old   ... 41 42 43 44 45 46 | pong
    new         (42 43 44 45 46 47 48 held back)  -> doubles up to 46 dropped, 47 48 ...
               ^ connects       ^ ping answered: all that the venue sent before is here

The new connection is read into its own buffer and held until the old one has brought, of every
stream, the first frame that the new one holds, and has then answered a ping: with that the old one
has brought all that the new one cannot have, also of streams that are quiet just then. The feed
drops what the new one repeats (`Feed.fence`). Nothing is missing and nothing comes twice.

A line is dead when no frame of data comes: an answered ping is no sign of life, and an address that
the venue has retired completes the handshake and then says nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from time import monotonic
from typing import NamedTuple, Protocol

from engine.codec_feed import Feed
from workers.framesession import FrameSession
from workers.ingest_backoff import Backoff
from workers.log import Logger

OPEN_TRIES_MAX = 8
CHECK_S = 1.0  # between looks at a line's health
OVERLAP_S_MAX = 5.0  # the old connection may be so far behind the new one, and in its answer
FLUSH_S = 0.001  # between looks whether the batch is decoded


_STREAM = re.compile(rb'\s*\{\s*"stream"\s*:\s*"([^"]+)"')
_ID_KEYS = {"bookTicker": b"u", "depth": b"u", "trade": b"t", "aggTrade": b"a", "markPrice": b"E"}
_IDS = {kind: re.compile(rb'"%b"\s*:\s*(\d{1,18})\b' % key) for kind, key in _ID_KEYS.items()}


def name_and_id(frame: bytes) -> tuple[str, int]:
    """Answers a frame's stream and the id that the feed knows it by; empty when it has none."""
    found = _STREAM.match(frame)
    name = found[1].decode(errors="replace") if found else ""
    pattern = _IDS.get(name.partition("@")[2].partition("@")[0])
    number = pattern.search(frame, found.end()) if pattern and found else None
    return (name, int(number[1])) if number else ("", 0)


class SilentVenueError(ConnectionError):
    """An address that takes connections and never sends a frame."""

    is_configuration = True  # a worker that meets it at its start is not started again


class LinePlan(NamedTuple):
    """What a line carries, and its limits in seconds."""

    url: str
    names: frozenset[str]  # of its streams
    slots: tuple[int, ...]  # the books that need it
    idle_s: float  # without any bytes; then a ping must be answered
    first_frame_s_max: float
    silence_s_max: float
    age_s_max: float


class Owner(NamedTuple):
    """What a line asks of the ingest agent."""

    wake: Callable[[], None]  # a batch has begun
    flush: Callable[[], object]  # decode the batch, or hold the sockets back
    connected: Callable[[AnyLine], None]
    lost: Callable[[AnyLine, str], Awaitable[None]]  # until everybody has been told
    renewed: Callable[[], None]  # one connection took over from another
    logger: Logger


class AnyLine(Protocol):
    """What an ingest agent asks of a line, whoever speaks to the venue."""

    plan: LinePlan
    backoff: Backoff
    is_connected: asyncio.Event

    @property
    def session(self) -> FrameSession | None:
        """The socket that can be held back."""

    @property
    def is_open(self) -> bool:
        """Says whether frames may come."""

    def rotate(self) -> None:
        """Asks for a new connection that takes over from this one."""

    def disconnect(self) -> None:
        """Ends the connection; another one is made."""

    def stop(self) -> None:
        """Ends the connection for good."""

    async def run(self) -> None:
        """Keeps the line up."""


class Line:
    """One connection after another; see the module. Called by: one event loop."""

    def __init__(self, feed: Feed, plan: LinePlan, owner: Owner, backoff: Backoff) -> None:
        self.plan, self.backoff = plan, backoff
        self._feed, self._owner = feed, owner
        self.session: FrameSession | None = None
        self.is_connected = asyncio.Event()  # for the first time
        self._is_proven = False
        self._is_asked = self._is_ending = False
        self._look = asyncio.Event()
        self._not_before_s = 0.0

    @property
    def is_open(self) -> bool:
        """Says whether frames may come."""
        return self.session is not None and self.session.is_open

    def rotate(self) -> None:
        """Asks for a new connection that takes over from this one."""
        self._is_asked = True
        self._look.set()

    def stop(self) -> None:
        """Ends the connection for good."""
        self._is_ending = True
        self.disconnect()

    def _is_ended(self) -> bool:
        return self._is_ending  # asked anew behind every wait: `stop` may have come

    def disconnect(self) -> None:
        """Ends the connection; another one is made."""
        if self.session is not None:
            self.session.disconnect()

    async def run(self) -> None:
        """Keeps the line up until it is stopped or cancelled.

        Raises:
            ConnectionError: the venue was never reached in OPEN_TRIES_MAX tries, or took the first
                connection and never sent a frame.
        """
        while not self._is_ended():
            session = self._make()
            try:
                await session.connect(self.plan.url, self.plan.idle_s)
            except (OSError, TimeoutError) as error:
                self._owner.logger.warning("stream not reached", error=str(error))
                if not self.is_connected.is_set() and self.backoff.tries >= OPEN_TRIES_MAX:
                    raise ConnectionError(f"the stream must be reachable: {error}") from None
                await asyncio.sleep(self.backoff.next_s())
                continue
            self._begin(session)
            why = await self._serve(session)
            if self._is_ended():
                return
            if why and not self._is_proven:
                raise SilentVenueError(why)
            await self._owner.lost(self, why)

    def _make(self) -> FrameSession:
        return FrameSession(self._feed, self._owner.wake, self._owner.flush)

    def _begin(self, session: FrameSession) -> None:
        self._feed.unfence(self.plan.names)
        self.session = session
        self._is_asked = False
        self._owner.connected(self)
        self.is_connected.set()

    async def _serve(self, session: FrameSession) -> str:
        """Stays while the line is well; answers why it ended, empty for an ordinary end."""
        while not session.closed.is_set():
            closing = asyncio.create_task(session.closed.wait())
            looking = asyncio.create_task(self._look.wait())
            await asyncio.wait(
                {closing, looking}, timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED
            )
            closing.cancel()
            looking.cancel()
            self._look.clear()
            self._is_proven = self._is_proven or session.is_fed.is_set()
            if problem := self._problem(session):
                session.disconnect()
                return problem
            if self._is_due(session):
                session = await self._take_over(session)
        return await session.ended()

    def _problem(self, session: FrameSession) -> str:
        """Answers what a living line must do and this one does not."""
        silent_s = monotonic() - session.data_s
        if session.is_paused or session.closed.is_set():
            return ""
        if not session.is_fed.is_set() and silent_s > self.plan.first_frame_s_max:
            return (
                f"the venue must send a first frame within {self.plan.first_frame_s_max:.0f} s"
                f" of the handshake: url={self.plan.url}; the address may be a retired one"
            )
        if session.is_fed.is_set() and silent_s > self.plan.silence_s_max:
            return f"the venue must send data: silent_s={silent_s:.0f} url={self.plan.url}"
        return ""

    def _is_due(self, session: FrameSession) -> bool:
        now_s = monotonic()
        is_old = now_s - session.opened_s > self.plan.age_s_max
        is_open = not session.closed.is_set()
        return is_open and (self._is_asked or is_old) and now_s >= self._not_before_s

    async def _take_over(self, old: FrameSession) -> FrameSession:
        """Lets a second connection take over; answers the one that is in use then."""
        new = self._make()
        new.hold()
        try:
            await new.connect(self.plan.url, self.plan.idle_s)
            await self._first_of(new.is_fed.wait(), old.closed.wait(), self.plan.first_frame_s_max)
            if not (new.is_fed.is_set() or old.closed.is_set()):
                raise SilentVenueError("a new connection must bring a first frame")
            if new.closed.is_set():
                raise ConnectionError("a new connection must stay open")
        except (OSError, TimeoutError) as error:
            new.disconnect()
            self._not_before_s = monotonic() + self.backoff.next_s()
            self._owner.logger.warning("stream not renewed", error=str(error))
            return old
        except asyncio.CancelledError:
            new.disconnect()
            raise
        await self._overlap(old, new)
        if self._is_ended():
            new.disconnect()
            return old
        self._feed.fence(self.plan.names)
        self.session = new
        self._is_asked = False
        self._owner.renewed()
        new.release()
        self._owner.logger.info("stream renewed", streams=len(self.plan.names))
        return new

    async def _overlap(self, old: FrameSession, new: FrameSession) -> None:
        """Waits until the old connection has brought what the new one lacks, and ends it."""
        until_s = monotonic() + OVERLAP_S_MAX
        firsts: dict[str, int] = {}
        seen = 0
        while not old.closed.is_set() and monotonic() < until_s:
            seen += self._look_at(islice(new.held(), seen, None), firsts)
            if all(self._feed.last_id(name) >= number for name, number in firsts.items()):
                break
            self._owner.flush()
            await asyncio.sleep(FLUSH_S)
        old.drain()
        await self._first_of(old.drained.wait(), old.closed.wait(), OVERLAP_S_MAX)
        old.disconnect()
        while self._feed.count:  # what the old one brought comes first, also when the ring is full
            self._owner.flush()
            await asyncio.sleep(FLUSH_S)

    def _look_at(self, frames: Iterable[bytes], firsts: dict[str, int]) -> int:
        """Notes the first id of every stream among frames; answers how many frames there were."""
        count = 0
        for frame in frames:
            count += 1
            if len(firsts) < len(self.plan.names):
                name, number = name_and_id(frame)
                if name in self.plan.names:
                    firsts.setdefault(name, number)
        return count

    @staticmethod
    async def _first_of(one: Awaitable[bool], other: Awaitable[bool], seconds_max: float) -> None:
        tasks = {asyncio.ensure_future(one), asyncio.ensure_future(other)}
        try:
            await asyncio.wait(tasks, timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
