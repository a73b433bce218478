"""Any value anybody may log: it arrives as it was, or as safe text, and no secret with it."""

from __future__ import annotations

import enum
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.eventcodes import INFO
from shm import ring
from shm.handles import Consumer, Producer
from shm.ring import GATING
from workers.log import Logger
from workers.loglines import Line, console_text, encode_lines, read_line
from workers.logmask import is_secret_name, mask_text
from workers.logpack import pack
from workers.logrows import PAYLOAD_BYTES, ROW_BYTES

SECRET = "hunter2"


class Venue(enum.Enum):
    """A value with a form of its own in msgpack."""

    SPOT = "spot"


class Rude:
    """A value that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Bench:
    """A logger whose messages are read back at once."""

    def __init__(self, producer: Producer, consumer: Consumer) -> None:
        self.consumer = consumer
        self.logger = Logger(producer, "trader", np.array([INFO], np.int64))

    def line(self, event: str, fields: dict[str, Any]) -> Line:
        """Logs one message and answers its line."""
        self.logger.info(event, **fields)
        rows = self.consumer.poll(2)
        assert len(rows) == 1
        found = read_line(rows[0, :5].tolist(), memoryview(rows[0].tobytes()), "trader", 1)
        self.consumer.release(self.consumer.cursor)
        return found


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    segment = ring.create(
        f"test-logpack-{os.getpid()}", 1, capacity=8, row_bytes=ROW_BYTES, kinds=(GATING,),
        parkable=False,
    )  # fmt: skip
    yield Bench(Producer(segment), Consumer(segment, 0))
    segment.unlink()
    segment.close()


names = st.text(max_size=30).filter(lambda name: not is_secret_name(name))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
)
texts_of_any_kind = st.text(st.characters(), max_size=700)  # lone surrogates too
oddities = (
    scalars
    | texts_of_any_kind
    | st.integers()
    | st.floats()
    | st.binary(max_size=700)
    | st.decimals()
    | st.datetimes()
    | st.uuids()
    | st.sets(st.integers(), max_size=5)
    | st.sampled_from([Venue.SPOT, Path("a/b"), Rude(), np.int64(7), np.float64(0.5), object()])
    | st.just(np.arange(100))
)
nested = st.recursive(
    oddities,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(event=st.text(max_size=30), fields=st.dictionaries(names, scalars, max_size=5))
def test_plain_values_arrive_as_they_were(
    bench: Bench, event: str, fields: dict[str, object]
) -> None:
    line = bench.line(event, fields)
    shown = json.loads(encode_lines([line]))

    expected = {key: mask_text(v) if isinstance(v, str) else v for key, v in fields.items()}
    assert shown["event"] == mask_text(event)
    assert shown["fields"] == expected
    assert list(map(type, shown["fields"].values())) == list(map(type, expected.values()))
    assert not line.truncated


@given(event=texts_of_any_kind, fields=st.dictionaries(texts_of_any_kind, nested, max_size=8))
def test_any_value_becomes_one_line_that_json_and_people_can_read(
    bench: Bench, event: str, fields: dict[str, object]
) -> None:
    line = bench.line("e" + event, fields)

    names = {name.encode("utf-8", "backslashreplace") for name in fields}
    shown = json.loads(encode_lines([line]))
    assert line.event != "log_row_unreadable"
    assert shown["level"] == "info"
    assert line.truncated or len(shown["fields"]) == len(names)
    assert console_text(line, colour=False).isprintable()
    assert bench.logger.dropped == 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ([math.inf], ["inf"]),
        (b"raw \xff", "raw \\xff"),
        (1 << 64, str(1 << 64)),
        ([1 << 64], f"[{1 << 64}]"),
        (Venue.SPOT, "spot"),
        (np.float64(0.5), 0.5),
        (Path("a/b"), "a/b"),
        ({1: "one"}, {"1": "one"}),
        ("\ud800", "\\ud800"),
    ],
)
def test_value_without_a_form_in_json_is_text(bench: Bench, value: object, shown: object) -> None:
    line = bench.line("odd", {"value": value, "beside": 7})

    assert json.loads(encode_lines([line]))["fields"] == {"value": shown, "beside": 7}


def test_list_that_holds_itself_and_one_that_never_ends_are_survived(bench: Bench) -> None:
    endless: list[object] = []
    endless.append(endless)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    assert bench.line("endless", {"value": endless}).fields == {"value": "[[...]]"}
    assert bench.line("deep", {"value": deep}).fields == {
        "value": "<unprintable list: RecursionError>"
    }


secret_names = st.sampled_from(
    ["key", "secret", "password", "api_secret", "clientSecret", "private_key", "X-API-KEY"]
)
secrets = st.tuples(secret_names, st.integers(0, 5)).map(lambda drawn: _nest(*drawn))


def _nest(name: str, depth: int) -> dict[str, object]:
    found: dict[str, object] = {name: SECRET}
    for _ in range(depth):
        found = {"request": [found]}
    return found


@given(
    fields=secrets,
    before=st.text("x ", max_size=700),
    name=st.text("n", max_size=90),
    behind=st.text("y ", max_size=700),
)
def test_secret_is_masked_however_deep_it_lies_and_however_much_is_cut(
    bench: Bench, fields: dict[str, object], before: str, name: str, behind: str
) -> None:
    line = bench.line(
        f"{before} password={SECRET} {behind}",
        {
            "before": before, **fields, f"{name}_secret": SECRET,
            "url": f"redis://user:{SECRET}@{behind}",
            "raw": f"{before}&signature={SECRET}".encode(),
            "nested": {"behind": behind, **fields}, "behind": behind,
        },
    )  # fmt: skip

    assert SECRET[:4] not in encode_lines([line]).decode()


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("x" * 60 + f" redis://user:{SECRET * 9}@host", {}),
        ("event", {"url": "x" * 150 + f" redis://user:{SECRET * 9}@host"}),
        ("event", {"n" * 60 + "_secret": SECRET}),
        ("event", {"headers": {"x-key": SECRET}}),
        ("event", {"headers": {b"X-API-KEY": SECRET}}),
        ("event", {"headers": [["X-API-KEY", SECRET]]}),
    ],
)
def test_secret_whose_mark_is_cut_off_is_masked_before(
    bench: Bench, event: str, fields: dict[str, object]
) -> None:
    line = bench.line(event, {**fields, "long": "x" * 1_000})

    assert line.truncated
    assert SECRET not in encode_lines([line]).decode()


@given(text=st.text(min_size=600, max_size=3_000))
def test_text_that_is_cut_keeps_its_beginning_and_bears_the_mark(bench: Bench, text: str) -> None:
    line = bench.line("long", {"symbol": "BTCUSDT", "text": text})

    assert line.truncated
    assert line.fields["symbol"] == "BTCUSDT"
    kept = line.fields["text"]
    assert kept.endswith("...")
    assert mask_text(text).startswith(kept.removesuffix("..."))


@given(
    event=st.text(max_size=2_000),
    fields=st.dictionaries(
        st.text(max_size=200),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=900)
        | st.lists(st.text(max_size=90), max_size=20),
        max_size=60,
    ),
)  # fmt: skip
def test_payload_always_fits_its_row(event: str, fields: dict[str, object]) -> None:
    payload, _ = pack(event, fields)

    assert 0 < len(payload) <= PAYLOAD_BYTES
