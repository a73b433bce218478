"""workers room: lets an event loop sleep until a ring has news, for workers that park.

    loop thread    nothing to do ------> sleep(): the thread may go      <------ wake
    this thread                          futex on the rings' cursors -----news----^

A loop can wait for descriptors and a ring has none: its writer wakes a futex. So a thread waits on
the futex and tells the loop, which meanwhile sleeps until one of its sockets has news. The thread
writes the parked flags of its readers and nothing else; the loop's thread reads the rings.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from shm import park
from shm.handles import Consumer


class Parker:
    """Sleeps on the rings of one process on behalf of its loop. Called by: the loop's thread."""

    def __init__(
        self,
        consumers: Sequence[Consumer],
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
        park_ns_max: int,
    ) -> None:
        """Starts the thread.

        Raises:
            ValueError: when a ring cannot be parked on.
        """
        self._park = park.Park(consumers, park_ns_max)
        self._loop, self._wake = loop, wake
        self._asked = threading.Event()
        self._is_asleep = self._is_over = False
        self._thread = threading.Thread(target=self._run, name="parker", daemon=True)
        self._thread.start()

    def sleep(self) -> None:
        """Answers at once; `wake` is called when a ring has news, or after park_ns_max."""
        if not self._is_asleep:
            self._is_asleep = True
            self._asked.set()

    def close(self) -> None:
        """Ends the thread, within park_ns_max."""
        self._is_over = True
        self._asked.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._is_over:
                return
            self._park.idle(0)
            self._loop.call_soon_threadsafe(self._woken)

    def _woken(self) -> None:
        self._is_asleep = False
        if not self._is_over:
            self._wake()
