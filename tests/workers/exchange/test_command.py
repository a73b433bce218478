"""`tickring exchange` as a process of its own."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from tests.workers.exchange.clients import get, order_client
from workers.exchange.keys import KeyPair, read_pair

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "workers.cli", "exchange"]


@pytest.mark.multiprocess
@pytest.mark.slow
def test_it_serves_until_it_is_asked_to_stop_and_leaves_no_key_behind() -> None:
    with subprocess.Popen([*COMMAND, "--json"], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        key_file = Path(facts["key_file"])
        mode = stat.S_IMODE(key_file.stat().st_mode)
        placed = uvloop.run(_trade(int(facts["rest_url"].rpartition(":")[2]), read_pair(key_file)))
        process.send_signal(signal.SIGTERM)
        last = json.loads(process.stdout.readlines()[-1])

    assert process.returncode == 0
    assert mode == 0o600
    assert placed == "FILLED"
    assert last["orders"] == 1
    assert not key_file.exists()


async def _trade(port: int, pair: KeyPair) -> str:
    status, _, info = await get(port, "/api/v3/exchangeInfo")
    assert status == 200
    order = {"side": "SELL", "type": "MARKET", "quantity": "0.001"}
    async with order_client(port, pair=pair) as client:
        placed = await client.result(
            "order.place", order | {"symbol": info["symbols"][0]["symbol"]}
        )
    return str(placed["status"])


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--capture", "nowhere.gz"], "a recording must be readable: file=nowhere.gz"),
        (["--key-file", "nowhere"], "nowhere"),
        (["--speed", "fast"], "a speed must be a number"),
    ],
)
def test_a_mistake_is_one_line_and_no_traceback(options: list[str], message: str) -> None:
    done = subprocess.run(
        [*COMMAND, *options], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
