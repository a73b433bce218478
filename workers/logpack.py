"""workers room: packs a message as msgpack (event, fields) that fits a row, whatever its values.

`encode` is the quick way, which may raise and may answer too much; `pack` does neither.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from workers.logmask import mask_text, masked_fields
from workers.logrows import FORM_FIELDS, FORM_TRUNCATED, PAYLOAD_BYTES

EVENT_CHARACTERS_MAX: Final = 96
FRAMES_MAX: Final = 6  # of a traceback
_CUTS: Final = (160, 80, 40, 20, 8)  # characters a value may keep, tried in turn


def _plain(value: object) -> object:
    """Answers something msgpack has for a value it does not know."""
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def text_of(value: object) -> str:
    """Answers any value as text that encodes, whatever its own methods do."""
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception as error:  # noqa: BLE001 - a foreign __str__ may raise anything
        text = f"<unprintable {type(value).__name__}: {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode  # raises for what msgpack cannot hold
_decode = msgspec.msgpack.Decoder().decode


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 3] + "..."


def pack(event: str, fields: dict[str, Any]) -> tuple[bytes, int]:
    """Answers the payload of a message and its form, which says how it is to be read.

    What msgpack has no form for becomes text. What is too long for a row is cut: first its longest
    texts, then its last fields.
    """
    try:
        payload = encode((event, fields))
    except Exception:  # noqa: BLE001 - logging must never break its caller
        fields = {text_of(key): _encodable(value) for key, value in fields.items()}
        payload = encode((text_of(event), fields))
    if len(payload) <= PAYLOAD_BYTES:
        return payload, FORM_FIELDS
    return _shortened(event, fields), FORM_TRUNCATED


def _encodable(value: object) -> object:
    """Answers a value as plain data when it has such a form, as text otherwise."""
    try:
        return _decode(encode(value))
    except Exception:  # noqa: BLE001 - a foreign value may raise anything
        return text_of(value)


def _shortened(event: str, fields: dict[str, Any]) -> bytes:
    # Masked before it is cut: a name or an address without its end would not be known again.
    plain = {text_of(key): _encodable(value) for key, value in fields.items()}
    kept = {_cut(key, _CUTS[2]): value for key, value in masked_fields(plain).items()}
    event = _cut(mask_text(text_of(event)), EVENT_CHARACTERS_MAX)
    for characters in _CUTS:
        payload = encode((event, _cut_values(kept, characters)))
        if len(payload) <= PAYLOAD_BYTES:
            return payload
    short = _cut_values(kept, _CUTS[-1])
    while short:
        short.popitem()
        payload = encode((event, short))
        if len(payload) <= PAYLOAD_BYTES:
            return payload
    return encode((_cut(event, _CUTS[-1]), {}))


def _cut_values(fields: dict[str, object], characters: int) -> dict[str, object]:
    return {
        key: value if isinstance(value, int | float) else _cut(text_of(value), characters)
        for key, value in fields.items()
    }


def error_fields(error: BaseException) -> dict[str, str]:
    """Answers what a row can hold of an exception: type, message, and its last frames."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return {
        "error": mask_text(text_of(f"{type(error).__name__}: {text_of(error)}")),
        "at": " < ".join(reversed(places)),
    }
