"""Registers: known on the Redis that we write to, and good for it.

Two things can be wrong with a Redis. Its registers may be unknown (new, flushed, evicted): they are established
at the present time. Or it may be another one than before (a replica took over, a restart from a file), which may
lack invalidations that we gave to the one before: everything in it that is older than the present is voided.
Both need MongoDB's clock, so both happen beside the applying of batches, which must not wait for MongoDB.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from neverstale import cancellation, telemetry
from neverstale.cache import Cache, Invalidated
from neverstale.errors import Outage
from neverstale.service import Health
from neverstale.versions import Version, to_hex

log = telemetry.logger(__name__)

PAUSE_SECONDS: Final = 0.2
"""Between two attempts while a server is away."""


class Registers:
    """Of one Redis and the collections of a catalog.

    `now` answers a version >= every change that was acknowledged before it was called.
    """

    def __init__(
        self, cache: Cache, collections: Sequence[str], now: Callable[[], Awaitable[Version]], health: Health
    ) -> None:
        self._cache = cache
        self._collections = collections
        self._now = now
        self._health = health
        self._met: str | None = None
        self._moves = 0
        self._wanted = asyncio.Event()
        self._wanted.set()
        self.verified: str | None = None
        """The Redis that holds, or has voided, everything that this process applied. A watermark may be written
        only while there is one, and names it. `None`: not known yet, or no longer."""

    async def begin(self) -> None:
        """Find out whether this Redis was made good before. Comes before the first batch; may raise `Outage`."""
        self._health.wrong("mongodb", "not asked yet")
        self._met, held = await self._cache.identity()
        if held == self._met:
            self.verified = self._met

    def note(self, done: Invalidated) -> None:
        """Take in what a batch has met. Comes before its watermark is written."""
        if done.identity != self._met:
            # Every batch is looked at, not only those with marks: between two servers that both take our writes
            # (a failover that one of them has not noticed), a single batch may go astray.
            self._met, self.verified = done.identity, None
            self._moves += 1
        if done.unknown or self.verified is None:
            self._wanted.set()

    async def keep_good(self) -> None:
        """Put right what `note` finds wrong, for ever. While a server is away nothing is lost by waiting: unknown
        registers mean that nothing is served from the cache, and without watermarks no bound is claimed."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._make_good()
                self._health.ok("mongodb")
            except Outage as outage:
                if outage.server == "mongodb":
                    self._health.wrong("mongodb", outage.reason)
                await asyncio.sleep(PAUSE_SECONDS)
                self._wanted.set()
            cancellation.heed()

    async def _make_good(self) -> None:
        if self.verified is None:
            await self._adopt()
        await self._cache.establish(self._collections, self._now)

    async def _adopt(self) -> None:
        moves, met = self._moves, self._met
        present = await self._now()
        adopted = await self._cache.adopt(self._collections, present, met)
        # If a batch went to another Redis meanwhile, that batch may be later than `present`, and this Redis lacks
        # it: then the next batch that comes here asks for this again.
        if moves == self._moves and adopted == met:
            self.verified = adopted
            telemetry.REDIS_CHANGED.inc()
            log.info("redis_adopted", reason="another Redis than before", identity=adopted, voided=to_hex(present))
