"""`neverstale doctor` and a real Kafka: topics that are set up badly, and consumers that get nowhere."""

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis

from neverstale.catalog import Catalog
from neverstale.kafka.topic import is_embedded
from tests.support.waiting import eventually
from tests.worlds.doctored import Patient, levels

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


async def test_where_nothing_runs_each_role_is_missed(patient: Patient) -> None:
    found = await patient.findings("group")
    assert levels(found) == {("group", "problem")}
    assert [one.remedy for one in found] == [
        "neverstale run watcher",
        "neverstale run api",
        "neverstale run consumer",
    ]


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
    stuck = [one for one in found if "does not move" in one.message]
    assert [one.message.partition(" does")[0] for one in stuck] == ["partition 2"]
    assert stuck[0].level == "problem" and "neverstale run consumer" in stuck[0].remedy
