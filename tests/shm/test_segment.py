"""Segments: what a name in shared memory may be, who removes it, and every way it can be wrong."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from shm import segment
from shm.segment import HEADER_BYTES, MAGIC, Segment, SegmentError
from tests.conftest import ROOT, SHARED_MEMORY
from tests.shm.conftest import LAYOUT
from tests.shm.processes import Children

BODY_BYTES = 8_192
GENERATION = 7
NOBODY = 65_534
_MAGIC, _READY, _FINGERPRINT, _GENERATION, _SIZE, _OWNER, _CREATED, _OWNER_START = range(8)

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")


@pytest.fixture
def made(segment_prefix: str) -> Iterator[Segment]:
    built = segment.create(f"{segment_prefix}-one", BODY_BYTES, LAYOUT, GENERATION)
    yield built
    built.unlink()
    built.close()


@pytest.fixture
def ready(made: Segment) -> Segment:
    made.set_ready()
    return made


def file_of(name: str) -> Path:
    return SHARED_MEMORY / name


def set_header(name: str, word: int, value: int) -> None:
    with file_of(name).open("r+b") as file:
        file.seek(8 * word)
        file.write(np.int64(value).tobytes())


def fault_of(name: str) -> str:
    """Attaches in vain; answers the message, which must be one line about this segment."""
    with pytest.raises(SegmentError) as raised:
        segment.attach(name, LAYOUT)
    text = str(raised.value)

    assert "\n" not in text
    assert f"name={name}" in text
    return text


def test_a_segment_is_readable_by_its_user_alone(made: Segment) -> None:
    assert stat.filemode(file_of(made.name).stat().st_mode) == "-rw-------"


def test_an_attached_segment_is_the_one_that_was_made(ready: Segment) -> None:
    ready.words(64, 3)[:] = [1, 2, 3]
    attached = segment.attach(ready.name, LAYOUT)
    attached.rows(64, 1, 3)[0, 2] = 9

    assert ready.words(64, 3).tolist() == [1, 2, 9]
    assert (attached.generation, attached.owner_pid) == (GENERATION, os.getpid())
    assert attached.size_bytes == HEADER_BYTES + BODY_BYTES == file_of(ready.name).stat().st_size


def test_a_new_segment_is_all_zero_and_has_its_pages(made: Segment) -> None:
    assert not made.words(0, BODY_BYTES // 8).any()
    assert file_of(made.name).stat().st_blocks * 512 >= HEADER_BYTES + BODY_BYTES


def test_a_segment_is_not_attached_before_it_is_ready(made: Segment) -> None:
    refused = fault_of(made.name)
    before = made.is_ready
    made.set_ready()

    assert "must be ready: generation=7" in refused
    assert (before, made.is_ready) == (False, True)
    assert segment.attach(made.name, LAYOUT).is_ready


def test_a_name_is_made_once(ready: Segment) -> None:
    with pytest.raises(SegmentError, match=f"must be free: name={ready.name}; stop the engine"):
        segment.create(ready.name, BODY_BYTES, LAYOUT, 8)

    assert segment.attach(ready.name, LAYOUT).generation == GENERATION


def test_memory_that_cannot_be_had_is_an_error_at_once_and_leaves_no_name(
    segment_prefix: str,
) -> None:
    with pytest.raises(
        SegmentError, match=r"must fit into /dev/shm: .* free_bytes=\d+ error=No sp"
    ):
        segment.create(segment_prefix, 1 << 44, LAYOUT, 1)

    assert segment.names(segment_prefix) == []


@pytest.mark.parametrize(("offset", "count"), [(0, BODY_BYTES // 8 + 1), (-8, 1), (4, 1)])
def test_views_lie_inside_the_body(ready: Segment, offset: int, count: int) -> None:
    with pytest.raises(AssertionError, match="views lie"):
        ready.words(offset, count)


def test_views_outlive_close_and_close_may_be_called_twice(ready: Segment) -> None:
    words = ready.words(0, 2)
    ready.close()
    ready.close()
    words[1] = 5

    assert words.tolist() == [0, 5]
    assert ready.generation == GENERATION
    with pytest.raises(AssertionError, match="the segment is open"):
        ready.words(0, 1)


def test_attaching_keeps_no_descriptor(ready: Segment) -> None:
    def opened() -> int:
        found = Path("/proc/self/fd").iterdir()
        links = (str(path.readlink()) for path in found if path.is_symlink())
        return sum(ready.name in link for link in links)

    before = opened()
    kept = [segment.attach(ready.name, LAYOUT) for _ in range(20)]
    held = opened() - before  # one each, of the mapping itself
    for one in kept:
        one.close()

    assert (held, opened() - before) == (20, 0)


def truncate(name: str, size: int) -> Callable[[], None]:
    return lambda: os.truncate(file_of(name), size)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "must be whole"),
        (64, "must be whole"),
        (HEADER_BYTES - 1, "must be whole"),
        (HEADER_BYTES, "must be whole: expected_bytes=12288 found_bytes=4096"),
        (HEADER_BYTES + BODY_BYTES - 8, "must be whole"),
        (HEADER_BYTES + BODY_BYTES + 4_096, "must be whole"),
    ],
)
def test_a_truncated_or_grown_segment_is_refused_and_stays(
    ready: Segment, size: int, message: str
) -> None:
    os.truncate(file_of(ready.name), size)

    assert message in fault_of(ready.name)
    assert file_of(ready.name).stat().st_size == size


@pytest.mark.parametrize(
    ("word", "value", "message"),
    [
        (_MAGIC, 0x6E6F7420, "must carry our magic word: found=6e6f7420"),
        (_READY, 0, "must be ready"),
        (_READY, GENERATION - 1, "must be ready"),
        (_FINGERPRINT, LAYOUT - 1, f"layout differs: expected={LAYOUT:x} found={LAYOUT - 1:x}"),
        (_SIZE, 1 << 40, "must be whole"),
    ],
)
def test_a_header_that_is_not_ours_is_refused_and_stays(
    ready: Segment, word: int, value: int, message: str
) -> None:
    set_header(ready.name, word, value)
    before = file_of(ready.name).read_bytes()

    assert message in fault_of(ready.name)
    assert file_of(ready.name).read_bytes() == before


def test_garbage_is_refused_and_stays(segment_prefix: str) -> None:
    random = np.random.default_rng(3)
    for size in (1, 4_095, 4_096, 10_000):
        path = file_of(segment_prefix)
        path.write_bytes(garbage := random.bytes(size))

        assert "must" in fault_of(segment_prefix)
        assert path.read_bytes() == garbage
        path.unlink()


def test_a_name_that_nobody_made_is_said_to_be_missing(segment_prefix: str) -> None:
    assert "must exist" in fault_of(segment_prefix)


@needs_root
def test_a_segment_of_another_user_is_refused_and_stays(ready: Segment) -> None:
    os.chown(file_of(ready.name), NOBODY, NOBODY)

    assert f"must be ours: name={ready.name} owner={NOBODY}" in fault_of(ready.name)
    assert file_of(ready.name).exists()


def test_what_is_no_plain_file_is_refused_and_stays(ready: Segment, segment_prefix: str) -> None:
    path = file_of(f"{segment_prefix}-odd")
    path.symlink_to(file_of(ready.name))
    linked = fault_of(path.name)
    path.unlink()
    os.mkfifo(path, 0o600)
    piped = fault_of(path.name)
    path.unlink()
    path.mkdir()
    folder = fault_of(path.name)
    path.rmdir()

    assert "must be readable" in linked
    assert [piped.split(":")[0], folder.split(":")[0]] == ["segment must be whole"] * 2


def attach_without_room(name: str) -> None:
    """Has no address space left for the mapping."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
    assert "must be readable" in fault_of(name)


def test_a_segment_that_cannot_be_mapped_stays(segment_prefix: str, children: Children) -> None:
    """The standard library would unlink it: its clean-up does not ask who made the name."""
    built = segment.create(segment_prefix, 1 << 10, LAYOUT, 1)
    built.set_ready()
    os.truncate(file_of(segment_prefix), 1 << 32)  # sparse: takes no memory
    set_header(segment_prefix, _SIZE, 1 << 32)
    status = children.join(children.start(attach_without_room, segment_prefix))
    left = segment.names(segment_prefix)
    built.unlink()

    assert (status, left) == (0, [segment_prefix])


STRANGER = """
import multiprocessing, sys
from shm import segment
lock = multiprocessing.Lock()  # starts the resource tracker
if sys.argv[2] == "create":
    one = segment.create(sys.argv[1], 64, int(sys.argv[3]), 1)
    one.set_ready()
else:
    one = segment.attach(sys.argv[1], int(sys.argv[3]))
kept = one.words(0, 8)
print(one.generation)
"""


@pytest.mark.multiprocess
@pytest.mark.parametrize("what", ["attach", "create"])
def test_a_process_that_ends_leaves_the_segment_and_says_nothing(
    ready: Segment, segment_prefix: str, what: str
) -> None:
    """An interpreter of its own, because the resource tracker acts when that ends."""
    name = ready.name if what == "attach" else f"{segment_prefix}-two"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", STRANGER, name, what, str(LAYOUT)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    found = segment.names(segment_prefix)
    segment.unlink(name)

    assert (done.returncode, done.stderr) == (0, "")
    assert name in found


def make_and_die(name: str, *, ready: bool = True) -> None:
    made = segment.create(name, 64, LAYOUT, 1)
    if ready:
        made.set_ready()


def test_reclaim_removes_what_dead_owners_left_and_nothing_else(
    ready: Segment, segment_prefix: str, children: Children
) -> None:
    dead = [f"{segment_prefix}-dead", f"{segment_prefix}-dead-unready"]
    children.join(children.start(make_and_die, dead[0]))
    children.join(children.start(make_and_die, dead[1], ready=False))
    foreign = file_of(f"{segment_prefix}-foreign")
    foreign.write_bytes(bytes(HEADER_BYTES))
    short = file_of(f"{segment_prefix}-short")
    short.write_bytes(np.int64(MAGIC).tobytes())
    pipe = file_of(f"{segment_prefix}-pipe")
    os.mkfifo(pipe)
    elsewhere = segment.reclaim(f"{segment_prefix}-dead-unready-too")
    gone = segment.reclaim(segment_prefix)
    left = segment.names(segment_prefix)
    for path in (foreign, short, pipe):
        path.unlink()

    assert (elsewhere, gone) == ([], dead)
    assert left == sorted([foreign.name, short.name, pipe.name, ready.name])


def test_reclaim_knows_a_reused_pid_by_its_start_time(ready: Segment) -> None:
    set_header(ready.name, _OWNER_START, segment.process_start(os.getpid()) - 1)

    assert segment.reclaim(ready.name) == [ready.name]


def test_reclaim_takes_an_owner_that_nobody_has_reaped_for_dead(
    segment_prefix: str, children: Children
) -> None:
    pid = children.start(make_and_die, segment_prefix)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    gone = segment.reclaim(segment_prefix)
    start = segment.process_start(pid)
    children.reap(pid)

    assert (gone, start) == ([segment_prefix], 0)


@needs_root
def test_reclaim_leaves_the_segments_of_another_user(
    segment_prefix: str, children: Children
) -> None:
    children.join(children.start(make_and_die, segment_prefix))
    os.chown(file_of(segment_prefix), NOBODY, NOBODY)
    gone = segment.reclaim(segment_prefix)
    segment.unlink(segment_prefix)

    assert gone == []


def test_a_process_has_one_start_time_and_none_when_there_is_no_process() -> None:
    mine = segment.process_start(os.getpid())

    assert mine == segment.process_start(os.getpid()) > 0
    assert segment.process_start(1 << 30) == 0


def test_fingerprints_are_positive_and_tell_layouts_apart() -> None:
    prints = {segment.fingerprint("ring", count) for count in range(100)}

    assert len(prints) == 100
    assert min(prints) > 0
    assert max(prints) < 1 << 63
    assert segment.fingerprint("ring", 1) == segment.fingerprint("ring", 1)
