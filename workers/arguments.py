"""workers room: words of the command line become values, or one clear line."""

from __future__ import annotations

import re
from pathlib import Path

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
SPEED_MIN, SPEED_MAX = 0.01, 1_000_000.0
_SPREAD = frozenset({"--capture"})  # options that take several words: --capture A B C


def seconds_of(text: str) -> float:
    """Answers a duration such as 15s, 2m, 500ms or 1h, in seconds.

    Raises:
        ValueError: when the text is no positive duration.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None or float(found[1]) == 0:
        raise ValueError(f"a duration must be a number with ms, s, m, h or d: given={text}")
    return float(found[1]) * _SECONDS[found[2]]


def speed_of(text: str) -> float:
    """Answers a playback speed: `max` is 0, which the exchange reads as "as fast as it goes".

    Raises:
        ValueError: when the text is neither `max` nor a number in range.
    """
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not SPEED_MIN <= speed <= SPEED_MAX:
        raise ValueError(
            f"a speed must be a number from {SPEED_MIN} to {SPEED_MAX:.0f} or `max`: given={text}"
        )
    return speed


def spread(words: list[str]) -> list[str]:
    """Repeats an option before each of its words: `--capture A B` gets a second `--capture`."""
    result: list[str] = []
    option = ""
    for word in words:
        if word.startswith("-"):
            option = word if word in _SPREAD else ""
            result.append(word)
        elif option and result[-1] != option:
            result += [option, word]
        else:
            result.append(word)
    return result


def existing(path: Path, what: str) -> Path:
    """Answers a path that must exist; raises FileNotFoundError with one line when it does not."""
    if not path.exists():
        raise FileNotFoundError(f"{what} must exist: path={path}")
    return path
