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
it, and `reclaim` removes what a killed creator left behind.
"""

from __future__ import annotations

import hashlib
import os
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
    """Answers when a process started, in clock ticks since boot, 0 when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])


class _Untracked(shared_memory.SharedMemory):
    """A mapping that the resource tracker never hears of and that survives views at exit."""

    def __init__(self, name: str, *, create: bool, size: int = 0) -> None:
        register = resource_tracker.register
        resource_tracker.register = lambda *_: None
        try:
            super().__init__(name, create=create, size=size)
        finally:
            resource_tracker.register = register

    def __del__(self) -> None:  # views may outlive us; the kernel unmaps at exit
        pass


class Segment:
    """One mapped segment. Arrays taken from it are valid until `close`."""

    def __init__(self, memory: _Untracked, name: str, header: Words) -> None:
        self._memory = memory
        self._header = header
        self.name = name

    @property
    def generation(self) -> int:
        """The run that made this segment."""
        return int(self._header[_GENERATION])

    @property
    def owner_pid(self) -> int:
        """The process that made this segment."""
        return int(self._header[_OWNER])

    @property
    def size_bytes(self) -> int:
        """Header and body."""
        return int(self._header[_SIZE])

    def words(self, offset: int, count: int) -> Words:
        """Views `count` int64 words of the body, `offset` bytes behind the header."""
        start = HEADER_BYTES + offset
        assert start + 8 * count <= self._memory.size, "view lies inside the segment"
        return np.ndarray((count,), np.int64, self._memory.buf, start)

    def rows(self, offset: int, count: int, words: int) -> Words:
        """Views a (count, words) table of int64 in the body, `offset` bytes behind the header."""
        return self.words(offset, count * words).reshape(count, words)

    def set_ready(self) -> None:
        """Declares the body usable. Called by: the creator, once, last."""
        _set_ready(self._header, self.generation)

    def close(self) -> None:
        """Drops the mapping where no view holds it; the name stays."""
        try:
            self._memory.close()
        except BufferError:
            self._memory = None  # type: ignore[assignment]  # unmapped when the last view goes

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
            f"segment name must be free: name={name}; stop the engine that holds it"
        ) from None
    except OSError as error:
        raise SegmentError(
            f"segment must fit into /dev/shm: name={name} size_bytes={body_bytes} error={error}"
        ) from None
    header = np.ndarray((HEADER_WORDS,), np.int64, memory.buf)
    header[_MAGIC], header[_FINGERPRINT], header[_GENERATION] = MAGIC, layout, generation
    header[_SIZE], header[_OWNER], header[_CREATED] = memory.size, os.getpid(), epoch_ns()
    header[_OWNER_START] = process_start(os.getpid())
    return Segment(memory, name, header)


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
    if status.st_uid not in (os.getuid(), 0) or status.st_size < HEADER_BYTES:
        raise SegmentError(
            f"segment must be ours and whole: name={name} owner={status.st_uid}"
            f" size_bytes={status.st_size}"
        )
    try:
        memory = _Untracked(name, create=False)
    except OSError as error:
        raise SegmentError(f"segment must be readable: name={name} error={error}") from None
    header = np.ndarray((HEADER_WORDS,), np.int64, memory.buf)
    fault = _fault(header, memory.size, layout)
    if fault:
        raise SegmentError(f"{fault}: name={name}")
    return Segment(memory, name, header)


def _fault(header: Words, size: int, layout: int) -> str:
    if header[_MAGIC] != MAGIC:
        return f"segment must carry our magic word: found={int(header[_MAGIC]):x}"
    if _ready(header) == 0 or _ready(header) != header[_GENERATION]:
        return f"segment must be ready: generation={header[_GENERATION]}"
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
    return sorted(path.name for path in _FOLDER.glob(f"{prefix}*"))


def reclaim(prefix: str) -> list[str]:
    """Unlinks our segments of `prefix` whose owner is dead; answers their names.

    Only files of this user that carry our magic word are touched.
    """
    gone = []
    for name in names(prefix):
        path = _FOLDER / name
        try:
            head = np.frombuffer(path.read_bytes()[:64], np.int64)
        except OSError:
            continue
        mine = (
            len(head) == HEADER_WORDS
            and head[_MAGIC] == MAGIC
            and path.stat().st_uid == os.getuid()
        )
        if mine and process_start(int(head[_OWNER])) != head[_OWNER_START]:
            unlink(name)
            gone.append(name)
    return gone
