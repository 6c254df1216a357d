"""What the protocol needs of a sharded cluster; runs where NEVERSTALE_TEST_MONGOS_URI names a mongos of two shards.

Where it is not given, the same suite runs on the replica set of the tests: so it is known to be true of what we
promise, and each of its tests to be able to fail.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from neverstale.mongodb.loader import Loader
from neverstale.servers import mongo_client
from neverstale.settings import MongoDB
from neverstale.versions import Version, from_timestamp, to_timestamp

VARIABLE = "NEVERSTALE_TEST_MONGOS_URI"
DOCUMENTS = 200
ROUNDS = 20


@pytest.fixture
def uri(request: pytest.FixtureRequest) -> str:
    return os.environ.get(VARIABLE) or str(request.getfixturevalue("mongo_uri"))


@pytest.fixture
async def clients(uri: str) -> AsyncIterator[tuple[AsyncMongoClient[Any], AsyncMongoClient[Any], str]]:
    """Two that know nothing of each other, and a database whose one collection is spread over the shards."""
    settings, name = MongoDB.model_validate({"uri": uri}), f"test-{secrets.token_hex(4)}"
    async with mongo_client(settings) as one, mongo_client(settings) as other:
        await one[name].create_collection("things")
        if VARIABLE in os.environ:
            await one.admin.command({"shardCollection": f"{name}.things", "key": {"_id": "hashed"}})
        yield one, other, name
        await one.drop_database(name)


async def write(client: AsyncMongoClient[Any], name: str, key: int, revision: int) -> Version:
    """The version at which a majority has the write."""
    async with client.start_session() as session:
        await client[name].things.replace_one({"_id": key}, {"rev": revision}, upsert=True, session=session)
        assert session.operation_time is not None
        return from_timestamp(session.operation_time)


Clients = tuple[AsyncMongoClient[Any], AsyncMongoClient[Any], str]


async def test_a_snapshot_read_holds_what_was_written_before_its_version_and_says_which(clients: Clients) -> None:
    one, other, name = clients
    for key in range(ROUNDS):
        version = await write(one, name, key, 1)
        concern = {"level": "snapshot", "afterClusterTime": to_timestamp(version)}
        reply = await other[name].command({"find": "things", "filter": {"_id": key}, "readConcern": concern})
        assert from_timestamp(reply["cursor"]["atClusterTime"]) >= version
        assert reply["cursor"]["firstBatch"] == [{"_id": key, "rev": 1}]


async def test_changes_come_in_the_order_of_their_versions(clients: Clients) -> None:
    one, other, name = clients
    async with await one[name].watch(max_await_time_ms=500) as stream:
        await asyncio.gather(*(write((one, other)[key % 2], name, key, 1) for key in range(DOCUMENTS)))
        versions = [from_timestamp((await stream.next())["clusterTime"]) for _ in range(DOCUMENTS)]
    assert versions == sorted(versions)


async def test_the_present_is_no_earlier_than_what_another_client_was_acknowledged(clients: Clients) -> None:
    """The need that a sharded cluster is not known to meet."""
    one, other, name = clients
    loader = Loader(other, name, timeout_ms=10_000)
    for key in range(ROUNDS):
        version = await write(one, name, key, 1)
        assert await loader.now() >= version, f"the present is before the write of {key}"
