"""workers room: the compiled part of the ingest agent's duty cycle, for workers/chain.py."""

from __future__ import annotations

from engine.codec_batch import decode
from engine.codec_layout import (
    COUNT,
    DUE,
    FRAMES_MAX,
    NOW_NS,
    PATH_WORDS,
    STATUS,
    WINDOW_NS,
    index_of,
)
from shm.jit import now_ns, stage, words_at


@stage
def decode_due(address: int) -> int:
    """Decodes the batch of the path at `address` if it is due; answers 1 when it was.

    It is due when DUE says so and its window is over. STATUS holds what `decode` answered. Whoever
    sets DUE has told everybody of what comes before the batch.
    """
    path = words_at(address, PATH_WORDS)
    if path[DUE] == 0:
        return 0
    clock_ns = now_ns()
    if clock_ns - index_of(path)[0, 1] < path[WINDOW_NS] and path[COUNT] < path[FRAMES_MAX]:
        return 0
    path[DUE] = 0
    path[NOW_NS] = clock_ns
    path[STATUS] = decode(path)
    return 1
