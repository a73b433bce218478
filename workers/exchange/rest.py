"""workers room: the exchange's REST side: plain HTTP GET requests on the same port.

picows lets a listener factory answer a request instead of upgrading it, so no HTTP server is
needed; one request is one connection, which is what snapshots and symbol lists need.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import msgspec
from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from workers.exchange import errors, public
from workers.exchange.errors import ExchangeError
from workers.exchange.exchange import Exchange
from workers.exchange.slow_answer import slow_answer

_ENDPOINTS = {
    "ping": (public.ping, frozenset[str]()),
    "time": (public.server_time, frozenset[str]()),
    "exchangeInfo": (
        public.exchange_info,
        frozenset({"symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus"}),
    ),
    "depth": (public.depth, frozenset({"symbol", "limit", "symbolStatus"})),
}


def answer(
    request: WSUpgradeRequest, path: str, query: str, exchange: Exchange
) -> WSUpgradeResponseWithListener:
    """Answers one GET request."""
    injector = exchange.hub.injector
    now_ns = exchange.clock()
    try:
        if refusal := injector.refusal(path, now_ns):
            raise refusal
        body = msgspec.json.encode(_perform(path, query, exchange, now_ns))
    except ExchangeError as error:
        return _refuse(error, exchange, now_ns)
    headers = _headers(exchange)
    response = WSUpgradeResponse.create_ok_response(body, headers)
    delay_s = injector.slowness_s(path)
    if delay_s:
        return slow_answer(request, response, delay_s)
    return WSUpgradeResponseWithListener(response, None)


def _perform(path: str, query: str, exchange: Exchange, now_ns: int) -> object:
    endpoint = _ENDPOINTS.get(path.removeprefix(exchange.venue.rest_prefix))
    if endpoint is None:
        raise ExchangeError(-1020, "This operation is not supported.", status=errors.NOT_FOUND)
    function, known = endpoint
    pairs = parse_qsl(query, keep_blank_values=True)
    params = dict(pairs)
    if len(params) != len(pairs):
        raise ExchangeError(-1101, "Duplicate values for a parameter detected.")
    unknown = params.keys() - known
    if unknown:
        raise errors.too_many_parameters(len(known), len(params))
    return function(exchange, params, now_ns)


def _headers(exchange: Exchange) -> dict[str, str]:
    return {
        "Content-Type": "application/json;charset=UTF-8",
        "X-MBX-USED-WEIGHT-1M": str(exchange.weights.window.count),
        "Cache-Control": "no-cache, no-store, must-revalidate",
    }


def _refuse(error: ExchangeError, exchange: Exchange, now_ns: int) -> WSUpgradeResponseWithListener:
    headers = _headers(exchange)
    if error.retry_after_ms:
        wait_s = (error.retry_after_ms - now_ns // 1_000_000 + 999) // 1_000
        headers["Retry-After"] = str(max(1, wait_s))
    body = msgspec.json.encode({"code": error.code, "msg": error.message})
    response = WSUpgradeResponse.create_error_response(error.status, body, headers)
    return WSUpgradeResponseWithListener(response, None)
