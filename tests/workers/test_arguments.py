"""The words of the command line become values or one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.arguments import existing, seconds_of, speed_of, spread


@pytest.mark.parametrize(
    ("text", "seconds"), [("15s", 15.0), ("2m", 120.0), ("500ms", 0.5), ("1.5h", 5400.0)]
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert seconds == seconds_of(text)


@pytest.mark.parametrize("text", ["", "15", "s", "-1s", "0s", "1 week", "1e3s"])
def test_anything_else_is_refused_with_the_given_text(text: str) -> None:
    with pytest.raises(ValueError, match="a duration must be") as caught:
        seconds_of(text)

    assert str(caught.value).endswith(f"given={text}")


def test_max_speed_is_zero_for_the_exchange() -> None:
    assert speed_of("max") == 0.0
    assert speed_of("20") == 20.0


@pytest.mark.parametrize("text", ["0", "-1", "fast", "nan", "inf"])
def test_a_speed_outside_the_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a speed must be"):
        speed_of(text)


def test_capture_takes_several_files_until_the_next_option() -> None:
    words = ["run", "--capture", "a", "b", "c", "--json", "d"]

    assert spread(words) == [
        "run", "--capture", "a", "--capture", "b", "--capture", "c", "--json", "d",
    ]  # fmt: skip


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the data folder must exist: path=.*gone"):
        existing(tmp_path / "gone", "the data folder")
