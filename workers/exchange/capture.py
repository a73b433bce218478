"""workers room: recordings of a real market, read as they are.

A recording is gzip or plain text, one message a line: the local time of receipt, a space, and the
combined-stream frame exactly as the venue sent it, or once the body of a REST depth snapshot,
which depth frames must have: without it nobody can tell the book that they change.
Times are nanoseconds, microseconds or milliseconds of the epoch, told apart by their size.
Several files are merged by time. A file is read twice: once to check every line and learn
symbols, streams, grids and the snapshot, and once to play, so a recording of any length needs
little memory.
"""

from __future__ import annotations

import gzip
import heapq
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.decimals import UNITS_PER_ONE, decimal_step_units, units_from_text
from engine.venues import SPOT, USDM, Market

GZIP_MAGIC = b"\x1f\x8b"
LINE_BYTES_MAX = 4 << 20
_NS_FROM, _US_FROM = 10**17, 10**14  # smaller stamps are microseconds, then milliseconds
_DATA_MARK = b'"data":'


class CaptureError(ValueError):
    """A recording that is not what it must be; the message names file, line and rule."""

    is_configuration = True  # a worker that meets it is not started again


Pairs = list[tuple[str, str]]  # (price, quantity) as text


class Payload(msgspec.Struct):
    """What the exchange needs from a frame's data; other fields stay in the bytes."""

    s: str = ""
    e: str = ""  # absent in spot bookTicker
    u: int = 0
    pu: int | None = None  # only in USD-M depth differences
    b: str | Pairs = ""
    a: str | int | Pairs = ""  # of an aggregate trade its id
    B: str = ""
    A: str = ""
    p: str = ""
    q: str = ""
    m: bool = False
    X: str = "MARKET"  # USD-M trades only; others are fills of the insurance fund or of ADL

    def is_depth(self) -> bool:
        """Says whether this is a depth difference."""
        return self.e == "depthUpdate" and isinstance(self.b, list) and isinstance(self.a, list)

    def is_trade(self) -> bool:
        """Says whether this is a trade that took place in the book."""
        return self.e in {"trade", "aggTrade"} and bool(self.p) and self.X == "MARKET"

    def is_top(self) -> bool:
        """Says whether these are best prices; the spot venue names no event for them."""
        return self.e in {"", "bookTicker"} and bool(self.B) and bool(self.A)

    def market(self) -> Market | None:
        """Answers the market whose form this frame has, None when both have it."""
        if self.pu is not None or self.e in {"bookTicker", "markPriceUpdate"}:
            return USDM
        return SPOT if self.is_depth() or self.is_top() else None

    def top(self) -> Pairs:
        """Answers best bid and ask."""
        return [(str(self.b), self.B), (str(self.a), self.A)]

    @staticmethod
    def levels(side: str | int | Pairs) -> Pairs:
        """Answers the levels of one side of a depth difference."""
        return side if isinstance(side, list) else []


class Frame(msgspec.Struct):
    """A line's JSON: a combined-stream frame, or the body of a depth snapshot."""

    stream: str = ""
    data: Payload | None = None
    lastUpdateId: int | None = None  # noqa: N815 - the venue's name
    bids: Pairs = []
    asks: Pairs = []


class Line(NamedTuple):
    """One line of a recording."""

    time_ns: int
    body: bytes  # the JSON exactly as recorded
    frame: Frame
    symbol: str  # of the frame; a snapshot takes it from the frames around it

    def payload(self) -> bytes:
        """Answers the frame's data exactly as recorded, for raw streams."""
        start = self.body.index(_DATA_MARK) + len(_DATA_MARK)
        return self.body[start : self.body.rindex(b"}")]


@dataclass
class SymbolScan:
    """What one recording says about one symbol."""

    price_units: int = 0  # greatest common divisor of all prices, in units of 10**-8
    quantity_units: int = 0
    snapshot: bytes = b""  # the first snapshot's body as recorded
    snapshot_frame: Frame | None = None
    depth_file: Path | None = None  # the first file with depth frames
    has_trades: bool = False  # single ones; aggregates tell the same once more

    @property
    def grid(self) -> tuple[int, int]:
        """Answers the finest decimal tick and lot in use, in units of 10**-8."""
        price_units, quantity_units = self.price_units, self.quantity_units
        return (
            decimal_step_units(price_units or UNITS_PER_ONE),
            decimal_step_units(quantity_units or UNITS_PER_ONE),
        )


@dataclass
class Scan:
    """What all recordings together say, from the first reading."""

    symbols: dict[str, SymbolScan] = field(default_factory=dict)
    streams: dict[str, int] = field(default_factory=dict)  # frames by stream name
    lines_n: int = 0
    market: Market = SPOT  # told from the frames; spot when they have the form of both
    market_file: Path | None = None  # the first file that told it


def scan(paths: Iterable[str | Path]) -> Scan:
    """Reads recordings through and checks every line.

    Symbols, streams come in the order of their appearance; the market is told from the frames.

    Raises:
        CaptureError: a file cannot be read, is empty or garbled, frames are of two markets, or the
            depth frames of a symbol have no snapshot in any file; the message says where.
    """
    result = Scan()
    for path in paths:
        _scan_file(Path(path), result)
    for name, symbol in result.symbols.items():
        if symbol.depth_file is not None and symbol.snapshot_frame is None:
            raise CaptureError(
                "depth frames must have the REST snapshot they change: no line with lastUpdateId,"
                f" bids and asks in file={symbol.depth_file} symbol={name};"
                " record one, or leave the depth stream out"
            )
    return result


def read_lines(paths: Iterable[str | Path]) -> Iterator[Line]:
    """Yields the lines of recordings, merged by time; equal times keep the order of the files.

    Raises:
        CaptureError: a file cannot be read, a line is garbled, or a file's time goes back.
    """
    return heapq.merge(*(_read_file(Path(path)) for path in paths), key=lambda line: line.time_ns)


def _scan_file(path: Path, result: Scan) -> None:
    number = 0
    for number, line in enumerate(_read_file(path), start=1):
        symbol = result.symbols.setdefault(line.symbol, SymbolScan())
        try:
            is_depth = _scan_frame(line, symbol)
        except ValueError as error:
            raise CaptureError(f"{error}: file={path} line={number}") from None
        if is_depth and symbol.depth_file is None:
            symbol.depth_file = path
        if line.frame.data is not None:
            _tell_market(line.frame.data, result, path, number)
            stream = line.frame.stream
            result.streams[stream] = result.streams.get(stream, 0) + 1
    if not number:
        raise CaptureError(f"a recording must have lines: file={path}")
    result.lines_n += number


def _tell_market(data: Payload, result: Scan, path: Path, number: int) -> None:
    """Learns the market of a recording from one frame.

    Raises:
        CaptureError: the frames before were of the other market.
    """
    market = data.market()
    if market is None:
        return
    if result.market_file is None:
        result.market, result.market_file = market, path
    elif market is not result.market:
        raise CaptureError(
            f"recordings that are played together must be of one market: {result.market.name} in"
            f" file={result.market_file}, {market.name} in file={path} line={number};"
            " play them one at a time"
        )


def _scan_frame(line: Line, symbol: SymbolScan) -> bool:
    """Learns from one line; says whether it changes depth.

    Raises:
        ValueError: a price or quantity is no decimal.
    """
    frame, data = line.frame, line.frame.data
    if data is None:
        if symbol.snapshot_frame is None:
            symbol.snapshot, symbol.snapshot_frame = line.body, frame
        _measure(symbol, frame.bids)
        _measure(symbol, frame.asks)
    elif data.is_depth():
        _measure(symbol, data.levels(data.b))
        _measure(symbol, data.levels(data.a))
        return True
    elif data.is_trade():
        symbol.has_trades = symbol.has_trades or data.e == "trade"
        _measure(symbol, [(data.p, data.q)])
    elif data.is_top():
        _measure(symbol, data.top())
    return False


def _measure(symbol: SymbolScan, pairs: Pairs) -> None:
    price_units, quantity_units = symbol.price_units, symbol.quantity_units
    for price, quantity in pairs:
        price_units = gcd(price_units, units_from_text(price))
        quantity_units = gcd(quantity_units, units_from_text(quantity))
    symbol.price_units, symbol.quantity_units = price_units, quantity_units


def _read_file(path: Path) -> Iterator[Line]:
    """Yields one file's lines; a snapshot before any frame gets its symbol from the first frame."""
    decoder = msgspec.json.Decoder(Frame)
    waiting: list[Line] = []
    symbol, last_ns = "", 0
    for number, text in enumerate(raw_lines(path), start=1):
        line = _read_line(text, symbol, decoder, path, number)
        if line.time_ns < last_ns:
            raise CaptureError(
                f"local time must not go back: file={path} line={number} "
                f"time_ns={line.time_ns} before_ns={last_ns}"
            )
        last_ns, symbol = line.time_ns, line.symbol
        if not symbol:
            waiting.append(line)
            continue
        for early in waiting:
            yield early._replace(symbol=symbol)
        waiting.clear()
        yield line
    if waiting:
        raise CaptureError(f"a recording must have stream frames: file={path}")


def _read_line(
    text: bytes, symbol: str, decoder: msgspec.json.Decoder[Frame], path: Path, number: int
) -> Line:
    stamp, space, body = text.partition(b" ")
    where = f"file={path} line={number}"
    if not space or not stamp.isdigit():
        raise CaptureError(f"a line must be a local time, a space and JSON: {where}")
    try:
        frame = decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise CaptureError(f"a line must hold a JSON frame or snapshot: {where}: {error}") from None
    if frame.lastUpdateId is None:
        if frame.data is None or not frame.stream or not frame.data.s:
            raise CaptureError(f"a frame must name its stream and its symbol: {where}")
        symbol = frame.data.s
    return Line(local_time_ns(int(stamp)), body, frame, symbol)


def local_time_ns(stamp: int) -> int:
    """Answers a time since 1970 in ns; the number of its digits says in which unit it is."""
    if stamp >= _NS_FROM:
        return stamp
    return stamp * (1_000 if stamp >= _US_FROM else 1_000_000)


def _is_gzip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == GZIP_MAGIC
    except OSError as error:
        reason = (error.strerror or "unknown").lower()
        raise CaptureError(f"a recording must be readable: file={path}: {reason}") from None


def raw_lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a gzip or plain file without their ends, empty ones left out."""
    is_gzip = _is_gzip(path)
    with gzip.open(path, "rb") if is_gzip else path.open("rb") as file:
        number = 0
        while True:
            number += 1
            try:
                text = file.readline(LINE_BYTES_MAX)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                where = f"file={path} line={number}"
                raise CaptureError(f"gzip data must be whole: {where}: {error}") from None
            if not text:
                return
            if len(text) >= LINE_BYTES_MAX:
                raise CaptureError(
                    f"a line must be shorter: file={path} line={number} bytes_max={LINE_BYTES_MAX}"
                )
            if text := text.rstrip(b"\r\n"):
                yield text
