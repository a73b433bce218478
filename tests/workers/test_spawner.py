"""One selector for every process and socket that the supervisor waits for."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.workers.fake_processes import FakeContext
from workers.context import Run
from workers.spawner import Spawner

RUN = Run(None, None, 1, ())  # type: ignore[arg-type]  # fakes look at nothing of it


@pytest.fixture
def context() -> FakeContext:
    return FakeContext()


@pytest.fixture
def spawner(context: FakeContext) -> Iterator[Spawner]:
    made = Spawner(context, lambda: 0)  # type: ignore[arg-type]  # a fake
    yield made
    made.close()


def test_the_end_of_a_process_is_noted_until_it_is_forgotten(
    spawner: Spawner, context: FakeContext
) -> None:
    ended: list[str] = []
    first = spawner.start(lambda: ended.append("first"), RUN, "first", 0)
    second = spawner.start(lambda: ended.append("second"), RUN, "second", 1)
    spawner.wait(0.0)
    context.processes["first"][0].die(0)
    spawner.wait(60.0)
    spawner.wait(60.0)
    spawner.forget(first)
    spawner.wait(0.0)

    assert ended == ["first", "first"]
    spawner.forget(second)


def test_a_descriptor_that_comes_back_belongs_to_the_new_process(
    spawner: Spawner, context: FakeContext
) -> None:
    ended: list[str] = []
    first = spawner.start(lambda: ended.append("first"), RUN, "worker", 0)
    context.processes["worker"][0].die(1)
    spawner.forget(first)
    second = spawner.start(lambda: ended.append("second"), RUN, "worker", 0)
    context.processes["worker"][1].die(1)
    spawner.wait(60.0)

    assert second.sentinel == first.sentinel  # the kernel gives the lowest that is free
    assert ended == ["second"]
    spawner.forget(second)


def test_news_of_a_socket_end_the_wait(spawner: Spawner) -> None:
    near, far = socket.socketpair()
    with near, far:
        spawner.wake_for(near)
        far.send(b"x")
        spawner.wait(3600.0)

        assert near.recv(1) == b"x"
