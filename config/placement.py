"""config room: what the placement of agents in workers must hold.

Every check yields lines of the form `key must hold what: name=value`. `problems` looks at the
configuration alone, `host_problems` and `host_warnings` at the cores of the host it will run on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from config.rules import NAME
from config.settings import Settings, WorkerSettings
from config.topology import (
    ALWAYS,
    INGEST,
    INGEST_MAX,
    ON_DEMAND,
    SUPERVISOR,
    agents,
    ingest_agents,
    rings,
    symbols,
    workers,
)

WORKERS_MAX: Final = 32
CORES_MAX: Final = 4_096
FIFO_PRIORITY_MAX: Final = 99
LINGER_US_MAX: Final = 100_000

_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def problems(settings: Settings) -> Iterator[str]:
    """Yields one line for every rule that the placement breaks; needs no look at the host."""
    yield from _names(settings.workers)
    for worker in settings.workers:
        yield from _worker(worker, settings)
        yield from _linger(worker)
    yield from _hosting(settings)
    yield from _ingest_split(settings)
    yield from _core_clashes(workers(settings))
    yield from _log_levels(settings)


def host_problems(settings: Settings, cores: frozenset[int]) -> Iterator[str]:
    """Yields one line for every core that this host will not give.

    Args:
        settings: a configuration without `problems`.
        cores: the cores that this process may use.
    """
    for worker in workers(settings):
        if worker.core >= 0 and worker.core not in cores:
            allowed = ",".join(str(core) for core in sorted(cores))
            yield (
                f"workers.{worker.name}.core must be a core this process may use: "
                f"core={worker.core} cores={allowed}; choose one of them, or -1 for no pinning"
            )


def unpin_absent(settings: Settings, cores: frozenset[int]) -> Settings:
    """Returns the configuration with every core that is not in `cores` set to -1."""
    placed = tuple(
        worker if worker.core in cores else msgspec.structs.replace(worker, core=-1)
        for worker in settings.workers
    )
    return msgspec.structs.replace(settings, workers=placed)


def host_warnings(settings: Settings, cores: frozenset[int]) -> Iterator[str]:
    """Yields one line for everything that works on this host but will be slow."""
    spinning = [worker for worker in workers(settings) if _is_spinning(worker)]
    if len(spinning) > len(cores):
        names = ",".join(worker.name for worker in spinning)
        yield (
            "idle=spin wants a core for every worker that spins: "
            f"workers={names} cores={len(cores)}; set idle to backoff"
        )
    for worker in spinning:
        if worker.core < 0:
            yield (
                f"workers.{worker.name}.core should be set for a worker that spins: core=-1; "
                "unpinned, it moves between cores"
            )
        if worker.scheduler == "fifo":
            yield (
                f"workers.{worker.name}.scheduler should not be fifo for a worker that spins: "
                "scheduler=fifo; the kernel's real-time throttle stops it for 50 ms in a second"
            )


def _is_spinning(worker: WorkerSettings) -> bool:
    return worker.idle == "spin" and not _is_background(worker)


def _is_hot(agent: str) -> bool:
    return agent in ("signal", "risk", "execution") or INGEST.fullmatch(agent) is not None


def _is_background(worker: WorkerSettings) -> bool:
    """Answers whether a worker gives way to others on its core."""
    return worker.scheduler == "idle" or worker.nice >= 10  # noqa: PLR2004 - half way down


def _names(placed: tuple[WorkerSettings, ...]) -> Iterator[str]:
    if len(placed) > WORKERS_MAX:
        yield f"workers must be at most {WORKERS_MAX}: count={len(placed)}"
    seen: set[str] = set()
    for worker in placed:
        if NAME.fullmatch(worker.name) is None or worker.name == SUPERVISOR:
            yield f"workers.name must match {NAME.pattern} and not be supervisor: {worker.name!r}"
        if worker.name in seen:
            yield f"workers.name must not repeat: name={worker.name}"
        seen.add(worker.name)


def _worker(worker: WorkerSettings, settings: Settings) -> Iterator[str]:
    key = f"workers.{worker.name}"
    if not -1 <= worker.core < CORES_MAX:
        yield f"{key}.core must be a core's number, or -1 for no pinning: core={worker.core}"
    if not -20 <= worker.nice <= 19:  # noqa: PLR2004 - the kernel's range
        yield f"{key}.nice must be -20 to 19: nice={worker.nice}"
    if worker.scheduler == "fifo" and not 1 <= worker.priority <= FIFO_PRIORITY_MAX:
        yield f"{key}.priority must be 1 to 99 under fifo: priority={worker.priority}"
    if worker.scheduler != "fifo" and worker.priority != 0:
        yield f"{key}.priority must be 0 unless scheduler is fifo: priority={worker.priority}"
    if not worker.agents:
        yield f"{key}.agents must name at least one agent: count=0"
    for agent in worker.agents:
        if agent not in (*ALWAYS, *ON_DEMAND) and INGEST.fullmatch(agent) is None:
            known = ", ".join((f"ingest.0 to ingest.{INGEST_MAX - 1}", *ALWAYS, *ON_DEMAND))
            yield f"{key}.agents must be of {known}: agent={agent!r}"
    for agent, taken in worker.ingest_symbols.items():
        yield from _ingest_symbols(worker, agent, taken, settings.market.symbols)


def _linger(worker: WorkerSettings) -> Iterator[str]:
    key = f"workers.{worker.name}.linger_us"
    if not 0 <= worker.linger_us <= LINGER_US_MAX:
        yield f"{key} must be 0 to {LINGER_US_MAX}: linger_us={worker.linger_us}"
    hot = [agent for agent in worker.agents if _is_hot(agent)]
    if worker.linger_us and hot:
        yield (
            f"{key} must be 0 for agents on the way from quote to order: "
            f"linger_us={worker.linger_us} agents={','.join(hot)}; it is for those that batch"
        )


def _ingest_symbols(
    worker: WorkerSettings, agent: str, taken: Iterable[str], known: tuple[str, ...]
) -> Iterator[str]:
    key = f"workers.{worker.name}.ingest_symbols"
    if agent not in worker.agents or INGEST.fullmatch(agent) is None:
        yield f"{key} must name ingest agents of this worker: agent={agent!r}"
    for symbol in taken:
        if symbol not in known:
            yield f"{key}.{agent} must be in market.symbols: symbol={symbol}"


def _hosting(settings: Settings) -> Iterator[str]:
    """Every needed agent runs once: otherwise some ring has no writer, a lost reader, or two."""
    if not settings.workers:
        yield "workers must place every agent in a process: count=0; see the demo profile"
        return
    hosts: dict[str, list[str]] = {}
    for worker in settings.workers:
        for agent in worker.agents:
            hosts.setdefault(agent, []).append(worker.name)
    for agent, names in hosts.items():
        if len(names) > 1:
            yield f"agent must run in one worker only: agent={agent} workers={','.join(names)}"
    yield from _ring_ends(settings, frozenset(hosts))
    for agent in agents(settings):
        if agent not in hosts:
            yield f"agent must run in one worker: agent={agent}; {_place(agent)}"


def _ring_ends(settings: Settings, hosted: frozenset[str]) -> Iterator[str]:
    for plan in rings(settings):
        is_needed = plan.writer in agents(settings)  # without orders nobody writes reports
        if not plan.name.startswith("log.") and is_needed and plan.writer not in hosted:
            yield f"ring must have a writer: ring={plan.name}; {_place(plan.writer)}"
        for reader in plan.readers:
            if reader not in hosted:
                yield f"ring must have all its readers: ring={plan.name}; {_place(reader)}"


def _place(agent: str) -> str:
    return f'add "{agent}" to the agents of one worker'


def _ingest_split(settings: Settings) -> Iterator[str]:
    """Ingest agents are numbered without a gap and take every symbol exactly once."""
    placed = ingest_agents(settings)
    for index, agent in enumerate(placed):
        if agent != f"ingest.{index}":
            yield f"ingest agents must be numbered from 0 without a gap: agent={agent}"
            return
    for symbol in settings.market.symbols if placed else ():
        takers = [agent for agent in placed if symbol in symbols(settings, agent)]
        if len(takers) != 1:
            yield (
                f"symbol must belong to exactly one ingest agent: symbol={symbol} "
                f"agents={','.join(takers) or 'none'}; split them with workers.*.ingest_symbols"
            )


def _core_clashes(running: tuple[WorkerSettings, ...]) -> Iterator[str]:
    """Two workers share a core only when at most one of them does not give way."""
    owners: dict[int, str] = {}
    for worker in running:
        if worker.core < 0 or _is_background(worker):
            continue
        owner = owners.setdefault(worker.core, worker.name)
        if owner != worker.name:
            yield (
                f"workers.{worker.name}.core must differ from workers.{owner}.core: "
                f"core={worker.core}; or let one give way with nice=19 or scheduler=idle"
            )


def _log_levels(settings: Settings) -> Iterator[str]:
    known = {SUPERVISOR, *(worker.name for worker in settings.workers)}
    for name, level in settings.log.levels.items():
        if name not in known:
            yield f"log.levels must name workers: worker={name} known={','.join(sorted(known))}"
        if level not in _LEVELS:
            yield f"log.levels.{name} must be one of {', '.join(_LEVELS)}: level={level!r}"
