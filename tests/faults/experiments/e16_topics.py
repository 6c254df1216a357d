"""16: the topic changes under our feet."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.records_to_delete import RecordsToDelete

from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.pipeline import metrics
from tests.faults.rig.scene import Scene, scene

FIRST, STEP = 6, 6
CHANGES = 60


async def change_topic(turn: Turn) -> Outcome:
    outcome = Outcome()
    async with scene(turn, outcome, partitions=FIRST) as stage, _admin(stage) as admin:
        acts = (_lose_records, _recreate, _add_partitions)
        for round_ in turn.each_round(outcome):
            began = time.monotonic()
            await acts[round_ % len(acts)](stage, admin)
            await stage.load.recovered(outcome, began)
            await stage.load.check(outcome)
    return outcome


async def _lose_records(stage: Scene, admin: AIOKafkaAdminClient) -> None:
    """Records expire before anybody has read them: the committed offsets are out of range."""
    stage.consumer.kill()
    await _change_some(stage)
    await stage.load.pause()
    # Two stored positions later, all of that is in Kafka.
    await _published(stage)
    partitions = [TopicPartition(stage.pipe.name, number) for number in range(FIRST)]
    await admin.delete_records({partition: RecordsToDelete(before_offset=-1) for partition in partitions})
    await stage.consumer.restart(0)


async def _recreate(stage: Scene, admin: AIOKafkaAdminClient) -> None:
    """The new topic has records already when the consumer comes to it."""
    await stage.load.pause()
    stage.consumer.kill()
    await admin.delete_topics([stage.pipe.name])
    await _change_some(stage)
    await _published(stage)
    await stage.consumer.restart(0)


async def _add_partitions(stage: Scene, admin: AIOKafkaAdminClient) -> None:
    topics = await admin.describe_topics([stage.pipe.name])
    count = len(topics[0]["partitions"])
    await admin.create_partitions({stage.pipe.name: NewPartitions(total_count=count + STEP)})
    await _change_some(stage)


async def _change_some(stage: Scene) -> None:
    for key in stage.load.random.sample(range(stage.load.shape.keys), CHANGES):
        await stage.load.change(key)


async def _published(stage: Scene) -> None:
    before = (await metrics(stage.watcher))['neverstale_records_published_total{kind="mark"}']
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (await metrics(stage.watcher))['neverstale_records_published_total{kind="mark"}'] > before + 3 * FIRST:
            return


@asynccontextmanager
async def _admin(stage: Scene) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.pipe.broker.servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


EXPERIMENTS = (
    Experiment(
        number="16",
        fault="records expire unread; the topic is deleted and made again; partitions are added",
        holds="all of it is treated as lost history",
        run=change_topic,
        controls={"offsets are reset to the latest": STALE},
        short=3,
        long=9,
    ),
)
