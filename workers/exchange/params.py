"""workers room: parameters of a request as text, read one by one with the venue's refusals.

Requests carry strings and numbers as the client likes; the signature covers their exact text, so
they are kept as text and every reader here says what is wrong with its own parameter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from engine.decimals import units_from_text
from workers.exchange import errors

DECIMAL_RANGE = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
CLIENT_ID_RANGE = r"^[a-zA-Z0-9-_]{1,36}$"
NUMBER_RANGE = r"^[0-9]{1,20}$"
SYMBOL_RANGE = r"^[\w\-._&&[^a-z]]{1,50}$"  # the venue's own text, in its own regular expressions
LONG_MAX = 2**63 - 1

_DECIMAL = re.compile(DECIMAL_RANGE, re.ASCII)
_CLIENT_ID = re.compile(CLIENT_ID_RANGE, re.ASCII)
_NUMBER = re.compile(NUMBER_RANGE, re.ASCII)
_SYMBOL = re.compile(r"[A-Z0-9_.\-]{1,50}", re.ASCII)
_QUOTE, _BACKSLASH = ord('"'), ord("\\")

_TEXTS: dict[bool | None, str] = {None: "", True: "true", False: "false"}
Params = Mapping[str, str]
Value = str | int | bool | msgspec.Raw | None  # a parameter as it was decoded
Choice = TypeVar("Choice")


def text_of(value: Value) -> str:
    """Answers a JSON value as text: a string's content, anything else as it was written."""
    if not isinstance(value, msgspec.Raw):
        return _TEXTS[value] if value is None or isinstance(value, bool) else str(value)
    data = bytes(value)
    if data[0] != _QUOTE:
        return "" if data == b"null" else data.decode()
    if _BACKSLASH in data:
        text: str = msgspec.json.decode(data, type=str)
        return text
    return data[1:-1].decode()


def required(params: Params, name: str) -> str:
    """Answers a mandatory parameter.

    Raises:
        ExchangeError: -1102, it is absent, null or empty.
    """
    value = params.get(name)
    if not value:
        raise errors.missing(name)
    return value


def optional(params: Params, name: str) -> str | None:
    """Answers an optional parameter, None when absent.

    Raises:
        ExchangeError: -1105, it is there but empty.
    """
    value = params.get(name)
    if value is not None and not value:
        raise errors.empty(name)
    return value


def decimal_units(name: str, value: str) -> int:
    """Reads a decimal parameter as units of 10**-8.

    Raises:
        ExchangeError: -1100, it is no plain decimal; -1111, it has more than eight places.
    """
    if not _DECIMAL.fullmatch(value):
        raise errors.illegal_characters(name, DECIMAL_RANGE)
    try:
        return units_from_text(value)
    except ValueError as error:
        raise errors.too_precise(name) from error


def whole_number(params: Params, name: str) -> int | None:
    """Reads an optional whole number.

    Raises:
        ExchangeError: -1100, it is no whole number; -1102, it does not fit into a signed long.
    """
    value = optional(params, name)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise errors.illegal_characters(name, NUMBER_RANGE)
    number = int(value)
    if number > LONG_MAX:
        raise errors.too_large(name, str(LONG_MAX))
    return number


def bounded_number(params: Params, name: str, default: int, largest: int) -> int:
    """Reads an optional whole number between 1 and `largest`.

    Raises:
        ExchangeError: -1100, it is no whole number; -1130, it lies outside.
    """
    number = whole_number(params, name)
    if number is None:
        return default
    if number < 1:
        raise errors.bad_data(name)
    return min(number, largest)


def boolean(params: Params, name: str) -> bool | None:
    """Reads an optional boolean, None when absent.

    Raises:
        ExchangeError: -1130, it is neither true nor false.
    """
    value = optional(params, name)
    if value is None:
        return None
    if value not in {"true", "false"}:
        raise errors.bad_data(name)
    return value == "true"


def client_id(params: Params, name: str) -> str | None:
    """Reads an optional client order id.

    Raises:
        ExchangeError: -1100, it has illegal characters or is too long.
    """
    value = optional(params, name)
    if value is not None and not _CLIENT_ID.fullmatch(value):
        raise errors.illegal_characters(name, CLIENT_ID_RANGE)
    return value


def listed(params: Params, listings: Mapping[str, Choice], name: str = "symbol") -> Choice:
    """Answers what is listed under the mandatory symbol parameter.

    Raises:
        ExchangeError: -1102, no symbol; -1100, its shape is wrong; -1121, nothing is listed there.
    """
    symbol = required(params, name)
    if not _SYMBOL.fullmatch(symbol):
        raise errors.illegal_characters(name, SYMBOL_RANGE)
    entry = listings.get(symbol)
    if entry is None:
        raise errors.bad_symbol()
    return entry


def symbol_list(text: str) -> list[str]:
    """Reads a JSON array of symbols.

    Raises:
        ExchangeError: -1100, it is no array of strings.
    """
    try:
        return msgspec.json.decode(text.encode(), type=list[str])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        legal = '^\\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\\]$'
        raise errors.illegal_characters("symbols", legal) from error
