"""workers room: GET requests to a venue's REST side, off the event loop's thread.

One request is one connection: snapshots and symbol lists are rare. The standard library's client
does HTTP, chunked bodies and TLS with the system's certificates; here it only gets limits. It never
goes through a proxy of the environment, because the WebSockets do not either.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, build_opener

BODY_BYTES_MAX = 8 << 20
WAIT_S_MAX = 4 * 86_400.0  # the venue's longest ban is three days
WEIGHT_HEADER = "X-MBX-USED-WEIGHT-1M"
THREADS_MAX = 2
_TEXT_MAX = 200  # characters of a venue's error that are quoted


class Answer(NamedTuple):
    """A body, when its last byte had been read (CLOCK_MONOTONIC ns), and this minute's weight."""

    body: bytes
    read_ns: int
    used_weight: int = 0  # of the address, as the venue counts it; 0 when it does not say


class RestError(ConnectionError):
    """A request failed: the answer's `status`, 0 without one; `retry_after_s` as the venue asks."""

    def __init__(self, text: str, *, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s


def _retry_after_s(error: HTTPError) -> float:
    text = error.headers.get("Retry-After", "")
    if text.isdecimal():
        return min(float(text), WAIT_S_MAX)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time_ns() / 1e9
    except ValueError:
        return 0.0
    return min(max(0.0, seconds), WAIT_S_MAX)


def fetch(url: str, seconds_max: float) -> Answer:
    """Gets one address, blocking.

    Raises:
        RestError: no connection, an answer that is not 200, or a body that is too long.
        ValueError: when the address is neither http nor https.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError(f"a REST address must begin with http:// or https://: url={url}")
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(url, timeout=seconds_max) as answer:
            body = answer.read(BODY_BYTES_MAX + 1)
            missing = answer.length or 0  # what the answer promised and did not bring
            used = answer.headers.get(WEIGHT_HEADER, "")
    except HTTPError as error:
        with error:
            text = error.read(_TEXT_MAX).decode(errors="replace")
        raise RestError(
            f"the venue must answer 200: status={error.code} url={url} answer={text}",
            status=error.code,
            retry_after_s=_retry_after_s(error),
        ) from None
    except (URLError, HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise RestError(f"the venue must be reachable: url={url} error={reason}") from None
    if len(body) > BODY_BYTES_MAX:
        raise RestError(f"an answer must be at most {BODY_BYTES_MAX} bytes: url={url}")
    if missing:
        raise RestError(f"an answer must be whole: url={url} missing_bytes={missing}")
    return Answer(body, time.monotonic_ns(), int(used) if used.isdecimal() else 0)


class Rest:
    """A venue's REST side. Called by: one event loop."""

    def __init__(self, url: str, seconds_max: float) -> None:
        self._url, self._seconds_max = url, seconds_max
        self._threads = ThreadPoolExecutor(THREADS_MAX, "rest")

    async def get(self, path: str, **parameters: str) -> Answer:
        """Gets `path` with query parameters; raises RestError."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        loop = asyncio.get_running_loop()
        url = f"{self._url}{path}{query}"
        return await loop.run_in_executor(self._threads, fetch, url, self._seconds_max)

    def close(self) -> None:
        """Gives up what still waits; a request under way ends by its own time limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)
