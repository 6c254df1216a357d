"""Records of the operator's: published to the topic, and waited for until the consumers have applied them.

A consumer commits what it has applied, so a record is applied when the group's committed offset is behind it. (A
watermark would not do: the mark that it stems from may have been published before the record.)
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from neverstale.errors import Outage
from neverstale.kafka.producer import started_producer
from neverstale.ops.servers import kafka_admin, kafka_consumer, kafka_facts
from neverstale.servers import kafka_options
from neverstale.settings import Kafka

POLL_SECONDS: Final = 0.1

Record: TypeAlias = tuple[int, bytes | None, bytes]
"""Partition, key, value."""
Ends: TypeAlias = Mapping[int, int]
"""Partition -> the offset behind a record."""


async def partitions_of_topic(settings: Kafka) -> int:
    """How many partitions the topic has. `Outage` if there is none: nobody ever published to it."""
    async with kafka_admin(settings) as admin:
        facts = await kafka_facts(admin, settings.topic)
    if facts.replicas is None:
        raise Outage("kafka", f"there is no topic {settings.topic}; the watcher creates it when it starts")
    return len(facts.replicas)


async def publish(settings: Kafka, records: Sequence[Record]) -> Ends:
    """Returns when Kafka has them all."""
    try:
        async with asyncio.timeout(2 * settings.request_timeout_ms / 1000), started_producer(settings) as producer:
            sent = [
                await producer.send(settings.topic, value, key=key, partition=partition)
                for partition, key, value in records
            ]
            ends: dict[int, int] = {}
            for stored in await asyncio.gather(*sent):
                ends[stored.partition] = max(ends.get(stored.partition, 0), stored.offset + 1)
            return ends
    except (KafkaError, TimeoutError) as error:
        raise Outage("kafka", f"{type(error).__name__} while publishing") from error


async def ends_of_topic(settings: Kafka) -> Ends:
    """Behind everything that is published by now."""
    partitions = await partitions_of_topic(settings)
    try:
        async with (
            asyncio.timeout(2 * settings.request_timeout_ms / 1000),
            kafka_consumer(settings) as consumer,
        ):
            found = await consumer.end_offsets([TopicPartition(settings.topic, each) for each in range(partitions)])
            return {topic.partition: offset for topic, offset in found.items()}
    except (KafkaError, TimeoutError) as error:
        raise Outage("kafka", f"{type(error).__name__} while asking for offsets") from error


async def are_applied(settings: Kafka, ends: Ends, seconds: float) -> bool:
    """Wait until everything before `ends` is applied. False: not within so many seconds."""
    try:
        async with asyncio.timeout(seconds), _admin(settings) as admin:
            while True:
                if await _is_applied(admin, settings, ends):
                    return True
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        return False
    except KafkaError as error:
        raise Outage("kafka", f"{type(error).__name__} while asking for offsets") from error


async def _is_applied(admin: AIOKafkaAdminClient, settings: Kafka, ends: Ends) -> bool:
    # A partition on which nothing was ever published has nothing to commit.
    topics = [TopicPartition(settings.topic, partition) for partition, end in ends.items() if end]
    try:
        held = await admin.list_consumer_group_offsets(settings.group, partitions=topics)
    except GroupCoordinatorNotAvailableError:
        return not topics  # No group ever committed on this cluster.
    return all(topic in held and held[topic].offset >= ends[topic.partition] for topic in topics)


@asynccontextmanager
async def _admin(settings: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**kafka_options(settings))
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
