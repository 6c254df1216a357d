"""Applying: one batch to Redis, in the order that the protocol asks for.

1. `applied` rises, floors rise, entries become stale: one pipeline, which also says which Redis took it.
2. Lists, counters and rankings follow (`consumers.derived.derive`).
3. Only then Redis notes how far the partitions are applied there, and says what it lacks (`consumers.replay`), in
   the pipeline of 1 if there is nothing to derive; and those that lack nothing get the watermarks of their marks.
4. Leases of what should be fresh again go to the refresher.

Whatever fails in 1 or 2 is tried again, the whole batch, for as long as it takes: every step may run twice. Meanwhile
nothing is committed and nothing more is fetched. What fails in 3 waits for the next batch.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from consumers.records.batch import Batch
from consumers.refresh import HeldLease, Refresher
from consumers.registers import Registers
from consumers.replay import Replay
from neverstale.errors import Outage
from neverstale.redis.cache import Cache, Invalidated
from neverstale.role import telemetry
from neverstale.role.retry import pauses
from neverstale.role.seldom import Seldom
from neverstale.role.service import Health

log = telemetry.logger(__name__)

OUTCOMES: Final = {
    "-": "missing",
    "n": "newer",
    "w": "leased",
    "s": "stale_already",
    "d": "made_stale",
    "r": "to_refresh",
    "x": "deleted",
}
"""What `invalidate.lua` answers for an entry."""


Derive: TypeAlias = Callable[[Batch, str, Callable[[], bool]], Awaitable[bool]]
"""Bring what is derived from documents up to a batch; see `consumers.derived.derive.Deriver.apply`."""


async def _nothing_to_derive(batch: Batch, identity: str, wanted: Callable[[], bool]) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Section:
    """What an applier has to know about its surroundings."""

    group: str
    collections: tuple[str, ...]
    lease_ms: int


class Applier:
    """Applies batches, one after the other."""

    def __init__(
        self,
        cache: Cache,
        registers: Registers,
        replay: Replay,
        refresher: Refresher,
        section: Section,
        health: Health,
        clock: Callable[[], float] = time.time,
        derive: Derive | None = None,
    ) -> None:
        self._cache = cache
        self._registers = registers
        self._replay = replay
        self._refresher = refresher
        self._section = section
        self._health = health
        self._clock = clock
        self._derive = derive or _nothing_to_derive
        self._outage = Seldom()

    async def apply(self, batch: Batch, wanted: Callable[[], bool]) -> bool:
        """Apply it, however often that must be tried. False: no longer `wanted` before it was done."""
        if not batch.asks_nothing:
            started = time.perf_counter()
            done = await self._invalidate_until_done(batch, wanted)
            if done is None:
                return False
            self._registers.note(done)
            if not await self._derive(batch, done.identity, wanted):
                return False
            await self._set_watermarks(batch, done, await self._replay.reach(batch, done))
            self._hand_over(batch, done)
            self._measure_answer(batch, done, time.perf_counter() - started)
        self._count(batch)
        return True

    async def _invalidate_until_done(self, batch: Batch, wanted: Callable[[], bool]) -> Invalidated | None:
        for pause in pauses():
            try:
                done = await self._invalidate(batch)
                self._health.ok("redis")
                return done
            except Outage as outage:
                self._health.wrong("redis", outage.reason)
                if times := self._outage.due():
                    log.warning("apply_waits", reason=str(outage), times=times)
            if not wanted():
                break
            await asyncio.sleep(pause)
        return None

    async def _invalidate(self, batch: Batch) -> Invalidated:
        floors = batch.floors
        if batch.marks:
            # Raising a register to nothing raises nothing, but tells whether it is known.
            floors = dict.fromkeys(self._section.collections, 0) | floors
        return await self._cache.invalidate(
            batch.highest,
            batch.keys,
            batch.versions_and_refresh,
            floors,
            self._section.lease_ms,
            batch.forget,
            self._replay.account(batch),
            whole=not batch.derives,
        )

    async def _set_watermarks(self, batch: Batch, done: Invalidated, reached: Collection[int]) -> None:
        """Claim what the marks say, for the Redis that took this batch and lacks nothing from before it.

        That Redis named itself before it took the batch. Should another one have taken over since, the claim is
        written there under the old name, and readers see that it is not about the Redis they read.
        """
        told = {partition: mark for partition, mark in batch.marks.items() if partition in reached}
        if not told:
            return
        partitions = max(max(mark.partitions, partition + 1) for partition, mark in told.items())
        marks = {partition: (mark.version, mark.wall_ms) for partition, mark in told.items()}
        try:
            await self._cache.set_watermarks(self._section.group, done.identity, partitions, marks)
        except Outage as outage:
            self._health.wrong("redis", outage.reason)

    def _hand_over(self, batch: Batch, done: Invalidated) -> None:
        for span in batch.spans:
            prefix = len(self._cache.names.entry_prefix(span.resource.name))
            leases = [
                HeldLease(batch.keys[at], batch.keys[at][prefix:].decode(), done.token, batch.highest)
                for at in _positions(done.letters, "r", span.start, span.end)
            ]
            if leases:
                self._refresher.offer(span.resource, leases)

    def _count(self, batch: Batch) -> None:
        telemetry.BATCH_APPLIED.observe(batch.records)
        for kind, count in self._kinds(batch):
            if count:
                telemetry.RECORDS_APPLIED.labels(kind).inc(count)
        for reason, count in batch.skipped.items():
            telemetry.RECORDS_SKIPPED.labels(reason).inc(count)

    def _kinds(self, batch: Batch) -> tuple[tuple[str, int], ...]:
        return (
            ("change", batch.changes),
            ("floor", batch.floor_records),
            ("mark", batch.mark_records),
            ("touch", batch.touches),
            ("rebuilt", len(batch.rebuilt)),
        )

    def _measure_answer(self, batch: Batch, done: Invalidated, seconds: float) -> None:
        telemetry.APPLY_SECONDS.observe(seconds)
        for letter in set(done.letters):
            telemetry.INVALIDATIONS.labels(OUTCOMES[letter]).inc(done.letters.count(letter))
        if batch.oldest_wall_ms is not None:
            telemetry.APPLIED_LAG.observe(max(0.0, self._clock() - batch.oldest_wall_ms / 1000))


def _positions(letters: str, letter: str, start: int, end: int) -> Iterator[int]:
    at = letters.find(letter, start, end)
    while at >= 0:
        yield at
        at = letters.find(letter, at + 1, end)
