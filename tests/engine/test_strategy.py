"""The strategy contract: what is heard, what is seen, what becomes of actions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from engine.actions import (
    ACTIONS_MAX,
    ORDERS_MAX,
    VIEW_NOW_NS,
    VIEW_OPEN_COUNT,
    VIEW_POSITION_LOTS,
    VIEW_WORDS,
    cancel,
    place,
    signal,
)
from engine.decision import QUIET, Input
from engine.records import (
    CLIENT_ID,
    CLOCK_NS,
    INTENT,
    SIGNAL_VALUE_PPM,
    TERMS,
    TERMS_STRATEGY,
    TRIGGER,
    TRIGGER_NS,
    Kind,
    OrderState,
    Reason,
    Side,
    client_id_of,
    instrument_of,
    kind_of,
    part,
    source_of,
)
from engine.strategy import Parameter, Strategy, load
from engine.strategy_step import (
    HEADER_DROPPED,
    HEADER_UNMATCHED,
    HEADER_WORDS,
    Placed,
    plan,
    signal_kernel,
)
from shm.jit import handler
from shm.segment import Words
from tests.engine.kernel_rig import BTC, GENERATION, KernelRig, book_state, quote, record, report

HEARD_KIND, HEARD_COUNT, HEARD_NOW = 0, 1, 2
ORDERS, CANCEL_LAST, SIGNALS = range(3)  # parameters


@handler
def obey(row: Words, view: Words, state: Words, parameters: Words, out: Words) -> int:
    """Notes what it hears; on quotes does what its parameters say."""
    state[HEARD_KIND], state[HEARD_NOW] = kind_of(row), view[VIEW_NOW_NS]
    state[HEARD_COUNT] += 1
    if kind_of(row) == 1:
        for _ in range(parameters[ORDERS]):
            place(out, 1, 6_000_000, 10, 1, 1)
        for _ in range(parameters[SIGNALS]):
            signal(out, 123)
        if parameters[CANCEL_LAST] and state[3] > 0:
            cancel(out, state[3])
    if kind_of(row) == 64:
        state[3] = row[5]
    return 0


OBEY = Strategy(
    "obey",
    obey,
    (
        Parameter("orders", 1, "orders"),
        Parameter("cancel", 0, "flag"),
        Parameter("signals", 0, "n"),
    ),
    8,
)


class SignalRig(KernelRig):
    """The signal kernel with `obey` once for each set of parameters, on one instrument."""

    def __init__(self, *parameters: dict[str, float]) -> None:
        placed = tuple(Placed(OBEY, (0,), OBEY.words(given)) for given in parameters or ({},))
        layout = plan(placed, GENERATION, 1)
        super().__init__(signal_kernel, layout.parameters, layout.state_words)
        self.load(BTC)

    def view(self, pair: int = 0) -> Words:
        at = HEADER_WORDS + pair * (VIEW_WORDS + 8)
        return self.state[at : at + VIEW_WORDS]

    def own(self, pair: int = 0) -> Words:
        at = HEADER_WORDS + pair * (VIEW_WORDS + 8) + VIEW_WORDS
        return self.state[at : at + 8]


class TestHearing:
    def test_a_strategy_hears_market_records_and_the_timer_with_the_steps_clock(self) -> None:
        rig = SignalRig({"orders": 0})
        heard: list[tuple[int, int]] = []
        for what, rows in (
            (Input.MARKET, [quote()]),
            (Input.MARKET, [record(Kind.TRADE, {})]),
            (Input.MARKET, [record(Kind.DEPTH, {})]),
            (Input.MARKET, [book_state()]),
            (Input.TIMER, []),
        ):
            rig.step(what, *rows, clock_ns=1_000 + len(heard))
            heard.append((int(rig.own()[HEARD_KIND]), int(rig.own()[HEARD_NOW])))

        kinds = (Kind.QUOTE, Kind.TRADE, Kind.DEPTH, Kind.BOOK_STATE, Kind.STEP)
        assert [(kind, 1_000 + number) for number, kind in enumerate(kinds)] == heard

    def test_reports_and_denials_reach_only_the_strategy_whose_order_it_is(self) -> None:
        rig = SignalRig({"orders": 0}, {"orders": 1})
        intents, _ = rig.step(Input.MARKET, quote())
        client_id = int(intents[0][CLIENT_ID])
        rig.step(Input.REPORTS, report(client_id, Side.BUY, OrderState.NEW, Reason.ACK, lots=10))

        assert [(rig.own(p)[0], rig.own(p)[1]) for p in (0, 1)] == [(1, 1), (64, 2)]

    def test_a_report_on_nobodys_order_is_counted(self) -> None:
        rig = SignalRig()
        rig.step(Input.REPORTS, report(9, Side.BUY, OrderState.NEW, Reason.ACK, lots=10))

        assert rig.state[HEADER_UNMATCHED] == 1

    def test_nothing_is_heard_before_the_venue_has_described_the_instrument(self) -> None:
        layout = plan((Placed(OBEY, (0,), OBEY.words({})),), GENERATION, 1)
        rig = KernelRig(signal_kernel, layout.parameters, layout.state_words)

        intents, _ = rig.step(Input.MARKET, quote())

        assert len(intents) == 0

    def test_records_of_an_instrument_beyond_the_configuration_are_left(self) -> None:
        rig = SignalRig()
        rig.step(Input.MARKET, record(Kind.QUOTE, {}, instrument=5))

        assert rig.own()[HEARD_COUNT] == 0


class TestActing:
    def test_an_intent_carries_trigger_clock_strategy_and_its_own_sequence(self) -> None:
        rig = SignalRig({"orders": 0}, {"orders": 2})

        intents, _ = rig.step(Input.MARKET, quote(at_ns=55_000), clock_ns=60_000)

        assert [client_id_of(GENERATION, 0), client_id_of(GENERATION, 1)] == list(
            intents[:, CLIENT_ID]
        )
        row = intents[1]
        assert (row[TRIGGER_NS], row[TRIGGER], row[CLOCK_NS]) == (55_000, 55, 60_000)
        assert (
            row[INTENT], source_of(row), part(row[TERMS], TERMS_STRATEGY), instrument_of(row),
        ) == (1, 1, 1, 0)  # fmt: skip

    def test_a_signal_goes_to_notes_with_the_touch(self) -> None:
        rig = SignalRig({"orders": 0, "signals": 1})

        _, notes = rig.step(Input.MARKET, quote(bid=500))

        assert list(notes[0][SIGNAL_VALUE_PPM : SIGNAL_VALUE_PPM + 3]) == [123, 500, 501]

    def test_actions_beyond_the_bound_are_dropped_and_counted(self) -> None:
        rig = SignalRig({"orders": 0, "signals": 20})

        _, notes = rig.step(Input.MARKET, quote())

        assert (len(notes), rig.state[HEADER_DROPPED]) == (ACTIONS_MAX, 20 - ACTIONS_MAX)

    def test_no_more_orders_are_live_than_the_view_can_show(self) -> None:
        rig = SignalRig({"orders": 5})
        first, _ = rig.step(Input.MARKET, quote())
        second, _ = rig.step(Input.MARKET, quote())

        assert [len(first), len(second)] == [5, ORDERS_MAX - 5]
        assert rig.view()[VIEW_OPEN_COUNT] == ORDERS_MAX

    def test_a_denied_order_is_no_longer_live_and_a_denied_cancel_leaves_it(self) -> None:
        rig = SignalRig({"orders": 1, "cancel": 1})
        intents, _ = rig.step(Input.MARKET, quote())
        client_id = int(intents[0][CLIENT_ID])
        rig.step(Input.DENIALS, record(Kind.DENIAL, {CLIENT_ID: client_id, 10: 5}))
        still = int(rig.view()[VIEW_OPEN_COUNT])
        rig.step(Input.DENIALS, record(Kind.DENIAL, {CLIENT_ID: client_id, 10: 0}))

        assert (still, rig.view()[VIEW_OPEN_COUNT]) == (1, 0)

    def test_position_follows_fills_once_each(self) -> None:
        rig = SignalRig()
        intents, _ = rig.step(Input.MARKET, quote())
        fill = report(
            int(intents[0][CLIENT_ID]), Side.BUY, OrderState.PARTIALLY_FILLED, Reason.FILL,
            lots=10, cumulative=4, filled=4,
        )  # fmt: skip
        rig.step(Input.REPORTS, fill, fill)

        assert rig.view()[VIEW_POSITION_LOTS] == 4

    def test_silence_stops_orders_cancels_and_signals(self) -> None:
        rig = SignalRig({"orders": 1, "cancel": 1, "signals": 1})
        rig.step(Input.CONTROL, first=QUIET)

        rows = rig.step(Input.MARKET, quote())

        assert [len(part_) for part_ in rows] == [0, 0]

    def test_the_same_steps_give_the_same_bytes(self) -> None:
        runs = []
        for _ in range(2):
            rig = SignalRig({"orders": 1, "signals": 2}, {"orders": 2})
            rows = [rig.step(Input.MARKET, quote(bid), clock_ns=bid) for bid in range(100, 140)]
            runs.append(b"".join(part_.tobytes() for pair in rows for part_ in pair))

        assert runs[0] == runs[1]


class TestDescription:
    def test_parameters_are_scaled_exactly(self) -> None:
        assert Parameter("threshold", 0.6, "ratio", 1_000_000).word(0.6) == 600_000
        assert Parameter("value", 0.0, "quote", 100).word(12_345.67) == 1_234_567

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
    def test_a_parameter_that_does_not_fit_is_refused(self, value: float) -> None:
        with pytest.raises(ValueError, match="parameter must be finite and fit"):
            Parameter("x", 0.0, "", 1_000).word(value)

    def test_defaults_fill_what_is_not_given(self) -> None:
        assert list(OBEY.words({"cancel": 7})) == [1, 7, 0]

    def test_an_unknown_parameter_is_refused_by_name(self) -> None:
        with pytest.raises(ValueError, match=r"strategy=obey parameter=limit known=cancel"):
            OBEY.words({"limit": 1})

    def test_a_plain_function_is_no_strategy(self) -> None:
        with pytest.raises(TypeError, match="must be compiled with"):
            Strategy("plain", lambda *_: 0)

    def test_too_much_state_is_refused(self) -> None:
        with pytest.raises(ValueError, match="strategy=big state_words=9000"):
            Strategy("big", obey, (), 9_000)


class TestLoading:
    @pytest.mark.parametrize(
        ("use", "line"),
        [
            ("engine.strategies.imbalance", "must be module:attribute"),
            ("engine.nothing:STRATEGY", "missing=engine.nothing"),
            ("engine.strategies.imbalance:NOTHING", "must exist in its module"),
            ("engine.strategies.imbalance:STATE_WORDS", "type=int"),
        ],
    )
    def test_what_cannot_be_loaded_is_said_in_one_line(self, use: str, line: str) -> None:
        with pytest.raises(ValueError, match=line) as error:
            load(use)

        assert "\n" not in str(error.value)

    def test_a_users_module_that_fails_is_said_in_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "broken_strategy.py").write_text("raise RuntimeError('first\\nsecond')\n")
        monkeypatch.syspath_prepend(str(tmp_path))

        with pytest.raises(ValueError, match=r"error=RuntimeError detail=first$"):
            load("broken_strategy:STRATEGY")
        sys.modules.pop("broken_strategy", None)

    def test_all_reference_strategies_load(self) -> None:
        names = ["depth", "imbalance", "maker"]

        assert [load(f"engine.strategies.{name}:STRATEGY").name for name in names] == names


def test_pairs_are_laid_out_by_instrument() -> None:
    placed = (Placed(OBEY, (0, 2), OBEY.words({})), Placed(OBEY, (2,), OBEY.words({})))

    layout = plan(placed, GENERATION, 3)

    assert layout.state_words == HEADER_WORDS + 3 * (VIEW_WORDS + 8)
    assert (
        layout.outputs_per_record,
        layout.outputs_per_event,
    ) == (2 * ACTIONS_MAX, 3 * ACTIONS_MAX)
    assert list(np.array(layout.parameters[8:14])) == [0, 1, 0, 0, 1, 2]
