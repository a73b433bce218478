"""shm room: a named piece of shared memory with a header that says what it is and when it is ready.

    offset  size  field          writer
    0       8     magic          creator, once
    8       8     ready          creator, last, with release: equals the generation when usable
    16      8     fingerprint    creator, once: hash of the layout that lies behind the header
    24      8     generation     creator, once: the run that made it
    32      8     size_bytes     creator, once: header and body
    40      8     owner_pid      creator, once
    48      8     created_ns     creator, once: CLOCK_REALTIME
    56      8     owner_start    creator, once: start time of the owner, in clock ticks since boot
    64..4095      unused, zero
    4096    ...   body

The standard library's resource tracker unlinks, when any attached process ends, segments that the
rest still uses (CPython before 3.13). So no segment is ever registered with it: its creator unlinks
it, and `reclaim` removes what a killed creator left behind. Nothing else ever removes a name.
"""

from __future__ import annotations

import hashlib
import os
import stat
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shm.jit import epoch_ns, jit, load_acquire, store_release

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

HEADER_BYTES = 4096
HEADER_WORDS = 8
MAGIC = 0x474E_4952_4B43_4954  # "TICKRING", little-endian
_MAGIC, _READY, _FINGERPRINT, _GENERATION, _SIZE, _OWNER, _CREATED, _OWNER_START = range(8)
_DEAD_STATES = ("Z", "X", "x")  # a process that its parent has not reaped owns nothing
_FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux shows POSIX shared memory


class SegmentError(OSError):
    """A segment cannot be made or attached; the message says which, why and what to do."""


@jit
def _set_ready(header: Words, generation: int) -> None:
    # Pairs with _ready in this file: whoever sees the generation sees the whole header and body.
    store_release(header, 1, generation)


@jit
def _ready(header: Words) -> int:
    # Pairs with _set_ready in this file.
    return load_acquire(header, 1)


def fingerprint(*parts: object) -> int:
    """Answers a positive 63-bit hash of a layout's description."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def process_start(pid: int) -> int:
    """Answers when a process started, in clock ticks since boot, 0 when it is not alive."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in _DEAD_STATES else int(fields[19])


class _Untracked(shared_memory.SharedMemory):
    """A mapping that the resource tracker never hears of and that lives as long as its views.

    It keeps no descriptor: the mapping needs none, and views may outlive `close`.
    """

    _fd: int  # of the base class

    def __init__(self, name: str, *, create: bool, size: int = 0) -> None:
        register = resource_tracker.register
        resource_tracker.register = lambda *_: None
        try:
            super().__init__(name, create=create, size=size)
            if create:
                # Takes the pages now: without them, the first store into a full /dev/shm kills.
                os.posix_fallocate(self._fd, 0, size)
        except (OSError, ValueError):
            if create and self._fd >= 0:  # opened, so the name is of our making
                unlink(name)
            raise
        finally:
            resource_tracker.register = register
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __del__(self) -> None:  # the mapping goes with its last view
        pass

    def unlink(self) -> None:
        """Keeps the name: the base class removes it when mapping fails, though others use it."""


class Segment:
    """One mapped segment. Arrays taken from it keep the mapping; addresses need it open."""

    def __init__(self, memory: _Untracked, name: str, header: Words) -> None:
        self._memory: _Untracked | None = memory
        self._header = header
        self._facts = header.copy()  # what never changes is not read from a file that may shrink
        self.name = name

    @property
    def generation(self) -> int:
        """The run that made this segment."""
        return int(self._facts[_GENERATION])

    @property
    def owner_pid(self) -> int:
        """The process that made this segment."""
        return int(self._facts[_OWNER])

    @property
    def size_bytes(self) -> int:
        """Header and body."""
        return int(self._facts[_SIZE])

    @property
    def is_ready(self) -> bool:
        """Whether its creator has declared it usable."""
        return bool(_ready(self._header) != 0)

    def words(self, offset: int, count: int) -> Words:
        """Views `count` int64 words of the body, `offset` bytes behind the header."""
        assert self._memory is not None, "the segment is open"
        start = HEADER_BYTES + offset
        assert offset >= 0, "views lie behind the header"
        assert offset % 8 == 0, "views lie on whole words"
        assert start + 8 * count <= self._memory.size, "views lie inside the segment"
        return np.ndarray((count,), np.int64, self._memory.buf, start)

    def rows(self, offset: int, count: int, words: int) -> Words:
        """Views a (count, words) table of int64 in the body, `offset` bytes behind the header."""
        return self.words(offset, count * words).reshape(count, words)

    def set_ready(self) -> None:
        """Declares the body usable. Called by: the creator, once, last."""
        _set_ready(self._header, self.generation)

    def close(self) -> None:
        """Gives the mapping up; it goes when its last view does. The name stays."""
        self._header = self._facts
        self._memory = None

    def unlink(self) -> None:
        """Removes the name. Called by: the creator at the end, or `reclaim`."""
        unlink(self.name)


def unlink(name: str) -> None:
    """Removes a segment's name; no error when it is gone already."""
    (_FOLDER / name).unlink(missing_ok=True)


def create(name: str, body_bytes: int, layout: int, generation: int) -> Segment:
    """Makes a segment of `body_bytes` zero bytes behind the header, mode 0600, not ready yet.

    Args:
        name: without a slash; letters, digits, dot and dash.
        body_bytes: size behind the header.
        layout: fingerprint of what will lie in the body.
        generation: the run, 1 or more.

    Raises:
        SegmentError: when the name is taken or memory cannot be had.
    """
    assert generation > 0, "generation is positive"
    try:
        memory = _Untracked(name, create=True, size=HEADER_BYTES + body_bytes)
    except FileExistsError:
        raise SegmentError(
            f"segment name must be free: name={name};"
            f" stop the engine that holds it, or remove {_FOLDER / name}"
        ) from None
    except OSError as error:
        raise SegmentError(
            f"segment must fit into {_FOLDER}: name={name} size_bytes={HEADER_BYTES + body_bytes}"
            f" free_bytes={_free_bytes()} error={error.strerror}; enlarge it or need less"
        ) from None
    header = np.ndarray((HEADER_WORDS,), np.int64, memory.buf)
    header[_FINGERPRINT], header[_GENERATION] = layout, generation
    header[_SIZE], header[_OWNER], header[_CREATED] = memory.size, os.getpid(), epoch_ns()
    header[_OWNER_START] = process_start(os.getpid())
    header[_MAGIC] = MAGIC  # last: `reclaim` asks no file without it who owns it
    return Segment(memory, name, header)


def _free_bytes() -> int:
    room = os.statvfs(_FOLDER)
    return room.f_bavail * room.f_frsize


def attach(name: str, layout: int) -> Segment:
    """Maps an existing segment after checking that it is one of ours, ready and of this layout.

    Raises:
        SegmentError: when it is missing, not ours, not ready, truncated, of another user or layout.
    """
    path = _FOLDER / name
    try:
        status = path.stat()
    except OSError:
        raise SegmentError(f"segment must exist: name={name}; is the engine running") from None
    if status.st_uid not in (os.getuid(), 0):
        raise SegmentError(f"segment must be ours: name={name} owner={status.st_uid}")
    if not stat.S_ISREG(status.st_mode) or status.st_size < HEADER_BYTES:
        raise SegmentError(f"segment must be whole: name={name} size_bytes={status.st_size}")
    try:
        memory = _Untracked(name, create=False)
    except (OSError, ValueError) as error:  # ValueError: it was emptied a moment ago
        raise SegmentError(f"segment must be readable: name={name} error={error}") from None
    header = np.ndarray((HEADER_WORDS,), np.int64, memory.buf)
    fault = _fault(header, memory.size, layout)
    if fault:
        raise SegmentError(f"{fault}; name={name}")
    return Segment(memory, name, header)


def _fault(header: Words, size: int, layout: int) -> str:
    if header[_MAGIC] != MAGIC:
        return f"segment must carry our magic word: found={int(header[_MAGIC]):x}"
    if _ready(header) == 0 or _ready(header) != header[_GENERATION]:
        return (
            f"segment must be ready: generation={header[_GENERATION]} owner={header[_OWNER]};"
            " wait until the engine has started"
        )
    if header[_FINGERPRINT] != layout:
        return (
            f"segment layout differs: expected={layout:x} found={int(header[_FINGERPRINT]):x};"
            " stop every worker of the older version"
        )
    if header[_SIZE] != size:
        return f"segment must be whole: expected_bytes={header[_SIZE]} found_bytes={size}"
    return ""


def names(prefix: str) -> list[str]:
    """Answers the names in /dev/shm that begin with `prefix`, sorted."""
    return sorted(path.name for path in _FOLDER.iterdir() if path.name.startswith(prefix))


def reclaim(prefix: str) -> list[str]:
    """Unlinks our segments of `prefix` whose owner is dead; answers their names.

    Only plain files of this user that carry our magic word are touched. An owner counts as dead
    when no process has its pid and its start time: a pid alone comes back. A header whose owner is
    not written yet, or not seen yet, is of a segment that is just being made.
    """
    gone = []
    for name in names(prefix):
        header = _own_header(_FOLDER / name)
        if header is None or header[_MAGIC] != MAGIC:
            continue
        if 0 in {int(header[_OWNER]), int(header[_OWNER_START])}:
            continue
        if process_start(int(header[_OWNER])) != header[_OWNER_START]:
            unlink(name)
            gone.append(name)
    return gone


def _own_header(path: Path) -> Words | None:
    """Reads the header of this user's plain file without waiting, whatever else bears the name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
            return None
        raw = os.read(descriptor, 8 * HEADER_WORDS)
    finally:
        os.close(descriptor)
    return np.frombuffer(raw, np.int64) if len(raw) == 8 * HEADER_WORDS else None
