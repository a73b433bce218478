"""workers room: what the engine does on a control request (workers/controlsocket.py).

    status                   what `tickring status` prints
    halt [level]             stops order flow: 1 no new orders, 2 open orders are cancelled as well
    resume                   takes the supervisor's halt back
    log-level worker level   changes what a worker logs
    stop                     an ordered end

A handler checks everything it is given and refuses by ValueError, in one line for the sender.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from config.topology import takes_orders
from engine.control import CANCEL_ALL, NO_NEW, OPERATOR_HALT, SUPERVISOR_HALT, TRADE
from workers.board import WorkerState
from workers.context import Memory
from workers.controlsocket import Handler
from workers.status import status

Request = dict[str, Any]


class Engine(Protocol):
    """What a request may ask of a supervisor."""

    memory: Memory

    def halt(self, level: int, reason: str) -> None:
        """Stores the supervisor's halt word."""

    def ask_stop(self) -> None:
        """Asks for an ordered stop."""


def handlers(engine: Engine) -> dict[str, Handler]:
    """Answers a handler for each command. Called by: the supervisor's process."""
    return {
        "status": lambda _: status(engine.memory),
        "halt": partial(halt, engine),
        "resume": partial(resume, engine),
        "log-level": partial(log_level, engine),
        "stop": partial(stop, engine),
    }


def halt(engine: Engine, request: Request) -> dict[str, Any]:
    """Halts at `level`, or stays at the supervisor's own level when that is higher."""
    level = request.get("level", NO_NEW)
    if type(level) is not int or level not in (NO_NEW, CANCEL_ALL):  # true is an int, and no level
        raise ValueError(
            f"level must be {NO_NEW}, no new orders, or {CANCEL_ALL}, cancel all as well:"
            f" level={_shown(level)}"
        )
    level = max(level, int(engine.memory.control()[SUPERVISOR_HALT]))
    engine.halt(level, "operator")
    return {"halt": level}


def resume(engine: Engine, _request: Request) -> dict[str, Any]:
    """Takes the supervisor's halt back; answers the operator's, which the sender clears itself.

    Raises:
        ValueError: a worker was given up. Orders would flow without what it did: without a
            journal when it was the recorder.
    """
    rows = engine.memory.board().rows()
    failed = [row.name for row in rows if row.state == WorkerState.FAILED]
    if failed:
        raise ValueError(
            f"every worker must run before orders flow again: failed={','.join(failed)};"
            " see its last log line, then stop the engine and start it again"
        )
    if not takes_orders(engine.memory.run.settings):
        raise ValueError(
            "the venue must take orders before orders flow: this engine only listens:"
            f" kind={engine.memory.run.settings.venue.kind}"
        )
    engine.halt(TRADE, "operator")
    return {"halt": int(engine.memory.control()[OPERATOR_HALT])}


def log_level(engine: Engine, request: Request) -> dict[str, Any]:
    """Sets `level` of `worker`."""
    worker, level = _text(request, "worker"), _text(request, "level")
    engine.memory.log_levels().set(worker, level)
    return {"worker": worker, "level": level}


def stop(engine: Engine, _request: Request) -> dict[str, Any]:
    """Asks for an ordered stop."""
    engine.ask_stop()
    return {"stopping": True}


def _text(request: Request, field: str) -> str:
    value = request.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{field} must be given as text: {field}={_shown(value)}")  # noqa: TRY004 - what a sender wrote is one kind of error
    return value


def _shown(value: object) -> str:
    return repr(value)[:40]
