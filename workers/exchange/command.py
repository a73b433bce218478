"""workers room: `tickring exchange`: the built-in exchange alone, for any client that speaks it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path

import uvloop

from config.settings import Settings
from engine.venues import market_of
from workers.endpoints import built_in
from workers.exchange.keys import make_ed25519_pair, read_pair, write_pair
from workers.exchange.server import ExchangeServer

EXIT_OK = 0


def serve(
    settings: Settings, key_file: Path | None, seconds: float | None, *, as_json: bool
) -> int:
    """Serves until the time is over or a signal comes; answers the exit code.

    Args:
        settings: `[exchange]` and `[market]` are used.
        key_file: 0600 file with the API key and its secret; without one a demonstration key is made
            for this run, and the file that holds it is named.
        seconds: how long, None for until a signal.
        as_json: say where it serves, and at the end what happened, as one JSON object each.

    Raises:
        OSError: the port is taken, or the key file cannot be read.
        ValueError: key file, recording or symbol are not what they must be.
    """
    if key_file is not None:
        return uvloop.run(_serve(settings, key_file, seconds, as_json=as_json))
    with tempfile.TemporaryDirectory(prefix="tickring-exchange-") as folder:
        made = Path(folder) / "exchange-key"
        write_pair(made, make_ed25519_pair())
        return uvloop.run(_serve(settings, made, seconds, as_json=as_json))


async def _serve(
    settings: Settings, key_file: Path, seconds: float | None, *, as_json: bool
) -> int:
    pair = read_pair(key_file)
    server = ExchangeServer(
        settings.exchange,
        settings.market,
        keys={pair.api_key: pair.credential()},
        venue=market_of(settings.venue.kind),
    )
    port = await server.open()
    try:
        addresses = built_in(settings.exchange.host, port)._asdict()
        _say(addresses | {"key_file": str(key_file)}, as_json=as_json)
        await _stopped(seconds)
    finally:
        await server.close()
    _say(server.counts, as_json=as_json)
    return EXIT_OK


async def _stopped(seconds: float | None) -> None:
    """Waits for SIGINT, SIGTERM or the end of the time."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    await stop.wait()


def _say(facts: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        sys.stdout.writelines(f"{name}: {value}\n" for name, value in facts.items())
    sys.stdout.flush()
