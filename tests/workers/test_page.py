"""The status page in a real browser, connected to a real monitor over real shared memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.control import OPERATOR_HALT, set_word
from tests import browser
from tests.workers.monitored import served, watched_run
from workers.context import Memory

pytestmark = [pytest.mark.services, pytest.mark.slow]

CELLS = """Object.fromEntries([...document.querySelectorAll('table')].map(table => [table.id,
  [...table.tBodies[0].rows].map(row => [...row.cells].map(cell => cell.textContent))]))"""
LIVE = "document.getElementById('link')?.textContent === 'live'"


@pytest.fixture
def memory(segment_prefix: str, tmp_path: Path) -> Iterator[Memory]:
    with watched_run(segment_prefix, tmp_path / "data") as memory:
        yield memory


def test_the_page_draws_what_the_server_sends(memory: Memory, tmp_path: Path) -> None:
    memory.stats("trader").counter("fills_total").add(1_234)
    memory.stats("keeper").error("<script>alert(1)</script>")

    async def look(port: int) -> tuple[dict[str, Any], str, list[str], bytes]:
        async with browser.opened(f"http://127.0.0.1:{port}/", tmp_path / "profile") as page:
            await page.until(LIVE)
            title = await page.value("document.getElementById('engine').textContent")
            cells = await page.value(CELLS)
            return cells, title, page.complaints, await page.picture()

    cells, title, complaints, picture = served(memory, look)
    (tmp_path / "page.png").write_bytes(picture)
    assert complaints == []
    assert title.startswith("tickring test-")
    assert ["fills", "0", "1,234"] in cells["flows"]
    assert [row[0] for row in cells["workers"]] == ["trader", "keeper", "watcher"]
    assert cells["errors"] == [["<script>alert(1)</script>", "keeper", "1"]]
    assert cells["positions"][0][0] == "BTCUSDT"
    assert picture.startswith(b"\x89PNG")


def test_a_halt_is_seen_as_it_comes(memory: Memory, tmp_path: Path) -> None:
    async def look(port: int) -> tuple[str, str]:
        async with browser.opened(f"http://127.0.0.1:{port}/", tmp_path / "profile") as page:
            await page.until(LIVE)
            before = await page.value("document.getElementById('halt').className")
            set_word(memory.control(), OPERATOR_HALT, 1)
            await page.until("document.getElementById('halt').className === 'bad'")
            return before, await page.value("document.getElementById('halt').textContent")

    before, text = served(memory, look)
    assert before == "good"
    assert text
