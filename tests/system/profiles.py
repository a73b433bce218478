"""Configurations of whole engines: the demo's processes, with a section more."""

from __future__ import annotations

DEMO = """
[engine]
name = "{name}"
{engine}
{more}
[[strategies]]
name = "taker"
use = "engine.strategies.imbalance:STRATEGY"
[[strategies]]
name = "maker"
use = "engine.strategies.maker:STRATEGY"
[[workers]]
name = "trader"
agents = ["ingest.0", "signal", "risk", "execution"]
[[workers]]
name = "exchange"
agents = ["exchange"]
[[workers]]
name = "recorder"
agents = ["recorder"]
[[workers]]
name = "store"
agents = ["store", "bus"]
nice = 19
[[workers]]
name = "logs"
agents = ["logs"]
nice = 19
[[workers]]
name = "monitor"
agents = ["monitor"]
nice = 19
"""


def demo(name: str, *, engine: str = "", more: str = "") -> str:
    """Answers the demo with lines added to `[engine]`, and whole sections."""
    return DEMO.format(name=name, engine=engine, more=more)
