"""The topic of changes: created as declared when it is missing, and looked at when it is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, TopicAlreadyExistsError, for_code

from neverstale.clients import kafka_options
from neverstale.errors import Outage, Stop
from neverstale.incarnation import incarnation_of
from neverstale.settings import Kafka

POLL_SECONDS: Final = 0.1

_RETENTION: Final = "retention.ms"
_CREATED: Final = (0, TopicAlreadyExistsError.errno)  # two watchers may create it at the same time
_EMBEDDED: Final = "mockCluster"
"""How librdkafka's embedded broker names its cluster."""

_HUMAN: Final = (29, 31, 37, 40, 44)
"""Topic or cluster authorization failed, invalid partitions, invalid configuration, policy violated. Not: too few
brokers for the replicas, since more may come."""


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    partitions: int
    created: bool
    """By us, just now: whatever it held before, if it existed before, is gone."""
    complaint: str | None
    """How it differs from what is declared."""
    incarnation: str | None = None
    """Its id, which another topic of the same name does not have; `None`: the broker tells none."""


async def ensure_topic(settings: Kafka) -> Topic:
    """The topic, created if it is missing. `Outage`: no broker answers; `Stop`: it cannot be created as declared."""
    try:
        async with asyncio.timeout(2 * settings.request_timeout_ms / 1000), _admin(settings) as admin:
            created = False
            while (partitions := await _partitions(admin, settings.topic)) == 0:
                created = await _create(admin, settings) or created
                await asyncio.sleep(POLL_SECONDS)
            complaint = await _complaint(admin, settings, partitions)
            incarnation = await _incarnation(admin, settings.topic)
    except (KafkaError, OSError, TimeoutError) as error:
        raise Outage("kafka", f"{type(error).__name__}: {error}") from error
    return Topic(settings.topic, partitions, created, complaint, incarnation)


@asynccontextmanager
async def _admin(settings: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**kafka_options(settings))
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def _partitions(admin: AIOKafkaAdminClient, topic: str) -> int:
    """How many partitions it has; 0: it is missing, or not all of them have a leader yet."""
    # Asked for by name, a missing topic would be created by brokers that do so, and not as declared.
    described: list[dict[str, Any]] = await admin.describe_topics()
    for found in described:
        if found["topic"] == topic and found["error_code"] == 0:
            led = all(partition["leader"] >= 0 for partition in found["partitions"])
            return len(found["partitions"]) if led else 0
    return 0


async def _incarnation(admin: AIOKafkaAdminClient, topic: str) -> str | None:
    try:
        # Another broker is asked each time, and not all need have heard of a topic that was just made.
        while True:
            if (incarnation := await incarnation_of(admin._client, topic)) is not None:
                return incarnation
            await asyncio.sleep(POLL_SECONDS)
    except IncompatibleBrokerVersion:
        return None


async def _create(admin: AIOKafkaAdminClient, settings: Kafka) -> bool:
    if str((await admin.describe_cluster())["cluster_id"]).startswith(_EMBEDDED):
        # It cannot be told to create a topic, but does so when it is asked for one.
        await admin.describe_topics([settings.topic])
        return True
    topic = NewTopic(
        name=settings.topic,
        num_partitions=settings.partitions,
        replication_factor=settings.replication_factor,
        topic_configs={_RETENTION: str(settings.retention_ms), "cleanup.policy": "delete"},
    )
    answer = await admin.create_topics([topic])
    for _, code, *message in answer.topic_errors:
        if code in _HUMAN:
            raise Stop(f"topic {settings.topic} cannot be created as declared: {for_code(code).__name__} {message}")
        if code not in _CREATED:
            raise for_code(code)(*message)
    return any(code == 0 for _, code, *_ in answer.topic_errors)


async def _complaint(admin: AIOKafkaAdminClient, settings: Kafka, partitions: int) -> str | None:
    wrong = []
    if partitions != settings.partitions:
        wrong.append(f"{partitions} partitions instead of {settings.partitions}")
    retention = await _retention_ms(admin, settings.topic)
    if retention is not None and retention != settings.retention_ms:
        wrong.append(f"{_RETENTION} {retention} instead of {settings.retention_ms}")
    return f"topic {settings.topic} has {' and '.join(wrong)}" if wrong else None


async def _retention_ms(admin: AIOKafkaAdminClient, topic: str) -> int | None:
    """`None`: the broker does not say."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={_RETENTION: None})
    try:
        answers = await admin.describe_configs([resource])
    except IncompatibleBrokerVersion:
        return None
    for answer in answers:
        for _, _, _, _, entries, *_ in answer.resources:
            for name, value, *_ in entries:
                if name == _RETENTION and value is not None:
                    return int(value)
    return None
