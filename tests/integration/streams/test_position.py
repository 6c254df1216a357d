"""Where the watcher goes on: after a stop, with a lost position, on another topic."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.admin import NewPartitions

from neverstale import __version__
from neverstale.errors import Stop
from neverstale.streams.cursor import present_time
from neverstale.versions import from_timestamp
from tests.worlds.watching import (
    COLLECTION,
    PARTITIONS,
    Client,
    Place,
    Published,
    real_broker,
    stored,
    until_stored,
    watching,
    write,
)

# --- starting


async def test_without_a_position_floors_come_before_everything_else(place: Place, client: Client) -> None:
    before = await present_time(client[place.database])
    async with Published.reading(place) as published, watching(place, COLLECTION):
        await published.until(lambda: len(published.floors) == PARTITIONS)
        version = await write(client, place, "a")
        await published.until(lambda: version in published.versions)
        for partition in range(PARTITIONS):
            first = published.of_partition(partition)[0]
            assert first in published.floors
        assert before <= published.floors[0].version < version
        assert published.floors[0].reason == "no position is stored"


async def test_what_happens_while_it_is_stopped_is_published_and_nothing_is_voided(
    place: Place, client: Client
) -> None:
    async with Published.reading(place) as published:
        async with watching(place, COLLECTION) as running:
            first = await write(client, place, "a")
            await until_stored(client, place, first)
            await running.stopped()
        second = await write(client, place, "a")
        async with watching(place, COLLECTION):
            await published.until(lambda: second in published.versions)
        assert len(published.floors) <= PARTITIONS


async def test_a_stop_stores_the_position_behind_what_was_published(place: Place, client: Client) -> None:
    settings = place.settings(checkpoint_interval_ms=60_000, heartbeat_ms=60_000, mark_interval_ms=60_000)
    async with Published.reading(place) as published, watching(place, COLLECTION, settings=settings) as running:
        await published.until(lambda: published.floors)
        version = await write(client, place, "a")
        await published.until(lambda: version in published.versions)
        await running.stopped()
        found = await stored(client, place)
        assert found is not None
        assert from_timestamp(found["version"]) >= version
        lease = await client[place.database]["neverstale.control"].find_one({"_id": "lease:default"})
        assert lease is not None
        assert found["term"] == lease["term"]
        assert found["partitions"] == PARTITIONS
        assert found["saved_at"] is not None


async def test_the_position_moves_on_while_only_others_write(place: Place, client: Client) -> None:
    settings = place.settings(heartbeat_ms=60_000)
    async with watching(place, COLLECTION, settings=settings):
        await client[place.database]["noise"].insert_one({})
        await until_stored(client, place, await present_time(client[place.database]))


# --- losing the position


GARBAGE = [{"_data": "zz"}, {"_data": "82"}, {"_data": ""}, {"_data": "8201"}, {"x": 1}, "text"]


@pytest.mark.parametrize("token", GARBAGE)
async def test_a_token_that_is_none_leads_to_floors_and_a_new_start(place: Place, client: Client, token: Any) -> None:
    await client[place.database]["neverstale.control"].insert_one(
        {"_id": "checkpoint:default", "token": token, "partitions": PARTITIONS, "term": 1}
    )
    async with Published.reading(place) as published, watching(place, COLLECTION):
        await published.until(lambda: len(published.floors) == PARTITIONS)
        version = await write(client, place, "a")
        await published.until(lambda: version in published.versions)
        await until_stored(client, place, version)


@asynccontextmanager
async def failing(client: Client, command: str, code: int, times: int) -> AsyncIterator[None]:
    """Let the next `times` such commands of our clients fail on the server."""
    data = {"failCommands": [command], "errorCode": code, "appName": f"neverstale/{__version__}"}
    await client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data})
    try:
        yield
    finally:
        await client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.mark.parametrize(
    ("command", "code"), [("aggregate", 286), ("getMore", 280), ("getMore", 286), ("getMore", 136)]
)
async def test_a_lost_position_leads_to_floors_and_nothing_is_missed(
    place: Place, client: Client, command: str, code: int
) -> None:
    async with Published.reading(place) as published:
        async with watching(place, COLLECTION) as running:
            await until_stored(client, place, await write(client, place, "a"))
            await running.stopped()
        async with failing(client, command, code, 1), watching(place, COLLECTION):
            await published.until(lambda: len(published.floors) == 2 * PARTITIONS)
            floor = published.floors[-1]
            version = await write(client, place, "a")
            await published.until(lambda: version in published.versions)
            assert str(code) in floor.reason
            assert floor.version < version


async def test_a_position_lost_again_and_again_without_progress_stops_the_watcher(
    place: Place, client: Client
) -> None:
    settings = place.settings(heartbeat_ms=60_000)
    async with failing(client, "getMore", 280, 100), watching(place, COLLECTION, settings=settings) as running:
        with pytest.raises(Stop, match="without any progress"):
            await asyncio.wait_for(running.task, 60)
        running.stop.set()


@pytest.mark.parametrize(
    ("command", "code"), [("getMore", 43), ("getMore", 11602), ("aggregate", 91), ("update", 91)]
)
async def test_an_error_that_passes_costs_nothing_but_time(
    place: Place, client: Client, command: str, code: int
) -> None:
    async with Published.reading(place) as published, watching(place, COLLECTION):
        await until_stored(client, place, await write(client, place, "a"))
        async with failing(client, command, code, 1):
            version = await write(client, place, "a")
            await published.until(lambda: version in published.versions)
        assert len(published.floors) == PARTITIONS


# --- the topic


async def test_a_topic_with_more_partitions_voids_what_consumers_have(place: Place, client: Client) -> None:
    admin = await real_broker(place)
    async with Published.reading(place) as published, watching(place, COLLECTION) as running:
        await until_stored(client, place, await write(client, place, "a"))
        await admin.create_partitions({place.topic: NewPartitions(total_count=2 * PARTITIONS)})
        await admin.close()
        await published.until(lambda: any(mark.partitions == 2 * PARTITIONS for mark in published.marks))
        await published.until(lambda: len(published.floors) >= 3 * PARTITIONS)
        assert {len(published.of_partition(number)) > 0 for number in range(2 * PARTITIONS)} == {True}
        assert published.floors[-1].reason == f"the topic has {2 * PARTITIONS} partitions instead of {PARTITIONS}"
        assert running.health.parts["topic"] is not None


async def test_a_watcher_whose_lease_was_deleted_outranks_the_stored_term(place: Place, client: Client) -> None:
    control = client[place.database]["neverstale.control"]
    async with watching(place, COLLECTION) as running:
        await until_stored(client, place, await write(client, place, "a"))
        await running.stopped()
    await control.update_one({"_id": "checkpoint:default"}, {"$set": {"term": 2**60}})
    await control.delete_one({"_id": "lease:default"})
    async with watching(place, COLLECTION):
        await until_stored(client, place, await write(client, place, "a"))
    found = await stored(client, place)
    assert found is not None
    assert found["term"] == 2**60 + 1
