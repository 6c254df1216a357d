"""A topic that is deleted and made again counts its offsets anew, and nothing fails."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from neverstale.kafka import events
from neverstale.kafka.events import Mark, Rebuilt
from neverstale.kafka.topic import ensure_topic
from neverstale.kafka.topic_id import topic_id_of
from tests.support.waiting import eventually
from tests.worlds.consuming import PARTITIONS, Consuming
from tests.worlds.watching import COLLECTION, Place, Published, real_broker, until_stored, watching, write


@pytest.fixture
async def admin(place: Place) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = await real_broker(place)
    yield admin
    await admin.close()


async def make_anew(admin: AIOKafkaAdminClient, topic: str) -> None:
    await admin.delete_topics([topic])

    async def made() -> bool:
        answer = await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
        (code,) = {code for _, code, *_ in answer.topic_errors}
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)
        return bool(code == 0)

    await eventually(made, "the topic is made again")


async def topic_id(admin: AIOKafkaAdminClient, topic: str) -> str:
    """Of a topic that there is, although not all may have heard of it yet."""
    found: list[str | None] = []

    async def known() -> bool:
        found.append(await topic_id_of(admin._client, topic))
        return found[-1] is not None

    await eventually(known, "the topic has an id")
    return found[-1] or ""


async def fill_to(rig: Consuming, offsets: Mapping[int, int]) -> None:
    """Put records that say nothing into every partition, up to its offset."""
    nothing = events.encode(Rebuilt("nothing", "generation", PARTITIONS))
    for partition, offset in offsets.items():
        for _ in range(offset):
            await rig.producer.send(rig.settings.kafka.topic, nothing, partition=partition)
    await rig.producer.flush()


async def commit(rig: Consuming, offsets: Mapping[int, int]) -> None:
    """As a consumer does that has not noticed yet."""
    kafka = rig.settings.kafka
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, group_id=kafka.group, enable_auto_commit=False
    ) as consumer:
        consumer.assign(rig.partitions)
        await consumer.commit({partition: offsets[partition.partition] for partition in rig.partitions})


async def voided(rig: Consuming, admin: AIOKafkaAdminClient, *, marks_name_it: bool) -> bool:
    """Whether what was cached is void after a consumer has gone on in a topic made anew, beyond what it was not
    told."""

    async def named(mark: Mark) -> Mark:
        return replace(mark, topic=await topic_id(admin, rig.settings.kafka.topic) if marks_name_it else None)

    async with rig.consumer():
        await rig.until_applied()
        await rig.publish(await named(await rig.mark()))
        await rig.until_known("quiet")
        floor = await rig.floor("quiet")
        await eventually(rig.all_committed, "everything is committed")
    offsets = await rig.committed()
    await make_anew(admin, rig.settings.kafka.topic)
    await ensure_topic(rig.settings.kafka)
    await fill_to(rig, offsets)
    await commit(rig, offsets)
    async with rig.consumer():
        await rig.publish(await named(await rig.mark()))
        await eventually(rig.all_committed, "everything is committed")
        await rig.until_applied()
        await rig.until_known("quiet")
        return await rig.floor("quiet") != floor


async def test_offsets_of_a_topic_made_anew_void_everything(rig: Consuming, admin: AIOKafkaAdminClient) -> None:
    assert await voided(rig, admin, marks_name_it=True)


async def test_if_marks_did_not_name_their_topic_it_would_go_unnoticed(
    rig: Consuming, admin: AIOKafkaAdminClient
) -> None:
    assert not await voided(rig, admin, marks_name_it=False)


async def test_a_broker_forgets_offsets_with_their_topic(rig: Consuming, admin: AIOKafkaAdminClient) -> None:
    await commit(rig, dict.fromkeys(range(PARTITIONS), 0))
    assert len(await rig.committed()) == PARTITIONS
    await make_anew(admin, rig.settings.kafka.topic)

    async def forgotten() -> bool:
        return await rig.committed() == {}

    await eventually(forgotten, "the group has no offsets")


async def test_a_watcher_whose_topic_somebody_else_made_anew_voids_what_was_told(
    place: Place, admin: AIOKafkaAdminClient, rig: Consuming
) -> None:
    async with watching(place, COLLECTION) as running:
        await until_stored(rig.mongo, place, await write(rig.mongo, place, "before"))
        await make_anew(admin, place.topic)
        found = await topic_id(admin, place.topic)
        async with Published.reading(place) as published:
            await published.until(lambda: [mark for mark in published.marks if mark.topic == found])
            await published.until(lambda: len(published.floors) >= PARTITIONS)
        assert {floor.reason for floor in published.floors} == {"the topic was created again"}
        assert not running.task.done()
