"""The console's page in Debian's Chromium, in scenes that need no server: nothing is cut off, whatever is shown."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from neverstale.ops.console.app import app
from neverstale.ops.console.happenings import happened
from neverstale.ops.console.lookout import Lookout
from neverstale.ops.stack.ports import free_port
from neverstale.role.service import Health
from neverstale.settings import Settings
from tests.support.chromium import ARTIFACTS, CHROMIUM, NARROW, WIDE, Page, keep, opened, shots
from tests.worlds.pictured import SCENES, Scene, catalog

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")


@asynccontextmanager
async def served(lookout: Lookout) -> AsyncIterator[str]:
    port = free_port()
    serving = app(lookout.settings, lookout.catalog, lookout, Health())
    server = uvicorn.Server(uvicorn.Config(serving, port=port, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        lookout.end()
        server.should_exit = True
        await task


def show(lookout: Lookout, scene: Scene) -> None:
    """Have the console have seen this."""
    lookout._looks.clear()
    lookout._looks.extend(scene.looks)
    lookout._long.clear()
    lookout._long.extend(scene.long_looks)
    last = scene.looks[-1]
    silent = {one.role.instance: last.at - scene.silent_seconds for one in last.processes if one.presence == "silent"}
    lookout._silent_since = silent
    lookout._happenings.clear()

    lookout._note(happened(*scene.looks))
    lookout._show(last)


async def test_in_each_scene_the_page_says_what_is_and_nothing_is_cut_off(tmp_path: Path) -> None:
    lookout = Lookout(Settings(), catalog())
    async with served(lookout) as url, opened(url) as page:
        for name, make in SCENES.items():
            scene = make()
            show(lookout, scene)
            for words in scene.words:
                said = f"(document.body?.innerText ?? '').includes({words!r})"
                await page.until(said, f"{name}: the page says {words!r}", 20)
            text = await page.value("document.body.innerText")
            assert [words for words in scene.never if words in text] == [], f"{name}: misleads"
            await nothing_cut_off(page, name)
            if os.environ.get(ARTIFACTS):
                await keep(page, shots(tmp_path), f"console-scene-{name}")
        assert page.said == []


async def nothing_cut_off(page: Page, name: str) -> None:
    """At the right of the page, and inside of the boxes of the pipeline."""
    for width in (NARROW, WIDE):
        await page.look(width, 900, dark=False)
        await page.value("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        over = await page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{name} at {width} px is {over} px too wide"
        outside = await page.value(
            """[...document.querySelectorAll('.pipeline:not([hidden]) [data-stage]')].filter((group) => {
                const box = group.querySelector('rect').getBBox();
                const wider = (text) => text.getBBox().width > box.width;
                return box.width && [...group.querySelectorAll('text')].some(wider);
            }).map((group) => group.textContent)"""
        )
        assert outside == [], f"{name} at {width} px: text leaves its box: {outside}"
