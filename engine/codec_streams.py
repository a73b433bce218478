"""engine room: which streams a feed decodes, and how their frames are written."""

from __future__ import annotations

from typing import NamedTuple

from engine import codec_layout as layout
from engine.instruments import Instrument
from engine.records import Kind
from engine.venues import SPOT, USDM

_FORMATS = {
    SPOT.name: {
        "bookTicker": (Kind.QUOTE, layout.SPOT_QUOTE),
        "trade": (Kind.TRADE, layout.SPOT_TRADE),
        "aggTrade": (Kind.TRADE, layout.SPOT_AGGREGATE),
        "depth": (Kind.DEPTH, layout.SPOT_DEPTH),
    },
    USDM.name: {
        "bookTicker": (Kind.QUOTE, layout.USDM_QUOTE),
        "trade": (Kind.TRADE, layout.USDM_TRADE),
        "aggTrade": (Kind.TRADE, layout.USDM_AGGREGATE),
        "depth": (Kind.DEPTH, layout.USDM_DEPTH),
        "markPrice": (Kind.MARK, layout.USDM_MARK),
    },
}


class FeedPlan(NamedTuple):
    """What a feed decodes."""

    instruments: tuple[Instrument, ...]  # by slot
    streams: tuple[str, ...]  # as in settings: bookTicker, trade, depth@100ms
    source: int  # number of the ingest worker, in every tag
    levels_max: int  # of each book, a side
    silence_ns_max: int
    hold_ns_max: int  # a full hold waits that long for its snapshot
    market: str = SPOT.name  # how frames are written and books continued, see engine/venues.py
    silence_ns_min: int = 0  # a busy stream is not called silent sooner


def stream_names(plan: FeedPlan) -> list[tuple[str, int]]:
    """Answers every stream's name on the wire and its slot, slot by slot."""
    return [
        (f"{instrument.symbol.lower()}@{stream}", slot)
        for slot, instrument in enumerate(plan.instruments)
        for stream in plan.streams
    ]


def format_of_stream(market: str, name: str) -> tuple[Kind, int]:
    """Answers what records a stream gives and how its frames are written.

    Raises:
        ValueError: we cannot read it.
    """
    formats = _FORMATS[market]
    found = formats.get(name.partition("@")[2].partition("@")[0])
    if found is None:
        known = ", ".join(formats)
        raise ValueError(f"market.streams must be one of {known}: stream={name}")
    return found
