"""workers room: makes written journal bytes durable without making the recorder wait.

One thread does what may block (fdatasync, close); the recorder hands it descriptors and looks later
whether it is done. While it runs the recorder goes on writing, so under load many batches share one
flush. At most one job is under way, and it is bounded by the number of rings.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple


class FlushJob(NamedTuple):
    """What to make durable."""

    current: tuple[int, ...]  # descriptors that are written on
    retired: tuple[int, ...]  # of complete files, closed afterwards
    folders: tuple[Path, ...]  # in which files were made


class Flusher:
    """Runs one flush at a time. Called by: the recorder's thread only."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal-flush")
        self._job: Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a job was submitted whose end `poll` has not answered."""
        return self._job is not None

    def submit(self, job: FlushJob) -> None:
        """Starts a job."""
        assert self._job is None, "one flush at a time"
        self._job = self._thread.submit(_flush, job)

    def poll(self) -> OSError | bool:
        """Answers True once after a job's end, its error when it failed, False otherwise."""
        job = self._job
        if job is None or not job.done():
            return False
        self._job = None
        error = job.exception()
        if error is not None and not isinstance(error, OSError):
            raise error
        return True if error is None else error

    def close(self) -> None:
        """Waits for the job under way and ends the thread."""
        self._thread.shutdown(wait=True)
        self._job = None


def _flush(job: FlushJob) -> None:
    for descriptor in (*job.retired, *job.current):
        os.fdatasync(descriptor)
    for folder in job.folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for descriptor in job.retired:
        os.close(descriptor)
