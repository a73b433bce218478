"""workers room: the signal agent: user strategies behind the decision loop."""

from __future__ import annotations

from config.settings import Settings, StrategySettings
from engine.actions import VIEW_WORDS
from engine.control import CONTROL_WORDS
from engine.decision import Input
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX
from engine.strategy import STATE_WORDS_MAX, TIMER_NS, load
from engine.strategy_step import (
    HEADER_CANCELED,
    HEADER_DROPPED,
    HEADER_PLACED,
    HEADER_SIGNALED,
    HEADER_UNMATCHED,
    HEADER_WORDS,
    Placed,
    plan,
    signal_kernel,
)
from workers import decision
from workers.agent import Phase, SegmentPlan
from workers.chain import Stage
from workers.context import AgentContext
from workers.decision import (
    ConfigurationError,
    DecisionLoop,
    Duty,
    Kernel,
    Mirror,
    Wiring,
    commit_plan,
    market_inputs,
    rounds_of,
)
from workers.strategies import loaded

# Loaded before the first fork, so that a restarted worker need not; a user's own load at its start.
SHIPPED = ("engine.strategies.imbalance:STRATEGY", "engine.strategies.maker:STRATEGY")
COUNTERS = (
    ("strategy_orders_total", HEADER_PLACED),
    ("strategy_cancels_total", HEADER_CANCELED),
    ("strategy_signals_total", HEADER_SIGNALED),
    ("strategy_actions_dropped_total", HEADER_DROPPED),
    ("strategy_reports_unmatched_total", HEADER_UNMATCHED),
)


def placed(settings: Settings) -> tuple[Placed, ...]:
    """Loads the configured strategies with their instruments and parameter words.

    Raises:
        ConfigurationError: in one line, when a strategy cannot be loaded or a parameter is wrong.
    """
    return tuple(_placed(settings, item) for item in settings.strategies)


def _placed(settings: Settings, item: StrategySettings) -> Placed:
    try:
        strategy, words = loaded(settings, item)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    symbols = settings.market.symbols
    chosen = item.symbols or symbols
    return Placed(strategy, tuple(symbols.index(symbol) for symbol in chosen), words)


def _state_words_max(settings: Settings) -> int:
    """Answers room for every strategy at its largest; pages never written cost nothing."""
    symbols = len(settings.market.symbols)
    pairs = sum(len(item.symbols) or symbols for item in settings.strategies)
    return HEADER_WORDS + pairs * (VIEW_WORDS + STATE_WORDS_MAX)


class SignalAgent:
    """Runs the strategies: market records, reports and denials in, intents and signals out."""

    role_name = "signal"

    def __init__(self, context: AgentContext) -> None:
        self._context = context

    @staticmethod
    def segments(settings: Settings, agent: str) -> tuple[SegmentPlan, ...]:
        """Answers the segments that the supervisor makes for this agent."""
        return (commit_plan(agent, _state_words_max(settings)),)

    def on_start(self) -> None:
        """Loads the strategies, attaches the rings and takes over from the last commit."""
        context = self._context
        settings = context.settings
        layout = plan(placed(settings), context.generation, len(settings.market.symbols))
        inputs = [(Input.REPORTS, "reports"), (Input.DENIALS, "risk"), *market_inputs(settings)]
        kernel = Kernel(
            function=signal_kernel,
            parameters=layout.parameters,
            state_words=layout.state_words,
            per_record=(layout.outputs_per_record, layout.outputs_per_record),
            per_event=(layout.outputs_per_event, layout.outputs_per_event),
            timer_ns=TIMER_NS,
            measured=tuple(int(what) for what, _ in inputs),
            goes_quiet=True,
        )
        commit = commit_plan(context.agent, _state_words_max(settings))
        wiring = Wiring(
            inputs=tuple((int(what), context.consumer(name)) for what, name in inputs),
            decisions=context.producer("intents"),
            notes=context.producer("signals"),
            steps=context.producer(f"steps.{context.agent}"),
            control=context.segment("control").words(0, CONTROL_WORDS),
            commit=context.segment(commit.name).words(0, commit.body_bytes // 8),
            instruments=context.segment("instruments").words(
                0, 1 + INSTRUMENTS_MAX * INSTRUMENT_WORDS
            ),
            histogram=context.stats.histogram("signal_generation_time_seconds"),
        )
        loop = DecisionLoop(kernel, wiring, rounds_max=rounds_of(settings, context.agent))
        mirror = Mirror(loop, context.stats, context.agent)
        for name, index in COUNTERS:
            mirror.add(context.stats.counter(name), index)
        self._duty = Duty(loop, mirror)
        decision.take_over(loop, context)

    def stage(self) -> Stage:
        """Answers the compiled duty cycle."""
        return self._duty.loop.stage()

    def do_work(self) -> int:
        """Runs one duty cycle."""
        return self._duty.do_work()

    def on_phase(self, phase: Phase) -> bool:
        """Falls silent at QUIET, goes on listening until CLOSE."""
        return self._duty.on_phase(phase)

    def on_close(self) -> None:
        """Commits for the last time."""
        self._duty.close()


def warm() -> None:
    """Compiles what this agent runs, the strategies that come with Tickring included."""
    decision.warm()
    for use in SHIPPED:
        load(use)
