"""engine room: events that compiled code may log, as numbers with a text.

Compiled code cannot make strings, so it writes a code and three integers (`log_event` in
`workers/logrows.py`) and the log collector puts the words back. A code carries its level, so that
the level check needs no table: `number | level << 16`. Numbers are in log rings only, never in
files; still, add new ones at the end.
"""

from __future__ import annotations

from typing import Final, NamedTuple

DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50
LEVEL_SHIFT: Final = 16
NUMBER_MASK: Final = (1 << LEVEL_SHIFT) - 1


class EventText(NamedTuple):
    """What a code says.

    Attributes:
        name: the event, lower case with underscores.
        template: `key={a} key={b} key={c}`, any of the three left out.
    """

    name: str
    template: str


def _code(number: int, level: int) -> int:
    return number | level << LEVEL_SHIFT


EVENT_RING_FULL: Final = _code(1, WARNING)
EVENT_BOOK_STALE: Final = _code(2, WARNING)
EVENT_BOOK_SYNCED: Final = _code(3, INFO)
EVENT_INTENT_DENIED: Final = _code(4, DEBUG)
EVENT_STRATEGY_FAULT: Final = _code(5, ERROR)
EVENT_HALT: Final = _code(6, CRITICAL)
EVENT_INPUT_SKIPPED: Final = _code(7, ERROR)
EVENT_BATCH: Final = _code(8, DEBUG)

TEXTS: Final[dict[int, EventText]] = {
    EVENT_RING_FULL: EventText("ring_full", "ring={a} waited_ns={b} records={c}"),
    EVENT_BOOK_STALE: EventText("book_stale", "instrument={a} state={b} update_id={c}"),
    EVENT_BOOK_SYNCED: EventText("book_synced", "instrument={a} update_id={b}"),
    EVENT_INTENT_DENIED: EventText("intent_denied", "code={a} limit={b} observed={c}"),
    EVENT_STRATEGY_FAULT: EventText("strategy_fault", "strategy={a} code={b} sequence={c}"),
    EVENT_HALT: EventText("halt", "level={a} reason={b} detail={c}"),
    EVENT_INPUT_SKIPPED: EventText("input_skipped", "ring={a} first={b} count={c}"),
    EVENT_BATCH: EventText("batch", "input={a} first={b} count={c}"),
}


def level_of(code: int) -> int:
    """Answers the level that a code carries."""
    return code >> LEVEL_SHIFT


def render(code: int, a: int, b: int, c: int) -> tuple[str, dict[str, object]]:
    """Answers the event's name and fields; an unknown code keeps its numbers."""
    text = TEXTS.get(code)
    if text is None:
        unknown: dict[str, object] = {"code": code & NUMBER_MASK, "a": a, "b": b, "c": c}
        return "unknown_event_code", unknown
    values = {"{a}": a, "{b}": b, "{c}": c}
    pairs = (pair.partition("=") for pair in text.template.split())
    return text.name, {key: values[place] for key, _, place in pairs}
