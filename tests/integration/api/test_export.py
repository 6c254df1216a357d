"""Exports: all documents, at the pace of the client, and nothing left on the server when it goes away."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import pytest
from bson.objectid import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.cursor import AsyncRawBatchCursor
from pymongo.errors import AutoReconnect

from neverstale.api.endpoints.export import Exports
from neverstale.mongodb.loader import EXPORT_DOCUMENTS, Loader
from tests.support.waiting import eventually
from tests.worlds.api import World, catalog_of, settings_of
from tests.worlds.hits import Client, Served, header, request, status

MANY = 4 * EXPORT_DOCUMENTS
PADDING = "x" * 4000
LAST_CHUNK = b"0\r\n\r\n"


@pytest.fixture
async def world(mongo_uri: str, redis_url: str, redis_prefix: str, database: str) -> AsyncIterator[World]:
    settings = settings_of(mongo_uri, redis_url, redis_prefix, exports=1, export_stall_seconds=5)
    async with World.of(settings, catalog_of(database)) as world:
        yield world


@pytest.fixture
async def served(world: World) -> AsyncIterator[Served]:
    """Sixteen megabytes of things: more than all buffers on the way hold."""
    things = world.mongo[world.catalog.database]["things"]
    await things.insert_many([{"_id": f"{number:05d}", "padding": PADDING} for number in range(MANY)])
    async with Served.of(world) as served:
        yield served


async def cursors(mongo: AsyncMongoClient[dict[str, Any]], collection: str) -> list[dict[str, Any]]:
    """What the server tells of each cursor on the collection."""
    stages: list[dict[str, Any]] = [
        {"$currentOp": {"idleCursors": True, "allUsers": True}},
        {"$match": {"ns": collection, "cursor": {"$exists": True}}},
    ]
    reply = await mongo.admin.command({"aggregate": 1, "pipeline": stages, "cursor": {}})
    return [operation["cursor"] for operation in reply["cursor"]["firstBatch"]]


async def open_cursors(served: Served) -> list[dict[str, Any]]:
    return await cursors(served.world.mongo, f"{served.world.catalog.database}.things")


async def begun(served: Served, client: Client) -> None:
    """Read the head of an export and a little of it, then no more."""
    client.send(request("/v1/things/-/export"))
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert status(head) == 200

    async def open_on_the_server() -> bool:
        return len(await open_cursors(served)) == 1

    await eventually(open_on_the_server, "the cursor is open")


async def rest_of(client: Client) -> bytes:
    """What comes until the server closes the connection."""
    async with asyncio.timeout(10):
        return await client.reader.read()


async def until_closed(served: Served) -> None:
    async def closed() -> bool:
        return not await open_cursors(served)

    await eventually(closed, "the server has closed the cursor")


async def test_all_documents_come_as_lines_in_the_order_of_their_keys(world: World) -> None:
    count = EXPORT_DOCUMENTS + 7
    numbers = world.mongo[world.catalog.database]["numbers"]
    await numbers.insert_many([{"_id": count - n, "name": f"é{n}", "size": n, "secret": 1} for n in range(count)])
    response = await world.http.get("/v1/numbers/-/export")
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["cache-control"] == "no-store"
    lines = response.text.splitlines()
    assert [json.loads(line)["_id"] for line in lines] == list(range(1, count + 1))
    assert lines[0] == json.dumps(
        {"_id": 1, "name": f"é{count - 1}", "size": count - 1}, separators=(",", ":"), ensure_ascii=False
    )


async def test_a_line_is_the_body_of_the_document(world: World) -> None:
    await world.write("objects", {"_id": ObjectId(), "when": world.things.ttl_seconds, "deep": {"a": [1.5, None]}})
    line = (await world.http.get("/v1/objects/-/export")).text
    key = json.loads(line)["_id"]
    assert line == (await world.http.get(f"/v1/objects/{key}")).text + "\n"


async def test_only_the_fields_that_are_asked_for_come(world: World) -> None:
    await world.write("numbers", {"_id": 1, "name": "one", "size": 10})
    assert (await world.http.get("/v1/numbers/-/export?fields=size")).json() == {"_id": 1, "size": 10}
    assert (await world.http.get("/v1/numbers/-/export?fields=_id")).json() == {"_id": 1}
    assert (await world.http.get("/v1/numbers/-/export?fields=name,size&fields=_id")).json() == {
        "_id": 1,
        "name": "one",
        "size": 10,
    }


@pytest.mark.parametrize(
    "query", ["fields=secret", "fields=$where", "fields=name,", "fields=", "fields=%FF", "field=a"]
)
async def test_a_field_that_is_not_declared_is_refused_by_name(world: World, query: str) -> None:
    response = await world.http.get(f"/v1/numbers/-/export?{query}")
    assert (response.status_code, response.json()["parameter"]) == (400, query.partition("=")[0])


async def test_an_empty_collection_is_an_empty_export(world: World) -> None:
    response = await world.http.get("/v1/tokens/-/export")
    assert (response.status_code, response.content) == (200, b"")


async def test_head_asks_mongodb_for_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Loader, "export")
    response = await world.http.head("/v1/things/-/export")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-ndjson")


async def test_the_server_waits_for_a_client_that_reads_slowly(served: Served) -> None:
    async with served.connection() as client:
        await begun(served, client)
        seen: list[int] = []

        async def stands_still() -> bool:
            seen.extend([int(cursor["nDocsReturned"]) for cursor in await open_cursors(served)])
            return len(seen) > 25 and len(set(seen[-25:])) == 1

        await eventually(stands_still, "no more documents are fetched")
        assert seen[-1] < MANY
        received = 0
        while chunk := await client.reader.read(1 << 20):
            received += len(chunk)
            if chunk.endswith(LAST_CHUNK):
                break
        assert received > MANY * len(PADDING)
    await until_closed(served)


async def test_a_client_that_goes_away_ends_the_cursor(served: Served) -> None:
    async with served.connection() as client:
        await begun(served, client)
    await until_closed(served)


async def test_a_client_that_reads_nothing_loses_its_place(served: Served) -> None:
    exports: Exports = served.state.exports
    exports._stall_seconds = 0.1
    async with served.connection() as client:
        await begun(served, client)
        await until_closed(served)


async def test_the_end_of_the_process_ends_the_cursor_and_leaves_the_response_open(served: Served) -> None:
    async with served.connection() as client:
        await begun(served, client)
        await served.state.exports.finish()
        await until_closed(served)
        assert not (await rest_of(client)).endswith(LAST_CHUNK)


async def test_more_exports_than_allowed_are_refused_until_one_ends(served: Served) -> None:
    async with served.connection() as first, served.connection() as second:
        await begun(served, first)
        refused = await second.get("/v1/things/-/export")
        assert (status(refused), header(refused, "retry-after")) == (503, "1")
        first.writer.close()
        await until_closed(served)

        async def accepted() -> bool:
            return status(await second.get("/v1/numbers/-/export")) == 200

        await eventually(accepted, "the place is free again")


async def test_a_slow_reader_makes_room_for_another_and_sees_that_its_export_is_not_whole(served: Served) -> None:
    exports: Exports = served.state.exports
    exports._least_pace = 1 << 30
    async with served.connection() as slow, served.connection() as other:
        await begun(served, slow)
        answer = await other.get("/v1/numbers/-/export")
        assert status(answer) == 200
        assert not (await rest_of(slow)).endswith(LAST_CHUNK)
    await until_closed(served)


async def test_a_cursor_that_the_server_has_lost_breaks_the_response_off(served: Served) -> None:
    async with served.connection() as client:
        await begun(served, client)
        (cursor,) = await open_cursors(served)
        database = served.world.mongo[served.world.catalog.database]
        await database.command({"killCursors": "things", "cursors": [cursor["cursorId"]]})
        assert not (await rest_of(client)).endswith(LAST_CHUNK)


async def test_a_mongodb_that_is_away_is_an_outage_and_not_an_empty_export(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: object) -> NoReturn:
        raise AutoReconnect("away")

    monkeypatch.setattr(AsyncRawBatchCursor, "__anext__", away)
    response = await world.http.get("/v1/things/-/export")
    assert (response.status_code, response.json()["type"]) == (503, "urn:neverstale:unavailable")
