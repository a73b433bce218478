"""workers room: market data of any venue that ccxt knows, as the frames of the spot codec.

Clearly slower than a native venue: every message passes ccxt's own parsing, and each whole order
book is compared with the last one. Called by: the ingest agent's event loop, one thread.
"""

from __future__ import annotations

import asyncio
import importlib
import time
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol

from engine.instruments import Instrument
from workers.ccxtbook import Frames, instrument_of

FAULTS_MAX = 8  # in a row of one subscription; then `run` gives up and its caller begins anew
FAULT_WAIT_S = 1.0
SEEN_MAX = 2_048  # trades remembered while polling, which answers the same ones again
LEVELS = 100
IDS_PER_MS = 100  # more than ccxt can bring frames of one symbol
OnFrame = Callable[[bytes], None]
Seen = dict[str, deque[object]]
Step = Callable[[], Coroutine[None, None, None]]


class Client(Protocol):
    """What is used of ccxt's exchange classes; the watch calls only where `has` names them."""

    number: Callable[[str], object]
    precisionMode: int  # noqa: N815 - ccxt's name
    has: dict[str, Any]
    options: dict[str, Any]
    urls: dict[str, Any]

    async def load_markets(self) -> dict[str, Any]: ...  # noqa: D102
    async def fetch_order_book(self, symbol: str, limit: int) -> Any: ...  # noqa: ANN401, D102
    async def fetch_trades(self, symbol: str) -> list[Any]: ...  # noqa: D102
    async def watch_order_book(self, symbol: str) -> Any: ...  # noqa: ANN401, D102
    async def watch_trades(self, symbol: str) -> list[Any]: ...  # noqa: D102
    async def watch_bids_asks(self, symbols: list[str]) -> dict[str, Any]: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102


def make_client(kind: str) -> Client:
    """Answers ccxt's client of `ccxt:NAME`; raises ValueError in one line when there is none."""
    name = kind.partition(":")[2]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library = importlib.import_module("ccxt.pro")
            polled = importlib.import_module("ccxt.async_support")
    except ImportError as error:
        raise ValueError(
            f"ccxt must be installed: kind={kind}; pip install tickring[ccxt]"
        ) from error
    found = getattr(library if name in library.exchanges else polled, name, None)
    if name not in polled.exchanges or found is None:
        raise ValueError(f"venue.kind must name an exchange of ccxt: kind={kind}")
    return found({"enableRateLimit": True})  # type: ignore[no-any-return]


class CcxtSession:
    """Subscriptions of some symbols of one venue.

    Args:
        kind: as in `[venue]`.
        symbols: in index order.
        streams: as in `[market]`.
        client: ccxt's own of `kind` when None.
        seen: ids of trades by symbol that a session before this one has brought.
    """

    def __init__(
        self,
        kind: str,
        symbols: Sequence[str],
        streams: Sequence[str],
        client: Client | None = None,
        seen: Seen | None = None,
    ) -> None:
        self._client = make_client(kind) if client is None else client
        self._client.number = str  # ccxt hands out numbers as the text they came in
        self._kind, self._symbols, self._streams = kind, tuple(symbols), tuple(streams)
        self._frames: dict[str, Frames] = {}
        self._names: dict[str, str] = {}  # ours to ccxt's
        self._seen: Seen = {} if seen is None else seen
        self._whole = {symbol: asyncio.Event() for symbol in symbols}

    async def open(self) -> None:
        """Loads the markets; raises ValueError when one is unknown, ConnectionError when away."""
        try:
            markets = await self._client.load_markets()
        except Exception as error:
            if not _is_fault(error):
                raise
            raise ConnectionError(f"ccxt must reach the venue: kind={self._kind}") from error
        depth = next((name for name in self._streams if name.startswith("depth")), "depth@100ms")
        for index, symbol in enumerate(self._symbols):
            market = next(
                (m for m in markets.values() if m["spot"] and m["base"] + m["quote"] == symbol),
                None,
            )
            if market is None:
                raise ValueError(
                    f"market.symbols must be spot markets of the venue: kind={self._kind} "
                    f"symbol={symbol}"
                )
            made = instrument_of(index, symbol, market, self._client.precisionMode)
            # ids that rise from session to session and from process to process
            self._frames[symbol] = Frames(made, depth, _now_ms() * IDS_PER_MS)
            self._names[symbol] = market["symbol"]

    def instruments(self) -> tuple[Instrument, ...]:
        """Answers the instruments in the order of the symbols, after `open`."""
        return tuple(frames.instrument for frames in self._frames.values())

    def snapshot(self, symbol: str) -> bytes:
        """Answers a REST depth body; raises LookupError before a whole book came: retry."""
        return self._frames[symbol].snapshot()

    async def whole(self, symbol: str) -> None:
        """Waits until `snapshot` has an answer."""
        await self._whole[symbol].wait()

    async def run(self, on_frame: OnFrame) -> None:
        """Hands every frame to `on_frame` until cancelled.

        Raises:
            ConnectionError: a subscription failed FAULTS_MAX times in a row.
            ValueError: a book held a number that is not exact or off its grid, as many times.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for symbol in self._symbols:
                    for repeated in self._subscriptions(symbol, on_frame):
                        group.create_task(repeated)
        except BaseExceptionGroup as several:
            failed: BaseException = several
            while isinstance(failed, BaseExceptionGroup):
                failed = failed.exceptions[0]  # one line says enough, and it is the first one
            raise failed from None

    def _subscriptions(
        self, symbol: str, on_frame: OnFrame
    ) -> Iterator[Coroutine[None, None, None]]:
        kinds = {name.partition("@")[0] for name in self._streams}
        own_quotes = "bookTicker" in kinds and bool(self._client.has.get("watchBidsAsks"))
        tops = "bookTicker" in kinds and not own_quotes
        if "depth" in kinds or tops:
            step = self._book_step(symbol, on_frame, depth="depth" in kinds, tops=tops)
            yield self._repeat(symbol, step, on_frame if "depth" in kinds else None)
        if "trade" in kinds:
            yield self._repeat(symbol, self._trade_step(symbol, on_frame), None)
        if own_quotes:
            yield self._repeat(symbol, self._quote_step(symbol, on_frame), None)

    async def close(self) -> None:
        """Closes ccxt's sockets."""
        await self._client.close()

    async def _repeat(self, symbol: str, step: Step, on_fault: OnFrame | None) -> None:
        faults = 0
        while True:
            try:
                await step()
                faults = 0
            except Exception as error:
                if not (_is_fault(error) or isinstance(error, ValueError)):
                    raise
                faults += 1
                if on_fault is not None:
                    self._fault(symbol, on_fault)
                if faults >= FAULTS_MAX:
                    if isinstance(error, ValueError):
                        raise
                    raise ConnectionError(
                        f"ccxt must keep its subscription: kind={self._kind} symbol={symbol} "
                        f"faults={faults} error={type(error).__name__}"
                    ) from error
                await asyncio.sleep(FAULT_WAIT_S * faults)

    def _fault(self, symbol: str, on_frame: OnFrame) -> None:
        self._whole[symbol].clear()
        if self._frames[symbol].is_fresh:
            on_frame(self._frames[symbol].fault(_now_ms()))

    def _book_step(self, symbol: str, on_frame: OnFrame, *, depth: bool, tops: bool) -> Step:
        frames, name = self._frames[symbol], self._names[symbol]
        client = self._client
        watches = bool(client.has.get("watchOrderBook"))

        async def step() -> None:
            asked = client.watch_order_book(name) if watches else None
            book = await (asked or client.fetch_order_book(name, LEVELS))
            frame = frames.book(book["bids"], book["asks"], book.get("timestamp") or _now_ms())
            if frame and depth:
                on_frame(frame)
            self._whole[symbol].set()
            if frame and tops and (top := frames.top()):
                on_frame(top)

        return step

    def _trade_step(self, symbol: str, on_frame: OnFrame) -> Step:
        frames, name = self._frames[symbol], self._names[symbol]
        watches = bool(self._client.has.get("watchTrades"))
        ask = self._client.watch_trades if watches else self._client.fetch_trades
        seen = self._seen.setdefault(symbol, deque(maxlen=SEEN_MAX))

        async def step() -> None:
            for trade in await ask(name):
                known = trade.get("id") or (trade["timestamp"], trade["price"], trade["amount"])
                if known not in seen:
                    seen.append(known)
                    try:
                        frame = frames.trade(trade)
                    except ValueError as error:
                        frame = frames.rejected("trade", error)
                    on_frame(frame)

        return step

    def _quote_step(self, symbol: str, on_frame: OnFrame) -> Step:
        frames, name = self._frames[symbol], self._names[symbol]

        async def step() -> None:
            t = (await self._client.watch_bids_asks([name]))[name]
            try:
                frame = frames.quote(t["bid"], t["bidVolume"], t["ask"], t["askVolume"])
            except ValueError as error:
                frame = frames.rejected("bookTicker", error)
            on_frame(frame)

        return step


def _is_fault(error: Exception) -> bool:
    """Says whether it is an error of ccxt's or of the network, not one of ours."""
    return isinstance(error, OSError) or any(
        cls.__module__.startswith("ccxt.") for cls in type(error).__mro__
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
