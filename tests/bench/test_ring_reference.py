"""The C reference is the same ring: each side reads what the other wrote, and sees a wrong word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.rivals import ring_reference
from bench.support import ring_loops, ring_runs
from bench.support.ring_runs import Loops
from shm import ring
from shm.handles import Handle
from shm.ring import GATING, OBSERVING
from shm.segment import Segment

CAPACITY_RECORDS = 1 << 10
RECORDS = 300
WRONG = 7  # the record that is spoilt


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Loops]:
    if not ring_reference.compiler():
        pytest.skip("needs a C compiler: none on PATH, none in CC")
    built = ring_reference.build(tmp_path_factory.mktemp("reference"))
    return {"c": built, "tickring": ring_runs.tickring_loops()}


@pytest.fixture
def made(segment_prefix: str) -> Iterator[Segment]:
    segment = ring.create(
        f"{segment_prefix}-ring", 1,
        capacity=CAPACITY_RECORDS, row_bytes=64, kinds=(GATING, OBSERVING), parkable=False,
    )  # fmt: skip
    yield segment
    segment.unlink()
    segment.close()


PAIRS = [("c", "tickring"), ("tickring", "c"), ("c", "c"), ("tickring", "tickring")]


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
@pytest.mark.parametrize("batch", [1, 64])
def test_each_side_reads_what_the_other_wrote_over_many_laps(
    sides: dict[str, Loops], made: Segment, writer: str, reader: str, batch: int
) -> None:
    handle, out = Handle(made), np.zeros(2, np.int64)
    port = handle.port().reshape(1, -1)
    for _ in range(10):
        sides[writer].write(port, RECORDS, batch, 1)
        sides[reader].read(port, RECORDS, out)
        assert out[ring_loops.FAULTS] == 0

    assert handle.cursor == 10 * RECORDS - 1
    assert handle.control[ring.READER_BASE + ring.RELEASED] == 10 * RECORDS - 1


@pytest.mark.parametrize("reader", ["c", "tickring"])
@pytest.mark.parametrize("word", range(8))
def test_a_single_wrong_word_is_seen(
    sides: dict[str, Loops], made: Segment, reader: str, word: int
) -> None:
    handle, out = Handle(made), np.zeros(2, np.int64)
    port = handle.port().reshape(1, -1)
    sides["c"].write(port, RECORDS, 1, 1)
    handle.rows[WRONG, word] += 1
    sides[reader].read(port, RECORDS, out)

    assert out[ring_loops.FAULTS] != 0


def test_both_sides_compute_the_same_checksum(sides: dict[str, Loops], made: Segment) -> None:
    handle, checks = Handle(made), []
    port = handle.port().reshape(1, -1)
    sides["c"].write(port, RECORDS, 64, 1)
    for side in sides.values():
        out = np.zeros(2, np.int64)
        handle.control[ring.READER_BASE + ring.RELEASED] = -1
        side.read(port, RECORDS, out)
        checks.append(int(out[ring_loops.CHECK]))

    assert checks[0] == checks[1] != 0


def test_c_announces_what_it_writes_to_observing_readers(
    sides: dict[str, Loops], made: Segment
) -> None:
    handle = Handle(made)
    sides["c"].write(handle.port().reshape(1, -1), RECORDS, 1, 1)

    assert RECORDS - 1 <= handle.control[ring.CLAIMED] <= CAPACITY_RECORDS - 1


def test_no_compiler_is_a_reason_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")

    with pytest.raises(RuntimeError, match="no C compiler"):
        ring_reference.build(tmp_path)
