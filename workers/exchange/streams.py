"""workers room: market streams: who listens to what, and sending it to them.

A stream has a channel; the market writes a payload into the channel once, and everybody who
listens gets the same bytes, raw or in the combined wrapping. Only times are written once for each
unit that somebody asked for: on spot an address with timeUnit=MICROSECOND means microseconds. A
listener is one connection; it subscribes by its address, or later by messages, of which the venue
takes five a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol
from urllib.parse import parse_qs

import msgspec
from picows import WSCloseCode

from engine.venues import SPOT, Market
from workers.exchange.connection import Connection
from workers.exchange.control import Control, ControlRefusal, read_control
from workers.exchange.faults import Script
from workers.exchange.faulty_line import GOING_AWAY, FaultyLine, FaultyListener
from workers.exchange.frames import NS_PER_MS, NS_PER_US
from workers.exchange.injector import Injector
from workers.exchange.limits import NS_PER_S, Limits

MICROSECOND = ("MICROSECOND", "microsecond")  # as the venue documents it, for spot alone
UNSENT_BYTES_MAX = 64 << 20  # a listener this far behind is dropped, as the venue does


class Listener(Protocol):
    """Who hears a stream: a session, or what stands before it while faults are armed."""

    @property
    def is_combined(self) -> bool:
        """Says which of the two wrappings it wants."""

    @property
    def unit_ns(self) -> int:
        """Says in units of how many ns it wants its times."""

    def send(self, frame: bytes) -> None:
        """Takes one frame."""


class Channel:
    """One stream and its listeners."""

    __slots__ = ("is_fed", "listeners", "name", "prefix", "sent")

    def __init__(self, name: str) -> None:
        self.name = name
        self.prefix = b'{"stream":"%b","data":' % name.encode()
        self.listeners: dict[Listener, None] = {}  # in the order of their coming
        self.is_fed = False  # the market writes into it
        self.sent = 0  # payloads that at least one listener received

    def publish(self, payload: bytes) -> None:
        """Sends one payload, a raw JSON object, to everybody who listens."""
        frame = b""
        for listener in tuple(self.listeners):
            if listener.is_combined:
                frame = frame or b"%b%b}" % (self.prefix, payload)
            listener.send(frame if listener.is_combined else payload)
        self.sent += bool(self.listeners)

    def publish_timed(self, now_ns: int, write: Callable[[int], bytes]) -> None:
        """Sends one payload to everybody who listens, in the time unit that each wants.

        Args:
            now_ns: epoch ns.
            write: answers the payload with its time as given; called once for each unit.
        """
        payloads: dict[int, bytes] = {}
        frames: dict[int, bytes] = {}
        for listener in tuple(self.listeners):
            unit_ns = listener.unit_ns
            payload = payloads.get(unit_ns) or payloads.setdefault(
                unit_ns, write(now_ns // unit_ns)
            )
            if listener.is_combined:
                payload = frames.get(unit_ns) or frames.setdefault(
                    unit_ns, b"%b%b}" % (self.prefix, payload)
                )
            listener.send(payload)
        self.sent += bool(self.listeners)

    def publish_frame(self, frame: bytes, payload_of: Callable[[], bytes]) -> None:
        """Sends one combined frame as it is; raw listeners get its payload, cut out on demand."""
        payload = b""
        for listener in tuple(self.listeners):
            if not listener.is_combined:
                payload = payload or payload_of()
            listener.send(frame if listener.is_combined else payload)
        self.sent += bool(self.listeners)


class StreamHub:
    """All channels, and the listeners that are connected."""

    def __init__(self, clock: Callable[[], int], limits: Limits, venue: Market = SPOT) -> None:
        self.clock = clock
        self.venue = venue
        self.limits = limits
        self.channels: dict[str, Channel] = {}
        self.sessions: dict[StreamSession, None] = {}
        self.subscribed: Callable[[], None] = lambda: None  # somebody has subscribed to something
        self.injector = Injector()
        self.opened = 0  # connections so far

    def channel(self, name: str) -> Channel:
        """Answers the channel of a stream, making it when there is none."""
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = Channel(name)
        return channel

    def feed(self, name: str) -> Channel:
        """Answers the channel of a stream that the market will write into."""
        channel = self.channel(name)
        channel.is_fed = True
        return channel

    def leave(self, name: str, listener: Listener) -> None:
        """Takes a listener off a stream; a stream of nobody's making is forgotten with its last."""
        channel = self.channels.get(name)
        if channel is None:
            return
        channel.listeners.pop(listener, None)
        if not channel.listeners and not channel.is_fed:
            del self.channels[name]

    def arm(self, script: Script) -> None:
        """Arms a script for everybody, sessions that are open already too."""
        self.injector.arm(script)
        for session in tuple(self.sessions):
            session.rearm()

    def wanted(self) -> set[str]:
        """Names the streams that somebody listens to."""
        return {name for name, channel in self.channels.items() if channel.listeners}

    def is_paused(self) -> bool:
        """Says whether some listener cannot take more data now."""
        return any(session.is_paused for session in self.sessions)

    def unsent_bytes(self) -> int:
        """Says how much all listeners together have not taken yet."""
        return sum(session.unsent_bytes() for session in self.sessions)

    def sent(self) -> dict[str, int]:
        """Answers the number of payloads sent, by stream."""
        return {name: channel.sent for name, channel in self.channels.items() if channel.sent}


class StreamSession:
    """One listener: its subscriptions and the messages it may send.

    Args:
        hub: whose channels it hears.
        names: streams that its address names.
        is_combined: which wrapping it wants.
        path: in front of /stream or /ws; streams of another path stay silent, and at a path that
            the venue has retired everything does.
        unit_ns: of the times that it wants.
    """

    def __init__(
        self,
        hub: StreamHub,
        names: Iterable[str],
        *,
        is_combined: bool,
        path: str = "",
        unit_ns: int = NS_PER_MS,
    ) -> None:
        self.is_combined = is_combined
        self.unit_ns = unit_ns
        self._hub = hub
        self._names = tuple(names)
        self._path = path
        self._is_retired = path in hub.venue.retired
        self._streams: dict[str, Listener] = {}
        self._connection: Connection | None = None
        self._line: FaultyLine | None = None
        self._number = 0  # of this connection, in the order of opening
        self.held_bytes = 0  # by faults, on their way to `send`
        self._oldest: asyncio.TimerHandle | None = None
        self._second = 0
        self._messages = 0

    @property
    def is_paused(self) -> bool:
        """Says whether the listener cannot take more data now."""
        return self._connection is not None and self._connection.is_paused

    def unsent_bytes(self) -> int:
        """Says how much the listener has not taken yet."""
        connection = self._connection
        return self.held_bytes + connection.unsent_bytes() if connection is not None else 0

    def send(self, frame: bytes) -> None:
        """Sends one frame; a listener that fell hopelessly behind is dropped instead."""
        connection = self._connection
        if connection is None:
            return
        if connection.is_paused and connection.unsent_bytes() > UNSENT_BYTES_MAX:
            connection.abort()
            return
        connection.send(frame)

    @property
    def now_ns(self) -> int:
        """Answers the exchange's time, epoch ns."""
        return self._hub.clock()

    def close(self, reason: str, code: int = GOING_AWAY) -> None:
        """Ends the connection from the exchange's side."""
        if self._connection is not None:
            self._connection.close(WSCloseCode(code), reason)

    def abort(self) -> None:
        """Drops the connection, with what was not sent."""
        if self._connection is not None:
            self._connection.abort()

    def reset(self) -> None:
        """Ends the connection as a host does that has crashed: with a TCP reset."""
        if self._connection is not None:
            self._connection.reset()

    def half_close(self) -> None:
        """Says that nothing more will be sent, and goes on to listen."""
        if self._connection is not None:
            self._connection.half_close()

    def on_open(self, connection: Connection) -> None:
        """Subscribes to what the address named."""
        hub = self._hub
        self._connection = connection
        hub.sessions[self] = None
        loop = asyncio.get_running_loop()
        age_s = hub.limits.connection_s_max
        self._oldest = loop.call_later(age_s, self.close, "Connection is too old")
        if hub.injector.rules:
            self._line = FaultyLine(self, hub.opened, hub.injector)
            self._line.open()
        self._number = hub.opened
        hub.opened += 1
        self._subscribe(self._names)

    def rearm(self) -> None:
        """Puts the rules that are armed now between this listener and its streams."""
        names = tuple(self._streams)
        self._unsubscribe(names)
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._hub.injector.rules:
            self._line = FaultyLine(self, self._number, self._hub.injector)
            self._line.open()
        self._subscribe(names)

    def on_close(self) -> None:
        """Unsubscribes from everything."""
        self._hub.sessions.pop(self, None)
        if self._oldest is not None:
            self._oldest.cancel()
        self._unsubscribe(tuple(self._streams))
        if self._line is not None:
            self._line.close()
            self._hub.injector.forget(self._line.number)
        self._connection = None

    def on_control(self) -> None:
        """Counts a ping or pong against the message limit."""
        self._count()

    def on_message(self, data: bytes) -> None:
        """Answers a control message."""
        if self._count() and self._connection is not None and not self._is_retired:
            self._connection.send(msgspec.json.encode(self._answer(data)))

    def _count(self) -> bool:
        """Counts a message from the client; one too many in a second ends the connection."""
        second = self._hub.clock() // NS_PER_S
        if second != self._second:
            self._second, self._messages = second, 0
        self._messages += 1
        if self._messages > self._hub.limits.stream_messages_per_s:
            if self._connection is not None:
                self._connection.close(WSCloseCode.POLICY_VIOLATION, "Too many requests")
            return False
        return True

    def _answer(self, data: bytes) -> dict[str, object]:
        try:
            control = read_control(data)
            return {"result": self._perform(control), "id": control.request_id}
        except ControlRefusal as refusal:
            return refusal.answer()

    def _perform(self, control: Control) -> object:
        """Does what a control message asks; answers its result."""
        if control.method == "LIST_SUBSCRIPTIONS":
            return list(self._streams)
        if control.method == "GET_PROPERTY":
            return self.is_combined
        if control.value is not None:
            self.is_combined = control.value
        elif control.method == "UNSUBSCRIBE":
            self._unsubscribe(control.names)
        elif len(self._streams.keys() | set(control.names)) > self._hub.limits.streams_max:
            raise ControlRefusal(2, "Invalid request: too many streams", control.request_id)
        else:
            self._subscribe(control.names)
        return None

    def _subscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._streams:
                listener = self._listener(name)
                self._streams[name] = listener
                if self._is_carried(name):
                    self._hub.channel(name).listeners[listener] = None
        if self._streams:
            self._hub.subscribed()

    def _is_carried(self, name: str) -> bool:
        """Says whether a stream is heard at this session's path."""
        stream = name.partition("@")[2]
        lines = self._hub.venue.lines
        others = (line.streams for line in lines if line.path != self._path)
        return not self._is_retired and not any(stream in streams for streams in others)

    def _unsubscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._streams:
                self._hub.leave(name, self._streams.pop(name))

    def _listener(self, name: str) -> Listener:
        if self._line is None:
            return self
        return FaultyListener(self._line, name, self._hub.injector)


def open_session(path: str, query: str, hub: StreamHub) -> StreamSession | None:
    """Makes the session that an address asks for, None when it is no stream's address."""
    prefixes = (*(line.path for line in hub.venue.lines), *hub.venue.retired)
    prefix = next((one for one in prefixes if path.startswith((f"{one}/stream", f"{one}/ws"))), "")
    path = path.removeprefix(prefix)
    given = parse_qs(query)
    if path == "/stream":
        streams = given.get("streams", [""])[0]
        is_combined = True
    elif path == "/ws" or path.startswith("/ws/"):
        streams = path[len("/ws/") :]
        is_combined = False
    else:
        return None
    names = [name for name in streams.split("/") if name]
    if len(names) > hub.limits.streams_max:
        return None
    is_fine = hub.venue is SPOT and given.get("timeUnit", [""])[0] in MICROSECOND
    unit_ns = NS_PER_US if is_fine else NS_PER_MS
    return StreamSession(hub, names, is_combined=is_combined, path=prefix, unit_ns=unit_ns)
