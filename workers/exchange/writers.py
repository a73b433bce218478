"""workers room: chooses the writer of a market's stream payloads."""

from __future__ import annotations

from engine.venues import USDM, Market
from workers.exchange.frames import FrameWriter
from workers.exchange.instruments import Instrument
from workers.exchange.usdm_frames import UsdmWriter


def make_writer(instrument: Instrument, venue: Market) -> FrameWriter:
    """Makes the writer of one symbol's payloads in a market's form."""
    return UsdmWriter(instrument) if venue is USDM else FrameWriter(instrument)
