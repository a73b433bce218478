"""The decision worker over real rings: kill it anywhere, and no decision is lost or doubled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.workers.decision_rig import Rig, quote, synced
from workers.decision import DecisionLoop


@pytest.fixture
def rig(segment_prefix: str) -> Iterator[Rig]:
    made = Rig(segment_prefix)
    made.load()
    yield made
    made.close()


def run(loop: DecisionLoop, cycles_max: int = 100) -> None:
    for _ in range(cycles_max):
        if loop.cycle() == 0:
            return


def test_signal_places_orders_on_quotes(rig: Rig) -> None:
    loop = rig.signal()
    loop.start()
    rig.feed("market.0", synced(), quote(bid_lots=900, ask_lots=10))
    run(loop)
    intents = rig.published("intents")
    print(intents)
    assert len(intents) == 3
