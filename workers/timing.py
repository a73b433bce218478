"""workers room: measures Python functions into the histograms of shared memory.

    @timed("db_write_latency_seconds")
    async def write_batch(...): ...

    write_batch.bind(context.stats)      # once, in on_start

Until it is bound, a timed function costs one comparison more than a bare one. Bound, the time from
call to return (of a coroutine function: to the end of its awaiting) lands in the histogram of that
name of this process's stats, and the monitor exports it. An exception is measured too and passes.
A `Stopwatch` measures a stretch of code instead of a function.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, cast

from shm.histogram import record
from shm.segment import Words

P = ParamSpec("P")
R = TypeVar("R")


class Histograms(Protocol):
    """What gives histograms by name: shm.stats.Stats."""

    def histogram(self, name: str, **labels: str) -> Words:
        """Answers the words of a histogram."""


class Timed(Generic[P, R]):
    """A function with a place for its histogram. Made by `timed`; works as a method too."""

    def __init__(self, name: str, function: Callable[P, R]) -> None:
        self.name = name
        self._function = function
        self._words: Words | None = None
        self._is_async = inspect.iscoroutinefunction(function)
        functools.update_wrapper(self, function)

    def bind(self, stats: Histograms, **labels: str) -> None:
        """Lets the function measure itself. Called by: the process that owns the stats, once."""
        self._words = stats.histogram(self.name, **labels)

    def unbind(self) -> None:
        """Stops measuring, before the shared memory goes."""
        self._words = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function, and measures it when bound."""
        words = self._words
        if words is None:
            return self._function(*args, **kwargs)
        if self._is_async:
            return cast("R", self._measure_async(words, args, kwargs))
        start_ns = time.monotonic_ns()
        try:
            return self._function(*args, **kwargs)
        finally:
            record(words, time.monotonic_ns() - start_ns)

    async def _measure_async(self, words: Words, args: Any, kwargs: Any) -> Any:  # noqa: ANN401
        start_ns = time.monotonic_ns()
        try:
            return await cast("Any", self._function(*args, **kwargs))
        finally:
            record(words, time.monotonic_ns() - start_ns)

    def __get__(self, instance: object, owner: type | None = None) -> Any:  # noqa: ANN401
        return self if instance is None else functools.partial(cast("Any", self), instance)


def timed(name: str) -> Callable[[Callable[P, R]], Timed[P, R]]:
    """Answers a decorator that measures a function into the histogram `name` once it is bound.

    Args:
        name: a Prometheus name that ends in `_seconds`.
    """
    assert name.endswith("_seconds"), "histograms are exported in seconds"
    return functools.partial(Timed, name)


class Stopwatch:
    """Measures `with` blocks into one histogram. Not re-entrant; called by: its owner's thread."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._start_ns = 0

    def __enter__(self) -> Self:
        self._start_ns = time.monotonic_ns()
        return self

    def __exit__(self, *_: object) -> None:
        record(self._words, time.monotonic_ns() - self._start_ns)
