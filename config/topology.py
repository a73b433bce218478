"""config room: which agents run in which process, and which ring joins them.

A profile places agents in workers. From that alone follow the rings: who writes each, and who
gates it. Both the supervisor (which creates the memory) and the workers (which attach it) read
this plan, so they cannot disagree.

    ingest.K   market.K       -> signal, risk, recorder
    signal     signals        -> recorder
    signal     intents        -> risk, recorder
    risk       risk           -> signal, recorder           (denials)
    risk       orders         -> execution, recorder
    execution  reports        -> signal, risk, recorder
    signal, risk, execution   steps.AGENT -> recorder       (what each took in, and when)
    every process             log.PROCESS -> logs
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from config.settings import Settings, WorkerSettings
from engine.venues import CCXT_PREFIX

SUPERVISOR: Final = "supervisor"
RECORD_BYTES: Final = 128
LOG_RECORD_BYTES: Final = 512
INGEST_MAX: Final = 8
DECIDING: Final = ("signal", "risk", "execution")  # their inputs are recorded step by step

INGEST: Final = re.compile(rf"ingest\.[0-{INGEST_MAX - 1}]")
ALWAYS: Final = ("signal", "risk", "execution", "recorder", "store", "logs")
ON_DEMAND: Final = ("bus", "monitor", "exchange")


@dataclass(frozen=True, slots=True)
class RingPlan:
    """One ring before it exists.

    Attributes:
        name: without the engine's prefix, for example `market.0`.
        writer: the agent that produces; of a log ring the worker, or `supervisor`.
        readers: gating agents; a reader's index here is its number in the ring.
        capacity: records, a power of two.
        row_bytes: size of one record.
        parkable: whether a reader may sleep on it, so that the writer must wake it.
    """

    name: str
    writer: str
    readers: tuple[str, ...]
    capacity: int
    row_bytes: int
    parkable: bool


def ingest_agents(settings: Settings) -> tuple[str, ...]:
    """Names the ingest agents that are placed, in their order."""
    placed = {agent for worker in settings.workers for agent in worker.agents}
    return tuple(sorted(agent for agent in placed if INGEST.fullmatch(agent)))


def agents(settings: Settings) -> tuple[str, ...]:
    """Names every agent this configuration needs; what it placed beyond them does not run."""
    needed = {
        "bus": bool(settings.bus.url or settings.bus.url_env),
        "monitor": settings.monitor.enabled,
        "exchange": is_exchange_embedded(settings),
    }
    on_demand = tuple(name for name in ON_DEMAND if needed[name])
    always = ALWAYS if takes_orders(settings) else tuple(a for a in ALWAYS if a != "execution")
    return (*(ingest_agents(settings) or ("ingest.0",)), *always, *on_demand)


def spinning_cores(settings: Settings) -> frozenset[int]:
    """Answers the cores that a worker keeps to itself: pinned to it, and spinning."""
    return frozenset(
        worker.core for worker in settings.workers if worker.core >= 0 and worker.idle == "spin"
    )


def is_exchange_embedded(settings: Settings) -> bool:
    """Answers whether this engine serves the built-in exchange itself."""
    is_elsewhere = settings.venue.rest_url or settings.venue.kind.startswith(CCXT_PREFIX)
    return settings.exchange.enabled and not is_elsewhere


def takes_orders(settings: Settings) -> bool:
    """Answers whether there is anybody to send orders to; without, this engine only listens."""
    return is_exchange_embedded(settings) or bool(settings.venue.order_url)


def workers(settings: Settings) -> tuple[WorkerSettings, ...]:
    """Returns the processes to start: only their needed agents, none that would be empty."""
    needed = frozenset(agents(settings))
    running = []
    for worker in settings.workers:
        kept = tuple(agent for agent in worker.agents if agent in needed)
        if kept:
            running.append(msgspec.structs.replace(worker, agents=kept))
    return tuple(running)


def symbols(settings: Settings, agent: str) -> tuple[str, ...]:
    """Returns the symbols that one ingest agent takes, in the order of `[market]`."""
    for worker in settings.workers:
        if agent in worker.agents:
            own = worker.ingest_symbols.get(agent) or settings.market.symbols
            return tuple(symbol for symbol in settings.market.symbols if symbol in own)
    return ()


def rings(settings: Settings) -> tuple[RingPlan, ...]:
    """Plans every ring of the engine, in the order of the data path."""
    ingest = ingest_agents(settings) or ("ingest.0",)
    market, decisions = settings.rings.market, settings.rings.decisions
    parked = _parked(settings)
    takers = ("execution",) if takes_orders(settings) else ()

    def plan(name: str, writer: str, readers: tuple[str, ...], capacity: int) -> RingPlan:
        return RingPlan(
            name, writer, readers, capacity, RECORD_BYTES, parkable=not parked.isdisjoint(readers)
        )

    return (
        *(
            plan(agent.replace("ingest", "market"), agent, ("signal", "risk", "recorder"), market)
            for agent in ingest
        ),
        plan("signals", "signal", ("recorder",), decisions),
        plan("intents", "signal", ("risk", "recorder"), decisions),
        plan("risk", "risk", ("signal", "recorder"), decisions),
        plan("orders", "risk", (*takers, "recorder"), decisions),
        plan("reports", "execution", ("signal", "risk", "recorder"), decisions),
        *(plan(f"steps.{agent}", agent, ("recorder",), decisions) for agent in DECIDING),
        *_log_rings(settings, parkable="logs" in parked),
    )


def _log_rings(settings: Settings, *, parkable: bool) -> Iterator[RingPlan]:
    for name in (*(worker.name for worker in workers(settings)), SUPERVISOR):
        yield RingPlan(
            f"log.{name}", name, ("logs",), settings.rings.log, LOG_RECORD_BYTES, parkable
        )


def _parked(settings: Settings) -> frozenset[str]:
    """Agents whose worker sleeps on a ring when there is nothing to do."""
    return frozenset(
        agent for worker in settings.workers if worker.idle == "park" for agent in worker.agents
    )
