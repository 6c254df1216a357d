"""Tasks that end before their work does."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks whose results nobody wants any more, and wait until they are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> None:
    """Do `work`, but leave it when `stop` is set. Its errors are raised."""
    stopped, working = asyncio.create_task(stop.wait()), asyncio.create_task(work)
    try:
        await asyncio.wait((stopped, working), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        await cancelled(stopped, working)
