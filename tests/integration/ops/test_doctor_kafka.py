"""`neverstale doctor` and a real Kafka: topics that are set up badly, and consumers that get nowhere."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from redis.asyncio import Redis

from neverstale.catalog import Catalog
from neverstale.kafka.topic import is_embedded
from neverstale.keys import Names
from neverstale.ops.check.kafka import check_kafka
from neverstale.redis.corrections import Corrections
from tests.support.waiting import eventually
from tests.worlds.doctored import Patient, levels, noted, provokes

CATALOG = Catalog.model_validate({"database": "nyc", "resources": {"flights": {"key_type": "string"}}})
PARTITIONS = 4


@pytest.fixture
def patient(mongo_uri: str, kafka_servers: str, redis_url: str, topic: str, redis_prefix: str) -> Patient:
    environ = {
        "NEVERSTALE_MONGODB__URI": mongo_uri,
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": kafka_servers,
        "NEVERSTALE_KAFKA__TOPIC": topic,
        "NEVERSTALE_KAFKA__GROUP": topic,
        "NEVERSTALE_REDIS__URL": redis_url,
        "NEVERSTALE_REDIS__PREFIX": redis_prefix,
    }
    return Patient(environ, CATALOG)


@pytest.fixture
async def admin(kafka_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka_servers)
    await client.start()
    yield client
    await client.close()


@provokes(
    "forgets-too-soon",
    "forgets-sooner",
    "small-batches",
    "min-isr-above-replicas",
    "forgets-by-size",
    "other-partitions",
    "unclean-election",
    "unfit",
    "more-replicas-than-brokers",
    "topic-not-creatable",
    "kafka-refuses",
)
async def test_a_topic_that_forgets_refuses_and_loses_is_said_in_each_respect(
    patient: Patient, admin: AIOKafkaAdminClient, topic: str
) -> None:
    if await is_embedded(admin):
        pytest.skip("the embedded broker has no configurations")
    configs = {
        "retention.ms": "60000",
        "max.message.bytes": "20000",
        "min.insync.replicas": "2",
        "retention.bytes": "1000000",
        "unclean.leader.election.enable": "true",
    }
    await admin.create_topics(
        [
            NewTopic(topic, 3, 1, topic_configs=configs),
            NewTopic(f"{topic}.dead", 1, 1, topic_configs={"cleanup.policy": "compact"}),
            NewTopic(f"{topic}.sooner", 4, 1, topic_configs={"retention.ms": "4000000"}),
        ]
    )
    found = await patient.findings("topics")
    said = " ".join(f"{one.level}: {one.message}" for one in found)
    for words in (
        "problem: topic",
        "keeps records for 60000 ms",
        "max.message.bytes=20000",
        "min.insync.replicas=2, above",
        "retention.bytes=1000000",
        "has 3 partitions, not 4",
        "lacks records may lead",
        ".dead has cleanup.policy=compact",
    ):
        assert words in said
    assert all(one.remedy.startswith(("kafka-configs --bootstrap-server ", "export ")) for one in found)
    for variables, names in (
        ({"TOPIC": f"{topic}.sooner"}, {"forgets-sooner"}),
        (
            {"TOPIC": f"{topic}.none", "REPLICATION_FACTOR": "9"},
            {"more-replicas-than-brokers", "topic-not-creatable"},
        ),
        (
            {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_USERNAME": "us", "SASL_PASSWORD": "s3cret"},
            {"kafka-refuses"},
        ),
    ):
        spoilt = {f"NEVERSTALE_KAFKA__{name}": value for name, value in variables.items()}
        settings = Patient(patient.environ | spoilt, CATALOG).settings
        found = noted(await check_kafka(settings))
        assert {one.name for one in found if one.level != "ok"} == names


@provokes("role-missing", "no-member")
async def test_where_nothing_runs_each_role_is_missed(patient: Patient) -> None:
    found = await patient.findings("group")
    assert levels(found) == {("group", "problem")}
    assert [one.remedy for one in found] == [
        "neverstale run watcher",
        "neverstale run api",
        "neverstale run consumer",
    ]


@provokes("stuck", "no-mark", "watermark-stands")
async def test_a_consumer_that_commits_nothing_makes_its_partitions_stuck(
    patient: Patient, admin: AIOKafkaAdminClient, topic: str, kafka_servers: str, redis_url: str
) -> None:
    async with Redis.from_url(redis_url) as redis:
        await patient.show_cards(redis)
    if await is_embedded(admin):
        await admin.describe_topics([topic])
    else:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    async with (
        AIOKafkaConsumer(
            topic, bootstrap_servers=kafka_servers, group_id=topic, client_id="neverstale", enable_auto_commit=False
        ) as consumer,
        AIOKafkaProducer(bootstrap_servers=kafka_servers) as producer,
    ):

        async def joined() -> bool:
            return len(consumer.assignment()) == PARTITIONS

        await eventually(joined, "the consumer has its partitions", 30)
        await producer.send_and_wait(topic, b"waits", partition=2)
        found = await patient.findings("group")
        async with Redis.from_url(redis_url) as redis:
            cache = Corrections(redis, Names(patient.settings.redis.prefix))
            marks = dict.fromkeys(range(PARTITIONS), (7, 5))
            await cache.set_watermarks(topic, await cache.identity(), PARTITIONS, marks)
        later = await patient.findings("group")
    assert {one.name for one in found} == {"stuck", "no-mark"}
    assert {one.name for one in later} == {"stuck", "watermark-stands"}
    stuck = [one for one in found if "does not move" in one.message]
    assert [one.message.partition(" does")[0] for one in stuck] == ["partition 2"]
    assert stuck[0].level == "problem" and "neverstale run consumer" in stuck[0].remedy


@provokes("partition-unowned", "shared-out", "idle-consumers", "unnamed-consumers")
async def test_partitions_that_nobody_has_and_consumers_that_have_none_are_said(
    patient: Patient, admin: AIOKafkaAdminClient, topic: str, kafka_servers: str, redis_url: str
) -> None:
    if await is_embedded(admin):
        pytest.skip("the embedded broker makes topics as it likes")
    async with Redis.from_url(redis_url) as redis:
        await patient.show_cards(redis)
    await admin.create_topics([NewTopic(topic, 1, 1)])

    def consumer(**options: Any) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(topic, bootstrap_servers=kafka_servers, group_id=topic, **options)

    async def names(*wanted: str) -> None:
        async def found() -> bool:
            return set(wanted) <= {one.name for one in await patient.findings("group")}

        await eventually(found, f"doctor finds {wanted}", 30)

    async with consumer(heartbeat_interval_ms=60_000, session_timeout_ms=100_000) as slow:
        await eventually(lambda: _holds(slow, 1), "the first has the only partition", 30)
        await admin.create_partitions({topic: NewPartitions(2)})
        await names("partition-unowned")
        named = consumer(group_instance_id="worker-1", heartbeat_interval_ms=300)
        joins = asyncio.create_task(named.start())  # which waits for the first, who does not hear of it
        await names("shared-out")
    await joins
    unnamed = [consumer(client_id="neverstale", heartbeat_interval_ms=300) for _ in range(2)]
    try:
        await asyncio.gather(*(one.start() for one in unnamed))
        await names("idle-consumers", "unnamed-consumers")
    finally:
        await asyncio.gather(*(one.stop() for one in (named, *unnamed)))


async def _holds(consumer: AIOKafkaConsumer, partitions: int) -> bool:
    return len(consumer.assignment()) == partitions
