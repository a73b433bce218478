"""workers room: the risk agent: every intent is checked here before it becomes an order."""

from __future__ import annotations

from config.limits import risk_of
from config.settings import Settings
from engine.control import CONTROL_WORDS
from engine.decision import Input
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX
from engine.risk import LIMITS_WORDS, DenialCode
from engine.risk_checks import (
    HEADER_CANCELS_PASSED,
    HEADER_DENIALS,
    HEADER_PASSED,
    HEADER_UNMATCHED,
)
from engine.risk_step import entries_for, parameters_of, risk_kernel, state_words
from engine.strategy import TIMER_NS
from shm.segment import Words
from workers import decision
from workers.agent import Phase, SegmentPlan
from workers.chain import Stage
from workers.context import AgentContext
from workers.decision import (
    DecisionLoop,
    Duty,
    Kernel,
    Mirror,
    Wiring,
    commit_plan,
    market_inputs,
    rounds_of,
)


def parameters(settings: Settings, generation: int) -> Words:
    """Answers the kernel's parameters; the order table holds what the limits let be open."""
    symbols = settings.market.symbols
    open_orders = sum(risk_of(settings, symbol).open_orders_max for symbol in symbols)
    return parameters_of(generation, len(symbols), entries_for(open_orders))


class RiskAgent:
    """Checks intents against limits, exposure and market state; orders or denials out."""

    role_name = "risk"

    def __init__(self, context: AgentContext) -> None:
        self._context = context

    @staticmethod
    def segments(settings: Settings, agent: str) -> tuple[SegmentPlan, ...]:
        """Answers the segments that the supervisor makes for this agent."""
        return (commit_plan(agent, state_words(parameters(settings, 1))),)

    def on_start(self) -> None:
        """Attaches the rings and takes over from the last commit."""
        context = self._context
        settings = context.settings
        words = parameters(settings, context.generation)
        kernel = Kernel(
            function=risk_kernel,
            parameters=words,
            state_words=state_words(words),
            per_record=(1, 1),
            per_event=(0, 1),
            timer_ns=TIMER_NS,
            measured=(int(Input.INTENTS),),
            goes_quiet=False,
        )
        inputs = [
            (Input.REPORTS, "reports"),
            *market_inputs(settings),
            (Input.INTENTS, "intents"),
        ]
        commit = commit_plan(context.agent, kernel.state_words)
        wiring = Wiring(
            inputs=tuple((int(what), context.consumer(name)) for what, name in inputs),
            decisions=context.producer("orders"),
            notes=context.producer("risk"),
            steps=context.producer(f"steps.{context.agent}"),
            control=context.segment("control").words(0, CONTROL_WORDS),
            commit=context.segment(commit.name).words(0, commit.body_bytes // 8),
            instruments=context.segment("instruments").words(
                0, 1 + INSTRUMENTS_MAX * INSTRUMENT_WORDS
            ),
            limits=context.segment("limits").words(0, LIMITS_WORDS),
            histogram=context.stats.histogram("risk_check_time_seconds"),
        )
        loop = DecisionLoop(kernel, wiring, rounds_max=rounds_of(settings, context.agent))
        mirror = Mirror(loop, context.stats, context.agent)
        mirror.add(context.stats.counter("risk_passed_total"), HEADER_PASSED)
        mirror.add(context.stats.counter("risk_cancels_passed_total"), HEADER_CANCELS_PASSED)
        mirror.add(context.stats.counter("risk_reports_unmatched_total"), HEADER_UNMATCHED)
        for code in DenialCode:
            counter = context.stats.counter("risk_denials_total", code=code.name)
            mirror.add(counter, HEADER_DENIALS + code)
        self._duty = Duty(loop, mirror)
        decision.take_over(loop, context)

    def stage(self) -> Stage:
        """Answers the compiled duty cycle."""
        return self._duty.loop.stage()

    def do_work(self) -> int:
        """Runs one duty cycle."""
        return self._duty.do_work()

    def on_phase(self, phase: Phase) -> bool:
        """Denies new orders from QUIET on, goes on listening until CLOSE."""
        return self._duty.on_phase(phase)

    def on_close(self) -> None:
        """Commits for the last time."""
        self._duty.close()


def warm() -> None:
    """Compiles what this agent runs."""
    decision.warm()
