"""The order connection of the execution worker: keys, signatures, and one that fails."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path

import pytest
import uvloop

from engine.records import (
    Reason,
)
from tests.workers.execution_rig import Rig, Venue, placed, play, settings_of
from workers.exchange.keys import KeyPair, make_ed25519_pair, make_hmac_pair, payload, write_pair
from workers.execution import RefusedError

QUICK_MS = 100


def test_a_connection_that_cannot_be_made_is_left_behind_as_an_error(
    segment_prefix: str, tmp_path: Path, free_port: int
) -> None:
    key_file = tmp_path / "key"
    write_pair(key_file, make_hmac_pair())
    rig = Rig(settings_of(segment_prefix, key_file, free_port), tmp_path)

    async def wait() -> None:
        rig.agent.on_start()
        opening = asyncio.ensure_future(rig.agent.open())
        await rig.until(lambda: rig.memory.stats("trader").errors(), "an error")
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await rig.agent.close()

    try:
        uvloop.run(wait())

        assert "the order connection must be made" in rig.memory.stats("trader").errors()[0].text
    finally:
        rig.remove()


def test_every_request_of_an_hmac_key_is_signed(segment_prefix: str, tmp_path: Path) -> None:
    pair = make_hmac_pair()

    async def scenario(rig: Rig, venue: Venue) -> None:
        client_id, request, order = await placed(rig, venue)
        await venue.answer(request, order.ack())
        await rig.reported(Reason.ACK)
        rig.cancel(client_id)
        await rig.until(lambda: venue.take("order.cancel"))

        for seen in venue.seen:
            params = {name: str(value) for name, value in seen["params"].items()}
            signature = params.pop("signature")
            text = payload(params).encode()
            assert signature == hmac.new(pair.secret.encode(), text, hashlib.sha256).hexdigest()
            assert params["apiKey"] == pair.api_key

    play(scenario, segment_prefix, tmp_path, pair=pair)


def test_an_ed25519_key_logs_on_once_and_orders_carry_no_signature(
    segment_prefix: str, tmp_path: Path
) -> None:
    pair = make_ed25519_pair()

    async def scenario(rig: Rig, venue: Venue) -> None:
        _, request, _ = await placed(rig, venue)

        methods = [r["method"] for r in venue.seen]
        assert methods[:3] == ["session.logon", "userDataStream.subscribe", "openOrders.status"]
        logon = {name: str(value) for name, value in venue.seen[0]["params"].items()}
        signature = logon.pop("signature")
        assert pair.credential().checker.is_valid(payload(logon), signature)
        assert "signature" not in request["params"]
        assert "apiKey" not in request["params"]

    play(scenario, segment_prefix, tmp_path, pair=pair)


def test_a_refused_key_is_a_configuration_error(segment_prefix: str, tmp_path: Path) -> None:
    pair = KeyPair("k" * 64, "s" * 64)

    async def scenario(rig: Rig, venue: Venue) -> None:
        venue.refusal = (401, -2015, "Invalid API-key, IP, or permissions for action.")
        await venue.hang_up()
        await rig.until(lambda: rig.agent._desk.refusal)
        with pytest.raises(
            RefusedError, match="the venue must accept our key: code=-2015"
        ) as error:
            await rig.agent.open()

        assert pair.secret not in str(error.value)

    play(scenario, segment_prefix, tmp_path, pair=pair)
