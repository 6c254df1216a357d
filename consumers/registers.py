"""Registers: known on the Redis that we write to.

They may be unknown (a new Redis, a flushed one, evicted): then they are established at the present time. That needs
MongoDB's clock, so it happens beside the applying of batches, which must not wait for MongoDB.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn

from neverstale.errors import Outage, Refused
from neverstale.redis.corrections import Corrections, Invalidated
from neverstale.role.retry import forever
from neverstale.role.service import Health
from neverstale.role.tasks import start
from neverstale.role.ticks import until_tick
from neverstale.versions import Version

LOOK_SECONDS: Final = 1.0
"""So often registers are looked at, whatever batches meet."""
PAUSE_SECONDS: Final = 0.2
"""Between two attempts while a server is away."""


class Registers:
    """Keeps the registers of one Redis known, for the collections of a catalog.

    `now` returns a version >= every change that was acknowledged before it was called.
    """

    def __init__(
        self, cache: Corrections, collections: Sequence[str], now: Callable[[], Awaitable[Version]], health: Health
    ) -> None:
        self._cache = cache
        self._collections = collections
        self._now = now
        self._health = health
        self._due = asyncio.Event()
        self._asked = False
        """Whether MongoDB has answered when it was last asked."""
        health.wrong("mongodb", "not asked yet")

    def note(self, done: Invalidated) -> None:
        """Take in what a batch has met."""
        if done.unknown:
            self._due.set()

    async def keep_known(self) -> NoReturn:
        """Establish what is unknown or cannot be true, for ever. While a server is away nothing is lost by waiting:
        unknown registers mean that nothing is served from the cache."""
        self._due.set()
        await forever(self._look)

    async def _look(self) -> float | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until_tick(LOOK_SECONDS)):
                await self._due.wait()
        try:
            await self._establish()
        except (Outage, Refused) as error:
            if isinstance(error, Refused) or error.server == "mongodb":
                self._asked = False
                self._health.wrong("mongodb", error.reason)
            self._due.set()
            return PAUSE_SECONDS
        return None

    async def _establish(self) -> None:
        if await self._cache.forget_false(self._collections, self._present):
            self._due.set()
        if not self._due.is_set():
            return
        self._due.clear()
        if not self._asked:
            # There may be nothing to establish, or a claim of ours that failed may still be there.
            await self._present()
        await self._cache.establish(self._collections, self._present)

    async def _present(self) -> Version:
        present = await self._now()
        self._asked = True
        self._health.ok("mongodb")
        return present


class RegistersOfCells:
    """Keeps the registers of many cells known, of each from the moment on at which it is met."""

    def __init__(self) -> None:
        self._met: asyncio.Queue[Registers] = asyncio.Queue()

    def meet(self, registers: Registers) -> None:
        self._met.put_nowait(registers)

    async def keep_known(self) -> NoReturn:
        """As `Registers.keep_known`, of all."""
        async with asyncio.TaskGroup() as group:
            while True:
                start(group, (await self._met.get()).keep_known(), "registers-of-a-cell")
        raise AssertionError("it never ends")
