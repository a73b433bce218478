"""workers room: the state of a running engine as the status page shows it, at most twice a second.

One JSON object: `engine`, `generation`, `time_ns` (since 1970), `halt`, `halt_text`, `workers`
(workers/status.py), `flows` (what, count so far, per second), `latencies` (stage, count and
percentiles in ns), `orders` (counters), `positions` (by symbol), `rings` (lag and fill), `errors`.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from engine.control import halt_level
from shm.ring import CURSOR, READER_BASE, READER_WORDS, RELEASED
from shm.stats import Sample
from workers import reading
from workers.context import Memory
from workers.metrics import PLAIN, FrameRate
from workers.profit import profits
from workers.status import HALT_NAMES, workers
from workers.summary import latency, records

AGE_NS_MAX: Final = 400_000_000  # pages that ask at the same time see the same state
ERRORS_MAX: Final = 20
COUNTERS: Final = (
    "orders_sent_total", "cancels_sent_total", "acks_total", "fills_total", "rejects_total",
    "unknown_total", "risk_passed_total",
)  # fmt: skip
_NS: Final = 1e9


class Snapshots:
    """Makes the state, and keeps the last one for a moment."""

    def __init__(self, memory: Memory, rate: FrameRate) -> None:
        self._memory = memory
        self._rate = rate
        self._text = b""
        self._made_ns = 0
        self._counts: dict[str, int] = {}

    def text(self) -> bytes:
        """Answers the state as JSON, at most AGE_NS_MAX old."""
        now_ns = time.monotonic_ns()
        if not self._text or now_ns - self._made_ns > AGE_NS_MAX:
            self._text = msgspec.json.encode(self._state(now_ns))
            self._made_ns = now_ns
        return self._text

    def _state(self, now_ns: int) -> dict[str, Any]:
        memory = self._memory
        found = list(reading.samples(memory))
        level = halt_level(memory.control())
        return {
            "engine": memory.run.settings.engine.name,
            "generation": memory.run.generation,
            "time_ns": time.time_ns(),
            "halt": level,
            "halt_text": HALT_NAMES[level],
            "workers": workers(memory),
            "flows": self._flows(found, now_ns),
            "latencies": [
                {"stage": name.removesuffix("_seconds")} | latency(reading.histogram(found, name))
                for name in PLAIN
            ],
            "orders": self._orders(found),
            "positions": profits(memory),
            "rings": self._rings(),
            "errors": self._errors(),
        }

    def _flows(self, found: list[Sample], now_ns: int) -> list[dict[str, Any]]:
        counts = {"frames": reading.total(found, "ingest_frames_total"), **records(self._memory)}
        counts["fills"] = reading.total(found, "fills_total")
        counts["journal"] = reading.total(found, "journal_records_total")
        counts["stored"] = reading.total(found, "stored_rows_total")
        counts["published"] = reading.total(found, "bus_published_total")
        seconds = (now_ns - self._made_ns) / _NS
        flows = [
            {
                "name": name,
                "count": count,
                "per_second": round((count - self._counts.get(name, count)) / seconds, 1),
            }
            for name, count in counts.items()
        ]
        flows[0]["per_second"] = round(self._rate.per_second, 1)
        self._counts = counts
        return flows

    def _orders(self, found: list[Sample]) -> dict[str, Any]:
        counts: dict[str, Any] = {
            name.removesuffix("_total"): reading.total(found, name) for name in COUNTERS
        }
        counts["denials"] = reading.totals(found, "risk_denials_total", "code")
        return counts

    def _rings(self) -> list[dict[str, Any]]:
        shown = []
        for plan in self._memory.ring_plans:
            control = self._memory.observe(plan.name)
            lags = {
                reader: max(
                    0, int(control[CURSOR] - control[READER_BASE + READER_WORDS * index + RELEASED])
                )
                for index, reader in enumerate(plan.readers)
            }
            shown.append({
                "name": plan.name,
                "capacity": plan.capacity,
                "records": int(control[CURSOR]) + 1,
                "lag": lags,
            })  # fmt: skip
        return shown

    def _errors(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [
            {"worker": name, "text": error.text, "times": error.times, "last_ns": error.last_ns}
            for name in reading.process_names(self._memory)
            for error in self._memory.stats(name).errors()
        ]
        return sorted(found, key=lambda error: -error["last_ns"])[:ERRORS_MAX]
