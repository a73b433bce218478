"""Bench rivals: queues and rings between processes that PyPI offers; each at its fastest calls.

Each function imports its own package by name: none of them is needed to run, or to check, the rest.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.support.channel_runs import BATCH, RECORD, RECORD_BYTES, Channel, Move, Pop, Push

SLOTS = 1 << 14  # as many as our ring has
_MEMORY = "/dev/shm"  # where Linux shows POSIX shared memory


def _name() -> str:
    return f"tickring-bench-{os.getpid()}-{secrets.token_hex(4)}"


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="tickring-bench-", dir=_MEMORY))


def _remove(folder: Path) -> Callable[[], None]:
    return lambda: shutil.rmtree(folder, ignore_errors=True)


def faster_fifo() -> Channel:
    """faster-fifo: a ring of pickles behind a process-shared mutex and condition."""
    queue = import_module("faster_fifo").Queue(SLOTS * 2 * RECORD_BYTES)
    records = [RECORD] * BATCH

    def batch_writer() -> Move:
        def move() -> int:
            queue.put_many(records)
            return BATCH

        return move

    def batch_reader() -> Move:
        return lambda: len(queue.get_many(max_messages_to_get=BATCH))

    return Channel(
        lambda: queue.put,
        lambda: queue.get,
        queue.close,
        is_trying=False,
        batch_writer=batch_writer,
        batch_reader=batch_reader,
    )


def pyzmq() -> Channel:
    """pyzmq: a PAIR of sockets over ipc."""
    zmq = import_module("zmq")
    folder = _folder()
    address = f"ipc://{folder}/pair"

    def writer() -> Push:
        socket = zmq.Context().socket(zmq.PAIR)
        socket.set_hwm(SLOTS)
        socket.bind(address)
        push: Push = socket.send
        return push

    def reader() -> Pop:
        socket = zmq.Context().socket(zmq.PAIR)
        socket.set_hwm(SLOTS)
        socket.connect(address)
        pop: Pop = socket.recv
        return pop

    return Channel(writer, reader, _remove(folder), is_trying=False)


def _iceoryx2_shape(iox: Any, name: str, folder: Path) -> Any:
    """Answers a configuration whose files bear our name and lie in our folder."""
    shape = iox.config.default()
    shape.global_cfg.prefix = iox.FileName.new(name)
    shape.global_cfg.root_path = iox.Path.new(f"{folder}/")
    return shape


def iceoryx2() -> Channel:
    """iceoryx2: publish and subscribe over shared memory, nothing dropped, one copy in."""
    iox = import_module("iceoryx2")
    iox.set_log_level(iox.LogLevel.Error)
    name, folder = _name(), _folder()
    words = ctypes.c_int64 * 8
    kept: list[object] = []  # ports live as long as their process

    def service() -> Any:
        shape = _iceoryx2_shape(iox, name, folder)
        node = iox.NodeBuilder.new().config(shape).create(iox.ServiceType.Ipc)
        builder = node.service_builder(iox.ServiceName.new(name)).publish_subscribe(words)
        kept.append(node)
        builder = builder.enable_safe_overflow(value=False).subscriber_max_buffer_size(SLOTS)
        kept.append(builder.max_publishers(1).max_subscribers(1).open_or_create())
        return kept[-1]

    def writer() -> Push:
        strategy = iox.BackpressureStrategy.RetryUntilDelivered
        publisher = service().publisher_builder().backpressure_strategy(strategy).create()
        kept.append(publisher)
        push: Push = publisher.send_copy  # answers how many have it: 0 before the reader has come
        return push

    def reader() -> Pop:
        subscriber = service().subscriber_builder().buffer_size(SLOTS).create()
        kept.append(subscriber)
        pop: Pop = subscriber.receive
        return pop

    def close() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        for left in Path(_MEMORY).glob(f"{name}*"):  # ports of processes that ended at once
            left.unlink(missing_ok=True)

    record = words.from_buffer_copy(RECORD)
    return Channel(
        writer,
        reader,
        close,
        is_trying=True,
        record=record,
        size=lambda sample: ctypes.sizeof(sample.payload().contents),
    )


def membridge() -> Channel:
    """membridge: a ring of bytes with a length before each record (Rust)."""
    memories = import_module("membridge").SharedMemory
    name = f"/{_name()}"
    header_bytes = 24
    memory = memories.create(name, SLOTS * 128 + header_bytes)
    ring = memory.spsc()
    return Channel(
        lambda: ring.push, lambda: ring.pop, lambda: memories.remove(name), is_trying=True
    )


def subetha() -> Channel:
    """subetha-ipc: a ring of 64-byte slots (Rust); its batches take one call and one buffer."""
    rings = import_module("subetha").SpscRing
    folder = _folder()
    path = str(folder / "ring")
    kept = [rings(path, SLOTS)]
    batch = RECORD * BATCH

    def batch_writer() -> Move:
        push = rings.open(path, SLOTS).push_buffer
        return lambda: push(batch, RECORD_BYTES)

    def batch_reader() -> Move:
        pop = rings.open(path, SLOTS).pop_buffer
        return lambda: pop(BATCH)[1]

    def close() -> None:
        kept.clear()
        shutil.rmtree(folder, ignore_errors=True)

    return Channel(
        lambda: rings.open(path, SLOTS).push,
        lambda: rings.open(path, SLOTS).pop,
        close,
        is_trying=True,
        batch_writer=batch_writer,
        batch_reader=batch_reader,
    )


def zeroq() -> Channel:
    """zeroq: a queue of slots for many writers and readers (Rust).

    Its waiting calls sleep (a round trip then takes a millisecond), so these try.
    """
    package = import_module("zeroq")
    queue = package.Queue(_name(), RECORD_BYTES, SLOTS)
    put, get = queue.put_nowait, queue.get_nowait

    def push(record: bytes) -> bool:
        try:
            put(record)
        except package.Full:
            return False
        return True

    def pop() -> Any:
        try:
            return get()
        except package.Empty:
            return None

    return Channel(lambda: push, lambda: pop, queue.close, is_trying=True)


def cloudtoid() -> Channel:
    """cloudtoid-interprocess: a queue of byte messages shared with C#, Go and Rust."""
    package = import_module("cloudtoid_interprocess")
    folder = _folder()
    size_bytes = SLOTS * 128
    records = [RECORD] * BATCH

    def batch_writer() -> Move:
        send = package.Publisher("records", size_bytes, folder).try_send_batch
        return lambda: send(records)

    return Channel(
        lambda: package.Publisher("records", size_bytes, folder).try_send,
        lambda: package.Subscriber("records", size_bytes, folder).try_receive,
        _remove(folder),
        is_trying=True,
        batch_writer=batch_writer,
    )


def pyaeron() -> Channel:
    """pyaeron: Aeron's C client over its IPC channel, media driver in the caller's process."""
    aeron = import_module("pyaeron")
    driver = aeron.MediaDriver()
    stream = 10
    kept: list[object] = []

    def client() -> Any:
        made = aeron.Aeron(dir=driver.dir)
        kept.append(made)
        return made

    def writer() -> Push:
        publication = client().add_exclusive_publication(aeron.IPC_CHANNEL, stream)
        kept.append(publication)
        push: Push = publication.offer
        return push

    def reader() -> Pop:
        subscription = client().add_subscription(aeron.IPC_CHANNEL, stream)
        seen: list[bytes] = []
        poll, kept_view = subscription.poll, seen.append
        kept.append(subscription)

        def take(view: Any, _header: object) -> None:
            kept_view(view.tobytes())

        def pop() -> bytes | None:
            poll(take, 1)
            return seen.pop() if seen else None

        return pop

    return Channel(writer, reader, driver.close, is_trying=True)
