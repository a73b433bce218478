"""engine room: orders to the venue's request bytes, the venue's answers to typed records. Pure.

Two requests are hot: placing and cancelling. They are written by compiled code, backwards from the
end of a reused buffer, because the last digit of a number is the first one known and the socket
wants the message to end where the buffer ends. Decimal text comes straight from ticks and lots, so
nothing is rounded. Every other request is rare and written by `request`.

A connection that was logged on (Ed25519) needs no signature. Otherwise (HMAC) the signature covers
the parameters sorted by name, `name=value` joined by `&`: `write_place_payload` and
`write_cancel_payload` write that text, and `tail` brings key and signature into the request.

Source: the venue's public documentation of its WebSocket API and user data stream.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from engine.instruments import (
    LOT_UNITS,
    PRICE_DECIMALS,
    QUANTITY_DECIMALS,
    SYMBOL_HIGH,
    SYMBOL_LOW,
    TICK_UNITS,
    Instrument,
)
from engine.orders import ORDER_ID, ORDER_LOTS, ORDER_TERMS, ORDER_TICKS
from engine.records import (
    TERMS_SIDE,
    TERMS_TIME_IN_FORCE,
    TERMS_TYPE,
    OrderType,
    Side,
    TimeInForce,
    part,
)
from shm.jit import jit
from shm.segment import Words

Bytes = npt.NDArray[np.uint8]

REQUEST_BYTES_MAX = 1024
FEE_PLACES = 8
_NUMBER_DIGITS = 16  # a request number as the venue sees it, hexadecimal
# Words of `numbers`.
REQUEST_NUMBER, TIMESTAMP_MS, RECEIVE_WINDOW_MS = range(3)
NUMBERS = 3

_LIMIT, _MARKET, _LIMIT_MAKER = (int(t) for t in OrderType)
_BUY = int(Side.BUY)
_GTC, _IOC = int(TimeInForce.GTC), int(TimeInForce.IOC)


def _text(text: str) -> Bytes:
    return np.frombuffer(text.encode("ascii"), np.uint8)


_HEX = _text("0123456789ABCDEF")
_ID = _text('{"id":"')
_PLACE = _text('","method":"order.place","params":{"symbol":"')
_CANCEL = _text('","method":"order.cancel","params":{"symbol":"')
_SIDE, _TYPE, _FORCE = _text('","side":"'), _text('","type":"'), _text('","timeInForce":"')
_PRICE, _QUANTITY = _text('","price":"'), _text('","quantity":"')
_NEW_ID = _text('","newClientOrderId":"TR')
_OLD_ID = _text('","origClientOrderId":"TR')
_ANSWER = _text('","newOrderRespType":"ACK","recvWindow":')
_WINDOW, _TIME, _END = _text('","recvWindow":'), _text(',"timestamp":'), _text("}}")
_BUY_TEXT, _SELL_TEXT = _text("BUY"), _text("SELL")
_LIMIT_TEXT, _MARKET_TEXT, _MAKER_TEXT = _text("LIMIT"), _text("MARKET"), _text("LIMIT_MAKER")
_GTC_TEXT, _IOC_TEXT, _FOK_TEXT = _text("GTC"), _text("IOC"), _text("FOK")
_P_NEW_ID, _P_OLD_ID = _text("&newClientOrderId=TR"), _text("&origClientOrderId=TR")
_P_ANSWER, _P_PRICE = _text("&newOrderRespType=ACK"), _text("&price=")
_P_QUANTITY, _P_WINDOW = _text("&quantity="), _text("&recvWindow=")
_P_SIDE, _P_SYMBOL, _P_FORCE = _text("&side="), _text("&symbol="), _text("&timeInForce=")
_P_TIME, _P_TYPE = _text("&timestamp="), _text("&type=")


@jit
def _put(out: Bytes, at: int, text: Bytes) -> int:
    """Writes `text` so that it ends before `at`; answers where it begins."""
    at -= len(text)
    for index in range(len(text)):
        out[at + index] = text[index]
    return at


@jit
def _put_number(out: Bytes, at: int, value: int) -> int:
    while True:
        at -= 1
        out[at] = 48 + value % 10
        value //= 10
        if value == 0:
            return at


@jit
def _put_hex(out: Bytes, at: int, value: int) -> int:
    for _ in range(16):
        at -= 1
        out[at] = _HEX[value & 15]
        value >>= 4
    return at


@jit
def _put_decimal(out: Bytes, at: int, units: int, places: int) -> int:
    """Writes units of 10**-places as decimal text with all its places."""
    if places == 0:
        return _put_number(out, at, units)
    for _ in range(places):
        at -= 1
        out[at] = 48 + units % 10
        units //= 10
    at -= 1
    out[at] = 46
    return _put_number(out, at, units)


@jit
def _put_symbol(out: Bytes, at: int, instrument: Words) -> int:
    for word in (instrument[SYMBOL_HIGH], instrument[SYMBOL_LOW]):
        for index in range(7, -1, -1):
            letter = (word >> (8 * index)) & 0xFF
            if letter != 0:
                at -= 1
                out[at] = letter
    return at


@jit
def _put_price(out: Bytes, at: int, row: Words, instrument: Words) -> int:
    return _put_decimal(
        out, at, row[ORDER_TICKS] * instrument[TICK_UNITS], instrument[PRICE_DECIMALS]
    )


@jit
def _put_quantity(out: Bytes, at: int, row: Words, instrument: Words) -> int:
    return _put_decimal(
        out, at, row[ORDER_LOTS] * instrument[LOT_UNITS], instrument[QUANTITY_DECIMALS]
    )


@jit
def _put_type(out: Bytes, at: int, kind: int) -> int:
    if kind == _LIMIT:
        return _put(out, at, _LIMIT_TEXT)
    if kind == _MARKET:
        return _put(out, at, _MARKET_TEXT)
    return _put(out, at, _MAKER_TEXT)


@jit
def _put_force(out: Bytes, at: int, force: int) -> int:
    if force == _GTC:
        return _put(out, at, _GTC_TEXT)
    if force == _IOC:
        return _put(out, at, _IOC_TEXT)
    return _put(out, at, _FOK_TEXT)


@jit
def _put_side(out: Bytes, at: int, side: int) -> int:
    return _put(out, at, _BUY_TEXT) if side == _BUY else _put(out, at, _SELL_TEXT)


@jit
def _put_times(out: Bytes, numbers: Words, tail: Bytes) -> int:
    """Writes the common end of a request: window, time, key and signature."""
    at = _put(out, len(out), _END)
    at = _put(out, at, tail)
    at = _put_number(out, at, numbers[TIMESTAMP_MS])
    at = _put(out, at, _TIME)
    return _put_number(out, at, numbers[RECEIVE_WINDOW_MS])


@jit
def write_place(row: Words, instrument: Words, numbers: Words, tail: Bytes, out: Bytes) -> int:
    """Writes an order.place request that ends where `out` ends; answers where it begins.

    Args:
        row: (ORDER_WORDS,) int64, the order.
        instrument: (INSTRUMENT_WORDS,) int64.
        numbers: (NUMBERS,) int64: request number, epoch time in ms, receive window in ms.
        tail: (n,) uint8: from `signed_tail`, or empty on a connection that was logged on.
        out: (REQUEST_BYTES_MAX,) uint8.
    """
    terms = row[ORDER_TERMS]
    kind = part(terms, TERMS_TYPE)
    at = _put_times(out, numbers, tail)
    at = _put(out, at, _ANSWER)
    at = _put_hex(out, at, row[ORDER_ID])
    at = _put(out, at, _NEW_ID)
    at = _put_quantity(out, at, row, instrument)
    at = _put(out, at, _QUANTITY)
    if kind != _MARKET:
        at = _put_price(out, at, row, instrument)
        at = _put(out, at, _PRICE)
    if kind == _LIMIT:
        at = _put_force(out, at, part(terms, TERMS_TIME_IN_FORCE))
        at = _put(out, at, _FORCE)
    at = _put_type(out, at, kind)
    at = _put(out, at, _TYPE)
    at = _put_side(out, at, part(terms, TERMS_SIDE))
    at = _put(out, at, _SIDE)
    at = _put_symbol(out, at, instrument)
    at = _put(out, at, _PLACE)
    at = _put_hex(out, at, numbers[REQUEST_NUMBER])
    return _put(out, at, _ID)


@jit
def write_cancel(row: Words, instrument: Words, numbers: Words, tail: Bytes, out: Bytes) -> int:
    """Writes an order.cancel request; arguments and answer as in `write_place`."""
    at = _put_times(out, numbers, tail)
    at = _put(out, at, _WINDOW)
    at = _put_hex(out, at, row[ORDER_ID])
    at = _put(out, at, _OLD_ID)
    at = _put_symbol(out, at, instrument)
    at = _put(out, at, _CANCEL)
    at = _put_hex(out, at, numbers[REQUEST_NUMBER])
    return _put(out, at, _ID)


@jit
def write_place_payload(
    row: Words, instrument: Words, numbers: Words, head: Bytes, out: Bytes
) -> int:
    """Writes the text that an order.place signature covers; `head` is `apiKey=...`."""
    terms = row[ORDER_TERMS]
    kind = part(terms, TERMS_TYPE)
    at = _put_type(out, len(out), kind)
    at = _put(out, at, _P_TYPE)
    at = _put_number(out, at, numbers[TIMESTAMP_MS])
    at = _put(out, at, _P_TIME)
    if kind == _LIMIT:
        at = _put_force(out, at, part(terms, TERMS_TIME_IN_FORCE))
        at = _put(out, at, _P_FORCE)
    at = _put_symbol(out, at, instrument)
    at = _put(out, at, _P_SYMBOL)
    at = _put_side(out, at, part(terms, TERMS_SIDE))
    at = _put(out, at, _P_SIDE)
    at = _put_number(out, at, numbers[RECEIVE_WINDOW_MS])
    at = _put(out, at, _P_WINDOW)
    at = _put_quantity(out, at, row, instrument)
    at = _put(out, at, _P_QUANTITY)
    if kind != _MARKET:
        at = _put_price(out, at, row, instrument)
        at = _put(out, at, _P_PRICE)
    at = _put(out, at, _P_ANSWER)
    at = _put_hex(out, at, row[ORDER_ID])
    at = _put(out, at, _P_NEW_ID)
    return _put(out, at, head)


@jit
def write_cancel_payload(
    row: Words, instrument: Words, numbers: Words, head: Bytes, out: Bytes
) -> int:
    """Writes the text that an order.cancel signature covers; `head` is `apiKey=...`."""
    at = _put_number(out, len(out), numbers[TIMESTAMP_MS])
    at = _put(out, at, _P_TIME)
    at = _put_symbol(out, at, instrument)
    at = _put(out, at, _P_SYMBOL)
    at = _put_number(out, at, numbers[RECEIVE_WINDOW_MS])
    at = _put(out, at, _P_WINDOW)
    at = _put_hex(out, at, row[ORDER_ID])
    at = _put(out, at, _P_OLD_ID)
    return _put(out, at, head)


def signed_tail(api_key: str, signature: str) -> bytes:
    """Answers the `tail` of a signed request."""
    return f',"apiKey":"{api_key}","signature":"{signature}"'.encode("ascii")


def request(number: int, method: str, params: dict[str, str | int | bool]) -> bytes:
    """Writes any other request."""
    body = {"id": f"{number:016X}", "method": method, "params": params}
    return msgspec.json.encode(body)


def request_number(text: object) -> int:
    """Answers the number of the request that an answer's id names, -1 when it is none of ours."""
    if not isinstance(text, str) or len(text) != _NUMBER_DIGITS:
        return -1
    try:
        return int(text, 16)
    except ValueError:
        return -1


def steps(text: str, places: int, step_units: int) -> int:
    """Reads the venue's decimal text as whole ticks or lots.

    Args:
        text: digits with at most one point, no sign but a leading minus, no exponent.
        places: decimals of the grid.
        step_units: size of one step in 10**-places.

    Raises:
        ValueError: when the text is no decimal or lies between two steps.
    """
    whole, _, fraction = text.partition(".")
    kept, rest = fraction[:places].ljust(places, "0"), fraction[places:]
    is_decimal = whole.removeprefix("-").isdecimal()
    count, odd = divmod(int(whole + kept) if is_decimal else 1, step_units)
    if not is_decimal or odd or rest.strip("0"):
        raise ValueError(
            f"venue's number must lie on the grid: text={text[:40]!r} places={places}"
            f" step_units={step_units}"
        )
    return count


def ticks_of(text: str, instrument: Instrument) -> int:
    """Answers the ticks of a price's text; raises ValueError when it is off the grid."""
    return steps(text, instrument.price_decimals, instrument.tick_units)


def lots_of(text: str, instrument: Instrument) -> int:
    """Answers the lots of a quantity's text; raises ValueError when it is off the grid."""
    return steps(text, instrument.quantity_decimals, instrument.lot_units)
