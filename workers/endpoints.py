"""workers room: where the venue is, and with which key: built-in or configured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from config.settings import Settings
from config.topology import is_exchange_embedded
from shm.segment import Words, fingerprint
from workers.agent import SegmentPlan
from workers.context import AgentContext
from workers.exchange.keys import KeyPair, make_ed25519_pair, read_pair, write_pair
from workers.listening import authority

EXCHANGE_WORDS = 64
PORT, PLAYBACK_STARTED, PLAYBACK_FINISHED = 0, 16, 32
# One writer: the exchange agent. Words: the bound port; 1 once a recording began; 1 at its end.
EXCHANGE_PLAN = SegmentPlan("exchange", EXCHANGE_WORDS * 8, fingerprint("exchange", 1))
KEY_FILE = "exchange-key"


class Endpoints(NamedTuple):
    """Addresses without a trailing slash."""

    rest_url: str
    stream_url: str
    order_url: str


def exchange_words(context: AgentContext) -> Words:
    """Answers the words that the built-in exchange publishes."""
    return context.segment("exchange").words(0, EXCHANGE_WORDS)


def built_in(host: str, port: int) -> Endpoints:
    """Answers the addresses of a built-in exchange that listens there."""
    base = authority(host, port)
    return Endpoints(f"http://{base}", f"ws://{base}", f"ws://{base}/ws-api/v3")


def endpoints(context: AgentContext) -> Endpoints:
    """Answers the venue's addresses.

    Raises:
        ValueError: when a configured address is missing.
        ConnectionError: when the built-in exchange has no port yet.
    """
    venue = context.settings.venue
    if not is_exchange_embedded(context.settings):
        if not (venue.rest_url and venue.stream_url):
            raise ValueError(
                "[venue] needs rest_url and stream_url, or none of them:"
                f" rest_url={venue.rest_url!r} stream_url={venue.stream_url!r}"
            )
        return Endpoints(
            venue.rest_url.rstrip("/"), venue.stream_url.rstrip("/"), venue.order_url.rstrip("/")
        )
    port = int(exchange_words(context)[PORT])
    if port == 0:
        raise ConnectionError("the built-in exchange must have a port: port=0; is it running")
    return built_in(context.settings.exchange.host, port)


def credential(context: AgentContext) -> KeyPair:
    """Answers the API key and its secret, see `key_pair`."""
    return key_pair(context.settings, context.data_dir)


def key_pair(settings: Settings, data_dir: Path) -> KeyPair:
    """Answers the key for the venue: from the environment, a 0600 file, or the built-in's own.

    Raises:
        ValueError: when a configured venue has no key.
        PermissionError: when a key file can be read by others.
    """
    venue = settings.venue
    if is_exchange_embedded(settings):
        return read_pair(data_dir / KEY_FILE)
    if venue.secret_file:
        return read_pair(Path(venue.secret_file).expanduser())
    key, secret = os.environ.get(venue.key_env, ""), os.environ.get(venue.secret_env, "")
    if not key or not secret:
        raise ValueError(
            "a venue needs an API key: set the environment variables"
            f" {venue.key_env} and {venue.secret_env}, or venue.secret_file"
        )
    return KeyPair(key, secret)


def ensure_exchange_key(data_dir: Path) -> None:
    """Makes the built-in exchange's key file on the first start. Called by: the supervisor."""
    path = data_dir / KEY_FILE
    if not path.exists():
        write_pair(path, make_ed25519_pair())
