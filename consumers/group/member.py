"""A member of the consumer group: Kafka's client with deadlines, and what one assignment of partitions means.

Every rebalance takes all partitions away and hands out new ones (aiokafka knows eager assignors only), at any moment,
also while a batch is being applied. What was fetched under one assignment is dropped under the next, and
comes again from the committed offsets.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.consumers.apply import Apply
from neverstale.consumers.group.assignor import PatientAssignor
from neverstale.consumers.group.client import close, let_go, options
from neverstale.consumers.group.offsets import Offsets
from neverstale.consumers.group.peers import Peers, where
from neverstale.consumers.group.static_membership import Replaced, is_taken
from neverstale.consumers.group.stuck import Progress, Stuck
from neverstale.consumers.records.batch import Batch, Folding
from neverstale.consumers.replay import Believed, Gap, Rewind
from neverstale.role import cancellation, telemetry
from neverstale.role.retry import Wanted
from neverstale.role.tasks import unless
from neverstale.settings import Kafka, Settings

log = telemetry.logger(__name__)

START_SECONDS: Final = 30.0
"""A start waits for the other members of the group to join again."""
JOIN_SECONDS: Final = 60.0
"""Joining again waits for members that died, until their sessions have run out; longer than this is no waiting."""
REQUEST_SECONDS: Final = 5.0
LAST_COMMIT_SECONDS: Final = 2.0
"""The last commit of a rebalance or of a drain takes no longer; both have deadlines of their own."""
REVOKE_SECONDS: Final = 2.0
"""How long a rebalance is held up for the batch under way, so that it need not be applied twice."""
POLL_MS: Final = 1000
NOBODY: Final = ""
"""The id of a member that the group does not know."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A batch, and the assignment under which it was fetched."""

    assignment: Wanted
    """Ends when its partitions are taken away."""
    batch: Batch


@dataclass(frozen=True, slots=True)
class Consumed:
    """What a member consumes, and how."""

    kafka: Kafka
    max_records: int
    replay_seconds: float
    folding: Folding
    accounts: Believed[Any]
    apply: Apply
    url: str
    """Where this consumer answers HTTP; the other members watch whether it does."""
    instance: str
    """Of whom the group is told that he has applied what he commits."""
    watcher_group: str = DEFAULT_GROUP
    """Whose topic it is."""

    @property
    def topic(self) -> str:
        return self.kafka.topic


class Member(ConsumerRebalanceListener):  # type: ignore[misc]
    """Fetches, applies and commits under the assignment of the moment."""

    def __init__(self, kafka: AIOKafkaConsumer, consumed: Consumed, stop: asyncio.Event, peers: Peers) -> None:
        self._kafka = kafka
        self._peers = peers
        self._consumed = consumed
        self._stop = stop
        self._offsets = Offsets(consumed.topic, consumed.instance)
        self._progress = Progress()
        self._assignment = Wanted(stop)
        self._gaps: dict[int, Gap] = {}
        """Partition -> what Redis lacks, which has to be applied again before what comes next."""
        self._untold: dict[int, tuple[int, int | None]] = {}
        """Partition -> a run of offsets of which Redis need not be told: it follows on what it was told before.
        `None`: the run ends where the next record is, since Kafka was asked for what comes at its beginning."""
        self._applying = asyncio.Lock()
        self._replaced = asyncio.Event()
        self._joining_since: float | None = time.monotonic()
        """`None`: partitions are assigned and stay so. While the group is joined again nothing is delivered."""
        self._member_id = NOBODY
        """What the group called us when it was joined last."""
        self.heard_at = time.monotonic()
        """When Kafka was last seen to answer."""

    async def fetch(self) -> Fetched | None:
        """The next batch; `None` if there is none for a while. `KafkaError`: this client is of no use any more."""
        self._progress.fetching()
        try:
            records = await self._kafka.getmany(timeout_ms=POLL_MS, max_records=self._consumed.max_records)
        except NoOffsetForPartitionError as error:
            return await self._begin_again(error.args, "nothing was committed")
        except OffsetOutOfRangeError as error:
            return await self._begin_again(error.args[0], "the offset is out of range")
        except KafkaError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            cancellation.heed()  # if that is not it, the client cancelled something of its own and passed it on
            raise KafkaError(f"the client failed: {error!r}") from error
        self._progress.fetched()
        if not records:
            return None
        self.heard_at = time.monotonic()
        return Fetched(self._assignment, self._consumed.folding.fold(records))

    async def apply(self, fetched: Fetched) -> None:
        """Apply a batch unless its partitions were taken away, and note that its offsets may be committed."""
        async with self._applying:
            batch, assignment = fetched.batch, fetched.assignment
            if assignment.ended:
                return
            batch.begins = {partition: self._since(partition, first) for partition, first in batch.begins.items()}
            outcome = await self._consumed.apply(batch, assignment)
            # Asked again: a rebalance that would not wait any longer may have come in between.
            if outcome.applied and not assignment.ended:
                self._offsets.applied(batch.offsets)
                self._gaps |= outcome.gaps
                self._note_told(batch)

    def _since(self, partition: int, first: int) -> int:
        """From where on a batch that begins at `first` tells all that there is to tell."""
        begin, end = self._untold.get(partition, (first, first))
        return begin if end is None or end == first else first

    def _note_told(self, batch: Batch) -> None:
        for partition, end in batch.offsets.items():
            if batch.asks_nothing:
                self._untold[partition] = batch.begins[partition], end
            else:
                self._untold.pop(partition, None)

    @property
    def lags(self) -> bool:
        """Whether Redis lacks records that come before those that were fetched."""
        return bool(self._gaps)

    async def go_back(self, dropped: Fetched | None) -> Fetched | None:
        """Fetch again what Redis lacks. No fetch may be under way; `dropped` was fetched and will not be applied.

        Returns a batch to be applied first, if something has to be void.
        """
        assignment, gaps, self._gaps = self._assignment, self._gaps, {}
        again = dict(dropped.batch.begins) if dropped is not None and not dropped.assignment.ended else {}
        rewind = await Rewind.over(gaps, self._oldest_to_replay)
        if assignment.ended:
            return None  # taken away meanwhile; whoever has them now will find the same
        for partition, offset in (again | rewind.offsets).items():
            with contextlib.suppress(IllegalStateError):
                self._kafka.seek(TopicPartition(self._consumed.topic, partition), offset)
                if partition in gaps:
                    self._untold[partition] = offset, None
        rewind.tell(gaps)
        return Fetched(assignment, self._consumed.folding.lost(rewind.void)) if rewind.void else None

    async def _oldest_to_replay(self, partition: int) -> int | None:
        """The offset of the first record that is not too old; `None`: all are."""
        at = TopicPartition(self._consumed.topic, partition)
        since_ms = int((time.time() - self._consumed.replay_seconds) * 1000)
        async with asyncio.timeout(REQUEST_SECONDS):
            found = (await self._kafka.offsets_for_times({at: since_ms}))[at]
        return None if found is None else int(found.offset)

    async def commit(self, seconds: float) -> None:
        """Commit what is applied, and give up after so many seconds."""
        await self._offsets.commit(self._kafka, seconds)

    async def ask(self) -> None:
        """See whether Kafka answers, `KafkaError` or `TimeoutError` if not; and whether it is still delivered
        what is there, `Stuck` if not."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                if assigned := self._kafka.assignment():
                    held = await self._consumed.accounts.held([partition.partition for partition in assigned])
                    ends = await self._kafka.end_offsets(assigned)
                    at = {partition.partition: end for partition, end in ends.items()}
                    await self._consumed.accounts.doubt(held, at)
                    positions = {partition: await self._kafka.position(partition) for partition in assigned}
                else:
                    ends = positions = {}
                    await self._kafka.topics()
        except BaseException:
            self._progress.forget()
            raise
        lag = sum(max(0, ends[partition] - at) for partition, at in positions.items())
        telemetry.CONSUMER_LAG.labels(self._consumed.watcher_group).set(lag)
        self.heard_at = time.monotonic()
        if self._joining_since is None:
            self._progress.look(positions, ends)
        elif self.heard_at - self._joining_since > JOIN_SECONDS:
            raise Stuck(f"the group has not been joined for {self.heard_at - self._joining_since:.0f} s")

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """aiokafka calls this before it joins the group again, and waits for it."""
        self._joining_since = time.monotonic()
        held = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REVOKE_SECONDS):
                held = await self._applying.acquire()
        if revoked:
            telemetry.REBALANCES.inc()
            await self.commit(LAST_COMMIT_SECONDS)
        self._assignment.end()
        self._assignment = Wanted(self._stop)
        self._offsets.forget()
        self._progress.forget()
        self._gaps = {}
        self._untold.clear()
        if held:
            self._applying.release()
        if revoked and await self._is_replaced():
            self._replaced.set()
            # aiokafka would join again as soon as this returns.
            await asyncio.get_running_loop().create_future()

    @property
    def is_replaced(self) -> bool:
        return self._replaced.is_set()

    async def watch_peers(self) -> NoReturn:
        """Until cancelled: who has ended without a word is taken out of the group."""
        await self._peers.watch(self._kafka, self._consumed.kafka.group)

    async def until_replaced(self) -> NoReturn:
        """Raises `Replaced` when another consumer is the member that we were."""
        await self._replaced.wait()
        raise Replaced(self._consumed.kafka.group_instance_id or "")

    async def _is_replaced(self) -> bool:
        instance = self._consumed.kafka.group_instance_id
        if instance is None or self._kafka._coordinator.member_id != NOBODY:
            return False
        # The group has forgotten us. It may just have waited too long for us.
        with contextlib.suppress(KafkaError, TimeoutError, OSError):
            return await is_taken(self._consumed.kafka, instance, self._member_id)
        return False

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.heard_at = time.monotonic()
        self._joining_since = None
        self._member_id = self._kafka._coordinator.member_id
        self._progress.forget()
        partitions = sorted(partition.partition for partition in assigned)
        if partitions:
            log.info("assigned", partitions=partitions)
        else:
            reason = "it is missing, or has fewer partitions than the group has members"
            log.warning("nothing_assigned", topic=self._consumed.topic, reason=reason)

    async def _begin_again(self, partitions: Iterable[TopicPartition], reason: str) -> Fetched | None:
        """Go on at what is left of the log. Nobody knows what was in the part that is gone, or whether there was one:
        a topic that was deleted and made again looks like a new one. So everything cached is void, and never is
        anything skipped, as the customary reset to the latest offset would."""
        assignment = self._assignment
        async with asyncio.timeout(REQUEST_SECONDS):
            first: dict[TopicPartition, int] = await self._kafka.beginning_offsets(list(partitions))
        try:
            for partition, offset in first.items():
                self._kafka.seek(partition, offset)
        except IllegalStateError:
            return None  # taken away meanwhile
        telemetry.OFFSETS_LOST.inc(len(first))
        offsets = {partition.partition: offset for partition, offset in first.items()}
        log.warning("began_anew", reason=reason, offsets=offsets)
        return Fetched(assignment, self._consumed.folding.lost(offsets))


@contextlib.asynccontextmanager
async def membership(settings: Settings, consumed: Consumed, stop: asyncio.Event) -> AsyncIterator[Member]:
    """Join the group, unless `stop` is set meanwhile; leave it at the end.

    Raises `KafkaError` or `TimeoutError` if the group cannot be joined.
    """
    peers = Peers()
    assignor = PatientAssignor(
        lambda: where(kafka, consumed.url), lambda told: peers.meet(told, kafka._coordinator.member_id)
    )
    kafka = AIOKafkaConsumer(partition_assignment_strategy=(assignor,), **options(settings))
    member = Member(kafka, consumed, stop, peers)
    kafka.subscribe([settings.kafka.topic], listener=member)
    try:
        async with asyncio.timeout(START_SECONDS):
            await unless(stop, kafka.start())
        yield member
    finally:
        if member.is_replaced:
            let_go(kafka)
        await close(kafka)
