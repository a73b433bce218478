"""The board keeps a row for each worker, readable by anybody."""

from __future__ import annotations

from shm import segment
from workers import board as boards
from workers.board import Board, WorkerState


def _board(prefix: str) -> tuple[segment.Segment, Board]:
    made = segment.create(prefix + "board", boards.BODY_BYTES, boards.LAYOUT, 1)
    made.set_ready()
    return made, Board(made)


def test_only_named_rows_are_answered(segment_prefix: str) -> None:
    made, board = _board(segment_prefix)
    board.name(0, "trader")
    board.set(0, boards.STATE, WorkerState.READY)
    board.set(0, boards.RESTARTS, 2)
    rows = Board(segment.attach(segment_prefix + "board", boards.LAYOUT)).rows()
    made.unlink()

    assert [(row.name, row.state, row.restarts) for row in rows] == [
        ("trader", WorkerState.READY, 2)
    ]


def test_a_name_of_32_bytes_fits(segment_prefix: str) -> None:
    made, board = _board(segment_prefix)
    board.name(3, "w" * 32)
    names = [row.name for row in board.rows()]
    made.unlink()

    assert names == ["w" * 32]
