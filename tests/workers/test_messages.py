"""Messages for outside: exact decimals, words, times, and nothing lost."""

from __future__ import annotations

from decimal import Decimal

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.records import (
    DTYPES,
    Kind,
    OrderState,
    OrderType,
    Reason,
    RequestState,
    Side,
    TimeInForce,
    client_id_of,
    pack,
    tag,
)
from tests.workers.observed_run import BTCUSDT, ETHUSDT
from workers.bus import denial_names, encode_all
from workers.messages import VERSION, Messages, decimal_name, decimal_text

OFFSET_NS = 1_700_000_000_000_000_000
CLIENT_ID = client_id_of(7, 42)


@pytest.fixture
def messages() -> Messages:
    made = Messages(7, OFFSET_NS, strategies=("maker", "taker"), denials=denial_names())
    made.instruments = (BTCUSDT, ETHUSDT)
    return made


def row(kind: Kind, *payload: int, instrument: int = 0) -> list[int]:
    words = [9, tag(kind, 0, instrument, 0), 1_000, 900, 77, *payload]
    return words + [0] * (16 - len(words))


def test_head_places_a_record_in_run_ring_and_time(messages: Messages) -> None:
    message = messages.message("signals", row(Kind.SIGNAL, 1, -2_500_000, instrument=1))

    assert message == {
        "v": VERSION, "kind": "signal", "ring": "signals", "run": 7, "sequence": 9,
        "symbol": "ETHUSDT", "time_ns": OFFSET_NS + 1_000, "trigger_ns": OFFSET_NS + 900,
        "trigger": 77, "strategy": "taker", "value": "-2.500000", "value_ppm": -2_500_000,
        "reference_1": 0, "reference_2": 0,
    }  # fmt: skip


def test_order_tells_exact_price_and_quantity_with_ticks_and_lots(messages: Messages) -> None:
    terms = pack(Side.SELL, OrderType.LIMIT, TimeInForce.IOC, 0)
    message = messages.message("orders", row(Kind.ORDER_NEW, CLIENT_ID, terms, 6_000_010, 1, 42, 5))

    assert message["client_id"] == "TR000007000000002A"
    assert (message["side"], message["type"], message["time_in_force"]) == ("SELL", "LIMIT", "IOC")
    assert (message["price"], message["price_ticks"]) == ("60000.10", 6_000_010)
    assert (message["quantity"], message["quantity_lots"]) == ("0.00001", 1)
    assert message["strategy"] == "maker"
    assert message["clock_ns"] == OFFSET_NS + 5
    assert "terms" not in message


def test_quote_tells_price_and_quantity_of_both_sides(messages: Messages) -> None:
    message = messages.message("market.0", row(Kind.QUOTE, 5, 6_000_010, 3, 6_000_020, 4))

    assert (message["bid_price"], message["bid_ticks"]) == ("60000.10", 6_000_010)
    assert (message["bid_quantity"], message["bid_lots"]) == ("0.00003", 3)
    assert (message["ask_price"], message["ask_quantity"]) == ("60000.20", "0.00004")
    assert {"bid", "ask"}.isdisjoint(message)


@pytest.mark.parametrize("kind", sorted(DTYPES))
def test_every_number_of_ticks_and_lots_has_a_decimal_of_its_own(kind: Kind) -> None:
    names = DTYPES[kind].names or ()
    shown = [decimal_name(name, names) for name in names if name.endswith(("_ticks", "_lots"))]

    assert "" not in shown
    assert len(shown) == len({*shown, *names}) - len(names)


def test_report_tells_its_states_in_words_and_its_fee_exactly(messages: Messages) -> None:
    status = pack(OrderState.PARTIALLY_FILLED, RequestState.ACKED, Reason.FILL, 2)
    payload = (CLIENT_ID, status, 123, 456, 6_000_010, 3, 5, 2, 12_345, 1, 0)
    message = messages.message("reports", row(Kind.REPORT, *payload))

    assert message["order_state"] == "PARTIALLY_FILLED"
    assert (message["request_state"], message["reason"]) == ("ACKED", "FILL")
    assert message["liquidity"] == "TAKER"
    assert (message["fee"], message["fee_asset"]) == ("0.00012345", "USDT")
    assert (message["cumulative"], message["leaves"]) == ("0.00005", "0.00002")
    assert message["trade_id"] == 456
    assert "status" not in message


def test_denial_tells_why(messages: Messages) -> None:
    terms = pack(Side.BUY, OrderType.MARKET, TimeInForce.NONE, 1)
    message = messages.message("risk", row(Kind.DENIAL, CLIENT_ID, terms, 11, 100, 250, 42, 5))

    assert (message["code"], message["code_number"]) == ("PRICE_COLLAR", 11)
    assert (message["limit"], message["observed"]) == (100, 250)


def test_risk_state_concerns_no_instrument(messages: Messages) -> None:
    message = messages.message("risk", row(Kind.RISK_STATE, 1, 2, 3, 4))

    assert (message["symbol"], message["state"], message["reason"]) == ("", 1, 2)


def test_unknown_numbers_stay_numbers(messages: Messages) -> None:
    status = pack(99, 98, 97, 9)
    message = messages.message("reports", row(Kind.REPORT, CLIENT_ID, status, instrument=9))

    assert message["order_state"] == "99"
    assert message["liquidity"] == "9"
    assert message["symbol"] == ""
    assert message["price"] is None
    assert messages.message("x", [1, 0x7F, 0, 0, 0])["kind"] == "127"


@given(ticks=st.integers(-(1 << 62), 1 << 62), lots=st.integers(0, 1 << 62))
def test_decimals_are_exact_for_any_number(ticks: int, lots: int) -> None:
    made = Messages(1, 0)
    made.instruments = (BTCUSDT,)
    message = made.message("orders", row(Kind.ORDER_NEW, CLIENT_ID, 0, ticks, lots))

    assert Decimal(message["price"]) / BTCUSDT.tick == ticks
    assert Decimal(message["quantity"]) * 10**5 == lots
    assert "E" not in message["price"] + message["quantity"]


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@given(kind=st.sampled_from(sorted(DTYPES)), words=st.lists(st.integers(0, 1 << 40), max_size=11))
def test_every_record_survives_both_encodings(encoding: str, kind: Kind, words: list[int]) -> None:
    made = Messages(1, OFFSET_NS)
    made.instruments = (BTCUSDT,)
    message = made.message("any", row(kind, *words))

    raw = encode_all(encoding, [message])[0]
    decode = msgpack.unpackb if encoding == "msgpack" else msgspec.json.decode
    assert decode(raw) == message


def test_small_numbers_have_no_exponent() -> None:
    assert decimal_text(Decimal(1).scaleb(-8)) == "0.00000001"
