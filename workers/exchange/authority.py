"""workers room: who sends a request, and whether it is fresh.

A signed request names its API key, carries a timestamp in milliseconds or microseconds, may
narrow its window, and is signed over all parameters. A connection that logged on with an Ed25519
key may leave key and signature out, never the timestamp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from workers.exchange import errors
from workers.exchange.keys import Credential, payload
from workers.exchange.params import DECIMAL_RANGE, NUMBER_RANGE, Params, optional, required

WINDOW_NS = 5_000_000_000
WINDOW_MS_MAX = 60_000
AHEAD_NS_MAX = 1_000_000_000
MICROSECONDS_FROM = 10**14  # a millisecond stamp reaches this in the year 5138
SIGNED_PARAMS = frozenset({"apiKey", "signature", "timestamp", "recvWindow"})

_WINDOW = re.compile(r"[0-9]{1,5}(\.[0-9]{1,3})?", re.ASCII)
_DECIMAL = re.compile(DECIMAL_RANGE, re.ASCII)
_NUMBER = re.compile(NUMBER_RANGE, re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9]{1,256}", re.ASCII)


class Authority:
    """Checks signed requests against the keys that the exchange knows."""

    def __init__(self, keys: Mapping[str, Credential]) -> None:
        self._keys = dict(keys)

    def check(self, params: Params, session: Credential | None, now_ns: int) -> Credential:
        """Answers whose request this is.

        Args:
            params: of the request, as text.
            session: the key that the connection logged on with.
            now_ns: epoch time of the exchange.

        Raises:
            ExchangeError: -1102, -1100, -1021, -2014, -2015 or -1022.
        """
        if session is not None and "apiKey" not in params and "signature" not in params:
            check_time(params, now_ns)
            return session
        key = required(params, "apiKey")
        signature = required(params, "signature")
        check_time(params, now_ns)
        if not _KEY.fullmatch(key):
            raise errors.bad_key_format()
        credential = self._keys.get(key)
        if credential is None:
            raise errors.bad_key()
        if not credential.checker.is_valid(payload(params), signature):
            raise errors.bad_signature()
        return credential


def check_time(params: Params, now_ns: int) -> None:
    """Holds a request's timestamp against its window.

    Raises:
        ExchangeError: -1102 or -1100 for the parameters' shape, -1021 for the time.
    """
    text = required(params, "timestamp")
    if not _NUMBER.fullmatch(text):
        raise errors.illegal_characters("timestamp", NUMBER_RANGE)
    stamp = int(text)
    stamp_ns = stamp * (1_000 if stamp >= MICROSECONDS_FROM else 1_000_000)
    window_ns = _window_ns(params)
    if stamp_ns >= now_ns + AHEAD_NS_MAX:
        raise errors.ahead_of_server()
    if now_ns - stamp_ns > window_ns:
        raise errors.outside_window()


def _window_ns(params: Params) -> int:
    text = optional(params, "recvWindow")
    if text is None:
        return WINDOW_NS
    if not _DECIMAL.fullmatch(text):
        raise errors.illegal_characters("recvWindow", DECIMAL_RANGE)
    whole, _, fraction = text.partition(".")
    micros = int(whole) * 1_000 + int(fraction[:3].ljust(3, "0"))
    if micros > WINDOW_MS_MAX * 1_000:
        raise errors.too_large("recvWindow", str(WINDOW_MS_MAX))
    if not _WINDOW.fullmatch(text):
        raise errors.too_precise("recvWindow")
    return micros * 1_000
