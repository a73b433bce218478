"""A loop that sleeps on rings is woken by their writers, in its own thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from shm import ring
from shm.handles import Consumer, Producer
from shm.ring import GATING
from shm.segment import Segment
from workers.parker import Parker

HOUR_NS = 3_600 * 10**9
MOMENT_NS = 1_000_000


@pytest.fixture
def made(segment_prefix: str) -> Iterator[Segment]:
    kinds = (GATING,)
    built = ring.create(
        f"{segment_prefix}-ring", 1, capacity=8, row_bytes=64, kinds=kinds, parkable=True
    )
    yield built
    built.unlink()
    built.close()


async def _woken(made: Segment, park_ns_max: int, *, publish: bool) -> int:
    """Sleeps once; answers the thread that was woken."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[int] = loop.create_future()
    consumer = Consumer(made, 0)
    parker = Parker([consumer], loop, lambda: woken.set_result(threading.get_ident()), park_ns_max)
    parker.sleep()
    parker.sleep()  # it is asleep already: nothing is asked twice
    if publish:
        Producer(made).append(np.zeros(8, np.int64))
    thread = await woken
    parker.close()
    return thread


@pytest.mark.multiprocess
def test_a_record_wakes_the_loop_in_its_own_thread(made: Segment) -> None:
    assert asyncio.run(_woken(made, HOUR_NS, publish=True)) == threading.get_ident()


def test_a_loop_without_news_is_woken_for_its_sign_of_life(made: Segment) -> None:
    assert asyncio.run(_woken(made, MOMENT_NS, publish=False)) == threading.get_ident()


def test_a_closed_parker_wakes_nobody(made: Segment) -> None:
    calls: list[int] = []

    async def close() -> None:
        loop = asyncio.get_running_loop()
        parker = Parker([Consumer(made, 0)], loop, lambda: calls.append(1), MOMENT_NS)
        parker.sleep()
        await asyncio.to_thread(parker.close)
        await asyncio.sleep(0)

    asyncio.run(close())

    assert calls == []
