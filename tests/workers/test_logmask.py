"""What is hidden in a text, and what is not."""

from __future__ import annotations

import pytest

from workers.logmask import MASK, is_secret_name, mask_text, masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("api_secret=abc next", "api_secret=*** next"),
        (
            "{'clientSecret': 'abc', 'private_key': 'abc'}",
            "{'clientSecret': '***', 'private_key': '***'}",
        ),
        ("postgresql://a:b@host/db", "postgresql://a:***@host/db"),
        ("redis://:b@host", "redis://:***@host"),
        ("signature=abc&timestamp=1", "signature=***&timestamp=1"),
        ('{"apiKey": "abc", "n": 1}', '{"apiKey": "***", "n": 1}'),
        ("price=5 key figures: none", "price=5 key figures: none"),
    ],
)
def test_mask_text_hides_the_secret_and_nothing_else(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    "name", ["key", "api_secret", "clientSecret", "X-MBX-APIKEY", "listenKey", "db.password"]
)
def test_name_of_a_secret_is_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["key_env", "monkey", "tokens", "secret_file", "symbol", ""])
def test_name_of_anything_else_is_not_taken_for_a_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_value_is_hidden_by_the_name_that_leads_to_it_and_others_stay() -> None:
    value = {"a": [{"secret": 1}, ["token", 2]], b"key": 4, "n": [5, None, True]}

    assert masked(value) == {
        "a": [{"secret": MASK}, ["token", MASK]], "key": MASK, "n": [5, None, True]
    }  # fmt: skip


def test_long_text_of_one_word_takes_no_time_that_grows_with_its_square() -> None:
    """Two million letters; were the search quadratic this test would not end."""
    text = "x" * 2_000_000 + ":"

    assert mask_text(text) == text
