"""workers room: every agent by name: which class it is, what memory it owns, when it starts."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from config.settings import Settings
from config.topology import agents
from engine.control import CONTROL_WORDS
from engine.control import LAYOUT as CONTROL_LAYOUT
from engine.risk import LIMITS_LAYOUT, LIMITS_WORDS
from workers import loglevels
from workers.agent import Agent, SegmentPlan
from workers.context import AgentContext

# role -> module, class, start rank: a lower rank is READY before a higher one is spawned.
_ROLES = {
    "logs": ("workers.logs", "LogsAgent", 0),
    "exchange": ("workers.exchange.agent", "ExchangeAgent", 1),
    "recorder": ("workers.recorder", "RecorderAgent", 2),
    "monitor": ("workers.monitor", "MonitorAgent", 2),
    "ingest": ("workers.ingest", "IngestAgent", 3),
    "store": ("workers.store", "StoreAgent", 4),
    "bus": ("workers.bus", "BusAgent", 4),
    "execution": ("workers.execution", "ExecutionAgent", 5),
    "risk": ("workers.risk", "RiskAgent", 6),
    "signal": ("workers.signal", "SignalAgent", 7),
}


class PlannedAgent(Agent, Protocol):
    """An agent as this table makes it."""

    def __init__(self, context: AgentContext) -> None: ...

    @staticmethod
    def segments(settings: Settings, agent: str) -> tuple[SegmentPlan, ...]:
        """Answers the segments that the agent owns."""


def agent_class(agent: str) -> type[PlannedAgent]:
    """Answers the class of an agent such as `ingest.0` or `risk`."""
    module, name, _ = _ROLES[agent.partition(".")[0]]
    found: type[PlannedAgent] = getattr(import_module(module), name)
    return found


def build(context: AgentContext) -> Agent:
    """Makes the agent that a context is for."""
    return agent_class(context.agent)(context)


def start_rank(agent: str) -> int:
    """Answers when an agent starts; what it needs has a lower rank."""
    return _ROLES[agent.partition(".")[0]][2]


def segment_plans(settings: Settings) -> tuple[SegmentPlan, ...]:
    """Answers every segment that is neither a ring, nor stats, nor the board."""
    plans = [
        SegmentPlan("control", CONTROL_WORDS * 8, CONTROL_LAYOUT),
        SegmentPlan("limits", LIMITS_WORDS * 8, LIMITS_LAYOUT),
        loglevels.segment_plan(),
    ]
    for agent in agents(settings):
        plans.extend(agent_class(agent).segments(settings, agent))
    return tuple({plan.name: plan for plan in plans}.values())
