"""The stage decodes a batch when it is due and its window is over, not before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.codec_layout import DONE, DUE, ODD, STATUS, WINDOW_NS
from shm.jit import now_ns
from tests.engine.scratch_feed import BTCUSDT, Scratch, scratch_feed
from workers.ingest_stage import decode_due

QUOTE = (
    b'{"stream":"btcusdt@bookTicker","data":{"u":400900217,"s":"BTCUSDT","b":"25.35000000",'
    b'"B":"31.21000000","a":"25.36000000","A":"40.66000000"}}'
)
HOUR_NS = 3_600 * 10**9


@pytest.fixture
def scratch(segment_prefix: str) -> Iterator[Scratch]:
    with scratch_feed(segment_prefix, BTCUSDT) as made:
        made.rows()
        yield made


def _step(scratch: Scratch) -> int:
    return decode_due(int(scratch.feed.path.ctypes.data))


def test_a_batch_that_is_not_due_waits(scratch: Scratch) -> None:
    scratch.feed.append(QUOTE, now_ns())

    assert _step(scratch) == 0
    assert scratch.rows() == []


def test_a_due_batch_without_a_window_is_decoded_at_once(scratch: Scratch) -> None:
    scratch.feed.append(QUOTE, now_ns())
    scratch.feed.words[DUE] = 1

    assert _step(scratch) == 1
    assert scratch.feed.words[STATUS] == DONE
    assert len(scratch.rows()) == 1
    assert _step(scratch) == 0


def test_a_due_batch_waits_until_its_window_is_over(scratch: Scratch) -> None:
    scratch.feed.words[WINDOW_NS] = HOUR_NS
    scratch.feed.append(QUOTE, now_ns())
    scratch.feed.words[DUE] = 1
    early = _step(scratch)
    scratch.feed.index[1] -= HOUR_NS

    assert early == 0
    assert _step(scratch) == 1
    assert len(scratch.rows()) == 1


def test_what_the_compiled_decoder_will_not_take_is_finished_by_the_feed(scratch: Scratch) -> None:
    spaced = QUOTE.replace(b'"data":', b'"data": ')
    scratch.feed.append(spaced, now_ns())
    scratch.feed.append(QUOTE, now_ns())
    scratch.feed.words[DUE] = 1
    _step(scratch)
    status = scratch.feed.words[STATUS]

    assert status == ODD
    assert scratch.feed.finish(status) == DONE
    assert len(scratch.rows()) == 2
    assert scratch.feed.waiting == 0
