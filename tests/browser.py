"""A real browser for tests: headless Chromium, driven through its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-port=0", "--window-size=1200,900",
)  # fmt: skip
MESSAGE_BYTES_MAX = 64 << 20
_MARK = b"DevTools listening on "


def program() -> str:
    """Answers the browser's path; skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("a browser must be on PATH: looked for chromium, chromium-browser, google-chrome")


class Page:
    """One tab: calls of the DevTools protocol, one at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._number = 0
        self.complaints: list[str] = []  # what the browser's console said in red

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method and answers its result."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        await self._connection.send(json.dumps(request))
        async for text in self._connection:
            message = json.loads(text)
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message.get('error')}"
                result: dict[str, Any] = message["result"]
                return result
            self._hear(message)
        raise ConnectionError("the browser must not leave")

    def _hear(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Log.entryAdded":
            entry = message["params"]["entry"]
            if entry["level"] == "error":
                self.complaints.append(entry["text"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(message["params"]["exceptionDetails"]))

    async def value(self, script: str) -> Any:
        """Evaluates an expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        """Waits until an expression is true; the test's own deadline ends it when it never is."""
        while not await self.value(script):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)

    async def picture(self) -> bytes:
        """Answers what a person would see, a PNG file."""
        answer = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])


@asynccontextmanager
async def opened(url: str, profile: Path) -> AsyncIterator[Page]:
    """Opens a page in a browser of its own and ends the browser afterwards."""
    process = await asyncio.create_subprocess_exec(
        program(), *FLAGS, f"--user-data-dir={profile}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        address = await _address(process)
        async with websockets.connect(address, max_size=MESSAGE_BYTES_MAX) as browser:
            tab = await Page(browser).call("Target.createTarget", url="about:blank")
            place = address.rpartition("/devtools/")[0] + f"/devtools/page/{tab['targetId']}"
            async with websockets.connect(place, max_size=MESSAGE_BYTES_MAX) as connection:
                page = Page(connection)
                for domain in ("Page", "Runtime", "Log"):
                    await page.call(f"{domain}.enable")
                await page.call("Page.navigate", url=url)
                yield page
    finally:
        process.kill()
        await process.communicate()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None, "the pipe was asked for"
    async for line in process.stderr:
        if line.startswith(_MARK):
            return line.removeprefix(_MARK).decode().strip()
    raise ConnectionError("the browser must say where it listens")
