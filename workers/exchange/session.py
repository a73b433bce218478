"""workers room: one connection to the WebSocket API.

A request is decoded once, its parameters kept as text; then in the venue's order: method,
parameters it does not know, weight, key, time, signature, and the method itself. The answer
leaves before the events that the request caused. Whatever arrives is answered; nothing a client
sends ends the exchange.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import parse_qs

import msgspec

from workers.exchange import errors, public
from workers.exchange.accounts import Account
from workers.exchange.authority import SIGNED_PARAMS
from workers.exchange.connection import Connection
from workers.exchange.errors import ExchangeError
from workers.exchange.exchange import SUBSCRIPTIONS_MAX, Exchange
from workers.exchange.keys import Credential
from workers.exchange.methods import METHODS, Call, Method
from workers.exchange.params import Params, Value, boolean, text_of, whole_number
from workers.exchange.reports import Report, time_of

SUBSCRIPTION_ID_MAX = 65_535  # over the life of a connection
_LOG = logging.getLogger("tickring.exchange")
_SHARED = frozenset({"returnRateLimits"})
_PUBLIC = {
    "ping": (public.ping, frozenset[str]()),
    "time": (public.server_time, frozenset[str]()),
    "exchangeInfo": (
        public.exchange_info,
        frozenset({"symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus"}),
    ),
    "depth": (public.depth, frozenset({"symbol", "limit", "symbolStatus"})),
}
_SESSION = {
    "session.logon": SIGNED_PARAMS,
    "session.status": frozenset[str](),
    "session.logout": frozenset[str](),
    "session.subscriptions": frozenset[str](),
    "userDataStream.subscribe": frozenset[str](),
    "userDataStream.subscribe.signature": SIGNED_PARAMS,
    "userDataStream.unsubscribe": frozenset({"subscriptionId"}),
}


class Request(msgspec.Struct):
    """A request as nearly all are: its parameters are strings, whole numbers and booleans."""

    method: str
    id: int | str | None = None
    params: dict[str, str | int | bool | None] | None = None


class RawRequest(msgspec.Struct):
    """A request with parameters of other kinds, which stay as they were written."""

    method: str
    id: int | str | None = None
    params: dict[str, msgspec.Raw] | None = None


_DECODER = msgspec.json.Decoder(Request)
_RAW_DECODER = msgspec.json.Decoder(RawRequest)


class OrderSession:
    """One connection to the WebSocket API; see the module."""

    methods: ClassVar[Mapping[str, Method]] = METHODS

    def __init__(self, exchange: Exchange, query: str) -> None:
        self._exchange = exchange
        self._encoder = msgspec.json.Encoder()
        self._connection: Connection | None = None
        flags = parse_qs(query).get("returnRateLimits", ["true"])
        self._shows_limits = flags[-1] != "false"
        self._credential: Credential | None = None
        self._authorized_ns = 0
        self._subscriptions: dict[int, tuple[Account, bool]] = {}  # and whether by logon
        self._next_subscription = 0

    def on_open(self, connection: Connection) -> None:
        """Takes the connection into use; connecting costs weight too."""
        self._connection = connection
        self._exchange.weights.window.roll(connection.opened_ns)
        self._exchange.weights.window.count += 2

    def on_close(self) -> None:
        """Ends the connection's subscriptions; its orders stay."""
        for subscription_id in tuple(self._subscriptions):
            self._end_subscription(subscription_id)
        self._connection = None

    def on_control(self) -> None:
        """Pings and pongs are free here."""

    def on_event(self, subscription_id: int, event: bytes) -> None:
        """Sends an event of the user data stream."""
        if self._connection is not None:
            self._connection.send(b'{"subscriptionId":%d,"event":%b}' % (subscription_id, event))

    def on_message(self, data: bytes) -> None:
        """Answers one request."""
        now_ns = self._exchange.clock()
        answer: Report = {"id": None, "status": 200}
        shows_limits = self._shows_limits
        method: Method | None = None
        account: Account | None = None
        try:
            name, params = self._decode(data, answer)
            chosen = boolean(params, "returnRateLimits")
            shows_limits = self._shows_limits if chosen is None else chosen
            method = self.methods.get(name)
            if method is not None:
                account = self._authorize(method, params, now_ns)
                answer["result"] = method.perform(Call(self._exchange, account, params, now_ns))
            else:
                answer["result"] = self._perform(name, params, now_ns)
        except ExchangeError as error:
            _refuse(answer, error, now_ns)
        except Exception:  # noqa: BLE001 - our own fault is answered; it ends nothing
            _LOG.exception("request failed")
            _refuse(answer, errors.unknown_failure(), now_ns)
        if shows_limits:
            answer["rateLimits"] = self._limits(method, account, now_ns)
        if self._connection is not None:
            self._connection.send(self._encoder.encode(answer))
        self._exchange.flush()

    def _decode(self, data: bytes, answer: Report) -> tuple[str, dict[str, str]]:
        """Answers method and parameters as text, and echoes the id."""
        try:
            request = _decode_request(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            answer["id"] = _rescue_id(data)
            raise errors.bad_json() from error
        answer["id"] = request.id
        return request.method.removeprefix("v3/"), _texts(request.params)

    def _authorize(self, method: Method, params: Params, now_ns: int) -> Account:
        refuse_unknown(params, method.params | SIGNED_PARAMS)
        self._exchange.weights.spend(method.weight, now_ns)
        credential = self._exchange.authorize(params, self._credential, now_ns)
        return self._exchange.trading.account(credential.api_key)

    def _perform(self, name: str, params: Params, now_ns: int) -> object:
        """Does a public method or one about the connection itself."""
        entry = _PUBLIC.get(name)
        if entry is not None:
            function, known = entry
            refuse_unknown(params, known)
            return function(self._exchange, params, now_ns)
        if name not in _SESSION:
            raise errors.unsupported()
        refuse_unknown(params, _SESSION[name])
        self._exchange.weights.spend(2, now_ns)
        if name == "session.subscriptions":
            return [{"subscriptionId": number} for number in self._subscriptions]
        if name.startswith("session."):
            return self._session(name, params, now_ns)
        if name == "userDataStream.unsubscribe":
            return self._unsubscribe(params)
        return self._subscribe(name, params, now_ns)

    def _session(self, name: str, params: Params, now_ns: int) -> Report:
        if name == "session.logon":
            credential = self._exchange.authorize(params, None, now_ns)
            if not credential.is_session:
                raise errors.bad_key()
            self._end_logon()
            self._credential, self._authorized_ns = credential, now_ns
        elif name == "session.logout":
            self._end_logon()
        opened_ns = self._connection.opened_ns if self._connection is not None else now_ns
        return {
            "apiKey": self._credential.api_key if self._credential else None,
            "authorizedSince": time_of(self._authorized_ns) if self._credential else None,
            "connectedSince": time_of(opened_ns),
            "returnRateLimits": self._shows_limits,
            "serverTime": time_of(now_ns),
            "userDataStream": bool(self._subscriptions),
        }

    def _end_logon(self) -> None:
        """Forgets the logged-on key and the subscription that rests on it."""
        self._credential = None
        for number, (_, is_by_logon) in tuple(self._subscriptions.items()):
            if is_by_logon:
                self._end_subscription(number, tell=True)

    def _subscribe(self, name: str, params: Params, now_ns: int) -> Report:
        is_by_logon = name == "userDataStream.subscribe"
        if not is_by_logon:
            credential = self._exchange.authorize(params, None, now_ns)
        elif self._credential is not None:
            credential = self._credential
        else:
            message = "You are not authorized to execute this request."
            raise ExchangeError(-1002, message, status=errors.UNAUTHORIZED)
        account = self._exchange.trading.account(credential.api_key)
        if any(account is other for other, _ in self._subscriptions.values()):
            raise errors.subscription_active()
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            message = f"Too many subscriptions. Connection may create up to '{SUBSCRIPTIONS_MAX}'"
            raise ExchangeError(-1191, f"{message} subscriptions at a time.")
        number = self._next_subscription
        if number > SUBSCRIPTION_ID_MAX:
            raise ExchangeError(-2042, "Maximum subscription ID reached for this connection.")
        self._next_subscription += 1
        self._subscriptions[number] = (account, is_by_logon)
        self._exchange.subscribe(account, self, number)
        return {"subscriptionId": number}

    def _unsubscribe(self, params: Params) -> Report:
        number = whole_number(params, "subscriptionId")
        if number is not None and number not in self._subscriptions:
            raise errors.subscription_inactive()
        for chosen in tuple(self._subscriptions) if number is None else (number,):
            self._end_subscription(chosen, tell=True)
        return {}

    def _end_subscription(self, number: int, *, tell: bool = False) -> None:
        account, _ = self._subscriptions.pop(number)
        self._exchange.unsubscribe(account, self, number)
        if tell:
            event = {"e": "eventStreamTerminated", "E": time_of(self._exchange.clock())}
            self.on_event(number, self._encoder.encode(event))

    def _limits(
        self, method: Method | None, account: Account | None, now_ns: int
    ) -> list[dict[str, object]]:
        limits: list[dict[str, object]] = []
        if method is not None and method.counts_orders and account is not None:
            counter = self._exchange.trading.counters[account.account_id]
            limits = counter.describe(now_ns)
        limits.append(self._exchange.weights.describe())
        return limits


def _refuse(answer: Report, error: ExchangeError, now_ns: int) -> None:
    """Turns an answer into a refusal."""
    details: Report = {"code": error.code, "msg": error.message}
    if error.retry_after_ms:
        details["data"] = {"serverTime": time_of(now_ns), "retryAfter": error.retry_after_ms}
    answer["status"] = error.status
    answer["error"] = details
    answer.pop("result", None)


def _decode_request(data: bytes) -> Request | RawRequest:
    try:
        return _DECODER.decode(data)
    except msgspec.ValidationError:
        return _RAW_DECODER.decode(data)


def _texts(params: Mapping[str, Value] | None) -> dict[str, str]:
    """Answers parameters as the text that their signature covers."""
    if not params:
        return {}
    return {name: value if type(value) is str else text_of(value) for name, value in params.items()}


def refuse_unknown(params: Params, known: frozenset[str]) -> None:
    """Raises -1101 or its like for parameters that a method does not read."""
    read = len(params.keys() & (known | _SHARED))
    if read != len(params):
        raise errors.unread(read, len(params))


def _rescue_id(data: bytes) -> int | str | None:
    """Finds the id of a request that is JSON but no request, so that its sender can tell."""
    try:
        message = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    found = message.get("id") if isinstance(message, dict) else None
    return found if isinstance(found, int | str) and not isinstance(found, bool) else None
