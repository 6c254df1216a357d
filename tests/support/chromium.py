"""Debian's Chromium, told what to do over its DevTools protocol: pages are looked at as people see them."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

from neverstale.ops.http_client import Connection
from tests.support.waiting import eventually

CHROMIUM: Final = shutil.which("chromium")
NARROW, WIDE = 375, 1440
"""Widths of pages, px."""
SECONDS: Final = 60.0
"""A browser is slow to start where everything else runs, too."""
ARTIFACTS: Final = "NEVERSTALE_TEST_ARTIFACTS"
"""The folder in which screenshots are kept, if it is set; see CONTRIBUTING.md."""


class Page:
    """One page, of one size."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.said: list[str] = []
        """Errors that the page has logged."""

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(SECONDS):
            while True:
                answer = json.loads(await self._socket.recv())
                self._hear(answer)
                if answer.get("id") == number:
                    assert "error" not in answer, f"{method}: {answer['error']}"
                    result: dict[str, Any] = answer["result"]
                    return result

    def _hear(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.said.append(json.dumps(parameters["exceptionDetails"])[:500])
        if message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.said.append(parameters["entry"]["text"])

    async def open(self, url: str) -> None:
        await self.send("Runtime.enable")
        await self.send("Log.enable")
        await self.send("Page.navigate", url=url)

    async def look(self, width: int, height: int, *, dark: bool) -> None:
        """How wide it is, and which colours the system wants."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        wish = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[wish])

    async def value(self, script: str) -> Any:
        """Of an expression of JavaScript; promises are awaited."""
        answer = await self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    async def until(self, script: str, what: str, seconds: float = SECONDS) -> None:
        async def holds() -> bool:
            return bool(await self.value(script))

        await eventually(holds, what, seconds)

    async def press(self, key: str, code: int) -> None:
        """A key of the keyboard, down and up."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    async def screenshot(self, path: Path) -> None:
        """All of the page, however long it is."""
        answer = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))


def shots(otherwise: Path) -> Path:
    """Where screenshots go."""
    folder = Path(os.environ.get(ARTIFACTS) or otherwise)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def keep(page: Page, folder: Path, name: str) -> None:
    """Screenshots in each size and colour; in none of them is anything cut off at the right."""
    for width in (NARROW, WIDE):
        for dark in (False, True):
            await page.look(width, 900, dark=dark)
            over = await page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, f"{name} at {width} px is {over} px too wide"
            await page.screenshot(folder / f"{name}-{width}-{'dark' if dark else 'light'}.png")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Page]:
    """A browser of its own with this page, until the block ends."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="neverstale-chromium-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--mute-audio"),
            *("--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with connect(await _address(process, Path(folder)), max_size=None) as socket:
                page = Page(socket)
                await page.open(url)
                yield page
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _address(process: asyncio.subprocess.Process, folder: Path) -> str:
    """Of the page that is open, as soon as the browser says where it listens."""
    told, found = folder / "DevToolsActivePort", list[str]()

    async def listens() -> bool:
        assert process.returncode is None, "chromium has ended"
        if told.exists() and (lines := told.read_text().splitlines()):
            found[:] = [
                page["webSocketDebuggerUrl"] for page in await _pages(int(lines[0])) if page["type"] == "page"
            ]
        return bool(found)

    await eventually(listens, "chromium listens", SECONDS)
    return found[0]


async def _pages(port: int) -> list[dict[str, Any]]:
    connection = await Connection.open(f"http://127.0.0.1:{port}")
    try:
        answer = await connection.get("/json/list", SECONDS)
    finally:
        connection.close()
    pages: list[dict[str, Any]] = json.loads(answer.body)
    return pages
