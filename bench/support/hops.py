"""Bench: where the time between socket and socket went, from the journal of a run."""

from __future__ import annotations

from pathlib import Path

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


def hops(data_dir: Path) -> dict[str, dict[str, int]]:
    """Answers ns from each stage to the next, for the orders that a market record caused.

    read_to_record: socket bytes read -> record published; record_to_intent: strategy;
    intent_to_order: risk; order_to_sent: order frame handed to the socket.
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
        times = (intent[TRIGGER_NS], *(row[PUBLISH_NS] for row in (record, intent, order, report)))
        steps.append(np.diff(np.array(times, np.int64)))
    names = ("read_to_record", "record_to_intent", "intent_to_order", "order_to_sent")
    table = np.array(steps, np.int64).reshape(-1, len(names))
    return {name: _percentiles(table[:, index]) for index, name in enumerate(names)}
