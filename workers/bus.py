"""workers room: the bus, which publishes the journal to Redis for programs outside the engine.

    channel               records (workers/messages.py says what a message holds)
    PREFIX.signals        signals and intents of the strategies
    PREFIX.orders         orders and cancels that passed risk
    PREFIX.risk           denials and changes of the risk state
    PREFIX.execution      reports: acknowledgements, fills, cancels, rejects

It reads files, never rings, so Redis may be slow or away for as long as it likes. A batch is read,
published in one pipeline, and then its end is saved; a bus that is killed in between publishes that
one batch again. Every message carries (ring, run, sequence), by which a subscriber can tell. What
came before the first start of the bus is not published.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import time
from pathlib import Path
from typing import Any, Final

import msgpack
import msgspec
import redis.asyncio as aioredis
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from config.settings import Settings
from engine.risk import DenialCode
from workers.agent import Phase, SegmentPlan
from workers.context import AgentContext
from workers.journal import (
    JournalError,
    Tail,
    generation_folder,
    generations,
    read_generation,
    read_instruments,
)
from workers.logmask import mask_text
from workers.messages import Messages, messages_of
from workers.timing import timed

CHANNELS: Final = {
    "signals": "signals",
    "intents": "signals",
    "orders": "orders",
    "risk": "risk",
    "reports": "execution",
}
POSITION_FILE: Final = "bus.position"
IDLE_S: Final = 0.02  # between looks at a journal that has nothing new
RETRY_S, RETRY_S_MAX = 0.05, 5.0
REDIS_S_MAX: Final = 5.0  # for a connection or an answer
STOP_S_MAX: Final = 3.0  # a stop waits this long for a Redis that is away
_FAULTS = (redis.exceptions.RedisError, OSError, TimeoutError, JournalError)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far the journal is published."""

    version: int = 1
    run: int
    following: dict[str, int]  # ring -> next sequence


def load_position(path: Path) -> Position | None:
    """Answers the saved position, None when there is none; raises ValueError on nonsense."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Position)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ValueError(
            f"a position file must be readable: file={path} error={error};"
            " delete it to publish from the present run on"
        ) from None


def save_position(path: Path, position: Position) -> None:
    """Replaces the saved position as a whole, mode 0600."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(position))
    finally:
        os.close(descriptor)
    temporary.replace(path)


def bus_url(settings: Settings) -> str:
    """Answers Redis's address; raises ValueError when its environment variable is not set."""
    name = settings.bus.url_env
    if not name:
        return settings.bus.url
    url = os.environ.get(name, "")
    if not url:
        raise ValueError(f"bus.url_env must name a variable that is set: bus.url_env={name}")
    return url


@timed("bus_encode_seconds")
def encode_all(encoding: str, found: list[dict[str, Any]]) -> list[bytes]:
    """Answers messages as bytes; `encoding` is json or msgpack."""
    encode = msgpack.packb if encoding == "msgpack" else msgspec.json.encode
    return [encode(message) for message in found]


class Backlog:
    """What is still to be published: the journal from a position on."""

    def __init__(self, context: AgentContext, path: Path) -> None:
        self._data_dir = context.data_dir
        self._run_now = context.generation
        self._strategies = tuple(one.name for one in context.settings.strategies)
        self._path = path
        self._tails: dict[str, Tail] = {}
        self._messages: Messages | None = None
        self.run = self._run_now
        self._following: dict[str, int] = {}
        position = load_position(path)
        if position is not None and position.run <= self._run_now:
            self.run, self._following = position.run, position.following

    def _open(self) -> bool:
        """Opens the tails of the run we stand in; says whether its journal is there."""
        if self._messages is not None:
            return True
        folder = generation_folder(self._data_dir, self.run)
        facts = read_generation(folder)
        if facts is None:
            return self._turn_to_next_run()
        self._messages = Messages(
            self.run, facts.clock_offset_ns, strategies=self._strategies, denials=denial_names()
        )
        for ring in CHANNELS:
            self._tails[ring] = Tail(folder, ring, self._following.get(ring, 0))
        return True

    def _turn_to_next_run(self) -> bool:
        """Leaves a finished run for the next one; says whether there is one to read now."""
        later = [run for run in generations(self._data_dir) if run > self.run]
        if self.run >= self._run_now or not later:
            return False
        self.close()
        self.run = later[0]
        self._following = {}
        return self._open()

    def read(self, records_max: int) -> list[tuple[str, dict[str, Any]]]:
        """Answers the next messages with their rings, by time; empty when all is published.

        Raises:
            JournalError: the journal is damaged at the next place.
        """
        if not self._open():
            return []
        found = self._read_rings(records_max)
        if not found and self._turn_to_next_run():
            found = self._read_rings(records_max)
        return found

    def _read_rings(self, records_max: int) -> list[tuple[str, dict[str, Any]]]:
        assert self._messages is not None, "a run is open"
        if not self._messages.instruments:
            folder = generation_folder(self._data_dir, self.run)
            self._messages.instruments = read_instruments(folder)
        share = max(1, records_max // len(self._tails))
        lanes = [
            [(ring, message) for message in messages_of(self._messages, ring, tail.read(share))]
            for ring, tail in self._tails.items()
        ]
        # By time across rings; a ring's own order holds whatever its times say.
        return list(heapq.merge(*lanes, key=lambda one: one[1]["time_ns"]))

    def save(self) -> None:
        """Saves that everything read so far is published."""
        self._following = {ring: tail.next_sequence for ring, tail in self._tails.items()}
        save_position(self._path, Position(run=self.run, following=self._following))

    def close(self) -> None:
        """Closes the files."""
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()
        self._messages = None


class BusAgent:
    """Publishes to Redis from a task of its own on the worker's loop; role `bus`."""

    def __init__(self, context: AgentContext) -> None:
        self.role_name = context.agent
        self._context = context
        self._settings = context.settings.bus
        self._done = 0
        self._batch: list[tuple[str, dict[str, Any]]] = []  # read, not yet published
        self._is_caught_up = False
        self._retry_s = 0.0
        self._stop_ns = 0
        self._task: asyncio.Task[None] | None = None

    @staticmethod
    def segments(settings: Settings, agent: str) -> tuple[SegmentPlan, ...]:
        """Answers no segments: the bus's place is a file."""
        del settings, agent
        return ()

    def on_start(self) -> None:
        """Finds the place where the last bus stopped."""
        context, stats = self._context, self._context.stats
        self._url = bus_url(context.settings)
        self._backlog = Backlog(context, context.data_dir / POSITION_FILE)
        self._published = {
            channel: stats.counter("bus_published_total", channel=channel)
            for channel in dict.fromkeys(CHANNELS.values())
        }
        self._connected = stats.gauge("bus_connected")
        encode_all.bind(stats)

    async def open(self) -> None:
        """Starts publishing; whether Redis is there makes no difference."""
        self._redis = aioredis.Redis.from_url(
            self._url, socket_timeout=REDIS_S_MAX, socket_connect_timeout=REDIS_S_MAX,
            retry=Retry(NoBackoff(), 0), max_connections=2,
        )  # fmt: skip
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stops publishing and disconnects."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(*_FAULTS):
            await self._redis.aclose()

    async def _run(self) -> None:
        while True:
            try:
                count = await self._publish_batch()
            except _FAULTS as error:
                self._note_fault(error)
                await asyncio.sleep(self._retry_s)
                continue
            if count == 0:
                await asyncio.sleep(IDLE_S)

    async def _publish_batch(self) -> int:
        """Publishes one batch and saves its end; answers the number of messages."""
        if not self._batch:
            self._batch = self._backlog.read(self._settings.batch_max)
            self._is_caught_up = not self._batch
        if not self._batch:
            return 0
        payloads = encode_all(self._settings.encoding, [message for _, message in self._batch])
        async with asyncio.timeout(REDIS_S_MAX), self._redis.pipeline(transaction=False) as pipe:
            for (ring, _), payload in zip(self._batch, payloads, strict=True):
                pipe.publish(f"{self._settings.prefix}.{CHANNELS[ring]}", payload)
            await pipe.execute()
        self._backlog.save()
        for ring, _ in self._batch:
            self._published[CHANNELS[ring]].add()
        count = len(self._batch)
        self._batch = []
        self._done += count
        self._note_success()
        return count

    def _note_success(self) -> None:
        if self._retry_s > 0.0:
            self._context.logger.info("bus is back", url=mask_text(self._url))
        self._retry_s = 0.0
        self._connected.set(1)

    def _note_fault(self, error: BaseException) -> None:
        """Doubles the pause; says so once for each time that Redis goes away."""
        if self._retry_s == 0.0:
            text = mask_text(f"{type(error).__name__}: {error}")
            self._context.logger.warning("bus is away", url=mask_text(self._url), error=text)
            self._context.stats.error(f"bus must be reachable: error={text}")
        self._retry_s = min(max(2 * self._retry_s, RETRY_S), RETRY_S_MAX)
        self._connected.set(0)

    def do_work(self) -> int:
        """Answers how many messages went out since the last call; raises what ended the task."""
        if self._task is not None and self._task.done():
            self._task.result()
        done, self._done = self._done, 0
        return done

    def on_phase(self, phase: Phase) -> bool:
        """In phase STORE: all is published, or Redis is away and will be told in the next run."""
        if phase != Phase.STORE or self._task is None or self._task.done():
            return True
        now_ns = time.monotonic_ns()
        if self._stop_ns == 0:
            self._stop_ns = now_ns
            self._is_caught_up = False  # what the recorder wrote last must be looked at once more
        if self._is_caught_up and not self._batch:
            return True
        if self._retry_s > 0.0 and now_ns - self._stop_ns > STOP_S_MAX * 1e9:
            self._context.logger.warning("bus is away, the rest waits for the next run")
            return True
        return False

    def on_close(self) -> None:
        """Closes the journal's files."""
        encode_all.unbind()
        self._backlog.close()


def denial_names() -> dict[int, str]:
    """Answers the names of risk's denial codes."""
    return {int(code): code.name for code in DenialCode}
