"""workers room: `tickring capture`: raw frames of a venue with their times, into files."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import uvloop
from rich.console import Console

from config.settings import Settings
from config.topology import is_exchange_embedded
from engine.venues import CCXT_PREFIX, market_of
from workers.capture_plan import source_of
from workers.capture_session import Sessions
from workers.capture_writer import Output, Queue, Writer
from workers.endpoints import built_in
from workers.exchange.server import ExchangeServer
from workers.ingest_backoff import Backoff
from workers.rest import Rest
from workers.terminal import print_line, stderr_console

EXIT_OK, EXIT_FAILED = 0, 1
SHOW_S, LOG_S = 0.5, 10.0  # between lines of progress on a terminal, and elsewhere


class Wanted(NamedTuple):
    """What a user asked for."""

    output: Output
    seconds: float | None  # None: until a signal
    as_json: bool


def capture(settings: Settings, wanted: Wanted) -> int:
    """Records until the time is over or a signal comes; answers the exit code.

    `[market]` says which symbols and streams, `[venue]` where from and of which market; without its
    addresses the built-in exchange is started.

    Raises:
        ValueError: a setting is not what it must be.
        OSError: the built-in exchange cannot be served, or the folder cannot be written.
    """
    path = wanted.output.path
    symbols = settings.market.symbols
    if settings.venue.kind.startswith(CCXT_PREFIX):
        raise ValueError(
            "a capture must be of frames as the venue sends them, and ccxt shows none:"
            f" [venue] kind={settings.venue.kind}; `tickring run` records what ccxt reads"
        )
    if path.suffix == ".gz" and len(symbols) != 1:
        raise ValueError(
            f"one file must be of one symbol: out={path} symbols={','.join(symbols)};"
            " give a folder, or --symbols with one"
        )
    folder = path.parent if path.suffix == ".gz" else path
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.suffix == ".gz" and path.exists():
        raise FileExistsError(f"a recording must not be there yet: file={path}; name another")
    return uvloop.run(_capture(settings, wanted))


@asynccontextmanager
async def _venue(settings: Settings) -> AsyncIterator[tuple[str, str]]:
    """Yields REST and stream addresses, of the built-in exchange when no venue is configured."""
    venue = settings.venue
    if not is_exchange_embedded(settings):
        yield venue.rest_url.rstrip("/"), venue.stream_url.rstrip("/")
        return
    server = ExchangeServer(
        settings.exchange, settings.market, keys={}, venue=market_of(venue.kind)
    )
    port = await server.open()
    try:
        addresses = built_in(settings.exchange.host, port)
        yield addresses.rest_url, addresses.stream_url
    finally:
        await server.close()


async def _capture(settings: Settings, wanted: Wanted) -> int:
    console = stderr_console()
    market, venue = settings.market, settings.venue
    recorded = market_of(venue.kind)
    queue, said = Queue(), []

    def say(text: str) -> None:
        said.append(text)
        console.print(f"tickring: {text}", markup=False, highlight=False)

    async with _venue(settings) as (rest_url, stream_url):
        source = source_of(recorded, stream_url, market.symbols, list(market.streams))
        rest = Rest(rest_url, venue.request_ms_max / 1000)
        sessions = Sessions(queue, source, rest, market.snapshot_levels, say)
        writer = Writer(queue, recorded, wanted.output, sessions.ask)
        started_s = monotonic()
        writer.start()
        try:
            sessions.start(
                [Backoff(venue.reconnect_ms, venue.reconnect_ms_max) for _ in source.urls]
            )
            await _watch(writer, queue, wanted.seconds, console)
        finally:
            await sessions.close(venue.request_ms_max / 1000)
            writer.stop()
            rest.close()
    result = _summary(writer, queue, sessions.reconnects, monotonic() - started_s)
    result["market"] = recorded.name
    names = [f"{s.lower()}@{stream}" for s in market.symbols for stream in market.streams]
    result["silent_streams"] = [name for name in names if name not in result["messages"]]
    _show(result, console, as_json=wanted.as_json)
    return _judge(result, writer)


async def _watch(writer: Writer, queue: Queue, seconds: float | None, console: Console) -> None:
    """Shows progress until the time is over, a signal comes or the writer has failed."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    period_s = SHOW_S if console.is_terminal else LOG_S
    before_n, before_s = 0, monotonic()
    with console.status("connecting") as status:
        while not stop.is_set() and writer.is_alive():
            waited_s = 0.0
            while waited_s < period_s and not stop.is_set() and writer.is_alive():
                waited_s += SHOW_S
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), SHOW_S)
            count, now_s = sum(writer.counts.messages.values()), monotonic()
            line = _progress(writer, queue, (count - before_n) / (now_s - before_s))
            before_n, before_s = count, now_s
            status.update(line)
            if not console.is_terminal:
                console.print(line, markup=False, highlight=False)


def _progress(writer: Writer, queue: Queue, rate: float) -> str:
    counts = writer.counts
    span_s = (counts.last_ns - counts.first_ns) / 1e9
    return (
        f"capture: {sum(counts.messages.values())} frames, {rate:.0f}/s,"
        f" {counts.raw_bytes / 1e6:.1f} MB raw, span {span_s:.0f} s, dropped {queue.dropped}"
    )


def _summary(writer: Writer, queue: Queue, reconnects: int, elapsed_s: float) -> dict[str, Any]:
    counts = writer.counts
    frames = sum(counts.messages.values())
    return {
        "files": [
            {
                "path": str(file.path),
                "symbol": symbol,
                "lines": file.lines_n,
                "bytes": file.size_bytes,
                "playable": is_whole,
            }
            for symbol, file, is_whole in writer.files
        ],
        "messages": dict(sorted(counts.messages.items())),
        "frames": frames,
        "snapshots": counts.snapshots,
        "snapshots_too_old": counts.snapshots_old,
        "dropped": queue.dropped,
        "unrecordable": counts.unrecordable,
        "clock_steps": counts.clock_steps,
        "reconnects": reconnects,
        "raw_bytes": counts.raw_bytes,
        "span_s": round((counts.last_ns - counts.first_ns) / 1e9, 6),
        "elapsed_s": round(elapsed_s, 3),
        "rate_per_s": round(frames / elapsed_s, 1) if elapsed_s else 0.0,
    }


def _show(result: dict[str, Any], console: Console, *, as_json: bool) -> None:
    if as_json:
        print_line(json.dumps(result))
        return
    for file in result["files"]:
        print_line(f"{file['path']}  {file['lines']} lines  {file['bytes']} bytes")
    for name, count in result["messages"].items():
        print_line(f"  {name:32s} {count}")
    print_line(
        f"{result['frames']} frames in {result['elapsed_s']:.1f} s, {result['rate_per_s']:.0f}/s;"
        f" snapshots {result['snapshots']}, reconnects {result['reconnects']},"
        f" dropped {result['dropped']}"
    )
    for name in result["silent_streams"]:
        console.print(f"tickring: nothing came on {name}", markup=False, highlight=False)


def _judge(result: dict[str, Any], writer: Writer) -> int:
    """Says, a line each, what keeps the recording from being whole; answers the exit code."""
    lines = []
    if writer.error is not None:
        lines.append(f"the recording must be writable: {writer.error}")
    if result["dropped"]:
        lines.append(f"no frame may be dropped: dropped={result['dropped']}; the disk is too slow")
    if result["unrecordable"]:
        lines.append(
            "a frame must be one line and name its stream:"
            f" unrecordable={result['unrecordable']}; those were left out"
        )
    if not result["frames"]:
        lines.append("the venue must send frames: frames=0; see `tickring check` and [venue]")
    lines += [
        f"a recording with depth must have its snapshot: file={file['path']}; record for longer"
        for file in result["files"]
        if not file["playable"]
    ]
    sys.stderr.writelines(f"tickring: {line}\n" for line in lines)
    return EXIT_FAILED if lines else EXIT_OK


def output_of(path: Path, file_mib_max: int, file_s_max: float) -> Output:
    """Answers where recordings go; raises ValueError when a limit is not positive."""
    if file_mib_max <= 0:
        raise ValueError(f"a file must have room: file_mib={file_mib_max}")
    return Output(path, file_mib_max << 20, file_s_max)
