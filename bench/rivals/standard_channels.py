"""Bench rivals: what Python itself offers to send 64 bytes from process to process."""

from __future__ import annotations

import functools
import multiprocessing
import os

from bench.support.channel_runs import BATCH, RECORD, RECORD_BYTES, Channel, Move


def mp_queue() -> Channel:
    """A multiprocessing.Queue: pickles, and a thread that feeds a pipe."""
    queue = multiprocessing.get_context("fork").Queue()
    return Channel(lambda: queue.put, lambda: queue.get, queue.close, is_trying=False)


def mp_simple_queue() -> Channel:
    """A multiprocessing.SimpleQueue: pickles into a pipe, two locks."""
    queue = multiprocessing.get_context("fork").SimpleQueue()
    return Channel(lambda: queue.put, lambda: queue.get, queue.close, is_trying=False)


def mp_pipe() -> Channel:
    """A multiprocessing.Pipe of bytes: a socket pair or pipe, length in front."""
    reader, writer = multiprocessing.Pipe(duplex=False)

    def close() -> None:
        reader.close()
        writer.close()

    return Channel(lambda: writer.send_bytes, lambda: reader.recv_bytes, close, is_trying=False)


def os_pipe() -> Channel:
    """A bare pipe: a system call for each record, or for each batch."""
    reader, writer = os.pipe()
    batch = RECORD * BATCH

    def batch_writer() -> Move:
        return lambda: os.write(writer, batch) // RECORD_BYTES

    def batch_reader() -> Move:
        return lambda: len(os.read(reader, len(batch))) // RECORD_BYTES

    def close() -> None:
        os.close(reader)
        os.close(writer)

    return Channel(
        lambda: functools.partial(os.write, writer),
        lambda: functools.partial(os.read, reader, RECORD_BYTES),
        close,
        is_trying=False,
        batch_writer=batch_writer,
        batch_reader=batch_reader,
    )
