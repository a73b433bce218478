"""workers room: hides keys, passwords and signatures in what is logged.

By name, at any depth: a field, a key of a dict, the first of a pair. And in texts: passwords in
addresses, and what stands behind `signature=` and the like.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, Final

MASK: Final = "***"
DEPTH_MAX: Final = 6  # of nested values that are looked into
_NAMES_MAX: Final = 4_096
_PAIR: Final = 2
_PLAIN: Final = frozenset((int, bool, type(None)))  # nothing to hide in these

SECRET_NAMES: Final = frozenset((
    "key", "secret", "password", "signature", "token", "api_key", "apikey", "api_secret", "apiKey",
    "passphrase", "private_key", "listenKey",
))  # fmt: skip
_SECRET_NAME: Final = re.compile(
    r"(?:^|[_.\-])key$|(?:(?:api|private|listen|secret)[_\-]?key|secret|password|passwd|passphrase"
    r"|signature|token)$",
    re.IGNORECASE,
)
_SECRET_TEXT: Final = re.compile(
    r"(?P<url>://[^/\s:@]*:)[^/\s@]+(?=@)"
    r"|(?P<pair>\b\w*?(?:signature|secret|password|passwd|passphrase"
    r"|(?:api|private|listen|secret)[_\-]?key|token)"
    r"[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;}]+",
    re.IGNORECASE,
)


def mask_text(text: str) -> str:
    """Answers a text without passwords in addresses and without `signature=...` and the like."""
    if "://" not in text and "=" not in text and ":" not in text:
        return text
    return _SECRET_TEXT.sub(lambda found: f"{found['url'] or found['pair']}{MASK}", text)


@lru_cache(maxsize=_NAMES_MAX)
def is_secret_name(name: str) -> bool:
    """Says whether a field of this name must not be shown."""
    return name in SECRET_NAMES or _SECRET_NAME.search(name) is not None


def masked_names(fields: dict[str, Any]) -> dict[str, Any]:
    """Answers fields without the values whose names say that they are secret."""
    return {key: MASK if is_secret_name(key) else value for key, value in fields.items()}


def masked(value: object, depth: int = 0) -> object:
    """Answers a value as JSON can show it, without secrets: by names of fields and in texts."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return mask_text(value.decode("utf-8", "backslashreplace"))
    return _masked_inside(value, depth) if isinstance(value, dict | list) else value


def _masked_inside(value: dict[Any, Any] | list[Any], depth: int) -> object:
    if depth >= DEPTH_MAX:
        return "..."
    if isinstance(value, dict):
        return masked_fields(value, depth + 1)
    if len(value) == _PAIR and isinstance(value[0], str) and is_secret_name(value[0]):
        return [value[0], MASK]
    return [masked(inner, depth + 1) for inner in value]


def masked_fields(fields: dict[Any, Any], depth: int = 0) -> dict[str, object]:
    """Answers fields without secrets, their names as text."""
    return {
        name: MASK
        if is_secret_name(name)
        else (value if type(value) in _PLAIN else masked(value, depth))
        for key, value in fields.items()
        for name in (key if type(key) is str else _name_of(key),)
    }


def _name_of(key: object) -> str:
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
