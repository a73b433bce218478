"""workers room: books, trade sums and tops as the ingest workers leave them in shared memory.

    books.K    per symbol of ingest.K: a book (engine/book.py), then per symbol its exact trade sums
    tops       per instrument of the engine: a `Latest` cell of best bid, best ask and book state

Reading costs the writer nothing and works after its death, so a run's summary can say what the
books were at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from config.settings import Settings
from config.topology import ingest_agents, symbols
from engine.book import (
    DROPPED_ASKS,
    DROPPED_BIDS,
    LEVELS_MAX,
    UPDATE_ID,
    book_words,
    checksum,
    copy_book,
    level_count,
)
from engine.codec_layout import (
    SUM_BASE_LOTS,
    SUM_BASE_PLACES,
    SUM_COPY,
    SUM_FIRST,
    SUM_QUOTE_HIGH,
    SUM_QUOTE_LOW,
    SUM_QUOTE_PLACES,
    SUM_TRADES,
    SUMS_WORDS,
    TOP_ASK_TICKS,
    TOP_BID_TICKS,
    TOP_VALUES,
    TOPS_WORDS,
)
from engine.instruments import INSTRUMENTS_MAX, Instrument
from engine.records import Side
from shm.jit import jit
from shm.latest import is_unchanged, read_latest, version_of
from shm.segment import Segment, Words, fingerprint
from workers.agent import SegmentPlan
from workers.context import Memory

READ_TRIES_MAX = 100_000
BOOK_WORDS = book_words(LEVELS_MAX)
TOPS_PLAN = SegmentPlan(
    "tops", INSTRUMENTS_MAX * TOPS_WORDS * 8, fingerprint("tops", 1, INSTRUMENTS_MAX, TOPS_WORDS)
)


def books_name(agent: str) -> str:
    """Answers the segment of an ingest agent: `books.K`."""
    return agent.replace("ingest", "books")


def books_plan(settings: Settings, agent: str) -> SegmentPlan:
    """Answers the segment with the books and sums of one ingest agent."""
    slots = len(symbols(settings, agent))
    layout = fingerprint("books", 1, LEVELS_MAX, BOOK_WORDS, SUMS_WORDS, slots)
    return SegmentPlan(books_name(agent), slots * (BOOK_WORDS + SUMS_WORDS) * 8, layout)


def books_of(segment: Segment, slots: int) -> tuple[Words, Words]:
    """Views the books, (slots, BOOK_WORDS), and the sums, (slots, SUMS_WORDS)."""
    books = segment.rows(0, slots, BOOK_WORDS)
    return books, segment.rows(slots * BOOK_WORDS * 8, slots, SUMS_WORDS)


def tops_of(segment: Segment) -> Words:
    """Views the tops, (INSTRUMENTS_MAX, TOPS_WORDS)."""
    return segment.rows(0, INSTRUMENTS_MAX, TOPS_WORDS)


@jit
def copy_sums(sums: Words, out: Words) -> bool:
    """Copies the valid one of the two copies; False when its writer outran us every time."""
    for _ in range(READ_TRIES_MAX):
        version = version_of(sums)
        start = SUM_FIRST + SUM_COPY * (version & 1)
        for word in range(SUM_COPY):
            out[word] = sums[start + word]
        if is_unchanged(sums, version):
            return True
    return False


def _slots(memory: Memory) -> Iterator[tuple[Instrument, Words, Words]]:
    """Yields each instrument that the venue has told, with its book and sums in shared memory."""
    settings = memory.run.settings
    known = {instrument.symbol: instrument for instrument in memory.instruments()}
    for agent in ingest_agents(settings) or ("ingest.0",):
        taken = symbols(settings, agent)
        books, sums = books_of(memory.segment(books_name(agent)), len(taken))
        for slot, symbol in enumerate(taken):
            if symbol in known:
                yield known[symbol], books[slot], sums[slot]


def read_books(memory: Memory) -> dict[str, dict[str, Any]]:
    """Answers update id, level counts and checksum of every book, by symbol.

    `dropped` is there only when levels were given up at the limit, so that the far ends miss some.
    """
    found = {}
    book = np.zeros(BOOK_WORDS, np.int64)
    for instrument, shared, _ in _slots(memory):
        if not copy_book(shared, book):
            continue
        found[instrument.symbol] = {
            "u": int(book[UPDATE_ID]),
            "bids": int(level_count(book, int(Side.BUY))),
            "asks": int(level_count(book, int(Side.SELL))),
            "sha256": checksum(book, instrument),
        }
        dropped = int(book[DROPPED_BIDS] + book[DROPPED_ASKS])
        if dropped:
            found[instrument.symbol]["dropped"] = dropped
    return found


def read_trades(memory: Memory) -> dict[str, dict[str, Any]]:
    """Answers number, base and quote sums of the public trades, by symbol.

    Sums are exact decimals with the places that summing the texts of the wire would give.
    """
    found = {}
    sums = np.zeros(SUM_COPY, np.int64)
    for instrument, _, shared in _slots(memory):
        if copy_sums(shared, sums):
            found[instrument.symbol] = {
                "n": int(sums[SUM_TRADES]),
                "base": _base(instrument, sums),
                "quote": _quote(instrument, sums),
            }
    return found


def _base(instrument: Instrument, sums: Words) -> str:
    units = int(sums[SUM_BASE_LOTS]) * instrument.lot_units
    return decimal_text(units, instrument.quantity_decimals, int(sums[SUM_BASE_PLACES]))


def _quote(instrument: Instrument, sums: Words) -> str:
    steps = int(sums[SUM_QUOTE_LOW]) + (int(sums[SUM_QUOTE_HIGH]) << 62)
    decimals = instrument.price_decimals + instrument.quantity_decimals
    units = steps * instrument.tick_units * instrument.lot_units
    return decimal_text(units, decimals, int(sums[SUM_QUOTE_PLACES]))


def decimal_text(units: int, decimals: int, places: int) -> str:
    """Writes units of 10**-decimals with `places` decimals; cuts nothing but zeros."""
    if places < decimals:
        units, rest = divmod(units, 10 ** (decimals - places))
        assert rest == 0, "a sum of texts with that many places has no digit behind them"
    else:
        units *= 10 ** (places - decimals)
    if places == 0:
        return str(units)
    whole, fraction = divmod(units, 10**places)
    return f"{whole}.{fraction:0{places}d}"


def top_ticks(memory: Memory, index: int) -> tuple[int, int]:
    """Answers best bid and best ask of an instrument in ticks, 0 where there is none yet."""
    top = np.zeros(TOP_VALUES, np.int64)
    read_latest(tops_of(memory.segment(TOPS_PLAN.name))[index], top)
    return int(top[TOP_BID_TICKS]), int(top[TOP_ASK_TICKS])
