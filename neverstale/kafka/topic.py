"""The topic of changes: created as declared when it is missing, and looked at when it is not."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from neverstale.errors import KafkaRefuses
from neverstale.kafka.refusals import altered, not_let_in, refused
from neverstale.kafka.topic_id import topic_id_of
from neverstale.servers import kafka_options
from neverstale.settings import Kafka

POLL_SECONDS: Final = 0.1

_RETENTION: Final = "retention.ms"
_CREATED: Final = (0, TopicAlreadyExistsError.errno)  # two watchers may create it at the same time
_EMBEDDED: Final = "mockCluster"
"""How librdkafka's embedded broker names its cluster."""

LEAST_BATCH_BYTES: Final = 2048
"""A mark must fit, and a floor."""
_CONFIGS: Final = (
    _RETENTION,
    "cleanup.policy",
    "max.message.bytes",
    "min.insync.replicas",
    "retention.bytes",
    "unclean.leader.election.enable",
)


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    partitions: int
    created: bool
    """By us, just now: whatever it held before, if it existed before, is gone."""
    complaint: str | None
    """How it differs from what is declared, or why we are not told."""
    id: str | None = None
    """Its id, which another topic of the same name does not have; `None`: the broker tells none."""
    max_message_bytes: int | None = None
    """Of one batch of one partition; `None`: the broker does not say."""


async def ensure_topic(settings: Kafka) -> Topic:
    """The topic, created if it is missing. `Outage`: no broker answers; `KafkaRefuses`: it cannot be created, or what
    we publish cannot be written to it, until somebody changes something."""
    try:
        async with asyncio.timeout(2 * settings.request_timeout_ms / 1000), _admin(settings) as admin:
            created = False
            while (partitions := await _partitions(admin, settings.topic)) == 0:
                created = await _create(admin, settings) or created
                await asyncio.sleep(POLL_SECONDS)
            configs, untold = await _configs(admin, settings)
            if (unfit := unfitness(configs, settings)) is not None:
                raise unfit
            topic_id = await _topic_id(admin, settings.topic)
    except (KafkaError, OSError, TimeoutError) as error:
        raise await not_let_in(error, settings, "Write") from error
    largest = configs.get("max.message.bytes")
    return Topic(
        settings.topic,
        partitions,
        created,
        untold or _complaint(configs, settings, partitions),
        topic_id,
        int(largest) if largest else None,
    )


def unfitness(configs: Mapping[str, str], settings: Kafka) -> KafkaRefuses | None:
    """Why a topic that is configured so cannot take what we publish, ever; `None`: it can."""
    policy = configs.get("cleanup.policy", "delete")
    if "compact" in policy:
        reason = f"topic {settings.topic} has cleanup.policy={policy}, which takes no record without a key"
        return KafkaRefuses(reason, altered("cleanup.policy=delete", settings))
    if int(configs.get("max.message.bytes") or LEAST_BATCH_BYTES) < LEAST_BATCH_BYTES:
        reason = f"topic {settings.topic} has max.message.bytes={configs['max.message.bytes']}, which takes no mark"
        return KafkaRefuses(reason, altered("max.message.bytes=1048588", settings))
    return None


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


async def _topic_id(admin: AIOKafkaAdminClient, topic: str) -> str | None:
    try:
        # Another broker is asked each time, and not all need have heard of a topic that was just made.
        while True:
            if (topic_id := await topic_id_of(admin._client, topic)) is not None:
                return topic_id
            await asyncio.sleep(POLL_SECONDS)
    except IncompatibleBrokerVersion:
        return None


async def is_embedded(admin: AIOKafkaAdminClient) -> bool:
    """Whether this is librdkafka's embedded broker."""
    return str((await admin.describe_cluster())["cluster_id"]).startswith(_EMBEDDED)


def declared(settings: Kafka) -> NewTopic:
    return NewTopic(
        name=settings.topic,
        num_partitions=settings.partitions,
        replication_factor=settings.replication_factor,
        topic_configs={_RETENTION: str(settings.retention_ms), "cleanup.policy": "delete"},
    )


async def _configs(admin: AIOKafkaAdminClient, settings: Kafka) -> tuple[dict[str, str], str | None]:
    """What of the topic's configuration matters, and why it is not told to us, if so: we can do without."""
    try:
        return await topic_configs(admin, settings.topic), None
    except KafkaError as error:
        if (refusal := refused(error, settings, "DescribeConfigs")) is None:
            raise
        return {}, f"its configuration is not told: {refusal.reason}; {refusal.remedy}"


async def _create(admin: AIOKafkaAdminClient, settings: Kafka) -> bool:
    """Whether it was made by us. Raises `KafkaError`, and `KafkaRefuses` where a right is missing."""
    if await is_embedded(admin):
        # It cannot be told to create a topic, but does so when it is asked for one.
        await admin.describe_topics([settings.topic])
        return True
    answer = await admin.create_topics([declared(settings)])
    for _, code, *message in answer.topic_errors:
        if code not in _CREATED:
            error = for_code(code)(*message)
            raise refused(error, settings, "Create") or error
    if all(code == 0 for _, code, *_ in answer.topic_errors):
        return True
    # It is there. Brokers leave out of their list what we may not see; of one that is asked for they say so.
    for found in await admin.describe_topics([settings.topic]):
        if found["error_code"] == TopicAuthorizationFailedError.errno:
            raise TopicAuthorizationFailedError(settings.topic)
    return False


def _complaint(configs: Mapping[str, str], settings: Kafka, partitions: int) -> str | None:
    wrong = []
    if partitions != settings.partitions:
        wrong.append(f"{partitions} partitions instead of {settings.partitions}")
    retention = configs.get(_RETENTION)
    if retention is not None and int(retention) != settings.retention_ms:
        wrong.append(f"{_RETENTION} {retention} instead of {settings.retention_ms}")
    return f"topic {settings.topic} has {' and '.join(wrong)}" if wrong else None


async def topic_configs(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """What of its configuration matters to us, as far as the broker tells it to us. Raises `KafkaError`."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict.fromkeys(_CONFIGS))
    try:
        answers = await admin.describe_configs([resource])
    except IncompatibleBrokerVersion:
        return {}
    for answer in answers:
        for code, message, *_ in answer.resources:
            if code:
                raise for_code(code)(message)
    return {
        name: value
        for answer in answers
        for _, _, _, _, entries, *_ in answer.resources
        for name, value, *_ in entries or ()
        if name in _CONFIGS and value is not None
    }
