"""Replay: what the Redis that we write to lacks, and is therefore applied to it again.

A Redis that took over, or came back from a file, may lack invalidations that its predecessor acknowledged; so may
ours, if a partition was applied to another one (a split brain) before it came to us. No Redis is trusted in this:
each holds, beside the entries, the offset up to which every partition is applied *there* (`reach.lua`). What it holds
is always some state that one Redis went through, so that offset is true wherever it is found. A batch that does not
follow on it shows that records are missing, and which. They are fetched and applied once more, which changes nothing
where they had been applied. Until then the partition gets no watermark.

Where it is not known what is missing (an empty Redis), or it is more than `consumer.replay_seconds` old, everything
is void instead, as for records that were lost in Kafka.
"""

import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

from neverstale.consumers.records.batch import Batch
from neverstale.errors import Outage
from neverstale.redis.corrections import Account, Corrections, Invalidated, Lacks
from neverstale.role import telemetry
from neverstale.role.service import Health

log = telemetry.logger(__name__)


@dataclass(frozen=True, slots=True)
class Gap:
    """Records of a partition that the Redis was not told of."""

    since: int | None
    """The offset of the first; `None`: not known, it may be any."""
    until: int
    """The offset of the first that it was told of again."""


@dataclass(frozen=True, slots=True)
class Rewind:
    """Where partitions go on so that a Redis gets what it lacks."""

    offsets: dict[int, int]
    """Partition -> the offset of the first record to apply again; or of the first that counts, if it is in `void`."""
    void: dict[int, int]
    """The same for those of which something is lacking that cannot be applied again."""

    @classmethod
    async def over(cls, gaps: Mapping[int, Gap], oldest: Callable[[int], Awaitable[int | None]]) -> Self:
        """`oldest` returns the offset of a partition's first record that may be applied again; `None`: none may."""
        offsets, void = {}, {}
        for partition, gap in gaps.items():
            first = None if gap.since is None else await oldest(partition)
            if gap.since is not None and first is not None and gap.since >= first:
                offsets[partition] = gap.since
            else:
                offsets[partition] = void[partition] = gap.until
        return cls(offsets, void)

    def tell(self, gaps: Mapping[int, Gap]) -> None:
        """Count and log what is done about these gaps."""
        for partition, gap in gaps.items():
            action = "voided" if partition in self.void else "replayed"
            telemetry.REDIS_LACKED.labels(action).inc()
            log.warning("redis_lacks", partition=partition, since=gap.since, until=gap.until, action=action)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the Redis that took a batch is applied."""

    complete: Collection[int] = ()
    """Partitions of which it has all up to the end of the batch."""
    gaps: Mapping[int, Gap] = field(default_factory=dict)
    """Partition -> what it lacks from before the batch."""


Held = TypeVar("Held")


class Believed(Protocol[Held]):
    """What Redis says of how far partitions are applied, as it is checked now and then."""

    async def held(self, partitions: Collection[int]) -> Held:
        """How far Redis says that partitions are applied, as far as it says so."""

    async def doubt(self, held: Held, ends: Mapping[int, int]) -> None:
        """Nothing is applied beyond the end of a partition. `held` was read before `ends`."""


class Accounts:
    """Asks and tells a Redis how far partitions are applied there."""

    def __init__(self, cache: Corrections, group: str, collections: Collection[str], health: Health) -> None:
        self._cache = cache
        self._group = group
        self._collections = frozenset(collections)
        self._health = health

    def account(self, batch: Batch) -> Account:
        """What Redis is to note of a batch."""
        # Where all is void nothing before it can be lacking; and the offsets that Redis holds may be of a topic
        # that was deleted and made again since.
        begins = {} if self._collections <= batch.forget else batch.begins
        return Account(self._group, begins, batch.offsets)

    async def reach(self, batch: Batch, done: Invalidated) -> Reach:
        """Have it noted that the batch is applied, and learn what is lacking."""
        account, found = self.account(batch), done.reached
        if found is None:
            try:
                found = await self._cache.reach(account, done.token)
            except Outage as outage:
                # Whether it was noted will be seen by the next batch.
                self._health.wrong("redis", outage.reason)
                return Reach()
        gaps = {
            partition: Gap(answer.since, account.begins[partition])
            for partition, answer in found.items()
            if isinstance(answer, Lacks)
        }
        return Reach({partition for partition, answer in found.items() if answer == "reached"}, gaps)

    async def held(self, partitions: Collection[int]) -> dict[int, int]:
        """How far Redis says that partitions are applied, as far as it says so."""
        try:
            return await self._cache.reached(self._group, list(partitions))
        except Outage:
            return {}

    async def doubt(self, held: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Nothing is applied beyond the end of a partition; whoever wrote that would hide what is lacking later.
        `held` was read before `ends`."""
        false = [partition for partition, offset in held.items() if offset > ends.get(partition, offset)]
        if false:
            log.warning("account_void", reason="it is beyond the end of the topic", partitions=sorted(false))
            with contextlib.suppress(Outage):
                await self._cache.forget_reached(self._group, false)
