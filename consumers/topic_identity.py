"""Topic identity: whether the topic of changes is still the one whose offsets we hold.

A topic that was deleted and made again under the same name counts its offsets from 0 again. Should it have grown
beyond the offset at which a consumer goes on, nothing fails: the consumer just never sees what comes before, floors
included. So every mark names the topic that it was written to, Redis holds for each partition which one was applied
there, and another one means that records may be lost: all that is cached becomes void, before the mark claims
anything.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from neverstale.consumers.records.batch import Batch
from neverstale.errors import Outage
from neverstale.redis.corrections import Corrections
from neverstale.role import telemetry
from neverstale.role.service import Health

log = telemetry.logger(__name__)

TRUST_SECONDS: Final = 1.0
"""For so long what Redis held is not asked for again; another one may have taken over."""


@dataclass(frozen=True, slots=True)
class Named:
    """The topics that the marks of a batch name, if Redis had to be asked whether they are the same as before."""

    told: Mapping[int, str] = field(default_factory=dict)
    """Partition -> the topic's id."""
    new: Mapping[int, str] = field(default_factory=dict)
    """Of those, what Redis does not hold."""


NOTHING: Final = Named()


class TopicIdentity:
    """Compares what marks name with what Redis holds, of one consumer group."""

    def __init__(
        self,
        cache: Corrections,
        group: str,
        collections: Collection[str],
        health: Health,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._group = group
        self._collections = collections
        self._health = health
        self._clock = clock
        self._known: dict[int, str] = {}
        self._known_at = float("-inf")

    async def compare(self, batch: Batch) -> Named:
        """Have the batch void everything if it is of another topic than what was applied before. Raises `Outage`."""
        told = self._news(batch)
        if not told:
            return NOTHING
        held = await self._cache.topics(self._group, list(told))
        new = {partition: topic for partition, topic in told.items() if held[partition] != topic}
        if others := sorted(partition for partition in new if held[partition] is not None):
            telemetry.TOPIC_MADE_ANEW.inc(len(others))
            log.warning("topic_made_anew", reason="marks name another topic than before", partitions=others)
            batch.forget |= set(self._collections)
        return Named(told, new)

    async def note(self, named: Named) -> None:
        """The batch of these marks is applied."""
        try:
            if named.new:
                await self._cache.note_topics(self._group, named.new)
            self._known |= named.told
        except Outage as outage:
            # The next mark finds the same, and voids the same once more.
            self._health.wrong("redis", outage.reason)

    def _news(self, batch: Batch) -> dict[int, str]:
        if (now := self._clock()) - self._known_at > TRUST_SECONDS:
            self._known, self._known_at = {}, now
        told = {partition: mark.topic for partition, mark in batch.marks.items() if mark.topic is not None}
        return {partition: topic for partition, topic in told.items() if self._known.get(partition) != topic}
