"""Requests for walks in MongoDB: of one purpose never in the way of another's, and ended by whoever may."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from neverstale.mongodb.walks import Walk, Walks
from neverstale.settings import Kafka

Client = AsyncMongoClient[dict[str, Any]]

REBUILD = Walk("rebuild", "flights", "flights", "g1", group="one")
RESYNC = Walk("resync", "flights", "flights", "r1", rate=10, group="one")
KAFKA = Kafka(topic="t", group="one")


@pytest.fixture
async def client(mongo_uri: str) -> AsyncIterator[Client]:
    async with Client(mongo_uri) as client:
        yield client


@pytest.fixture
def walks(client: Client, database: str) -> Walks:
    return Walks(client, database, KAFKA)


async def test_a_resync_and_a_rebuild_of_one_resource_do_not_replace_each_other(walks: Walks) -> None:
    assert await walks.ask(REBUILD) and await walks.ask_if_none(RESYNC)
    assert (await walks.unfinished("rebuild"), await walks.unfinished("resync")) == ([REBUILD], [RESYNC])


async def test_groups_do_not_replace_each_others_requests(client: Client, database: str, walks: Walks) -> None:
    other = Walks(client, database, Kafka(topic="t", group="two"))
    assert await walks.ask(REBUILD) and await other.ask(replace(REBUILD, id="g2", group=""))
    asked = [REBUILD, replace(REBUILD, id="g2", group="two")]
    assert await walks.unfinished("rebuild") == await other.unfinished("rebuild") == asked
    assert (
        await walks.note(replace(asked[1], state="walked", begun=7 << 32)) is not None
    )  # whoever walks, walks for all
    assert await other.unfinished("rebuild") == [REBUILD]


async def test_requests_belong_to_a_topic(client: Client, database: str, walks: Walks) -> None:
    await walks.ask(REBUILD)
    assert await Walks(client, database, Kafka(topic="u", group="one")).unfinished("rebuild") == []


async def test_what_was_asked_for_already_is_not_asked_for_again(walks: Walks) -> None:
    await walks.ask(REBUILD)
    walking = await walks.note(replace(REBUILD, state="walking", begun=7 << 32, last_key="s:k", passed=3, about=9))
    assert not await walks.ask(REBUILD)
    assert await walks.unfinished("rebuild") == [walking]


async def test_another_generation_replaces_the_walk_of_the_one_before(walks: Walks) -> None:
    another = replace(REBUILD, id="g2")
    await walks.ask(REBUILD)
    await walks.note(replace(REBUILD, state="walking", begun=7 << 32, last_key="s:k", passed=3))
    assert await walks.ask(another)
    assert await walks.unfinished("rebuild") == [another]
    assert await walks.note(replace(REBUILD, begun=7 << 32)) is None


async def test_a_resync_under_way_is_not_replaced(walks: Walks) -> None:
    await walks.ask_if_none(RESYNC)
    assert not await walks.ask_if_none(replace(RESYNC, id="r2"))
    assert await walks.of("resync", "flights") == RESYNC


@pytest.mark.parametrize("ended", ["stopped", "walked"])
async def test_a_resync_that_has_ended_gives_way(walks: Walks, ended: str) -> None:
    await walks.ask_if_none(RESYNC)
    if ended == "stopped":
        await walks.stop(RESYNC)
    else:
        await walks.note(replace(RESYNC, state="walked", begun=7 << 32, passed=3))
    assert await walks.unfinished("resync") == []
    assert await walks.ask_if_none(replace(RESYNC, id="r2"))
    assert await walks.of("resync", "flights") == replace(RESYNC, id="r2")


async def test_who_walks_learns_of_a_stop_and_of_another_rate(walks: Walks) -> None:
    await walks.ask_if_none(RESYNC)
    walking = replace(RESYNC, state="walking", begun=7 << 32)
    await walks.limit(RESYNC, 99)
    assert await walks.note(walking) == replace(walking, rate=99)
    await walks.stop(RESYNC)
    assert await walks.note(walking) is None


async def test_the_last_key_is_remembered(walks: Walks) -> None:
    await walks.ask(REBUILD)
    for last in (None, "s:a", "x:0a"):
        noted = await walks.note(replace(REBUILD, begun=7 << 32, last_key=last, passed=1))
        assert noted is not None and noted.last_key == last
