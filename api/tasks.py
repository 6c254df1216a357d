"""Work that outlives the request that caused it."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from neverstale import telemetry

log = telemetry.logger(__name__)

ASK_AGAIN_SECONDS = 0.2


class Tasks:
    """Supervised tasks: none dies unseen, none is cancelled because a client went away."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)

    async def finish(self, seconds: float) -> None:
        """Wait until all has ended, what was started meanwhile too; cancel what is left after `seconds`."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._running and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        while self._running:
            for task in self._running:
                task.cancel()
            # A client library may swallow a cancellation, and an endless task would go on: ask until it has ended.
            await asyncio.wait(self._running, timeout=ASK_AGAIN_SECONDS)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_died", task=task.get_name(), exc_info=error)


async def at_once(*works: Coroutine[Any, Any, None] | None) -> None:
    """Do what there is to do, all at the same time."""
    wanted = [work for work in works if work is not None]
    if len(wanted) == 1:
        await wanted[0]
    elif wanted:
        await asyncio.gather(*wanted)
