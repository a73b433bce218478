"""A port that cannot be had is a mistake in the configuration, told before anything starts."""

from __future__ import annotations

import re
import socket

import pytest

from config.settings import ExchangeSettings, MonitorSettings, VenueSettings
from tests.workers.observed_run import small_settings
from workers.listening import ListenError, authority, check_ports


@pytest.mark.parametrize("section", ["monitor", "exchange"])
def test_a_taken_port_names_its_key_and_value(section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        kind = {"monitor": MonitorSettings, "exchange": ExchangeSettings}[section]
        settings = small_settings("x", **{section: kind(port=port)})
        with pytest.raises(ListenError) as refused:
            check_ports(settings)

    assert str(refused.value) == (
        f"{section}.port must be free to listen on: {section}.port={port}"
        f" {section}.host=127.0.0.1 error=EADDRINUSE; choose another, or 0 for a free one"
    )
    assert refused.value.is_configuration


@pytest.mark.parametrize(("host", "reason"), [("192.0.2.1", "EADDRNOTAVAIL"), ("a b", ".+")])
def test_a_host_that_is_not_ours_names_its_key(host: str, reason: str) -> None:
    settings = small_settings("x", monitor=MonitorSettings(host=host))
    line = rf"monitor\.host must be an address of this host: .*host={host} error={reason}"
    with pytest.raises(ListenError) as refused:
        check_ports(settings)

    assert re.match(line, str(refused.value))


def test_free_ports_are_left_free(free_port: int) -> None:
    settings = small_settings(
        "x", monitor=MonitorSettings(port=free_port), exchange=ExchangeSettings(port=0)
    )
    check_ports(settings)
    check_ports(settings)

    with socket.create_server(("127.0.0.1", free_port)):
        pass


def test_a_port_whose_connections_have_just_ended_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()  # who closes first keeps the connection's end for a minute
            assert client.recv(1) == b""

    check_ports(small_settings("x", monitor=MonitorSettings(port=port)))


def test_what_does_not_run_needs_no_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        venue = VenueSettings(
            rest_url="http://a", stream_url="ws://a", order_url="ws://a/ws-api/v3"
        )
        settings = small_settings(
            "x",
            monitor=MonitorSettings(enabled=False, port=port),
            exchange=ExchangeSettings(port=port),
            venue=venue,
        )

        check_ports(settings)


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("exchange.local", "exchange.local:80"),
        ("::1", "[::1]:80"),
        ("", "localhost:80"),
    ],
)
def test_a_host_and_its_port_stand_in_an_address(host: str, text: str) -> None:
    assert authority(host, 80) == text
