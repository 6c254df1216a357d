"""Whether the topic is still the one whose offsets we hold."""

from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from neverstale.consumers.records.batch import Folding
from neverstale.consumers.topic_identity import TRUST_SECONDS, TopicIdentity
from neverstale.errors import Outage
from neverstale.kafka.events import Event, Mark
from neverstale.redis.corrections import Corrections
from neverstale.role.service import Health
from tests.unit.consumers.records.test_batch import CATALOG, NAMES, Partition, change, records

ALL = {"items", "stock", "orders"}


class World:
    """A Redis that holds the topics."""

    def __init__(self) -> None:
        self.held: dict[int, str] = {}
        self.asked = 0
        self.outages = 0
        self.forgotten: list[set[str]] = []
        self.now = 0.0
        self.identity = TopicIdentity(
            cast("Corrections", self), "group", CATALOG.collections, Health(), lambda: self.now
        )

    async def topics(self, group: str, partitions: Sequence[int]) -> dict[int, str | None]:
        self.asked += 1
        if self.outages:
            self.outages -= 1
            raise Outage("redis", "TimeoutError")
        return {partition: self.held.get(partition) for partition in partitions}

    async def note_topics(self, group: str, topics: Mapping[int, str]) -> None:
        self.held |= topics

    async def apply(self, *given: Event, partition: int = 0, done: bool = True) -> None:
        batch = Folding(CATALOG, NAMES).fold({Partition("t", partition): records(*given)})
        named = await self.identity.compare(batch)
        self.forgotten.append(set(batch.forget))
        if done:
            await self.identity.note(named)


def mark(topic: str | None, version: int = 5) -> Mark:
    return Mark(version, 50, 4, 1, topic)


async def test_a_mark_of_another_topic_voids_everything_once() -> None:
    world = World()
    for topic in ("a", "a", "b", "b"):
        await world.apply(mark(topic))
    assert world.forgotten == [set(), set(), ALL, set()]


async def test_the_first_topic_of_a_partition_voids_nothing_and_each_partition_has_its_own() -> None:
    world = World()
    await world.apply(mark("a"))
    await world.apply(mark("b"), partition=1)
    assert world.forgotten == [set(), set()]
    assert world.held == {0: "a", 1: "b"}


async def test_what_another_process_has_applied_counts() -> None:
    world = World()
    world.held[0] = "a"
    await world.apply(mark("b"))
    assert world.forgotten == [ALL]


async def test_a_batch_that_was_not_applied_voids_again() -> None:
    world = World()
    world.held[0] = "a"
    await world.apply(mark("b"), done=False)
    await world.apply(mark("b"))
    assert world.forgotten == [ALL, ALL]


async def test_a_broker_that_tells_no_topics_is_not_compared() -> None:
    world = World()
    await world.apply(mark("a"))
    await world.apply(mark(None))
    await world.apply(change("s:a", 5))
    assert (world.forgotten, world.asked) == ([set(), set(), set()], 1)


async def test_redis_is_asked_once_in_a_while_and_not_with_every_mark() -> None:
    world = World()
    for _ in range(3):
        await world.apply(mark("a"))
    assert world.asked == 1
    world.now, world.held = 2 * TRUST_SECONDS, {0: "b"}  # another Redis, which lags behind
    await world.apply(mark("a"))
    assert world.forgotten[-1] == ALL


async def test_who_could_not_ask_redis_compares_the_same_batch_again() -> None:
    world = World()
    world.held[0], world.outages = "a", 1
    with pytest.raises(Outage):
        await world.apply(mark("b"))
    await world.apply(mark("b"))
    assert world.forgotten == [ALL]
