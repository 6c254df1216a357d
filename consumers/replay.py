"""Replay: what the Redis that we write to lacks, and applying it again.

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
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from consumers.records.batch import Batch
from neverstale.errors import Outage
from neverstale.redis.cache import Account, Cache, Invalidated, Lacks
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


class Replay:
    """Of one consumer and the Redis that it writes to; about one batch at a time."""

    def __init__(self, cache: Cache, group: str, collections: Collection[str], health: Health) -> None:
        self._cache = cache
        self._group = group
        self._collections = frozenset(collections)
        self._health = health
        self._begins: Mapping[int, int] = {}
        self.gaps: dict[int, Gap] = {}
        """Partition -> what has to be applied again, before what comes next."""

    def expect(self, begins: Mapping[int, int]) -> None:
        """A batch is going to be applied. Partition -> the offset of its first record there; none for a partition
        whose earlier records are void."""
        self._begins = begins

    def account(self, batch: Batch) -> Account:
        """What Redis is to note of a batch."""
        # Where all is void nothing before it can be lacking; and the offsets that Redis holds may be of a topic
        # that was made anew since.
        begins = {} if self._collections <= batch.forget else self._begins
        return Account(self._group, begins, batch.offsets)

    async def reach(self, batch: Batch, done: Invalidated) -> set[int]:
        """The batch is applied. Answers the partitions of which this Redis has all up to the end of the batch; what
        others lack is in `gaps`."""
        account, found = self.account(batch), done.reached
        if found is None:
            try:
                found = await self._cache.reach(account, done.token)
            except Outage as outage:
                # Whether it was noted will be seen by the next batch.
                self._health.wrong("redis", outage.reason)
                return set()
        for partition, answer in found.items():
            if isinstance(answer, Lacks):
                self.gaps[partition] = Gap(answer.since, account.begins[partition])
        return {partition for partition, answer in found.items() if answer == "reached"}

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

    def take(self) -> dict[int, Gap]:
        """The gaps, which are the caller's from now on."""
        gaps, self.gaps = self.gaps, {}
        return gaps

    def forget(self) -> None:
        """The partitions are not ours any more."""
        self.gaps = {}
