"""engine room: the checks before every order, compiled, in the order in which they are made.

A check answers 0 or a DenialCode; `verdict` then holds the limit and the observed value. All work
on four arrays: the intent's row, the header and the book of the instrument within the risk state,
and `verdict`, (2,). No check writes anything else.

    header word   HEADER_* below; counted since the first step of the run
    book word     0 .. 15 exposure and market: engine/exposure.py, BOOK_* below
                  16 .. 23 limits of the instrument, words of engine/risk.py at BOOK_LIMITS
                  32 .. 63 the instrument, words of engine/instruments.py at BOOK_GRID
"""

from __future__ import annotations

from engine.exposure import OPEN_BUY_LOTS, OPEN_ORDERS, OPEN_SELL_LOTS, POSITION_LOTS
from engine.instruments import (
    MARKET_LOTS_MAX,
    MARKET_LOTS_MIN,
    NOTIONAL_MAX,
    NOTIONAL_MIN,
    PRICE_TICKS_MAX,
    PRICE_TICKS_MIN,
    QUANTITY_LOTS_MAX,
    QUANTITY_LOTS_MIN,
    QUANTITY_STEP_LOTS,
    STATUS_WORD,
    TRADING,
    UNKNOWN,
)
from engine.records import (
    CLIENT_ID,
    PRICE_TICKS,
    QUANTITY_LOTS,
    TERMS,
    TERMS_SIDE,
    TERMS_TIME_IN_FORCE,
    TERMS_TYPE,
    BookState,
    OrderType,
    Side,
    TimeInForce,
    part,
)
from engine.risk import (
    CANCEL_RESERVE,
    LIMIT_COLLAR_PPM,
    LIMIT_OPEN_ORDERS,
    LIMIT_ORDER_LOTS,
    LIMIT_ORDER_NOTIONAL,
    LIMIT_POSITION_LOTS,
    LIMIT_STALE_NS,
    LOADED,
    MESSAGES_MAX,
    TICKS_CEILING,
    WINDOW_NS,
    DenialCode,
)
from shm.jit import jit
from shm.segment import Words

HEADER_WORDS = 64
(
    HEADER_LEVEL, HEADER_LAST_CLIENT_ID, HEADER_PASSED, HEADER_CANCELS_PASSED, HEADER_UNMATCHED,
    HEADER_WINDOW_FIRST, HEADER_WINDOW_COUNT, HEADER_LIMITS_VERSION,
) = range(8)  # fmt: skip
HEADER_LIMITS = 16  # copy of the first words of the limits
HEADER_DENIALS = 32  # count of each DenialCode
BOOK_WORDS = 64
BOOK_BID_TICKS, BOOK_ASK_TICKS, BOOK_STATE, BOOK_MARKET_NS = 4, 5, 6, 7
BOOK_LIMITS, BOOK_GRID = 16, 32

_BUY, _SELL = int(Side.BUY), int(Side.SELL)
_SYNCED = int(BookState.SYNCED)
_LIMIT, _MARKET, _MAKER = int(OrderType.LIMIT), int(OrderType.MARKET), int(OrderType.LIMIT_MAKER)
_NONE = int(TimeInForce.NONE)
_WORD_MAX = (1 << 63) - 1
(
    _HALTED, _NOT_LOADED, _UNKNOWN, _NOT_TRADING, _TERMS, _DUPLICATE, _NOT_SYNCED, _STALE,
    _PRICE_MIN, _PRICE_MAX, _COLLAR, _QUANTITY_MIN, _QUANTITY_MAX, _ORDER_QUANTITY, _NOTIONAL_MIN,
    _NOTIONAL_MAX, _ORDER_VALUE, _POSITION, _OPEN_ORDERS, TABLE_FULL, _RATE, _CANCEL_RATE, _STEP,
) = (int(code) for code in DenialCode)  # fmt: skip


@jit
def deny(verdict: Words, code: int, limit: int, observed: int) -> int:
    """Answers `code` and notes limit and observed value."""
    verdict[0], verdict[1] = limit, observed
    return code


@jit
def product(a: int, b: int) -> int:
    """Answers a * b of two whole numbers not below 0, the largest word when it is more."""
    if b > 0 and a > _WORD_MAX // b:
        return _WORD_MAX
    return a * b


@jit
def reference_ticks(row: Words, book: Words) -> int:
    """Answers the worst price an order may trade at: its limit, for market orders the touch."""
    if part(row[TERMS], TERMS_TYPE) != _MARKET:
        return row[PRICE_TICKS]  # type: ignore[no-any-return]
    if part(row[TERMS], TERMS_SIDE) == _BUY:
        return book[BOOK_ASK_TICKS]  # type: ignore[no-any-return]
    return book[BOOK_BID_TICKS]  # type: ignore[no-any-return]


@jit
def _check_gates(header: Words, book: Words, verdict: Words) -> int:
    if header[HEADER_LEVEL] != 0:
        return deny(verdict, _HALTED, 0, header[HEADER_LEVEL])
    if header[HEADER_LIMITS + LOADED] == 0:
        return deny(verdict, _NOT_LOADED, 1, 0)
    status = book[BOOK_GRID + STATUS_WORD]
    if status == UNKNOWN:
        return deny(verdict, _UNKNOWN, TRADING, status)
    if status != TRADING:
        return deny(verdict, _NOT_TRADING, TRADING, status)
    return 0


@jit
def _are_terms_whole(row: Words) -> bool:
    side = part(row[TERMS], TERMS_SIDE)
    order_type = part(row[TERMS], TERMS_TYPE)
    timed = part(row[TERMS], TERMS_TIME_IN_FORCE) != _NONE
    known = order_type in (_LIMIT, _MARKET, _MAKER)
    return side in (_BUY, _SELL) and known and timed == (order_type == _LIMIT)


@jit
def _check_request(row: Words, header: Words, verdict: Words) -> int:
    if not _are_terms_whole(row):
        return deny(verdict, _TERMS, 0, row[TERMS])
    if row[CLIENT_ID] <= header[HEADER_LAST_CLIENT_ID]:
        return deny(verdict, _DUPLICATE, header[HEADER_LAST_CLIENT_ID], row[CLIENT_ID])
    return 0


@jit
def _check_market(book: Words, clock_ns: int, verdict: Words) -> int:
    if book[BOOK_STATE] != _SYNCED or book[BOOK_BID_TICKS] <= 0 or book[BOOK_ASK_TICKS] <= 0:
        return deny(verdict, _NOT_SYNCED, _SYNCED, book[BOOK_STATE])
    age_ns = clock_ns - book[BOOK_MARKET_NS]
    if age_ns > book[BOOK_LIMITS + LIMIT_STALE_NS]:
        return deny(verdict, _STALE, book[BOOK_LIMITS + LIMIT_STALE_NS], age_ns)
    return 0


@jit
def _check_price(row: Words, book: Words, verdict: Words) -> int:
    """Venue's price range and our collar around the mid; market orders have no price."""
    if part(row[TERMS], TERMS_TYPE) == _MARKET:
        return 0
    price = row[PRICE_TICKS]
    lowest = max(1, book[BOOK_GRID + PRICE_TICKS_MIN])
    if price < lowest:
        return deny(verdict, _PRICE_MIN, lowest, price)
    highest = min(TICKS_CEILING, book[BOOK_GRID + PRICE_TICKS_MAX])
    if price > highest:
        return deny(verdict, _PRICE_MAX, highest, price)
    doubled_mid = book[BOOK_BID_TICKS] + book[BOOK_ASK_TICKS]
    distance = abs(2 * price - doubled_mid)
    # Rounded up: a price just outside is never observed as one that lies on the limit.
    distance_ppm = -(-product(distance, 1_000_000) // doubled_mid)
    if distance_ppm > book[BOOK_LIMITS + LIMIT_COLLAR_PPM]:
        return deny(verdict, _COLLAR, book[BOOK_LIMITS + LIMIT_COLLAR_PPM], distance_ppm)
    return 0


@jit
def _check_quantity(row: Words, book: Words, verdict: Words) -> int:
    quantity = row[QUANTITY_LOTS]
    lowest, highest = book[BOOK_GRID + QUANTITY_LOTS_MIN], book[BOOK_GRID + QUANTITY_LOTS_MAX]
    if part(row[TERMS], TERMS_TYPE) == _MARKET:
        lowest = max(lowest, book[BOOK_GRID + MARKET_LOTS_MIN])
        highest = min(highest, book[BOOK_GRID + MARKET_LOTS_MAX])
    lowest = max(1, lowest)
    if quantity < lowest:
        return deny(verdict, _QUANTITY_MIN, lowest, quantity)
    if quantity > highest:
        return deny(verdict, _QUANTITY_MAX, highest, quantity)
    step = max(1, book[BOOK_GRID + QUANTITY_STEP_LOTS])
    if quantity % step != 0:
        return deny(verdict, _STEP, step, quantity)
    if quantity > book[BOOK_LIMITS + LIMIT_ORDER_LOTS]:
        return deny(verdict, _ORDER_QUANTITY, book[BOOK_LIMITS + LIMIT_ORDER_LOTS], quantity)
    return 0


@jit
def _check_value(row: Words, book: Words, verdict: Words) -> int:
    value = product(row[QUANTITY_LOTS], reference_ticks(row, book))
    if value < book[BOOK_GRID + NOTIONAL_MIN]:
        return deny(verdict, _NOTIONAL_MIN, book[BOOK_GRID + NOTIONAL_MIN], value)
    if value > book[BOOK_GRID + NOTIONAL_MAX]:
        return deny(verdict, _NOTIONAL_MAX, book[BOOK_GRID + NOTIONAL_MAX], value)
    if value > book[BOOK_LIMITS + LIMIT_ORDER_NOTIONAL]:
        return deny(verdict, _ORDER_VALUE, book[BOOK_LIMITS + LIMIT_ORDER_NOTIONAL], value)
    return 0


@jit
def _check_exposure(row: Words, book: Words, verdict: Words) -> int:
    """Position limit at its worst: every order of this side trades, none of the other."""
    if part(row[TERMS], TERMS_SIDE) == _BUY:
        worst = book[POSITION_LOTS] + book[OPEN_BUY_LOTS] + row[QUANTITY_LOTS]
    else:
        worst = book[OPEN_SELL_LOTS] + row[QUANTITY_LOTS] - book[POSITION_LOTS]
    if worst > book[BOOK_LIMITS + LIMIT_POSITION_LOTS]:
        return deny(verdict, _POSITION, book[BOOK_LIMITS + LIMIT_POSITION_LOTS], worst)
    count = book[OPEN_ORDERS] + 1
    if count > book[BOOK_LIMITS + LIMIT_OPEN_ORDERS]:
        return deny(verdict, _OPEN_ORDERS, book[BOOK_LIMITS + LIMIT_OPEN_ORDERS], count)
    return 0


@jit
def messages_in_window(header: Words, window: Words, clock_ns: int) -> int:
    """Answers how many messages passed in the last WINDOW_NS, forgetting older ones.

    Exact: `window` holds the clock of each message that passed, (WINDOW_MAX,) as a circle.
    """
    first, count = header[HEADER_WINDOW_FIRST], header[HEADER_WINDOW_COUNT]
    while count > 0 and window[first] <= clock_ns - WINDOW_NS:
        first = (first + 1) % len(window)
        count -= 1
    header[HEADER_WINDOW_FIRST], header[HEADER_WINDOW_COUNT] = first, count
    return count  # type: ignore[no-any-return]


@jit
def note_message(header: Words, window: Words, clock_ns: int) -> None:
    """Counts a message that passed; only after a rate check, so there is room."""
    place = (header[HEADER_WINDOW_FIRST] + header[HEADER_WINDOW_COUNT]) % len(window)
    window[place] = clock_ns
    header[HEADER_WINDOW_COUNT] += 1


@jit
def check_rate(header: Words, window: Words, clock_ns: int, verdict: Words) -> int:
    """Answers 0 or MESSAGE_RATE: new orders leave the reserve to cancels."""
    limit = header[HEADER_LIMITS + MESSAGES_MAX] - header[HEADER_LIMITS + CANCEL_RESERVE]
    count = messages_in_window(header, window, clock_ns) + 1
    return deny(verdict, _RATE, limit, count) if count > limit else 0


@jit
def check_cancel_rate(header: Words, window: Words, clock_ns: int, verdict: Words) -> int:
    """Answers 0 or CANCEL_RATE. Without limits cancels pass: they only ever lower exposure."""
    if header[HEADER_LIMITS + LOADED] == 0:
        limit = len(window)
    else:
        limit = header[HEADER_LIMITS + MESSAGES_MAX]
    count = messages_in_window(header, window, clock_ns) + 1
    return deny(verdict, _CANCEL_RATE, limit, count) if count > limit else 0


@jit
def check_order(row: Words, header: Words, book: Words, clock_ns: int, verdict: Words) -> int:
    """Answers 0 when a new order may pass, else the first DenialCode against it.

    Args:
        row: INTENT_NEW.
        header: of the risk state.
        book: of the instrument.
        clock_ns: of the step.
        verdict: (2,), set to limit and observed value of a denial.
    """
    code = _check_gates(header, book, verdict)
    if code == 0:
        code = _check_request(row, header, verdict)
    if code == 0:
        code = _check_market(book, clock_ns, verdict)
    if code == 0:
        code = _check_price(row, book, verdict)
    if code == 0:
        code = _check_quantity(row, book, verdict)
    if code == 0:
        code = _check_value(row, book, verdict)
    if code == 0:
        code = _check_exposure(row, book, verdict)
    return code
