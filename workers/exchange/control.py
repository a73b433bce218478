"""workers room: control messages of market streams, read with the venue's refusals."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
COMBINED = "combined"  # the one property there is

_ID = re.compile(r"[A-Za-z0-9\-_]{1,36}", re.ASCII)
_WHERE = re.compile(r"\(byte (\d+)\)")


class ControlRefusal(Exception):  # noqa: N818 - a refusal is what the venue answers, not a fault
    """A control message that the exchange refuses.

    Attributes:
        code: 0 unknown property, 1 wrong value type, 2 invalid request, 3 invalid JSON.
        message: the venue's wording.
        request_id: of the message, None when it could not be read.
    """

    def __init__(self, code: int, message: str, request_id: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.request_id = request_id

    def answer(self) -> dict[str, object]:
        """Makes the answer that the client receives."""
        return {"error": {"code": self.code, "msg": self.message}, "id": self.request_id}


class Control(NamedTuple):
    """One well-formed control message."""

    method: str
    names: list[str]  # streams of SUBSCRIBE and UNSUBSCRIBE
    value: bool | None  # of SET_PROPERTY
    request_id: int | str | None


def read_control(data: bytes) -> Control:
    """Reads one control message.

    Raises:
        ControlRefusal: with the venue's code and wording for the first thing that is wrong.
    """
    try:
        message = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        text = f"Invalid JSON: expected value at {_position(data, str(error))}"
        raise ControlRefusal(3, text) from error
    if not isinstance(message, dict):
        raise ControlRefusal(2, "Invalid request: expected an object at line 1 column 1")
    request_id = _read_id(message.get("id"))
    if "method" not in message:
        text = f"Invalid request: missing field `method` at line 1 column {len(data)}"
        raise ControlRefusal(2, text, request_id)
    if message.keys() - {"method", "params", "id"}:
        raise ControlRefusal(2, "Invalid request: too many parameters", request_id)
    method, params = message["method"], message.get("params")
    if method not in METHODS:
        expected = ", ".join(f"`{name}`" for name in METHODS)
        text = f"Invalid request: unknown variant `{method}`, expected one of {expected}"
        raise ControlRefusal(2, text, request_id)
    if method == "LIST_SUBSCRIPTIONS":
        return Control(method, [], None, request_id)
    if not isinstance(params, list):
        raise ControlRefusal(2, "Invalid request: params must be an array", request_id)
    if method in {"SET_PROPERTY", "GET_PROPERTY"}:
        return _read_property(method, params, request_id)
    if not all(isinstance(name, str) for name in params):
        raise ControlRefusal(2, "Invalid request: stream name must be a string", request_id)
    return Control(method, params, None, request_id)


def _read_property(method: str, params: list[object], request_id: int | str | None) -> Control:
    if not params or not isinstance(params[0], str):
        raise ControlRefusal(2, "Invalid request: property name must be a string", request_id)
    if params[0] != COMBINED:
        raise ControlRefusal(0, "Unknown property", request_id)
    if len(params) != (2 if method == "SET_PROPERTY" else 1):
        raise ControlRefusal(2, "Invalid request: too many parameters", request_id)
    value = params[-1]
    if method == "GET_PROPERTY":
        return Control(method, [], None, request_id)
    if not isinstance(value, bool):
        raise ControlRefusal(1, "Invalid value type: expected Boolean", request_id)
    return Control(method, [], value, request_id)


def _read_id(value: object) -> int | str | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise ControlRefusal(2, "Invalid request: request ID must be an unsigned integer")


def _position(data: bytes, error: str) -> str:
    """Says where JSON went wrong, as line and column."""
    match = _WHERE.search(error)
    before = data[: int(match.group(1))] if match else data
    line = before.count(b"\n") + 1
    column = len(before) - before.rfind(b"\n")
    return f"line {line} column {column}"
