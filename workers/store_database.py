"""workers room: what the store wants of a database, and where a configured database is.

Exactly once: a batch and the journal positions behind it are one transaction, and a position moves
only from where the store believes it to be. If the answer to a commit is lost, the store asks for
the positions again; they say whether the commit happened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from config.settings import StoreSettings
from engine.instruments import Instrument
from workers.journal import GenerationFacts
from workers.tables import Batch

FILE_NAME = "tickring.db"
_PASSWORD = re.compile(r"(?P<keep>://[^/@:]*:|[?&](?:password|passfile)=)[^@&]*")


class StoreError(OSError):
    """A database cannot take the journal; the message says why and what to do."""


class StoreSettingsError(ValueError):
    """The configured database makes no sense."""

    is_configuration = True  # a worker that meets it is not started again


class Database(Protocol):
    """One database. Every method may raise OSError, TimeoutError or the driver's own errors."""

    address: str  # without its password

    async def connect(self) -> None:
        """Opens it."""

    async def prepare(self) -> None:
        """Makes what tables and views are missing; raises StoreError for a later version's."""

    async def positions(self) -> dict[tuple[int, str], int]:
        """Answers the next sequence to store of every ring of every run."""

    async def finished(self) -> set[int]:
        """Answers the runs that are stored to their end."""

    async def add_run(self, facts: GenerationFacts, rings: list[str]) -> None:
        """Adds a run and its rings; raises StoreError when that number is of another journal."""

    async def add_instruments(self, generation: int, found: tuple[Instrument, ...]) -> None:
        """Replaces what a run's instruments are."""

    async def write(self, batch: Batch) -> None:
        """Stores a batch and moves the positions, both or nothing."""

    async def finish(self, generation: int) -> None:
        """Marks a run as stored to its end."""

    async def counts(self, generation: int) -> dict[str, int]:
        """Answers a run's rows by table."""

    async def close(self) -> None:
        """Closes it, in bounded time."""


def database_url(settings: StoreSettings, environment: Mapping[str, str] = os.environ) -> str:
    """Answers the configured url, with its password.

    Raises:
        StoreSettingsError: the environment variable that should hold it is not set.
    """
    if not settings.url_env:
        return settings.url
    url = environment.get(settings.url_env, "")
    if not url:
        raise StoreSettingsError(
            f"store.url_env must name an environment variable that is set: name={settings.url_env}"
        )
    return url


def masked(url: str) -> str:
    """Answers a url without its password."""
    return _PASSWORD.sub(r"\g<keep>***", url)


def scrubbed(text: str, url: str) -> str:
    """Answers a text in which neither the url nor its password appears."""
    secrets = {url, *re.findall(r"[?&]password=([^&]*)", url)}
    if "@" in url:
        secrets.add(url.partition("://")[2].rpartition("@")[0].partition(":")[2])
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***").replace(unquote(secret), "***")
    return text


def sqlite_path(url: str, data_dir: Path) -> Path:
    """Answers the file of `sqlite` or `sqlite:///PATH`; a relative PATH counts from here.

    Raises:
        StoreSettingsError: it is neither.
    """
    if url == "sqlite":
        return data_dir / FILE_NAME
    path = url.removeprefix("sqlite:///")
    if path == url or not path:
        raise StoreSettingsError(
            f"store.url must be sqlite, sqlite:///PATH or postgresql://...: url={masked(url)}"
        )
    return Path(path)


def is_postgres(url: str) -> bool:
    """Says whether a url is PostgreSQL's."""
    return urlsplit(url).scheme in {"postgresql", "postgres"}


def run_row(facts: GenerationFacts) -> tuple[Any, ...]:
    """Answers a run's row of the table `runs`, not stored to its end."""
    return (
        facts.generation, facts.engine, facts.version, facts.journal_id, facts.started_ns,
        facts.clock_offset_ns, 0,
    )  # fmt: skip


def instrument_row(generation: int, it: Instrument) -> tuple[Any, ...]:
    """Answers an instrument's row; its last two are the tick and the lot, Decimals."""
    return (
        generation, it.index, it.symbol, it.base, it.quote, it.price_decimals, it.tick_units,
        it.quantity_decimals, it.lot_units, 10**it.price_decimals, 10**it.quantity_decimals,
        it.tick, it.lot,
    )  # fmt: skip


def check_journal(facts: GenerationFacts, found: list[tuple[str]]) -> None:
    """Raises StoreError when a run of this number came from another journal."""
    if found and found[0][0] != facts.journal_id:
        raise StoreError(
            f"database must hold runs of one data folder: generation={facts.generation}"
            f" journal={facts.journal_id} stored={found[0][0]};"
            " give store.url another database, or move the old data folder back"
        )


def check_moved(batch: Batch, moved: int) -> None:
    """Raises StoreError when a position was not where this store left it."""
    if moved != len(batch.moves):
        raise StoreError(
            f"journal positions must have one writer: expected={len(batch.moves)} moved={moved};"
            " another store writes to this database"
        )
