"""Topics on a real broker that do not take what is published, until somebody changes them."""

from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from neverstale.ops.check.kafka import check_kafka
from neverstale.role import retry, telemetry
from neverstale.servers import mongo_client
from tests.support.waiting import eventually
from tests.worlds.watching import (
    COLLECTION,
    PARTITIONS,
    Client,
    Place,
    Published,
    Running,
    real_broker,
    watching,
    write,
)


@pytest.fixture
async def client(place: Place) -> AsyncIterator[Client]:
    async with mongo_client(place.settings().mongodb) as opened:
        yield opened


@pytest.fixture
async def admin(place: Place) -> AsyncIterator[AIOKafkaAdminClient]:
    found = await real_broker(place)
    yield found
    await found.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LONGEST_REFUSED_SECONDS", 1.0)


async def create(admin: AIOKafkaAdminClient, place: Place, config: str) -> None:
    configs = dict([config.split("=")]) if config else {}
    await admin.create_topics([NewTopic(place.topic, PARTITIONS, 1, topic_configs=configs)])


async def alter(admin: AIOKafkaAdminClient, place: Place, config: str) -> None:
    configs = dict([config.split("=")]) if config else {}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, place.topic, configs=configs)])


def refusals() -> float:
    return telemetry.REGISTRY.get_sample_value("neverstale_kafka_refusals_total") or 0.0


async def until_refused(running: Running, words: str) -> None:
    async def said() -> bool:
        reason = running.health.parts.get("kafka") or ""
        return words in reason and "kafka-configs" in reason

    await eventually(said, f"the watcher says {words!r}", 30)
    assert not running.health.ready


REFUSING = ["cleanup.policy=compact", "max.message.bytes=100"]


@pytest.mark.parametrize("config", REFUSING)
async def test_a_topic_that_refuses_is_said_and_when_it_is_mended_all_goes_on(
    place: Place, client: Client, admin: AIOKafkaAdminClient, config: str
) -> None:
    await create(admin, place, config)
    findings = await check_kafka(place.settings())
    problems = [finding for finding in findings if finding.level == "problem"]
    assert [finding for finding in problems if config in finding.message and "kafka-configs" in finding.remedy]
    before = refusals()
    async with watching(place, COLLECTION) as running, Published.reading(place) as published:
        await until_refused(running, config)
        assert refusals() > before
        await alter(admin, place, "")
        await published.until(lambda: published.marks)  # by itself
        await alter(admin, place, config)  # and now while it runs
        version = await write(client, place, "a")
        if not config.startswith("max"):  # a change of that size still fits
            await until_refused(running, config)
        await alter(admin, place, "")
        await published.until(lambda: version in published.versions)
        assert [finding for finding in await check_kafka(place.settings()) if finding.level == "problem"] == []


async def test_batches_shrink_to_what_the_topic_takes(
    place: Place, client: Client, admin: AIOKafkaAdminClient
) -> None:
    await create(admin, place, "max.message.bytes=20000")
    collection = client[place.database][COLLECTION]
    async with watching(place, COLLECTION), Published.reading(place) as published:
        await published.until(lambda: published.marks)
        await collection.insert_many([{"_id": f"t{number}"} for number in range(2000)])
        await published.until(lambda: len({change.key for change in published.changes}) == 2000)
        await alter(admin, place, "max.message.bytes=5000")  # while batches are cut to more
        await collection.update_many({}, {"$inc": {"n": 1}})
        await published.until(
            lambda: len({change.key for change in published.changes if change.operation == "update"}) == 2000
        )


async def test_a_change_that_the_topic_does_not_take_is_a_floor(
    place: Place, client: Client, admin: AIOKafkaAdminClient
) -> None:
    await create(admin, place, "max.message.bytes=4000")
    async with watching(place, COLLECTION), Published.reading(place) as published:
        await published.until(lambda: published.marks)
        await write(client, place, "x" * 5000)
        version = await write(client, place, "small")
        await published.until(lambda: version in published.versions)
        assert (published.floors[-1].collection, published.floors[-1].reason) == (COLLECTION, "a record is too large")
        assert not published.seen("s:" + "x" * 5000)
