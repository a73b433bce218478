"""workers room: the venue's refusals, with its codes and its words.

Source: the venue's public list of error codes; the wording is protocol, so clients may match on
it.
"""

from __future__ import annotations

BAD_REQUEST = 400
UNAUTHORIZED = 401
NOT_FOUND = 404
TOO_MANY = 429
FAILED = 500


class ExchangeError(Exception):
    """A request that the exchange refuses.

    Attributes:
        code: the venue's negative error code.
        message: the venue's wording.
        status: HTTP status of the refusal.
        retry_after_ms: epoch time at which to try again, 0 for none.
    """

    def __init__(
        self, code: int, message: str, *, status: int = BAD_REQUEST, retry_after_ms: int = 0
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_ms = retry_after_ms


def unknown_failure() -> ExchangeError:
    """-1000: the exchange itself failed."""
    message = "An unknown error occurred while processing the request."
    return ExchangeError(-1000, message, status=FAILED)


def too_much_weight(limit: int, retry_after_ms: int) -> ExchangeError:
    """-1003: the request weight of this minute is used up."""
    message = (
        f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API."
    )
    return ExchangeError(-1003, message, status=TOO_MANY, retry_after_ms=retry_after_ms)


def filter_failure(name: str) -> ExchangeError:
    """-1013: an order breaks one of the symbol's filters."""
    return ExchangeError(-1013, f"Filter failure: {name}")


def too_many_orders(limit: int, interval: str, retry_after_ms: int) -> ExchangeError:
    """-1015: too many unfilled orders in one interval."""
    message = f"Too many new orders; current limit is {limit} orders per {interval}."
    return ExchangeError(-1015, message, status=TOO_MANY, retry_after_ms=retry_after_ms)


def unsupported() -> ExchangeError:
    """-1020: the operation does not exist here."""
    return ExchangeError(-1020, "This operation is not supported.")


def outside_window() -> ExchangeError:
    """-1021: the request is older than its window."""
    return ExchangeError(-1021, "Timestamp for this request is outside of the recvWindow.")


def ahead_of_server() -> ExchangeError:
    """-1021: the request comes from the future."""
    message = "Timestamp for this request was 1000ms ahead of the server's time."
    return ExchangeError(-1021, message)


def bad_signature() -> ExchangeError:
    """-1022: the signature does not fit the parameters."""
    return ExchangeError(-1022, "Signature for this request is not valid.")


def illegal_characters(name: str, legal: str) -> ExchangeError:
    """-1100: a parameter's text has a wrong shape."""
    message = f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
    return ExchangeError(-1100, message)


def too_many_parameters(expected: int, received: int) -> ExchangeError:
    """-1101: more parameters than the method has."""
    message = f"Too many parameters; expected '{expected}' and received '{received}'."
    return ExchangeError(-1101, message)


def missing(name: str) -> ExchangeError:
    """-1102: a mandatory parameter is absent, empty or malformed."""
    message = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    return ExchangeError(-1102, message)


def missing_either(one: str, other: str) -> ExchangeError:
    """-1102: one of two parameters must come."""
    message = f"Param '{one}' or '{other}' must be sent, but both were empty/null!"
    return ExchangeError(-1102, message)


def too_large(name: str, largest: str) -> ExchangeError:
    """-1102: a parameter is above its bound."""
    message = f"'{name}' contains unexpected value. Cannot be greater than {largest}."
    return ExchangeError(-1102, message)


def unread(read: int, sent: int) -> ExchangeError:
    """-1104: the request has parameters that the method does not read."""
    message = (
        f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
    )
    return ExchangeError(-1104, message)


def empty(name: str) -> ExchangeError:
    """-1105: an optional parameter is empty."""
    return ExchangeError(-1105, f"Parameter '{name}' was empty.")


def not_required(name: str) -> ExchangeError:
    """-1106: a parameter does not go with the others."""
    return ExchangeError(-1106, f"Parameter '{name}' sent when not required.")


def too_precise(name: str) -> ExchangeError:
    """-1111: more decimal places than the asset has."""
    return ExchangeError(-1111, f"Parameter '{name}' has too much precision.")


def time_in_force_not_required() -> ExchangeError:
    """-1114: a market or post-only order with a time in force."""
    return ExchangeError(-1114, "TimeInForce parameter sent when not required.")


def bad_time_in_force() -> ExchangeError:
    """-1115: no such time in force."""
    return ExchangeError(-1115, "Invalid timeInForce.")


def bad_order_type() -> ExchangeError:
    """-1116: no such order type."""
    return ExchangeError(-1116, "Invalid orderType.")


def bad_side() -> ExchangeError:
    """-1117: no such side."""
    return ExchangeError(-1117, "Invalid side.")


def bad_symbol() -> ExchangeError:
    """-1121: no such symbol."""
    return ExchangeError(-1121, "Invalid symbol.")


def bad_combination() -> ExchangeError:
    """-1128: optional parameters that exclude each other."""
    return ExchangeError(-1128, "Combination of optional parameters invalid.")


def bad_data(name: str) -> ExchangeError:
    """-1130: a parameter's value is of the wrong kind."""
    return ExchangeError(-1130, f"Data sent for parameter '{name}' is not valid.")


def bad_json() -> ExchangeError:
    """-1135: the request is no JSON object of the expected form."""
    return ExchangeError(-1135, "Invalid JSON Request")


def rejected(message: str) -> ExchangeError:
    """-2010: the matching engine refuses the order."""
    return ExchangeError(-2010, message)


def insufficient_balance() -> ExchangeError:
    """-2010: not enough money."""
    return rejected("Account has insufficient balance for requested action.")


def would_match() -> ExchangeError:
    """-2010: a post-only order would have traded."""
    return rejected("Order would immediately match and take.")


def cancel_rejected(message: str = "Unknown order sent.") -> ExchangeError:
    """-2011: the cancel refers to no open order of the account."""
    return ExchangeError(-2011, message)


def no_such_order() -> ExchangeError:
    """-2013: the query refers to no order of the account."""
    return ExchangeError(-2013, "Order does not exist.")


def bad_key_format() -> ExchangeError:
    """-2014: the API key cannot be one."""
    return ExchangeError(-2014, "API-key format invalid.", status=UNAUTHORIZED)


def bad_key() -> ExchangeError:
    """-2015: nobody's API key."""
    message = "Invalid API-key, IP, or permissions for action."
    return ExchangeError(-2015, message, status=UNAUTHORIZED)


def subscription_active() -> ExchangeError:
    """-2035: the account's events already come over this connection."""
    return ExchangeError(-2035, "User Data Stream subscription already active.")


def subscription_inactive() -> ExchangeError:
    """-2036: no such subscription on this connection."""
    return ExchangeError(-2036, "User Data Stream subscription not active.")
