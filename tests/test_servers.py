"""The servers that other tests rely on are real, and gone afterwards."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis

from tests import servers

pytestmark = [pytest.mark.services, pytest.mark.slow]


def test_postgres_runs_statements(postgres_url: str) -> None:
    async def ask() -> int:
        connection = await asyncpg.connect(postgres_url)
        try:
            return int(await connection.fetchval("select 20 + 22"))
        finally:
            await connection.close()

    assert asyncio.run(ask()) == 42


def test_redis_answers(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()


def test_server_no_longer_listens_after_its_block() -> None:
    try:
        with servers.redis() as url:
            port = urlsplit(url).port
    except servers.MissingServerError as error:
        pytest.skip(str(error))

    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass
