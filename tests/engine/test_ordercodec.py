"""The order codec's bytes against an independent writer, for any values."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import ordercodec
from engine.instruments import Instrument, to_words
from engine.orders import ORDER_ID, ORDER_LOTS, ORDER_TERMS, ORDER_TICKS, ORDER_WORDS
from engine.records import OrderType, Side, TimeInForce, client_text, pack
from shm.segment import Words

KEY = "k" * 64
SIGNATURE = "5" * 64
MESSAGE_AT_MIN = 14  # the socket library writes its frame header in front of the message

instruments = st.builds(
    Instrument,
    index=st.just(0),
    symbol=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=16),
    base=st.just("A"),
    quote=st.just("B"),
    price_decimals=st.integers(0, 8),
    tick_units=st.sampled_from([1, 5, 25, 100]),
    quantity_decimals=st.integers(0, 8),
    lot_units=st.sampled_from([1, 10, 1000]),
)
orders = st.fixed_dictionaries(
    {
        "client_id": st.integers(1, (1 << 63) - 1),
        "side": st.sampled_from(list(Side)),
        "type": st.sampled_from(list(OrderType)),
        "force": st.sampled_from([TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK]),
        "ticks": st.integers(0, 10**13),
        "lots": st.integers(1, 10**13),
    }
)
numbers = st.tuples(
    st.integers(0, (1 << 63) - 1), st.integers(0, 4 * 10**12), st.integers(1, 60_000)
)
Order = dict[str, int]


def row_of(order: Order) -> Words:
    row = np.zeros(ORDER_WORDS, np.int64)
    row[ORDER_ID], row[ORDER_TICKS], row[ORDER_LOTS] = (
        order["client_id"],
        order["ticks"],
        order["lots"],
    )
    row[ORDER_TERMS] = pack(order["side"], order["type"], order["force"], 0)
    return row


def place_params(order: Order, instrument: Instrument, times: tuple[int, int, int]) -> Order:
    params: dict[str, object] = {
        "symbol": instrument.symbol,
        "side": Side(order["side"]).name,
        "type": OrderType(order["type"]).name,
    }
    if order["type"] == OrderType.LIMIT:
        params["timeInForce"] = TimeInForce(order["force"]).name
    if order["type"] != OrderType.MARKET:
        params["price"] = f"{instrument.price(order['ticks']):f}"
    params["quantity"] = f"{instrument.quantity(order['lots']):f}"
    params["newClientOrderId"] = client_text(order["client_id"])
    params["newOrderRespType"] = "ACK"
    params["recvWindow"] = times[2]
    params["timestamp"] = times[1]
    return params  # type: ignore[return-value]


def cancel_params(order: Order, instrument: Instrument, times: tuple[int, int, int]) -> Order:
    params: dict[str, object] = {
        "symbol": instrument.symbol,
        "origClientOrderId": client_text(order["client_id"]),
        "recvWindow": times[2],
        "timestamp": times[1],
    }
    return params  # type: ignore[return-value]


def as_json(number: int, method: str, params: Order) -> bytes:
    body = {"id": f"{number:016X}", "method": method, "params": params}
    return json.dumps(body, separators=(",", ":")).encode()


def sorted_payload(params: Order) -> bytes:
    return "&".join(f"{k}={v}" for k, v in sorted({**params, "apiKey": KEY}.items())).encode()


def out_bytes() -> ordercodec.Bytes:
    return np.zeros(ordercodec.REQUEST_BYTES_MAX, np.uint8)


@settings(deadline=None)
@given(orders, instruments, numbers, st.sampled_from(["", SIGNATURE]))
def test_requests_are_the_bytes_an_independent_writer_makes(
    order: Order, instrument: Instrument, times: tuple[int, int, int], signature: str
) -> None:
    row, words = row_of(order), to_words(instrument)
    tail = ordercodec.signed_tail(KEY, signature) if signature else b""
    extra: dict[str, object] = {"apiKey": KEY, "signature": signature} if signature else {}
    tail_bytes = np.frombuffer(tail, np.uint8).copy()
    times_words = np.array(times, np.int64)
    for method, write, params in (
        ("order.place", ordercodec.write_place, place_params(order, instrument, times)),
        ("order.cancel", ordercodec.write_cancel, cancel_params(order, instrument, times)),
    ):
        out = out_bytes()
        at = write(row, words, times_words, tail_bytes, out)

        assert as_json(times[0], method, {**params, **extra}) == out[at:].tobytes()  # type: ignore[dict-item]
        assert at >= MESSAGE_AT_MIN


@settings(deadline=None)
@given(orders, instruments, numbers)
def test_signed_text_is_every_parameter_sorted_by_name(
    order: Order, instrument: Instrument, times: tuple[int, int, int]
) -> None:
    row, words = row_of(order), to_words(instrument)
    head = np.frombuffer(f"apiKey={KEY}".encode(), np.uint8).copy()
    times_words = np.array(times, np.int64)
    for write, params in (
        (ordercodec.write_place_payload, place_params(order, instrument, times)),
        (ordercodec.write_cancel_payload, cancel_params(order, instrument, times)),
    ):
        out = out_bytes()
        at = write(row, words, times_words, head, out)

        assert sorted_payload(params) == out[at:].tobytes()


@given(instruments, st.integers(0, 10**12))
def test_a_price_survives_text_and_back(instrument: Instrument, ticks: int) -> None:
    text = f"{instrument.price(ticks):.8f}"

    assert ordercodec.ticks_of(text, instrument) == ticks


@pytest.mark.parametrize("text", ["1.005", "0.001", "x", "", "1e5"])
def test_a_number_off_the_grid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must lie on the grid|invalid literal"):
        ordercodec.steps(text, 2, 1)


def test_a_negative_fee_is_a_rebate() -> None:
    assert ordercodec.steps("-0.00001000", 8, 1) == -1000
    assert Decimal(-1000).scaleb(-8) == Decimal("-0.00001")


def test_a_foreign_request_id_is_none_of_ours() -> None:
    assert ordercodec.request_number("00000000000000FF") == 255
    for text in (None, 7, "zz", "not-a-hexadecimal"):
        assert ordercodec.request_number(text) == -1
