"""The departures board in Debian's Chromium, on the whole demo: what it shows is live, its ages grow while the
consumer is frozen, and recover. And `EventSource` itself, as any page would use it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from neverstale.ops.demo.flights.play import demo_catalog, loaded
from neverstale.ops.demo.flights.player import Player
from neverstale.ops.demo.page.showing import shown
from neverstale.ops.stack.stack import LocalStack, StackOptions
from tests.support.chromium import CHROMIUM, keep, opened, shots

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH"),
    pytest.mark.usefixtures("forked_roles"),
]

AGE = "Number(document.getElementById('{}-age').dataset.seconds)"
LISTEN = """
window.told = [];
const source = new EventSource("/v1/airlines/UA");
source.onmessage = (event) => told.push(["state", event.lastEventId, JSON.parse(event.data).name]);
source.addEventListener("absent", (event) => told.push(["absent", event.lastEventId, JSON.parse(event.data).status]));
"""


@dataclass
class Demo:
    stack: LocalStack
    player: Player
    url: str


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    stop = asyncio.Event()
    options = StackOptions(catalog=demo_catalog(), broker="embedded")
    async with AsyncExitStack() as exits:
        stack = await exits.enter_async_context(LocalStack.start(options))
        player = await exits.enter_async_context(loaded(stack.mongo_uri))
        await stack.start_roles()
        url = await exits.enter_async_context(shown(stack, player))
        playing = asyncio.create_task(player.play(stop))
        yield Demo(stack, player, url)
        stop.set()
        await playing


async def test_the_board_is_live_and_says_how_old_it_is(demo: Demo, tmp_path: Path) -> None:
    folder = shots(tmp_path)
    async with opened(demo.url) as page:
        await page.until("document.querySelectorAll('#flights tr').length === 25", "a page of flights")
        await page.until("document.querySelector('#flights small').textContent.length > 2", "airlines have names")
        await page.until("document.querySelectorAll('#flights .departed, #flights .late').length > 0", "one has left")
        await page.until("document.querySelectorAll('#carriers meter').length > 0", "airlines have delays")
        for panel in ("flights", "carriers", "late"):
            await page.until(f"{AGE.format(panel)} < 3", f"{panel} are young")
        await keep(page, folder, "board")

        await page.value("document.getElementById('freeze').click()")
        await page.until(f"{AGE.format('flights')} > 5 && {AGE.format('late')} > 5", "ages grow")
        await keep(page, folder, "board-frozen")
        await page.value("document.getElementById('freeze').click()")
        for panel in ("flights", "carriers", "late"):
            await page.until(f"{AGE.format(panel)} < 3", f"{panel} are young again")

        await page.value("document.querySelector('[data-airport=LGA]').click()")
        await page.until("document.querySelectorAll('#flights tr').length === 25", "another airport")
        assert page.said == []

        await page.value(LISTEN)
        await page.until("told.length === 1", "EventSource has the present state")
        async with AsyncMongoClient[dict[str, Any]](demo.stack.mongo_uri, w="majority") as mongo:
            airlines = mongo["nyc"]["airlines"]
            await airlines.delete_one({"_id": "UA"})
            await page.until("told.at(-1)[0] === 'absent'", "EventSource hears that it is gone")
            await airlines.insert_one({"_id": "UA", "name": "Back"})
            await page.until("told.at(-1)[2] === 'Back'", "EventSource hears that it is back")
        ids = await page.value("told.map((one) => one[1])")
        assert ids == sorted(ids)
