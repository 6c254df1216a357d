"""The topic of changes, for processes beside the measured ones: where it ends, and what it holds since."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition

from neverstale.settings import Kafka

PARTITIONS: Final = 4
TOPIC: Final = Kafka().topic
RECORDS_A_FETCH: Final = 2_000

Batches: TypeAlias = AsyncIterator[Sequence[Any]]


async def end_offsets(servers: str) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(TOPIC, number) for number in range(PARTITIONS)])
        return {partition.partition: offset for partition, offset in ends.items()}
    finally:
        await consumer.stop()


@asynccontextmanager
async def following(
    servers: str, start: Mapping[int, int], count: int
) -> AsyncIterator[AsyncIterator[Sequence[Any]]]:
    """Records from these offsets on, some thousands at once, until there were `count`."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="none")
    await consumer.start()

    async def fetched() -> Batches:
        found = 0
        while found < count:
            batch = await consumer.getmany(timeout_ms=1000, max_records=RECORDS_A_FETCH)
            records = [record for some in batch.values() for record in some]
            found += len(records)
            yield records

    try:
        partitions = {TopicPartition(TOPIC, number): offset for number, offset in start.items()}
        consumer.assign(list(partitions))
        for partition, offset in partitions.items():
            consumer.seek(partition, offset)
        yield fetched()
    finally:
        await consumer.stop()
