"""Real rings and cells in shared memory around the decision workers, as a supervisor makes."""

from __future__ import annotations

import msgspec
import numpy as np

from config.limits import limit_words
from config.settings import Settings, StrategySettings
from engine.control import CONTROL_WORDS
from engine.control import LAYOUT as CONTROL_LAYOUT
from engine.decision import Input
from engine.instruments import (
    INSTRUMENT_WORDS,
    INSTRUMENTS_MAX,
    Instrument,
    to_words,
)
from engine.instruments import LAYOUT as INSTRUMENTS_LAYOUT
from engine.records import (
    ASK_LOTS,
    ASK_TICKS,
    BID_LOTS,
    BID_TICKS,
    CLIENT_ID,
    CUMULATIVE_LOTS,
    LAST_LOTS,
    LAST_TICKS,
    LEAVES_LOTS,
    ROW_BYTES,
    ROW_WORDS,
    STATE,
    STATUS,
    TAG,
    TRIGGER,
    TRIGGER_NS,
    BookState,
    Kind,
    OrderState,
    Reason,
    RequestState,
    pack,
    tag,
)
from engine.risk import LIMITS_LAYOUT, LIMITS_WORDS
from engine.risk_step import parameters_of, risk_kernel, state_words
from engine.strategy_step import Placed, plan, signal_kernel
from shm import ring, segment
from shm.handles import Consumer, Producer
from shm.jit import now_ns
from shm.latest import Latest
from shm.ring import GATING
from shm.segment import Segment, Words
from workers.decision import DecisionLoop, Kernel, Wiring, commit_plan
from workers.signal import placed

GENERATION = 3
BTC = Instrument(
    index=0, symbol="BTCUSDT", base="BTC", quote="USDT",
    price_decimals=2, tick_units=1, quantity_decimals=5, lot_units=1,
    quantity_lots_min=1, notional_min=5 * 10**7,
)  # fmt: skip
READERS = {
    "market.0": ("signal", "risk", "recorder"),
    "signals": ("recorder",),
    "intents": ("risk", "recorder"),
    "risk": ("signal", "recorder"),
    "orders": ("execution", "recorder"),
    "reports": ("signal", "risk", "recorder"),
    "steps.signal": ("recorder",),
    "steps.risk": ("recorder",),
}
SIGNAL_INPUTS = ((Input.REPORTS, "reports"), (Input.DENIALS, "risk"), (Input.MARKET, "market.0"))
RISK_INPUTS = ((Input.REPORTS, "reports"), (Input.MARKET, "market.0"), (Input.INTENTS, "intents"))


def settings_of(**changes: object) -> Settings:
    """Answers the shipped limits with both reference strategies on BTCUSDT."""
    strategies = (
        StrategySettings(name="taker", use="engine.strategies.imbalance:STRATEGY"),
        StrategySettings(name="maker", use="engine.strategies.maker:STRATEGY"),
    )
    return msgspec.structs.replace(Settings(strategies=strategies), **changes)


def row(kind: Kind, words: dict[int, int], *, flags: int = 0, instrument: int = 0) -> Words:
    """Answers a (16,) record; trigger time is now unless given."""
    record = np.zeros(ROW_WORDS, np.int64)
    record[TAG] = tag(int(kind), flags, instrument, 0)
    record[TRIGGER_NS] = now_ns()
    for word, value in words.items():
        record[word] = value
    return record


def quote(bid: int = 6_000_000, bid_lots: int = 100, ask_lots: int = 100, spread: int = 1) -> Words:
    """Answers a QUOTE."""
    words = {BID_TICKS: bid, BID_LOTS: bid_lots, ASK_TICKS: bid + spread, ASK_LOTS: ask_lots}
    return row(Kind.QUOTE, words)


def synced(state: BookState = BookState.SYNCED) -> Words:
    """Answers a BOOK_STATE."""
    return row(Kind.BOOK_STATE, {STATE: int(state)})


def report(
    order: Words, state: OrderState, reason: Reason, cumulative: int = 0, filled: int = 0
) -> Words:
    """Answers a REPORT on an ORDER_NEW or INTENT_NEW row."""
    total, terms = int(order[8]), int(order[6])
    ended = OrderState.FILLED <= state <= OrderState.EXPIRED
    words = {
        CLIENT_ID: int(order[CLIENT_ID]),
        STATUS: pack(int(state), int(RequestState.ACKED), int(reason), 0),
        CUMULATIVE_LOTS: cumulative,
        LEAVES_LOTS: 0 if ended else total - cumulative,
        LAST_TICKS: int(order[7]),
        LAST_LOTS: filled or total,
    }
    return row(Kind.REPORT, words, flags=terms & 0x7FFF)


class Rig:
    """All memory of one engine; `signal` and `risk` answer fresh loops, as a restart would."""

    def __init__(
        self, prefix: str, *, capacity: int = 1024, settings: Settings | None = None
    ) -> None:
        self.prefix = f"{prefix}."
        self.settings = settings or settings_of()
        self.made: list[Segment] = []
        self.placed: tuple[Placed, ...] = placed(self.settings)
        for name, readers in READERS.items():
            self.made.append(
                ring.create(
                    self.prefix + name, GENERATION, capacity=capacity, row_bytes=ROW_BYTES,
                    kinds=(GATING,) * len(readers), parkable=False,
                )
            )  # fmt: skip
        self.control = self._cell("control", CONTROL_WORDS, CONTROL_LAYOUT)
        words = 1 + INSTRUMENTS_MAX * INSTRUMENT_WORDS
        self.instruments = self._cell("instruments", words, INSTRUMENTS_LAYOUT)
        self.limits = self._cell("limits", LIMITS_WORDS, LIMITS_LAYOUT)
        self.signal_kernel = self._signal_kernel()
        self.risk_kernel = self._risk_kernel()
        self.commits = {
            agent: self._cell(f"commit.{agent}", commit.body_bytes // 8, commit.layout)
            for agent, commit in (
                ("signal", commit_plan("signal", self.signal_kernel.state_words)),
                ("risk", commit_plan("risk", self.risk_kernel.state_words)),
            )
        }

    def _cell(self, name: str, words: int, layout: int) -> Words:
        made = segment.create(self.prefix + name, 8 * words, layout, GENERATION)
        made.set_ready()
        self.made.append(made)
        return made.words(0, words)

    def _signal_kernel(self) -> Kernel:
        layout = plan(self.placed, GENERATION, len(self.settings.market.symbols))
        return Kernel(
            function=signal_kernel,
            parameters=layout.parameters,
            state_words=layout.state_words,
            per_record=(layout.outputs_per_record,) * 2,
            per_event=(layout.outputs_per_event,) * 2,
            timer_ns=100_000_000,
            measured=(int(Input.MARKET),),
            goes_quiet=True,
        )

    def _risk_kernel(self) -> Kernel:
        words = parameters_of(GENERATION, len(self.settings.market.symbols), 256)
        return Kernel(
            function=risk_kernel, parameters=words, state_words=state_words(words),
            per_record=(1, 1), per_event=(0, 1), timer_ns=100_000_000,
            measured=(int(Input.INTENTS),), goes_quiet=False,
        )  # fmt: skip

    def close(self) -> None:
        """Removes the memory."""
        for made in self.made:
            made.unlink()
            made.close()

    def producer(self, name: str) -> Producer:
        """Answers the writing end of a ring."""
        return Producer(self._ring(name))

    def consumer(self, name: str, reader: str) -> Consumer:
        """Answers a reading end of a ring."""
        return Consumer(self._ring(name), READERS[name].index(reader))

    def _ring(self, name: str) -> Segment:
        return next(made for made in self.made if made.name == self.prefix + name)

    def load(self, *instruments: Instrument) -> None:
        """Tells the instruments, and the limits that follow from them."""
        known = instruments or (BTC,)
        table = np.zeros((INSTRUMENTS_MAX, INSTRUMENT_WORDS), np.int64)
        for instrument in known:
            table[instrument.index] = to_words(instrument)
        Latest(self.instruments).write(table.reshape(-1))
        Latest(self.limits).write(limit_words(self.settings, known))

    def feed(self, name: str, *rows: Words) -> None:
        """Appends records to a ring, triggers of market records filled in."""
        producer = self.producer(name)
        for given in rows:
            record = given.copy()
            if name.startswith("market"):
                record[TRIGGER] = producer.cursor + 1
            assert producer.append(record) >= 0, "the ring has room"

    def published(self, name: str, first: int = 0) -> Words:
        """Answers a copy of the records `first` .. cursor of a ring, (n, 16)."""
        producer = self.producer(name)
        rows = [producer.row(sequence) for sequence in range(first, producer.cursor + 1)]
        return np.array(rows, np.int64).reshape(-1, ROW_WORDS)

    def signal(self) -> DecisionLoop:
        """Answers a loop of the signal worker over this memory, not started."""
        return self._loop("signal", self.signal_kernel, SIGNAL_INPUTS, ("intents", "signals"))

    def risk(self) -> DecisionLoop:
        """Answers a loop of the risk worker over this memory, not started."""
        return self._loop("risk", self.risk_kernel, RISK_INPUTS, ("orders", "risk"))

    def _loop(
        self,
        agent: str,
        kernel: Kernel,
        inputs: tuple[tuple[Input, str], ...],
        outputs: tuple[str, str],
    ) -> DecisionLoop:
        wiring = Wiring(
            inputs=tuple((int(what), self.consumer(name, agent)) for what, name in inputs),
            decisions=self.producer(outputs[0]),
            notes=self.producer(outputs[1]),
            steps=self.producer(f"steps.{agent}"),
            control=self.control,
            commit=self.commits[agent],
            instruments=self.instruments,
            limits=self.limits if agent == "risk" else None,
        )
        return DecisionLoop(kernel, wiring)
