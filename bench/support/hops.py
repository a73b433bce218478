"""Bench: where the time between socket and socket went, from the journal of a run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.records import (
    CLIENT_ID,
    PUBLISH_NS,
    STATUS,
    STATUS_REASON,
    TRIGGER,
    TRIGGER_NS,
    Reason,
)
from shm.segment import Words
from workers.journal import Tail

READ_MAX = 65_536


class Quotes(NamedTuple):
    """What the metronome left behind, quote by quote."""

    written_ns: Words
    round_trips_ns: Words

    @classmethod
    def load(cls, folder: Path) -> Quotes:
        """Reads the two files of bench/support/metronome.py."""
        return cls(np.load(folder / "written.npy"), np.load(folder / "round_trips.npy"))


def _rows(folder: Path, ring: str) -> Words:
    tail = Tail(folder, ring, 0)
    parts = []
    while len(rows := tail.read(READ_MAX)):
        parts.append(rows)
    return np.concatenate(parts) if parts else np.zeros((0, 16), np.int64)


def _percentiles(values: Words) -> dict[str, int]:
    if not len(values):
        return {"count": 0}
    return {
        "count": len(values),
        "p50": int(np.percentile(values, 50.0)),
        "p99": int(np.percentile(values, 99.0)),
        "max": int(values.max()),
    }


def hops(data_dir: Path, quotes: Quotes) -> dict[str, dict[str, int]]:
    """Answers ns from each stage to the next, for the orders that a market record caused.

    written_to_read: the exchange's socket call -> bytes read; read_to_record: decoded and
    published; record_to_intent: strategy; intent_to_order: risk; order_to_sent: order frame handed
    to the socket; sent_to_seen: the exchange sees its bytes, which may be before our socket call
    has returned (then 0).

    Args:
        data_dir: of the run.
        quotes: of the metronome of the same run.
    """
    generations = sorted(path for path in (data_dir / "journal").iterdir() if path.is_dir())
    folder = generations[-1]
    market, intents = _rows(folder, "market.0"), _rows(folder, "intents")
    orders, reports = _rows(folder, "orders"), _rows(folder, "reports")
    sent = reports[((reports[:, STATUS] >> (16 * STATUS_REASON)) & 0x7FFF) == Reason.SENT]
    intent_of = {int(row[CLIENT_ID]): row for row in intents}
    order_of = {int(row[CLIENT_ID]): row for row in orders}
    steps = []
    for report in sent:
        client_id = int(report[CLIENT_ID])
        intent, order = intent_of.get(client_id), order_of.get(client_id)
        if intent is None or order is None:
            continue
        record = market[int(intent[TRIGGER])]
        number = int(np.searchsorted(quotes.written_ns, intent[TRIGGER_NS])) - 1
        if number < 0 or quotes.round_trips_ns[number] == 0:
            continue  # one that warms up, or was not seen
        written_ns = quotes.written_ns[number]
        inner = (intent[TRIGGER_NS], *(row[PUBLISH_NS] for row in (record, intent, order, report)))
        times = (written_ns, *inner, written_ns + quotes.round_trips_ns[number])
        steps.append(np.maximum(0, np.diff(np.array(times, np.int64))))
    names = (
        "written_to_read", "read_to_record", "record_to_intent", "intent_to_order",
        "order_to_sent", "sent_to_seen",
    )  # fmt: skip
    table = np.array(steps, np.int64).reshape(-1, len(names))
    return {name: _percentiles(table[:, index]) for index, name in enumerate(names)}
