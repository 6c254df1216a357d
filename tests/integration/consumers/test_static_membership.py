"""Members of the group: who ends hands over at once, and a name is one consumer's only.

The embedded broker does not know such names; these tests bring Apache Kafka.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from neverstale.consumers.group.assignor import PatientAssignor
from neverstale.consumers.group.client import close, let_go, options
from neverstale.consumers.group.member import Member
from neverstale.consumers.group.peers import where
from neverstale.consumers.group.static_membership import Replaced, is_of
from neverstale.consumers.main import live
from neverstale.ops.stack.kafka.cluster import KafkaCluster, KafkaOptions, start_kafka
from neverstale.role.service import Life
from neverstale.settings import Settings
from tests.support.stack import run
from tests.support.waiting import eventually
from tests.worlds.consuming import Consuming, catalog_of, running_life, settings_of, text


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    cluster = run(start_kafka(KafkaOptions(data=tmp_path_factory.mktemp("instances"))))
    yield cluster
    cluster.kill()


@pytest.fixture
async def rig(
    mongo_uri: str, kafka: KafkaCluster, redis_url: str, topic: str, redis_prefix: str, database: str
) -> AsyncIterator[Consuming]:
    settings = settings_of(mongo_uri, kafka.bootstrap_servers, redis_url, topic, redis_prefix)
    async with Consuming.with_topic(settings, catalog_of(database)) as rig:
        yield rig


def named(settings: Settings, instance: str) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"group_instance_id": instance})})


def patient(settings: Settings, instance: str) -> Settings:
    """A named consumer whose session lasts longer than any test."""
    kafka = settings.kafka.model_copy(update={"group_instance_id": instance, "session_timeout_ms": 120_000})
    return settings.model_copy(update={"kafka": kafka})


class Handed:
    """How often partitions were handed out, and which, by the name of the consumer that has them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times: dict[str, int] = {}
        self.partitions: dict[str, set[int]] = {}
        self.members: dict[str, Member] = {}
        assigned = Member.on_partitions_assigned

        async def note(member: Member, partitions: Iterable[TopicPartition]) -> None:
            name = member._consumed.kafka.group_instance_id or ""
            self.times[name] = self.times.get(name, 0) + 1
            self.partitions[name] = {partition.partition for partition in partitions}
            self.members[name] = member
            await assigned(member, partitions)

        monkeypatch.setattr(Member, "on_partitions_assigned", note)

    async def shared(self) -> bool:
        return all(self.partitions.get(name) for name in ("one", "two")) and not (
            self.partitions["one"] & self.partitions["two"]
        )


async def test_a_consumer_that_stops_hands_over_at_once_whether_it_has_a_name_or_not(
    rig: Consuming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session would last for the whole test."""
    handed = Handed(monkeypatch)

    async def all_are_mine() -> bool:
        return len(handed.partitions["one"]) == len(rig.partitions)

    async with rig.consumer(patient(rig.settings, "one")):
        async with rig.consumer(patient(rig.settings, "two")):
            await eventually(handed.shared, "the two share the partitions", 20)
            await rig.until_applied()
        await eventually(all_are_mine, "the other has all partitions", 20)
        await rig.fill("quiet", *[text(number) for number in range(20)])
        await rig.publish(*[await rig.change("quiet", text(number)) for number in range(20)])
        await rig.until_applied()
    assert set(await rig.states("quiet", [text(number) for number in range(20)])) == {"STALE"}


async def test_a_consumer_whose_process_has_ended_is_not_waited_for(
    rig: Consuming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here its session would last for the whole test; what is noticed is that it is silent where it answered HTTP."""
    handed, kafka = Handed(monkeypatch), patient(rig.settings, "two").kafka

    async def all_are_mine() -> bool:
        return len(handed.partitions["one"]) == len(rig.partitions)

    async def never_all() -> bool:
        return 0 < len(handed.partitions["one"]) < len(rig.partitions)

    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assignor = PatientAssignor(lambda: where(None, f"http://127.0.0.1:{port}"), lambda _: None)
    given = options(rig.settings.model_copy(update={"kafka": kafka}))
    other = AIOKafkaConsumer(kafka.topic, partition_assignment_strategy=(assignor,), **given)
    async with rig.consumer(patient(rig.settings, "one")):
        await other.start()
        try:
            await eventually(never_all, "the two share the partitions", 20)
            await eventually(lambda: nonempty(held), "it is watched", 20)
            let_go(other)  # as a process ends: nothing is said to the group
            server.close()
            for writer in held:
                writer.transport.abort()
            await eventually(all_are_mine, "the other has all partitions", 20)
        finally:
            await close(other)


async def nonempty(some: list[asyncio.StreamWriter]) -> bool:
    return bool(some)


async def test_of_two_consumers_with_one_name_the_older_ends_and_says_why(rig: Consuming) -> None:
    life = running_life()
    older = asyncio.create_task(live(named(rig.settings, "one"), rig.catalog, life))
    try:
        await eventually(lambda: joined(life), "the older has joined", 20)
        async with rig.consumer(named(rig.settings, "one")):
            with pytest.raises(ExceptionGroup) as ended:
                async with asyncio.timeout(20):
                    await older
            assert ended.value.subgroup(Replaced) is not None
            await rig.until_applied()
    finally:
        life.stop.set()
        await asyncio.gather(older, return_exceptions=True)


async def test_a_member_that_missed_a_generation_is_not_its_own_successor(
    rig: Consuming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group keeps a named member that was too slow to join it anew, and tells it that its generation is over."""
    handed = Handed(monkeypatch)

    async def again() -> bool:
        return handed.times["one"] > 1

    async with rig.consumer(named(rig.settings, "one")):
        await rig.until_applied()
        member = handed.members["one"]
        member._kafka._coordinator.reset_generation()  # as aiokafka does about ILLEGAL_GENERATION
        await eventually(again, "it has joined again", 20)
        assert not member.is_replaced
        await rig.publish(await rig.change("quiet", text(1)))
        await rig.until_applied()


async def joined(life: Life) -> bool:
    return life.health.parts.get("kafka", "") is None


def test_a_members_id_tells_its_instance() -> None:
    java, kafkas = "b9a1f0c2-3d4e-5f60-7182-93a4b5c6d7e8", "Zm9vYmFyYmF6-x_y012345"
    assert is_of(f"consumer-0-{java}", "consumer-0")
    assert is_of(f"consumer-0-{kafkas}", "consumer-0")
    assert not is_of(f"consumer-0-{java}", "consumer")
    assert not is_of(f"consumer-0-{kafkas}", "consumer")
    assert not is_of("neverstale", "neverstale")
