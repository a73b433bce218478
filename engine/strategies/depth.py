"""engine room: tells how the quantities of the best levels lean, and trades nothing.

It keeps a book of its own (engine/bookview.py) and publishes (bid - ask) / (bid + ask) of the best
`levels` whenever that has moved by `step` since it was last told: a signal for others to use, and
a pattern for strategies that want more than the touch.
"""

from __future__ import annotations

from engine.actions import is_tradable, signal
from engine.book import apply_row, book_words
from engine.bookview import book_in, imbalance_of_levels_ppm
from engine.records import Kind, kind_of
from engine.strategy import Parameter, Strategy
from shm.jit import handler
from shm.segment import Words

LEVELS, STEP_PPM = range(2)
TOLD_PPM, BOOK = 0, 8  # state
BOOK_LEVELS = 500  # a side; farther ones give way
STATE_WORDS = BOOK + book_words(BOOK_LEVELS)

_QUOTE, _DEPTH = int(Kind.QUOTE), int(Kind.DEPTH)


@handler
def on_record(row: Words, view: Words, state: Words, parameters: Words, out: Words) -> int:
    """Applies depth; looks at the book at each quote while it is synced."""
    book = book_in(state, BOOK, BOOK_LEVELS)
    kind = kind_of(row)
    if kind == _DEPTH:
        apply_row(book, row)
    elif kind == _QUOTE and is_tradable(view):
        lean_ppm = imbalance_of_levels_ppm(book, parameters[LEVELS])
        if abs(lean_ppm - state[TOLD_PPM]) >= parameters[STEP_PPM]:
            state[TOLD_PPM] = lean_ppm
            signal(out, lean_ppm)
    return 0


STRATEGY = Strategy(
    "depth",
    on_record,
    (
        Parameter("levels", 10.0, "levels a side"),
        Parameter("step", 0.2, "ratio of quantities, 0 to 2", 1_000_000),
    ),
    STATE_WORDS,
)
