"""Incarnations: whether the topic of changes is still the one whose offsets we hold.

A topic that was deleted and made again under the same name counts its offsets anew. Should it have grown beyond the
offset at which a consumer goes on, nothing fails: the consumer just never sees what comes before, floors included.
So every mark names the topic that it was written to, Redis holds for each partition which one was applied there, and
another one means that records may be lost: all that is cached becomes void, before the mark claims anything.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from consumers.group.member import Apply
from consumers.records.batch import Batch
from neverstale.errors import Outage
from neverstale.redis.cache import Cache
from neverstale.role import cancellation, telemetry
from neverstale.role.retry import pauses
from neverstale.role.service import Health

log = telemetry.logger(__name__)

TRUST_SECONDS: Final = 1.0
"""For so long what Redis held is not asked for again; another one may have taken its place."""


class Incarnations:
    """Around the applying of batches."""

    def __init__(
        self,
        cache: Cache,
        group: str,
        collections: Collection[str],
        apply: Apply,
        health: Health,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._group = group
        self._collections = collections
        self._apply = apply
        self._health = health
        self._clock = clock
        self._known: dict[int, str] = {}
        self._known_at = float("-inf")

    async def apply(self, batch: Batch, wanted: Callable[[], bool]) -> bool:
        """As `consumers.apply.Applier.apply` does."""
        told = self._news(batch)
        if not told:
            return await self._apply(batch, wanted)
        held = await self._held(list(told), wanted)
        if held is None:
            return False
        others = sorted(partition for partition, topic in held.items() if topic not in (None, told[partition]))
        if others:
            telemetry.TOPIC_MADE_ANEW.inc(len(others))
            log.warning("topic_made_anew", reason="marks name another topic than before", partitions=others)
            batch.forget |= set(self._collections)
        if not await self._apply(batch, wanted):
            return False
        await self._note(told, held)
        return True

    def _news(self, batch: Batch) -> dict[int, str]:
        if not batch.marks:
            return {}
        if (now := self._clock()) - self._known_at > TRUST_SECONDS:
            self._known, self._known_at = {}, now
        told = {partition: mark.topic for partition, mark in batch.marks.items() if mark.topic is not None}
        return {partition: topic for partition, topic in told.items() if self._known.get(partition) != topic}

    async def _held(self, partitions: list[int], wanted: Callable[[], bool]) -> dict[int, str | None] | None:
        for pause in pauses():
            cancellation.heed()
            try:
                return await self._cache.topics(self._group, partitions)
            except Outage as outage:
                self._health.wrong("redis", outage.reason)
            if not wanted():
                break
            await asyncio.sleep(pause)
        return None

    async def _note(self, told: Mapping[int, str], held: Mapping[int, str | None]) -> None:
        changed = {partition: topic for partition, topic in told.items() if held[partition] != topic}
        try:
            if changed:
                await self._cache.note_topics(self._group, changed)
            self._known |= told
        except Outage as outage:
            # The next mark finds the same, and voids the same once more.
            self._health.wrong("redis", outage.reason)
