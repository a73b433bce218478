"""workers room: where everything lies that the compiled order path touches.

All memory is bound once as addresses in one array, `bind`, because every array argument of a
compiled function costs its caller some 75 ns. Both arrays below are private to the execution
worker; what must outlive it is in the order table (engine/ordertable.py).
"""

from __future__ import annotations

from engine.instruments import INSTRUMENT_WORDS, INSTRUMENTS_MAX
from engine.orders import ORDER_WORDS
from engine.ordertable import LOOKUP_WORDS, ORDERS_AT, TABLE_WORDS
from shm.jit import jit, rows_at, words_at
from shm.ring import CONTROL_WORDS
from shm.segment import Words

(
    ORDERS_CONTROL, ORDERS_ROWS, ORDERS_CAPACITY, ORDERS_READER,
    REPORTS_CONTROL, REPORTS_ROWS, REPORTS_CAPACITY, REPORTS_READER,
    STEPS_CONTROL, STEPS_ROWS, STEPS_CAPACITY, STEPS_READER,
    TABLE_AT, LOOKUP_AT, INSTRUMENTS_AT, REQUESTS_AT, OUT_AT,
    TAIL_AT, TAIL_BYTES, HEAD_AT, HEAD_BYTES, LATENCY_AT, NUMBERS_AT,
    IS_SIGNED, IS_READY, CURRENT_ROW, CURRENT_KIND, TAKING, LAST, NOW, EPOCH_OFFSET,
    ORDERS_SENT_AT, CANCELS_SENT_AT, HANDED,
) = range(34)  # fmt: skip
BIND_WORDS = 40
# TAIL: what a signed request carries; HEAD: what a signed text begins with. IS_READY: 1 while
# orders may be sent. CURRENT_*: the request that was written last. TAKING: 1 + the next record of
# the batch in hand, 0 without one; LAST: its last record. NOW: CLOCK_MONOTONIC when it was last
# read, so that the way to the socket reads it once; EPOCH_OFFSET: what makes it the time of day.
# HANDED: what `advance` answered to the stage, for the desk.

# Requests under way: a ring indexed by request number, private, REQUESTS_MAX rows of REQUEST_WORDS.
REQUESTS_MAX, REQUEST_WORDS = 8192, 6
NUMBER, KIND, ROW, SENT_NS, CLIENT = range(5)  # NUMBER 0: free
STATUS_QUERY, TRADES_QUERY, OPEN_QUERY, LOGON, SUBSCRIBE = range(3, 8)  # KIND, beside `Request`

# Facts of an event, input of `apply`.
(
    FACT_ROW, FACT_EVENT, FACT_LOTS, FACT_VENUE_CUMULATIVE, FACT_VENUE_ORDER_ID, FACT_TRADE_ID,
    FACT_TICKS, FACT_FEE_E8, FACT_FEE_ASSET, FACT_LIQUIDITY, FACT_VENUE_CODE,
) = range(11)  # fmt: skip
FACTS = 11
REPORTS_FULL = -4  # answer of apply, beside those of next_status
# Answers of advance: nothing to send for this record; it went nowhere; the batch is done.
SKIPPED, REFUSED, IDLE = -1, -2, -3
BATCH_MAX = 64  # orders taken in one duty cycle
ROOM = 1024  # reports kept free for what the venue says about orders that are out already


@jit
def table_of(bind: Words) -> Words:
    """Views the order table."""
    return words_at(bind[TABLE_AT], TABLE_WORDS)


@jit
def lookup_of(bind: Words) -> Words:
    """Views the table's private lookup."""
    return words_at(bind[LOOKUP_AT], LOOKUP_WORDS)


@jit
def order_of(bind: Words, index: int) -> Words:
    """Views one order, (ORDER_WORDS,)."""
    start = ORDERS_AT + index * ORDER_WORDS
    return table_of(bind)[start : start + ORDER_WORDS]


@jit
def instrument_at(bind: Words, index: int) -> Words:
    """Views one instrument, (INSTRUMENT_WORDS,)."""
    return rows_at(bind[INSTRUMENTS_AT], INSTRUMENTS_MAX, INSTRUMENT_WORDS)[index]  # type: ignore[no-any-return]


@jit
def reports_control(bind: Words) -> Words:
    """Views the control words of the ring `reports`."""
    return words_at(bind[REPORTS_CONTROL], CONTROL_WORDS)
