"""workers room: the hosts and ports of a configuration that are listened on.

Whether they can be had is asked before the start.
"""

from __future__ import annotations

import errno
import socket

from config.settings import Settings
from config.topology import agents


class ListenError(OSError):
    """A port or host cannot be listened on: nothing that a restart could mend."""

    is_configuration = True  # a worker that meets it is not started again


def authority(host: str, port: int) -> str:
    """Answers `host:port` as it stands in a URL for who is on this host, see RFC 3986."""
    if not host:  # every address of this host
        return f"localhost:{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def refusal(section: str, host: str, port: int, error: OSError) -> ListenError:
    """Answers the one line for a port that was refused, naming the key that must change."""
    code = error.errno if not isinstance(error, socket.gaierror) else None
    reason = errno.errorcode.get(code or 0, str(error))
    found = f"{section}.port={port} {section}.host={host} error={reason}"
    if code in {errno.EADDRINUSE, errno.EACCES}:
        return ListenError(
            f"{section}.port must be free to listen on: {found};"
            " choose another, or 0 for a free one"
        )
    return ListenError(f"{section}.host must be an address of this host: {found}")


def check_ports(settings: Settings) -> None:
    """Takes the ports of the configuration for a moment.

    Raises:
        ListenError: one is taken, or its host is not ours.
    """
    running = agents(settings)
    if "monitor" in running:
        _check("monitor", settings.monitor.host, settings.monitor.port)
    if "exchange" in running:
        _check("exchange", settings.exchange.host, settings.exchange.port)


def _check(section: str, host: str, port: int) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            _take(family, kind, protocol, address)
    except OSError as error:
        raise refusal(section, host, port, error) from None


def _take(family: int, kind: int, protocol: int, address: object) -> None:
    """Binds as a server does, and lets go; a family that this host lacks is no fault."""
    try:
        one = socket.socket(family, kind, protocol)
    except OSError:
        return
    with one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)  # type: ignore[arg-type]  # as getaddrinfo answered it
