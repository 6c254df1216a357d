"""Live documents on real servers: what a stream says, when, and in which order."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from neverstale.api.state import STATE
from neverstale.errors import Outage
from tests.support.events import Listener, listening
from tests.support.waiting import eventually
from tests.worlds.api import World, catalog_of, loads, settings_of
from tests.worlds.hits import Served, header, request, status


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


async def test_between_states_it_says_its_bound_at_least_each_second(served: Served) -> None:
    async with listening(served.port, "/v1/things/a") as stream:
        await stream.until(lambda one: sum(told.event == "" for told in one.told) > 4, "comments")
        known = [told for told in stream.told if told.bound is not None]
        assert all(float(told.bound or "nan") >= 0 for told in known)
        await served.world.mark()
        count = len(stream.told)
        await stream.until(lambda one: len(one.told) > count + 1, "another comment")
        assert float(stream.told[-1].bound or "nan") < 30


async def test_whoever_comes_back_is_given_nothing_older_than_what_he_has_seen(served: Served) -> None:
    version = await served.world.write("things", {"_id": "a", "n": 7})  # nobody has applied it
    last = f"Last-Event-ID: {version:016x}"
    async with listening(served.port, "/v1/things/a", last) as stream:
        state = await stream.until_state({"n": 7})
        assert int(state.id, 16) >= version
    for wrong in ("Last-Event-ID: soon", "Last-Event-ID: ffffffffffffffff"):
        async with listening(served.port, "/v1/things/a", wrong) as stream:
            assert stream.status == 400
    # Browsers send this with every EventSource.
    async with listening(served.port, "/v1/things/a", "Cache-Control: no-cache", "Last-Event-ID: ") as stream:
        await stream.until_state({"_id": "a"})


async def test_what_was_not_announced_is_seen_once_the_channel_is_heard_again(served: Served) -> None:
    async with listening(served.port, "/v1/things/a") as stream:
        await stream.until_state({"n": 1})
        served.announcer.changes([b"lost"], [])  # the next announcement shows that one is missing
        version = await served.world.write("things", {"_id": "a", "n": 2})
        announcer, served.world.cache.announcer = served.world.cache.announcer, None
        await served.world.apply("things", ["a"], version)
        served.world.cache.announcer = announcer
        await served.change("things", "b", {"n": 1})
        await served.vouched()
        await stream.until_state({"n": 2})


async def test_while_the_channel_is_not_heard_states_come_later_and_come(served: Served) -> None:
    async with listening(served.port, "/v1/things/a") as stream:
        await stream.until_state({"n": 1})
        await served.world.redis.publish(served.world.cache.names.announcements, b"nonsense")
        announcer, served.world.cache.announcer = served.world.cache.announcer, None
        await served.change("things", "a", {"n": 2})
        await stream.until_state({"n": 2})  # no mark was told: nobody vouches for the channel
        served.world.cache.announcer = announcer


async def test_a_process_that_ends_ends_its_streams_and_says_when_to_come_back(world: World) -> None:
    async with Served.of(world) as served, listening(served.port, "/v1/things/a") as stream:
        await stream.until_state({"n": 1})
        served.state.live.drain()
        await stream.until(lambda one: one.ended, "the end")
        assert stream.whole
        assert 500 <= int(stream.told[-1].retry or "0") <= 1500
        async with listening(served.port, "/v1/things/a") as late:
            await late.until(lambda one: one.ended, "the end")
            assert (late.status, late.whole, late.states) == (200, True, [])


async def test_one_stream_too_many_is_refused_and_told_why(world: World) -> None:
    live = world.settings.live
    live.__dict__.update(streams=3, streams_per_caller=2)
    try:
        async with Served.of(world) as served, listening(served.port, "/v1/things/a") as first:
            assert first.status == 200
            async with listening(served.port, "/v1/things/a"), listening(served.port, "/v1/things/a") as third:
                assert third.status == 429
            live.__dict__.update(streams_per_caller=0)

            async def room() -> bool:
                async with listening(served.port, "/v1/things/a") as again:
                    return again.status == 200

            await eventually(room, "a place is free again")
    finally:
        live.__dict__.update(streams=8_000, streams_per_caller=1_000)


async def test_a_client_that_reads_nothing_holds_no_states_and_is_given_the_last_one(served: Served) -> None:
    filling = "x" * 200_000
    await served.change("things", "a", {"n": 0, "filling": filling})
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1 << 16)
    writer.write(request("/v1/things/a", "Accept: text/event-stream"))
    await reader.readuntil(b"\r\n\r\n")

    async def watched() -> bool:
        return len(served.state.live.feeds.streams) == 1

    await eventually(watched, "it is watched")
    most = 0
    for number in range(1, 60):
        await served.change("things", "a", {"n": number, "filling": filling})
        most = max(most, served.state.unread.bytes)
    assert most < 3_000_000
    listener = Listener(reader, writer)
    task = asyncio.create_task(listener.run())
    await listener.until(lambda one: bool(one.states) and one.last["n"] == 59, "the last state")
    numbers = [state.data["n"] for state in listener.states]
    assert numbers == sorted(numbers)
    assert len(numbers) < 55
    writer.close()
    await task


async def test_other_servers_stream_through_asgi(served: Served) -> None:
    """As any ASGI server would call it: without a connection of ours."""
    sent: list[dict[str, Any]] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/things/a",
        "raw_path": b"/v1/things/a",
        "query_string": b"",
        "http_version": "1.1",
        "headers": [(b"host", b"x"), (b"accept", b"text/event-stream")],
        "client": ("127.0.0.1", 1),
        "state": {STATE: served.state},
        "root_path": "",
    }
    task = asyncio.create_task(served.app(scope, receive, send))

    async def shown() -> bool:
        return any(b'"n":2' in message.get("body", b"") for message in sent)

    async def begun() -> bool:
        return any(b'"n":1' in message.get("body", b"") for message in sent)

    await eventually(begun, "the first state")
    await served.change("things", "a", {"n": 2})
    await eventually(shown, "the second state")
    gone.set()
    await task
    assert not served.state.live.feeds.streams


async def test_a_read_that_fails_is_a_problem_and_the_stream_goes_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(served.port, "/v1/things/a") as stream:
        await stream.until_state({"n": 1})
        reader: Any = served.state.reader
        get = reader.get

        async def away(*_: Any) -> Any:
            raise Outage("mongodb", "the network")

        monkeypatch.setattr(reader, "get", away)
        await served.change("things", "a", {"n": 2})
        await stream.until(lambda one: any(told.event == "problem" for told in one.told), "a problem")
        monkeypatch.setattr(reader, "get", get)
        await stream.until_state({"n": 2})
        assert sum(told.event == "problem" for told in stream.told) == 1
