"""workers room: WebSocket frames walked in the receive buffer by one compiled call (RFC 6455).

    buffer    | walked | frame frame frame fra|      free         |
                       START                  END

Whole unfragmented data frames go into a feed's batch without Python seeing them. Everything else
(control frames, fragments) is handed to Python one frame at a time; a frame that is not whole yet
stays for the next read. What a server must not send is BAD: masked frames, reserved bits, unknown
kinds, control frames that are long or in fragments, and frames of more than FRAME_BYTES_MAX.

Words, private to the session:

    word      meaning
    0, 1      start, end     of what is read and not walked, in the buffer
    2         is_gathering   1 while a message comes in fragments: data frames are Python's
    3, 4      kind, is_last  of the frame that OTHER tells of
    5, 6      from, to       its payload in the buffer
    7, 8      bytes, frames  of the batch, at which FULL is told
"""

from __future__ import annotations

import os
from base64 import b64encode
from hashlib import sha1

import numpy as np

from engine.codec_feed import FRAME_BYTES_MAX
from engine.codec_layout import COUNT, END, data_of, index_of
from shm.jit import jit
from shm.segment import Bytes, Words
from shm.vectors import copy_bytes

START, STOP, IS_GATHERING, KIND, IS_LAST, FROM, TO, BYTES_HIGH, FRAMES_HIGH = range(9)
WALK_WORDS = 16
BUFFER_BYTES = 2 * FRAME_BYTES_MAX
MORE, OTHER, FULL, BAD = 0, 1, 2, -1  # what a walk answers
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SHORT_MAX = 125
_FIN, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_BYTE, _HALF = 256, BUFFER_BYTES // 2


@jit
def _is_wrong(first: int, second: int) -> bool:
    """Says whether a frame must not begin with these two bytes when a server sends it."""
    kind = first & 15
    is_known = kind <= BINARY or CLOSE <= kind <= PONG
    is_long_control = kind >= CLOSE and (second > _SHORT_MAX or first < _FIN)
    return (first & _RESERVED) != 0 or second >= _MASKED or not is_known or is_long_control


@jit
def header(buffer: Bytes, at: int, end: int) -> tuple[int, int]:
    """Answers where the payload of the frame at `at` begins and its size; size -1 for BAD.

    The place is -1 while the header is not whole.
    """
    if end - at < 2:  # noqa: PLR2004 - kind and short length
        return -1, 0
    size, place = int(buffer[at + 1]), at + 2
    if _is_wrong(buffer[at], size):
        return place, -1
    if size <= _SHORT_MAX:
        return place, size
    length_bytes = 2 if size == _SHORT_MAX + 1 else 8
    if end - place < length_bytes:
        return -1, 0
    size = 0
    for k in range(length_bytes):
        size = min(size * _BYTE + buffer[place + k], FRAME_BYTES_MAX + 1)
    return place + length_bytes, size if size <= FRAME_BYTES_MAX else -1


@jit
def walk(words: Words, buffer: Bytes, path: Words, read_ns: int) -> int:
    """Takes frames into the batch of `path`; answers MORE, OTHER, FULL or BAD.

    After OTHER the frame counts as walked and its payload must be used before the next read. After
    FULL the frame waits: make room, or keep it there with reading paused, and walk again.
    """
    data, index = data_of(path), index_of(path)
    result = MORE
    while result == MORE:
        at, end = words[START], words[STOP]
        place, size = header(buffer, at, end)
        if place >= 0 and size < 0:
            return BAD
        if place < 0 or end - place < size:
            break
        kind, is_last = buffer[at] & 15, buffer[at] >> 7
        if kind == CONTINUATION or kind >= CLOSE or not is_last or words[IS_GATHERING]:
            words[KIND], words[IS_LAST] = kind, is_last
            words[FROM], words[TO] = place, place + size
            result = OTHER
        else:
            count, start = path[COUNT], path[END]
            if start + size > words[BYTES_HIGH] or count >= words[FRAMES_HIGH]:
                return FULL
            copy_bytes(data, start, buffer, place, size)
            index[count, 0], index[count, 1] = start + size, read_ns
            path[END], path[COUNT] = start + size, count + 1
        words[START] = place + size
    return result


@jit
def has_data(words: Words, buffer: Bytes) -> bool:
    """Says whether a frame of data has begun among those that are read and not walked."""
    at, end = words[START], words[STOP]
    while at < end:
        place, size = header(buffer, at, end)
        if place < 0 or size < 0:
            break
        if TEXT <= buffer[at] & 15 <= BINARY:
            return True
        at = place + size
    return False


@jit
def make_space(words: Words, buffer: Bytes) -> int:
    """Moves what is not walked to the front when the rest is short; answers the free bytes."""
    start, end = words[START], words[STOP]
    if start == end:
        words[START] = words[STOP] = 0
    elif end > _HALF and start > 0:
        for k in range(end - start):
            buffer[k] = buffer[start + k]
        words[START], words[STOP] = 0, end - start
    return len(buffer) - words[STOP]  # type: ignore[no-any-return]


def client_frame(kind: int, payload: bytes) -> bytes:
    """Answers a control frame as a client sends it, masked; `payload` has at most 125 bytes."""
    assert len(payload) <= _SHORT_MAX, "a control frame is short"
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes((0x80 | kind, 0x80 | len(payload))) + mask + masked


def request(host: str, target: str, key: bytes) -> bytes:
    """Answers the handshake's request."""
    return (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def refusal(head: bytes, key: bytes) -> str:
    """Answers what is wrong with the handshake's answer, empty when nothing is."""
    status, *lines = head.decode("latin-1").split("\r\n")
    if status.split(" ")[1:2] != ["101"]:
        return f"the venue must upgrade to WebSocket: answer={status[:80]!r}"
    fields = {name.strip().lower(): value.strip() for name, _, value in _pairs(lines)}
    want = b64encode(sha1(key + _GUID).digest()).decode()  # noqa: S324 - as RFC 6455 has it
    if fields.get("sec-websocket-accept") != want:
        return "the venue must prove that it read the handshake: sec-websocket-accept is wrong"
    if "sec-websocket-extensions" in fields:
        return "the venue must not use an extension that nobody asked for"
    return ""


def _pairs(lines: list[str]) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in lines]


def warm() -> None:
    """Compiles the walk, on scratch memory."""
    words, path = np.zeros(WALK_WORDS, np.int64), np.zeros(128, np.int64)
    walk(words, np.zeros(16, np.uint8), path, 0)
    make_space(words, np.zeros(16, np.uint8))
    has_data(words, np.zeros(16, np.uint8))
