"""Live documents on real servers: what a stream says, when, and in which order."""

from collections.abc import AsyncIterator

import pytest

from tests.support.events import listening
from tests.worlds.api import World, catalog_of, loads, settings_of
from tests.worlds.hits import Served, header, status


@pytest.fixture
async def world(mongo_uri: str, redis_url: str, redis_prefix: str, database: str) -> AsyncIterator[World]:
    settings = settings_of(mongo_uri, redis_url, redis_prefix, channel_silence_ms=60_000)
    async with World.of(settings, catalog_of(database)) as world:
        await world.write("things", {"_id": "a", "n": 1})
        yield world


@pytest.fixture
async def served(world: World) -> AsyncIterator[Served]:
    async with Served.of(world) as served:
        await served.vouched()
        yield served


async def test_a_stream_begins_with_the_present_state_and_goes_on_with_each_change(served: Served) -> None:
    async with listening(served.port, "/v1/things/a") as stream:
        await stream.until_state({"n": 1})
        assert header(stream.head, "content-type") == "text/event-stream"
        assert header(stream.head, "x-accel-buffering") == "no"
        for number in (2, 3):
            version = await served.change("things", "a", {"n": number})
            state = await stream.until_state({"n": number})
            assert int(state.id, 16) >= version
        await served.world.remove("things", "a")
        await served.world.apply("things", ["a"], await served.world.loader.now())
        await stream.until(lambda one: one.states[-1].event == "absent", "an absence")
        assert stream.last["type"] == "urn:neverstale:unknown-key"
        await served.change("things", "a", {"n": 4})
        await stream.until_state({"n": 4})
        assert [one.id for one in stream.states] == sorted(one.id for one in stream.states)


async def test_all_who_watch_the_same_thing_cost_one_read_for_each_change(served: Served) -> None:
    async with listening(served.port, "/v1/things/a") as one, listening(served.port, "/v1/things/a") as two:
        await one.until_state({"n": 1})
        await two.until_state({"n": 1})
        before = loads("things")
        await served.change("things", "a", {"n": 2})
        await one.until_state({"n": 2})
        await two.until_state({"n": 2})
        assert loads("things") == before + 1


async def test_a_get_without_that_accept_is_answered_as_ever(served: Served) -> None:
    async with served.connection() as client:
        assert b'"n":1' in await client.get("/v1/things/a", "Accept: application/json")
        head = await client.get("/v1/things/a", "Accept: text/event-stream", method="HEAD")
        assert (status(head), header(head, "content-type")) == (200, "text/event-stream")
