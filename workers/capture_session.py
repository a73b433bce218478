"""workers room: the sockets of a capture: frames into its queue exactly as they come.

A connection that ends begins again, and every file with it: differences that were missed would
make one recording of two pieces that do not fit together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import time_ns

from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from workers.capture_plan import Source
from workers.capture_writer import Entry, Queue
from workers.ingest_backoff import Backoff
from workers.rest import Rest, RestError

FRAME_BYTES_MAX = 1 << 20
IDLE_S = 20.0
_OBJECT = ord("{")


class CaptureSession(WSListener):
    """One connection; a new one is made to reconnect."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._transport: WSTransport | None = None
        self._fragments = bytearray()
        self.closed = asyncio.Event()

    async def run(self, url: str) -> None:
        """Connects and stays until the connection's end; raises OSError, WSError, TimeoutError."""
        await ws_connect(
            lambda: self,
            url,
            max_frame_size=FRAME_BYTES_MAX,
            enable_auto_ping=True,
            auto_ping_idle_timeout=IDLE_S,
            auto_ping_reply_timeout=IDLE_S,
        )
        assert self._transport is not None, "what is connected has told us"
        try:
            await self.closed.wait()
            await self._transport.wait_disconnected()
        finally:
            self._transport.disconnect()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keeps the transport."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Queues a data frame with the time it was read."""
        read_ns = time_ns()
        payload = frame.get_payload_as_bytes()
        if payload and payload[0] == _OBJECT and frame.fin and not self._fragments:
            self._queue.put(Entry(read_ns, payload))
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close()
            transport.disconnect()
        elif frame.msg_type != WSMsgType.PONG:
            self._take_fragment(transport, frame, payload, read_ns)

    def _take_fragment(
        self, transport: WSTransport, frame: WSFrame, payload: bytes, read_ns: int
    ) -> None:
        if len(self._fragments) + len(payload) > FRAME_BYTES_MAX:
            transport.disconnect()
            return
        self._fragments += payload
        if frame.fin:
            self._queue.put(Entry(read_ns, bytes(self._fragments)))
            self._fragments.clear()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tells whoever waits."""
        self.closed.set()


class Sessions:
    """All connections and snapshot requests of a capture. Called by: one event loop."""

    def __init__(
        self, queue: Queue, source: Source, rest: Rest, levels: int, say: Callable[[str], object]
    ) -> None:
        self._queue, self._source, self._rest, self._say = queue, source, rest, say
        self._levels = str(min(levels, source.levels_max))
        self._loop = asyncio.get_running_loop()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._living: list[asyncio.Task[None]] = []
        self.reconnects = 0

    def start(self, backoffs: list[Backoff]) -> None:
        """Begins to connect to every address."""
        for url, backoff in zip(self._source.urls, backoffs, strict=True):
            self._living.append(self._loop.create_task(self._live(url, backoff)))

    async def _live(self, url: str, backoff: Backoff) -> None:
        while True:
            session = CaptureSession(self._queue)
            try:
                await session.run(url)
                reason = "the venue closed it"
            except (OSError, WSError, TimeoutError) as error:
                reason = str(error)
            if session.closed.is_set():
                backoff.reset()
            self.reconnects += 1
            self._queue.put(Entry(time_ns(), b""))
            self._say(f"connection ended, trying again: {reason}")
            await asyncio.sleep(backoff.next_s())

    def ask(self, symbol: str, tries: int) -> None:
        """Asks for a symbol's snapshot, later with every try. Called by: any thread."""
        with suppress(RuntimeError):  # the loop is gone: nobody could take the answer
            self._loop.call_soon_threadsafe(self._ask, symbol, tries)

    def _ask(self, symbol: str, tries: int) -> None:
        before = self._asking.get(symbol)
        if before is None or before.done():
            self._asking[symbol] = self._loop.create_task(self._fetch(symbol, tries))

    async def _fetch(self, symbol: str, tries: int) -> None:
        backoff = Backoff(100, 10_000)
        backoff.tries = tries
        if tries:
            await asyncio.sleep(backoff.next_s())
        while backoff.tries <= tries + 4:
            try:
                path = self._source.depth_path
                answer = await self._rest.get(path, symbol=symbol, limit=self._levels)
            except RestError as error:
                self._say(f"depth snapshot failed: symbol={symbol}: {error}")
                await asyncio.sleep(max(error.retry_after_s, backoff.next_s()))
            else:
                self._queue.put(Entry(time_ns(), answer.body, symbol))
                return

    async def close(self, seconds_max: float) -> None:
        """Lets snapshots under way arrive, for `seconds_max`, then ends every connection."""
        waiting = [task for task in self._asking.values() if not task.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds_max)
        tasks = [*self._living, *self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
