"""What the three servers say of themselves, for `neverstale check` and `neverstale status`.

Each function answers facts or raises `Outage` with a short reason that holds no secret.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from neverstale.errors import Outage
from neverstale.kafka.topic import topic_configs
from neverstale.links.tls import refused_by
from neverstale.servers import kafka_options, mongo_client, redis_client
from neverstale.settings import Kafka, MongoDB, RedisSettings
from neverstale.settings.redis_url import Address

DEADLINE_SECONDS = 10
"""For all questions to one server together."""
REDIS_TIMEOUT_MS = 5000
"""For one question to Redis, and for a connection. Readers give up long before; who looks for a fault waits."""

UNAUTHORIZED = 13
AUTHENTICATION_FAILED = 18


@dataclass(frozen=True, slots=True)
class MongoFacts:
    version: str
    set_name: str | None
    """`None` behind a mongos, and on a server that is no replica set."""
    is_mongos: bool
    primary: str | None
    """`host:port`, or `None` while there is none."""


@dataclass(frozen=True, slots=True)
class KafkaFacts:
    brokers: int
    replicas: Mapping[int, int] | None
    """Partition of the topic -> number of its replicas; `None`: there is no such topic."""
    configs: Mapping[str, str] = field(default_factory=dict)
    """Of the topic, as far as they matter and are told."""
    behind: Sequence[int] = ()
    """Partitions of which a replica is not in sync."""
    leaderless: Sequence[int] = ()
    """Partitions that nobody can write to."""


@dataclass(frozen=True, slots=True)
class RedisFacts:
    version: str
    role: str
    """`master` or `slave`."""
    is_cluster: bool
    used_bytes: int
    max_bytes: int
    """0: no limit of its own."""
    policy: str
    """`maxmemory-policy`: what is evicted when memory is full."""


@asynccontextmanager
async def mongodb(settings: MongoDB) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """A client whose errors leave as `Outage`."""
    try:
        # The deadline is for what is asked, not for closing the client.
        async with mongo_client(settings) as client, asyncio.timeout(DEADLINE_SECONDS):
            yield client
    except ServerSelectionTimeoutError:
        seconds = settings.server_selection_timeout_ms / 1000
        raise Outage("mongodb", f"no usable member answered within {seconds:g} s") from None
    except OperationFailure as error:
        raise Outage("mongodb", _refusal(error)) from None
    except TimeoutError:
        raise Outage("mongodb", f"no answer within {DEADLINE_SECONDS} s") from None
    except (PyMongoError, OSError) as error:
        raise Outage("mongodb", type(error).__name__) from None


def _refusal(error: OperationFailure) -> str:
    if error.code == AUTHENTICATION_FAILED:
        return "it refuses user or password"
    if error.code == UNAUTHORIZED:
        return "the user may not do this, or no user is given"
    return f"error {error.code}, {(error.details or {}).get('codeName', 'unnamed')}"


async def mongo_facts(client: AsyncMongoClient[dict[str, Any]]) -> MongoFacts:
    hello = await client.admin.command("hello")
    version = (await client.admin.command("buildInfo"))["version"]
    return MongoFacts(version, hello.get("setName"), hello.get("msg") == "isdbgrid", hello.get("primary"))


@asynccontextmanager
async def kafka_admin(settings: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client whose errors leave as `Outage`."""
    # It logs every refused connection of its own; what failed is said once, in the answer.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    admin = AIOKafkaAdminClient(**kafka_options(settings))
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await admin.start()
            yield admin
    except TimeoutError:
        raise Outage("kafka", f"no answer within {DEADLINE_SECONDS} s") from None
    except KafkaError as error:
        raise Outage("kafka", _kafka_reason(error)) from None
    finally:
        await admin.close()


def _kafka_reason(error: KafkaError) -> str:
    known = {
        "KafkaConnectionError": "no broker accepts a connection",
        "TopicAuthorizationFailedError": "the user may not describe the topic",
        "GroupAuthorizationFailedError": "the user may not describe the consumer group",
    }
    return known.get(type(error).__name__, type(error).__name__)


async def kafka_facts(admin: AIOKafkaAdminClient, topic: str) -> KafkaFacts:
    brokers = len((await admin.describe_cluster())["brokers"])
    # Asking for a topic by name would create it on brokers that create topics by themselves.
    if topic not in await admin.list_topics():
        return KafkaFacts(brokers, None)
    (described,) = await admin.describe_topics([topic])
    parts = described["partitions"]
    return KafkaFacts(
        brokers,
        {part["partition"]: len(part["replicas"]) for part in parts},
        await topic_configs(admin, topic),
        behind=sorted(part["partition"] for part in parts if len(part["isr"]) < len(part["replicas"])),
        leaderless=sorted(part["partition"] for part in parts if part["leader"] < 0),
    )


@dataclass(frozen=True, slots=True)
class PartitionOffsets:
    """How far a partition is written, and how far the group has said that it is applied."""

    committed: int | None
    """`None`: the group never committed there."""
    end: int
    by: str
    """Which consumer said so; empty: not told."""

    @property
    def lag(self) -> int | None:
        """Records published and not yet committed; `None`: unknown."""
        return None if self.committed is None else max(0, self.end - self.committed)


@asynccontextmanager
async def kafka_consumer(settings: Kafka, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of no group. It is stopped, also where its start has failed or was cut off. Raises `KafkaError`."""
    consumer = AIOKafkaConsumer(**kafka_options(settings), **options)
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def kafka_offsets(admin: AIOKafkaAdminClient, settings: Kafka, partitions: int) -> dict[int, PartitionOffsets]:
    """By partition. Asked without joining the group, so that nothing is rebalanced."""
    if not partitions:
        return {}
    topics = [TopicPartition(settings.topic, partition) for partition in range(partitions)]
    try:
        committed = await admin.list_consumer_group_offsets(settings.group, partitions=topics)
    except GroupCoordinatorNotAvailableError:
        committed = {}  # No group ever committed on this cluster.
    async with kafka_consumer(settings) as consumer:
        ends = await consumer.end_offsets(topics)
    held = {topic.partition: one for topic, one in committed.items() if one.offset >= 0}
    return {
        topic.partition: PartitionOffsets(
            held[topic.partition].offset if topic.partition in held else None,
            end,
            held[topic.partition].metadata if topic.partition in held else "",
        )
        for topic, end in sorted(ends.items())
    }


def patient(settings: RedisSettings) -> RedisSettings:
    """With the patience of somebody who looks for a fault."""
    longer = {
        "connect_timeout_ms": max(settings.connect_timeout_ms, REDIS_TIMEOUT_MS),
        "write_timeout_ms": max(settings.write_timeout_ms, REDIS_TIMEOUT_MS),
    }
    return settings.model_copy(update=longer)


@asynccontextmanager
async def redis(settings: RedisSettings, *, node: Address | None = None) -> AsyncIterator[Redis]:
    """A client whose errors leave as `Outage`. `node`: of a Redis Cluster; default: the first that the URL names."""
    patiently = patient(settings)
    client = redis_client(patiently, timeout_ms=patiently.write_timeout_ms, node=node)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield client
    except AuthenticationError:
        raise Outage("redis", "it refuses user or password, or asks for them") from None
    except NoPermissionError:
        raise Outage("redis", "the user may not do this") from None
    except TimeoutError:
        raise Outage("redis", "no answer in time") from None
    except (RedisError, OSError) as error:
        raise Outage("redis", _redis_reason(error)) from None
    finally:
        with suppress(RedisError, OSError):  # a server that is slow to say goodbye has answered all the same
            await client.aclose()


def _redis_reason(error: Exception) -> str:
    name = type(error).__name__
    if (by := refused_by(error)) is not None:
        return "its certificate is not trusted" if by == "us" else "it refuses our certificate, or that we show none"
    return {"ConnectionError": "no connection", "TimeoutError": "no answer in time"}.get(name, name)


async def redis_configs(client: Redis, *names: str) -> dict[str, str]:
    """Of its configuration. One question for each: only Redis 7 answers several at once."""
    found: dict[str, str] = {}
    for name in names:
        told: dict[Any, Any] = await client.config_get(name)
        found |= told
    return found


async def redis_facts(client: Redis) -> RedisFacts:
    info: dict[str, Any] = {}
    for section in ("server", "memory", "replication", "cluster"):
        info |= await client.info(section)
    return RedisFacts(
        version=str(info["redis_version"]),
        role=str(info["role"]),
        is_cluster=bool(info.get("cluster_enabled")),
        used_bytes=int(info["used_memory"]),
        max_bytes=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", "noeviction")),
    )
