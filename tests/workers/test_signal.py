"""The signal and risk agents in one process, on memory made as the supervisor makes it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from config.limits import limit_words
from config.settings import EngineSettings, Settings, StrategySettings, WorkerSettings
from engine.control import CONTROL_WORDS, NO_NEW, OPERATOR_HALT, PHASE, set_word
from engine.control import LAYOUT as CONTROL_LAYOUT
from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX, to_words
from engine.instruments import LAYOUT as INSTRUMENTS_LAYOUT
from engine.records import (
    CLIENT_ID,
    DENIAL_CODE,
    PUBLISH_NS,
    TRIGGER,
    TRIGGER_NS,
    Kind,
    kind_of,
)
from engine.risk import LIMITS_LAYOUT, LIMITS_WORDS, DenialCode
from shm.latest import Latest
from shm.segment import Words
from tests.workers.decision_rig import BTC, quote, synced
from workers import loglevels
from workers.agent import Agent, Phase, SegmentPlan
from workers.context import AgentContext, Memory, Run
from workers.decision import ConfigurationError
from workers.memory import create_all, remove_all
from workers.risk import RiskAgent
from workers.signal import SignalAgent, placed

AGENTS: dict[str, Callable[[AgentContext], Agent]] = {"risk": RiskAgent, "signal": SignalAgent}


def settings_of(name: str) -> Settings:
    strategies = (
        StrategySettings(name="taker", use="engine.strategies.imbalance:STRATEGY"),
        StrategySettings(name="maker", use="engine.strategies.maker:STRATEGY"),
    )
    workers = (WorkerSettings(name="trader", agents=("ingest.0", "signal", "risk", "execution")),)
    rings = msgspec.structs.replace(Settings().rings, market=1024, decisions=1024, log=64)
    return Settings(
        engine=EngineSettings(name=name[-24:]), strategies=strategies, workers=workers, rings=rings
    )


class Engine:
    """An engine's memory and its two deciding agents; the test plays everybody else."""

    def __init__(self, name: str, folder: Path) -> None:
        settings = settings_of(name)
        plans = [
            SegmentPlan("control", CONTROL_WORDS * 8, CONTROL_LAYOUT),
            SegmentPlan("limits", LIMITS_WORDS * 8, LIMITS_LAYOUT),
            SegmentPlan(
                "instruments", 8 * (1 + INSTRUMENTS_MAX * INSTRUMENT_WORDS), INSTRUMENTS_LAYOUT
            ),
            loglevels.segment_plan(),
            *SignalAgent.segments(settings, "signal"),
            *RiskAgent.segments(settings, "risk"),
        ]
        self.run = Run(settings, folder, 4, tuple(plans))
        self.made = create_all(self.run)
        self.memory = Memory(self.run)
        self.logger = self.memory.logger("trader")
        self.agents = {name: self.start(name) for name in AGENTS}

    def start(self, name: str) -> Agent:
        agent = AGENTS[name](AgentContext(self.memory, "trader", name, self.logger))
        agent.on_start()
        return agent

    def tell(self) -> None:
        """Does what ingest and the supervisor do when the venue has described the instruments."""
        table = np.zeros((INSTRUMENTS_MAX, INSTRUMENT_WORDS), np.int64)
        table[0] = to_words(BTC)
        words = self.memory.segment("instruments").words(0, 1 + table.size)
        Latest(words).write(table.reshape(-1))
        values = limit_words(self.run.settings, (BTC,))
        Latest(self.memory.segment("limits").words(0, LIMITS_WORDS)).write(values)

    def feed(self, *rows: Words) -> None:
        producer = self.memory.producer("market.0")
        for given in rows:
            given[TRIGGER] = producer.cursor + 1
            producer.append(given)

    def work(self) -> None:
        for _ in range(200):
            if sum(agent.do_work() for agent in self.agents.values()) == 0:
                return
        raise AssertionError("the agents run out of work")

    def rows(self, name: str) -> Words:
        producer = self.memory.producer(name)
        rows = [producer.row(sequence) for sequence in range(producer.cursor + 1)]
        return np.array(rows, np.int64).reshape(-1, 16)

    def counts(self) -> dict[str, int]:
        for agent in self.agents.values():
            agent.on_close()
        return {s.label: s.value for s in self.memory.stats("trader").samples() if s.value}

    def close(self) -> None:
        self.memory.close()
        remove_all(self.made)


@pytest.fixture
def engine(segment_prefix: str, tmp_path: Path) -> Iterator[Engine]:
    made = Engine(segment_prefix, tmp_path)
    yield made
    made.close()


class TestPath:
    def test_a_quote_becomes_orders_with_its_trigger(self, engine: Engine) -> None:
        engine.tell()
        engine.work()
        engine.feed(synced(), quote(bid_lots=900, ask_lots=10))
        engine.work()

        cause = engine.rows("market.0")[1]
        orders = engine.rows("orders")
        assert len(orders) == 3
        assert {(cause[TRIGGER_NS], 1)} == {(row[TRIGGER_NS], row[TRIGGER]) for row in orders}
        assert list(engine.rows("intents")[:, CLIENT_ID]) == list(orders[:, CLIENT_ID])
        assert (orders[:, PUBLISH_NS] > cause[TRIGGER_NS]).all()

    def test_no_order_before_limits_are_loaded(self, engine: Engine) -> None:
        engine.feed(synced(), quote(bid_lots=900, ask_lots=10))
        engine.work()

        assert (len(engine.rows("intents")), len(engine.rows("orders"))) == (0, 0)

    def test_counters_and_histograms_move(self, engine: Engine) -> None:
        engine.tell()
        engine.work()
        engine.feed(synced(), quote(bid_lots=900, ask_lots=10))
        engine.work()
        counts = engine.counts()
        samples = engine.memory.stats("trader").samples()
        histograms = {s.label: int(s.words[0]) for s in samples if len(s.words)}

        assert (counts["risk_passed_total"], counts["strategy_orders_total"]) == (3, 3)
        assert histograms["signal_generation_time_seconds"] > 0
        assert histograms["risk_check_time_seconds"] > 0

    def test_a_restarted_agent_goes_on_where_it_stopped(self, engine: Engine) -> None:
        engine.tell()
        engine.work()
        for number in range(6):
            engine.feed(quote(6_000_000 + number, bid_lots=900, ask_lots=10))
            engine.feed(synced())
            for name in AGENTS:
                engine.agents[name] = engine.start(name)  # the one before is gone as by kill -9
            engine.work()
        passed = engine.counts()["risk_passed_total"]

        ids = [row[CLIENT_ID] for row in engine.rows("orders") if kind_of(row) == Kind.ORDER_NEW]
        assert len(ids) == len(set(ids)) == passed


class TestHalt:
    def test_an_intent_under_way_is_denied_by_the_kill_switch(self, engine: Engine) -> None:
        engine.tell()
        engine.work()
        engine.feed(synced(), quote(bid_lots=900, ask_lots=10))
        engine.agents["signal"].do_work()
        engine.agents["signal"].do_work()
        set_word(engine.memory.control(), OPERATOR_HALT, NO_NEW)
        engine.work()

        denials = [row for row in engine.rows("risk") if kind_of(row) == Kind.DENIAL]
        assert [row[DENIAL_CODE] for row in denials] == [DenialCode.TRADING_HALTED] * 3
        assert engine.counts()['risk_denials_total{code="TRADING_HALTED"}'] == 3


class TestPhases:
    def test_quiet_is_done_when_the_silence_was_recorded(self, engine: Engine) -> None:
        engine.tell()
        engine.work()
        before = [agent.on_phase(Phase.QUIET) for agent in engine.agents.values()]
        set_word(engine.memory.control(), PHASE, Phase.QUIET)
        engine.work()

        assert before == [False, False]
        assert [agent.on_phase(Phase.QUIET) for agent in engine.agents.values()] == [True, True]

    def test_nothing_is_written_once_close_is_done(self, engine: Engine) -> None:
        engine.tell()
        engine.work()
        set_word(engine.memory.control(), PHASE, Phase.CLOSE)
        engine.work()
        done = [agent.on_phase(Phase.CLOSE) for agent in engine.agents.values()]
        before = len(engine.rows("steps.signal")), len(engine.rows("steps.risk"))
        engine.feed(quote())
        engine.work()

        assert done == [True, True]
        assert before == (len(engine.rows("steps.signal")), len(engine.rows("steps.risk")))


class TestConfiguration:
    def test_a_strategy_that_is_not_there_is_one_line_that_names_it(self) -> None:
        wrong = StrategySettings(name="mine", use="nowhere:STRATEGY")

        with pytest.raises(
            ConfigurationError, match=r"^strategies\.mine\.use: .*=nowhere:STRATEGY"
        ):
            placed(Settings(strategies=(wrong,)))

    def test_a_parameter_that_is_not_there_is_one_line_that_names_it(self) -> None:
        use = "engine.strategies.maker:STRATEGY"
        wrong = StrategySettings(name="mine", use=use, parameters={"no_such": 1.0})

        with pytest.raises(ConfigurationError, match=r"^strategies\.mine\.parameters: .*=no_such"):
            placed(Settings(strategies=(wrong,)))

    def test_a_users_folder_is_searched(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "path", list(sys.path))
        (tmp_path / "own_strategy.py").write_text(
            "from engine.strategies.maker import STRATEGY as MAKER\nSTRATEGY = MAKER\n"
        )
        item = StrategySettings(name="mine", use="own_strategy:STRATEGY")
        engine = EngineSettings(strategy_dir=str(tmp_path))

        (found,) = placed(Settings(engine=engine, strategies=(item,)))

        assert found.strategy.name == "maker"
