"""Ring sequences, journal and rows of a run: the same records, one by one, in every place."""

from __future__ import annotations

import json
from typing import Any

from tests.system.engine import Engine
from workers.tables import TABLES

# A row for each ring of each run: lowest and highest sequence, rows, and sequences among them.
_EVERY = " UNION ALL ".join(f"SELECT generation, ring, sequence FROM {it.name}" for it in TABLES)
RINGS = (
    "SELECT generation, ring, min(sequence), max(sequence), count(*), count(DISTINCT sequence)"
    f" FROM ({_EVERY}) AS every GROUP BY generation, ring"
)
POSITIONS = "SELECT generation, ring, next_sequence FROM journal_positions"
# The same of one table; a ring's records lie in several, so its sequences have gaps here.
TABLE = "SELECT count(*), count(DISTINCT (ring || ':' || sequence)) FROM {}"

Row = tuple[Any, ...]


def journaled(engine: Engine) -> dict[tuple[int, str], tuple[int, int, int, int]]:
    """Answers (first, last, records, records) of every ring that holds any, as the journal says."""
    done = engine.command("journal", "ls", "--json")
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        (it["generation"], it["ring"]): (
            it["first"], it["next_sequence"] - 1, it["records"], it["records"],
        )
        for it in reports
        if it["records"]
    }  # fmt: skip


def assert_every_sequence_is_everywhere(
    engine: Engine, summary: dict[str, Any], rings: list[Row], positions: list[Row]
) -> None:
    """Compares one run, the folder's first.

    Args:
        engine: ended.
        summary: of it; its `records` are the rings' cursors as shared memory had them.
        rings: what RINGS answers.
        positions: what POSITIONS answers.
    """
    journal = journaled(engine)
    stored = {(run, ring): tuple(rest) for run, ring, *rest in rings}
    cursors: dict[str, int] = {}
    for (_, ring), (first, last, records, _) in journal.items():
        kind = ring.partition(".")[0]
        cursors[kind] = cursors.get(kind, 0) + records
        assert (first, last) == (0, records - 1), ring

    assert stored == journal
    assert cursors == {kind: count for kind, count in summary["records"].items() if count}
    assert {(run, ring): end for run, ring, end in positions if end} == {
        key: last + 1 for key, (_, last, _, _) in journal.items()
    }
