"""Records to Kafka: one batch at a time on its way per partition, the next one filling meanwhile.

A batch leaves when it has been flushed and the one before it on its partition is acknowledged, so a single
change leaves at once and a busy partition forms large batches by itself. Order within a partition is the order
of `put`, since the producer is idempotent.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Final, NoReturn

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from neverstale.kafka.producer import batch_bytes, started_producer
from neverstale.kafka.refusals import as_ours
from neverstale.kafka.topic import Topic
from neverstale.kafka.topic_id import topic_id_of
from neverstale.role.retry import forever
from neverstale.role.tasks import start
from neverstale.settings import Kafka

RECORD_OVERHEAD_BYTES: Final = 128
"""More than a batch of one record takes beside its key and value."""


class Receipt:
    """Promises that everything put before it was acknowledged by Kafka, once `acknowledged` is done."""

    __slots__ = ("_parcels", "acknowledged")

    def __init__(self, parcels: int) -> None:
        self.acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parcels = parcels
        if parcels == 0:
            self.acknowledged.set_result(None)

    def arrived(self) -> None:
        self._parcels -= 1
        if self._parcels == 0 and not self.acknowledged.done():
            self.acknowledged.set_result(None)


@dataclass(slots=True)
class _Parcel:
    batch: Any
    """aiokafka's `BatchBuilder`."""
    receipts: list[Receipt] = field(default_factory=list)


@dataclass(slots=True)
class _Lane:
    """The records of one partition, in order: on their way, full, filling."""

    partition: int
    filling: _Parcel
    full: deque[_Parcel] = field(default_factory=deque)
    under_way: _Parcel | None = None
    under_way_since: float = 0.0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last(self) -> _Parcel | None:
        """The parcel whose acknowledgement implies that of all others."""
        if self.filling.batch.record_count():
            return self.filling
        return self.full[-1] if self.full else self.under_way


class Publisher:
    """Give it records with `put`, then `flush`; `run` must be running."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        settings: Kafka,
        partitions: int,
        topic_id: str | None = None,
        max_message_bytes: int | None = None,
    ) -> None:
        self._producer = producer
        self._settings = settings
        self.topic = settings.topic
        self.largest_record = batch_bytes(max_message_bytes) - RECORD_OVERHEAD_BYTES
        """Bytes of key and value together; the topic takes no larger one."""
        self.acknowledged = 0
        """Batches."""
        self.partitions = partitions
        self.topic_id = topic_id
        self._lanes = [_Lane(partition, self._parcel()) for partition in range(partitions)]
        self._append = [lane.filling.batch.append for lane in self._lanes]

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Kafka, topic: Topic) -> AsyncIterator["Publisher"]:
        async with started_producer(settings, topic.max_message_bytes) as producer:
            yield cls(producer, settings, topic.partitions, topic.id, topic.max_message_bytes)

    def put(self, partition: int, key: bytes | None, value: bytes) -> None:
        """Add a record to its partition. Never waits: what may be under way is bounded by who flushes."""
        if self._append[partition](timestamp=None, key=key, value=value) is None:
            lane = self._lanes[partition]
            self._close_filling(lane)
            lane.wake.set()
            self._append[partition](timestamp=None, key=key, value=value)

    def put_everywhere(self, value: bytes) -> None:
        """Add a record without key to every partition."""
        for partition in range(self.partitions):
            self.put(partition, None, value)

    def flush(self) -> Receipt:
        """Let go what was put so far."""
        parcels = []
        for lane in self._lanes:
            if (parcel := lane.last) is not None:
                parcels.append(parcel)
                lane.wake.set()
        receipt = Receipt(len(parcels))
        for parcel in parcels:
            parcel.receipts.append(receipt)
        return receipt

    async def run(self) -> NoReturn:
        """Carry parcels to Kafka until cancelled.

        Raises:
            Outage: a batch failed for good; it and all later ones must be published again by a new publisher.
            KafkaRefuses: the same, and it will fail until somebody changes something.
        """
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                start(group, forever(partial(self._carry, lane)), f"publish-{lane.partition}")
        raise AssertionError("a lane never ends")

    def seconds_unacknowledged(self, now: float) -> float:
        """For how long the oldest batch under way has been waiting for its acknowledgement."""
        return max((now - lane.under_way_since for lane in self._lanes if lane.under_way), default=0.0)

    def known_partitions(self) -> int:
        """How many partitions the topic has by the latest metadata."""
        known = self._producer.client.cluster.partitions_for_topic(self.topic)
        return len(known) if known else self.partitions

    async def known_topic_id(self) -> str | None:
        """The id of the topic that is there now; `None`: not known. Raises `KafkaError`."""
        return await topic_id_of(self._producer.client, self.topic)

    def _parcel(self) -> _Parcel:
        return _Parcel(self._producer.create_batch())

    def _close_filling(self, lane: _Lane) -> None:
        lane.filling.batch.close()
        lane.full.append(lane.filling)
        lane.filling = self._parcel()
        self._append[lane.partition] = lane.filling.batch.append

    async def _carry(self, lane: _Lane) -> None:
        """Wait for the next parcel of a partition, and carry it."""
        while not lane.full:
            if lane.filling.batch.record_count():
                self._close_filling(lane)
            else:
                lane.wake.clear()
                await lane.wake.wait()
        parcel = lane.under_way = lane.full.popleft()
        lane.under_way_since = monotonic()
        await self._send(parcel, lane.partition)
        lane.under_way = None
        self.acknowledged += 1
        for receipt in parcel.receipts:
            receipt.arrived()

    async def _send(self, parcel: _Parcel, partition: int) -> None:
        try:
            await (await self._producer.send_batch(parcel.batch, self.topic, partition=partition))
        except KafkaError as error:
            raise as_ours(error, self._settings, "Write") from error
