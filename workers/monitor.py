"""workers room: the monitor, one loopback server for Prometheus, health checks and a status page.

    GET /metrics       Prometheus text format (workers/metrics.py)
    GET /healthz       200 when every worker is READY and beats, else 503; JSON with the reasons
    GET /status.json   the whole state as one object
    GET /              status page (workers/page.py), live through:
    WebSocket /live    the state every half second

Segment `monitor`: word 0 is the port it listens on, written by the monitor, 0 before.

Nothing here changes anything, and nobody is asked for a password, so it listens on loopback unless
the configuration says otherwise. A web page elsewhere may still point a name of its own at
127.0.0.1 and read us through the visitor's browser; so a request must name the host it means:
loopback, a bare address, or the configured host. /live also refuses pages of other origins.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from config.settings import Settings
from config.topology import workers
from shm.segment import fingerprint
from workers import page
from workers.agent import Phase, SegmentPlan
from workers.board import WorkerState
from workers.context import AgentContext, Memory
from workers.listening import refusal
from workers.metrics import CONTENT_TYPE, Exposition, FrameRate, expose
from workers.patience import silence_ns_max
from workers.snapshot import Snapshots

SEGMENT: Final = "monitor"
WORDS: Final = 64
LAYOUT: Final = fingerprint("monitor", 1, WORDS)
SAMPLE_NS: Final = 1_000_000_000
LIVE_S: Final = 0.5
LIVE_MAX: Final = 16  # pages that are watched at once
SEND_S_MAX: Final = 5.0
MESSAGE_BYTES_MAX: Final = 1_024  # nobody has to tell us much
OPEN_PATHS: Final = ("/metrics", "/healthz")  # for scrapers under any name when not on loopback
_LOCAL_NAMES: Final = ("localhost", "ip6-localhost")
_TRY_AGAIN_LATER: Final = 1013
_NS_PER_MS: Final = 1_000_000

_log = logging.getLogger("workers.monitor.connection")
_log.setLevel(logging.CRITICAL)  # scrapes and port scans are no news


def host_name(header: str) -> str:
    """Answers the name or address in a Host header, without port and brackets; "" for nonsense."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Says whether a host is a bare IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Says whether a host means this machine only."""
    if name in _LOCAL_NAMES:
        return True
    return is_address(name) and ipaddress.ip_address(name).is_loopback


def is_host_allowed(header: str, path: str, bound: str) -> bool:
    """Says whether a request that names this host may be answered.

    Args:
        header: the Host header.
        path: of the request.
        bound: the host that the configuration lets us listen on.
    """
    name = host_name(header)
    if is_loopback(bound):
        return is_loopback(name)
    if path in OPEN_PATHS:
        return True
    return is_loopback(name) or is_address(name) or name == bound.lower()


def is_origin_allowed(origin: str | None, host: str) -> bool:
    """Says whether a WebSocket comes from our own page, or from no page at all."""
    return origin is None or urlsplit(origin).netloc == host


def health(memory: Memory) -> list[str]:
    """Answers what is wrong with the workers, nothing when all is well.

    Silent is who is silent to the supervisor, which would kill it (workers/patience.py).
    """
    now_ns, settings = time.monotonic_ns(), memory.run.settings
    allowed_ns = {one.name: silence_ns_max(one, settings.engine) for one in workers(settings)}
    wrong = []
    for row in memory.board().rows():
        age_ns = now_ns - row.heartbeat_ns
        if row.state != WorkerState.READY:
            wrong.append(f"worker must be READY: worker={row.name} state={row.state.name}")
        elif age_ns > allowed_ns[row.name]:
            wrong.append(
                f"worker must beat: worker={row.name} silent_ms={age_ns // _NS_PER_MS}"
                f" silent_ms_max={allowed_ns[row.name] // _NS_PER_MS}"
            )
    return wrong


class MonitorAgent:
    """Serves what shared memory says; role `monitor`."""

    def __init__(self, context: AgentContext) -> None:
        self.role_name = context.agent
        self._context = context
        self._settings = context.settings.monitor
        self._live = 0
        self._sample_ns = 0
        self._server: Server | None = None

    @staticmethod
    def segments(settings: Settings, agent: str) -> tuple[SegmentPlan, ...]:
        """Answers the segment that tells the port."""
        del settings, agent
        return (SegmentPlan(SEGMENT, WORDS * 8, LAYOUT),)

    def on_start(self) -> None:
        """Attaches what it shows."""
        memory = self._context.memory
        self._rate = FrameRate(memory)
        self._exposition = Exposition(memory, self._rate)
        self._snapshots = Snapshots(memory, self._rate)
        self._scrapes = self._context.stats.counter("metrics_scrapes_total")
        self._refused = self._context.stats.counter("monitor_refused_total")
        expose.bind(self._context.stats)

    async def open(self) -> None:
        """Listens.

        Raises:
            ListenError: when the port is taken or the host is not ours.
        """
        host, port = self._settings.host, self._settings.port
        try:
            self._server = await serve(
                self._watch, host, port, process_request=self._answer, compression=None,
                max_size=MESSAGE_BYTES_MAX, open_timeout=SEND_S_MAX, server_header=None,
                logger=_log,
            )  # fmt: skip
        except OSError as error:
            raise refusal("monitor", host, port, error) from None
        listener = next(iter(self._server.sockets))
        bound = int(listener.getsockname()[1])
        self._context.segment(SEGMENT).words(0, WORDS)[0] = bound
        self._context.logger.info("monitor is listening", host=host, port=bound)

    async def close(self) -> None:
        """Closes every connection and the listener."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def do_work(self) -> int:
        """Counts frames once a second, for their rate."""
        now_ns = time.monotonic_ns()
        if now_ns - self._sample_ns < SAMPLE_NS:
            return 0
        self._sample_ns = now_ns
        self._rate.sample(now_ns)
        return 1

    def on_phase(self, phase: Phase) -> bool:
        """Is done with every phase at once: it serves until the end."""
        del phase
        return True

    def on_close(self) -> None:
        """Forgets the port."""
        expose.unbind()
        self._context.segment(SEGMENT).words(0, WORDS)[0] = 0

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers a plain request, or None to let a WebSocket through. Called by: the server."""
        del connection
        path = request.path.partition("?")[0]
        hosts = request.headers.get_all("Host")
        if len(hosts) != 1 or not is_host_allowed(hosts[0], path, self._settings.host):
            self._refused.add()
            return respond(HTTPStatus.FORBIDDEN, "text/plain", b"host is not served here\n")
        if path == "/live":
            if is_origin_allowed(request.headers.get("Origin"), hosts[0]):
                return None
            self._refused.add()
            return respond(HTTPStatus.FORBIDDEN, "text/plain", b"origin is not served here\n")
        return self._page(path)

    def _page(self, path: str) -> Response:
        if path == "/metrics":
            self._scrapes.add()
            return respond(HTTPStatus.OK, CONTENT_TYPE, self._exposition.text())
        if path == "/healthz":
            wrong = health(self._context.memory)
            status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
            return respond_json(status, {"ok": not wrong, "wrong": wrong})
        if path == "/status.json":
            return respond(HTTPStatus.OK, "application/json", self._snapshots.text())
        if path == "/":
            response = respond(HTTPStatus.OK, "text/html; charset=utf-8", page.html())
            response.headers["Content-Security-Policy"] = page.policy()
            return response
        return respond(HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n")

    async def _watch(self, connection: ServerConnection) -> None:
        """Sends the state to one page until it leaves. Called by: the server."""
        if self._live >= LIVE_MAX:
            await connection.close(_TRY_AGAIN_LATER, "too many pages watch")
            return
        self._live += 1
        try:
            while True:
                async with asyncio.timeout(SEND_S_MAX):
                    await connection.send(self._snapshots.text().decode())
                await asyncio.sleep(LIVE_S)
        except (ConnectionClosed, TimeoutError):
            return
        finally:
            self._live -= 1


def respond(status: HTTPStatus, content_type: str, body: bytes) -> Response:
    """Makes an answer that nobody keeps, guesses at or frames."""
    headers = Headers(
        {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
        }
    )
    return Response(status.value, status.phrase, headers, body)


def respond_json(status: HTTPStatus, content: dict[str, Any]) -> Response:
    """Makes an answer of one JSON object."""
    return respond(status, "application/json", msgspec.json.encode(content))
