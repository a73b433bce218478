"""The writer of a capture: what is dropped is counted, snapshots join, files turn over."""

from __future__ import annotations

from pathlib import Path

from engine.venues import SPOT, USDM, Market
from tests.engine.scratch_feed import depth_frame, quote_frame, snapshot_body
from workers.capture_plan import joins, source_of, stream_of_frame
from workers.capture_writer import Entry, Output, Queue, Writer
from workers.exchange.capture import read_lines, scan

NS = 1_700_000_000_000_000_000
LEVELS = [("1.00", "2.0")]


class Rig:
    """A writer whose questions are kept; answers are put by the test."""

    def __init__(self, folder: Path, market: Market = SPOT, file_bytes_max: int = 1 << 20) -> None:
        self.queue = Queue()
        self.asked: list[tuple[str, int]] = []
        output = Output(folder, file_bytes_max, 3_600.0)
        self.writer = Writer(
            self.queue, market, output, lambda symbol, tries: self.asked.append((symbol, tries))
        )

    def run(self, *bodies: bytes, symbol: str = "BTCUSDT") -> None:
        """Writes frames in this order and ends; what begins as a snapshot is the symbol's."""
        for number, body in enumerate(bodies):
            of = symbol if body.startswith(b'{"lastUpdateId"') else ""
            self.queue.put(Entry(NS + number, body, of))
        self.writer.start()
        self.writer.stop()


def test_a_full_queue_drops_and_counts_and_takes_again_when_it_is_emptied() -> None:
    queue = Queue(entries_max=2, bytes_max=10)
    for body in (b"1234", b"1234567", b"12", b"1"):
        queue.put(Entry(1, body))

    assert queue.dropped == 2
    assert [queue.take(), queue.take(), queue.take()] == [Entry(1, b"1234"), Entry(1, b"12"), None]
    queue.put(Entry(2, b"1234567890"))
    assert queue.dropped == 2


def test_a_snapshot_is_asked_for_behind_the_first_difference_and_again_when_it_is_too_old(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path)
    old, good = snapshot_body(5, LEVELS, []), snapshot_body(11, LEVELS, [])
    rig.run(quote_frame(1), depth_frame(10, 12, LEVELS, []), old, good, depth_frame(13, 13, [], []))

    assert rig.asked == [("BTCUSDT", 0), ("BTCUSDT", 1)]
    [(symbol, file, is_playable)] = rig.writer.files
    assert (symbol, is_playable, file.lines_n) == ("BTCUSDT", True, 4)
    assert [line.frame.lastUpdateId for line in read_lines([file.path])] == [None, None, 11, None]
    assert rig.writer.counts.snapshots_old == 1


def test_a_file_with_differences_and_no_snapshot_is_not_called_playable(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.run(depth_frame(10, 12, LEVELS, []))

    assert [is_playable for _, _, is_playable in rig.writer.files] == [False]


def test_each_symbol_and_each_connection_gets_a_file_of_its_own(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    eth = quote_frame(2, s="ETHUSDT")
    rig.run(quote_frame(1), eth, b"", quote_frame(3))

    names = [(symbol, file.lines_n) for symbol, file, _ in rig.writer.files]
    assert sorted(names) == [("BTCUSDT", 1), ("BTCUSDT", 1), ("ETHUSDT", 1)]
    found = scan(file.path for _, file, _ in rig.writer.files)
    assert found.streams == {"btcusdt@bookTicker": 2, "ethusdt@bookTicker": 1}
    assert list(tmp_path.glob("*.part")) == []


def test_a_clock_that_goes_back_is_counted_and_leaves_a_readable_file(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.queue.put(Entry(NS + 9, quote_frame(1)))
    rig.run(quote_frame(2))

    assert rig.writer.counts.clock_steps == 1
    [(_, file, _)] = rig.writer.files
    assert [line.time_ns for line in read_lines([file.path])] == [NS + 9, NS + 9]


def test_what_cannot_be_a_line_is_counted_and_left_out(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.run(b'{"result":null,"id":1}', quote_frame(1).replace(b",", b",\n"), quote_frame(2))

    assert rig.writer.counts.unrecordable == 2
    assert rig.writer.counts.messages == {"btcusdt@bookTicker": 1}


def test_a_disk_that_refuses_ends_the_writer_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    rig = Rig(tmp_path / "file" / "folder")
    rig.run(quote_frame(1))

    assert isinstance(rig.writer.error, OSError)


def test_usdm_streams_are_split_by_endpoint_and_connections_are_bounded() -> None:
    streams = ["bookTicker", "aggTrade", "depth@0ms", "markPrice@1s"]
    source = source_of(USDM, "ws://h", ("BTCUSDT",), streams)

    assert source.depth_path == "/fapi/v1/depth"
    assert source.urls == (
        "ws://h/public/stream?streams=btcusdt@bookTicker/btcusdt@depth@0ms",
        "ws://h/market/stream?streams=btcusdt@aggTrade/btcusdt@markPrice@1s",
    )
    many = tuple(f"S{number}USDT" for number in range(201))
    assert len(source_of(USDM, "ws://h", many, ["aggTrade"]).urls) == 2


def test_markets_join_snapshots_by_their_own_rule() -> None:
    assert joins(SPOT, 9, 10)
    assert not joins(SPOT, 8, 10)
    assert joins(USDM, 10, 10)
    assert not joins(USDM, 9, 10)


def test_a_frame_without_stream_has_no_place() -> None:
    assert stream_of_frame(quote_frame(1)) == ("BTCUSDT", "bookTicker")
    assert stream_of_frame(b'{"e":"serverShutdown"}') is None
