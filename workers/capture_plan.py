"""workers room: what a capture asks of a venue, market by market: addresses and first numbers."""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.venues import USDM, Market

_STREAM = re.compile(rb'\s*\{\s*"stream"\s*:\s*"([^"@]+)@([^"]+)"')
_FIRST_ID = re.compile(rb'"U"\s*:\s*(\d+)')
_SNAPSHOT_ID = re.compile(rb'"lastUpdateId"\s*:\s*(\d+)')


class Source(NamedTuple):
    """Where a market's data come from."""

    depth_path: str
    levels_max: int
    urls: tuple[str, ...]  # of the connections that carry all streams


def source_of(market: Market, base: str, symbols: tuple[str, ...], streams: list[str]) -> Source:
    """Answers the addresses of a market whose streams are served at `base`."""
    urls = tuple(market.urls(base, symbols, streams))
    return Source(market.depth_path, market.snapshot_levels_max, urls)


def stream_of_frame(payload: bytes) -> tuple[str, str] | None:
    """Answers symbol (upper case) and stream of a combined-stream frame, None for another one."""
    found = _STREAM.match(payload)
    return (found[1].decode().upper(), found[2].decode()) if found else None


def first_update_id(payload: bytes) -> int:
    """Answers the first update id of a depth difference, 0 when it has none."""
    found = _FIRST_ID.search(payload)
    return int(found[1]) if found else 0


def snapshot_update_id(body: bytes) -> int:
    """Answers a snapshot's update id, -1 when it has none."""
    found = _SNAPSHOT_ID.search(body)
    return int(found[1]) if found else -1


def joins(market: Market, last_update_id: int, first_id: int) -> bool:
    """Says whether a snapshot reaches the first difference that a recording holds.

    Spot continues at the snapshot's id + 1, USD-M overlaps it.
    """
    return last_update_id >= (first_id if market.name == USDM.name else first_id - 1)
