"""Snapshot reads of a real replica set: what a version means, and what happens at the edges."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.read_concern import ReadConcern

from neverstale.catalog import Resource
from neverstale.errors import Outage, Refused
from neverstale.keys import canonical
from neverstale.mongodb.control import CONTROL
from neverstale.mongodb.loader import Loader, VersionInFuture
from neverstale.servers import mongo_client
from neverstale.versions import Version, from_timestamp, to_timestamp
from tests.support.waiting import eventually
from tests.worlds.api import settings_of

Client = AsyncMongoClient[dict[str, Any]]
THINGS = Resource(name="things", key_type="int")  # type: ignore[call-arg]
NAMED = Resource(name="named", collection="things", key_type="int", fields={"name": "string"})


@pytest.fixture
async def client(mongo_uri: str) -> AsyncIterator[Client]:
    async with mongo_client(settings_of(mongo_uri, "redis://unused", "unused").mongodb) as client:
        yield client


@pytest.fixture
def loader(client: Client, database: str) -> Loader:
    return Loader(client, database, timeout_ms=10_000)


async def put(client: Client, database: str, key: int, **fields: Any) -> Version:
    """Write one document; answers the version of the write."""
    async with client.start_session() as session:
        document = {"_id": key, **fields}
        await client[database].things.replace_one({"_id": key}, document, upsert=True, session=session)
        assert session.operation_time is not None
        return from_timestamp(session.operation_time)


async def test_a_state_read_at_the_version_of_a_write_contains_it_and_just_before_does_not(
    client: Client, database: str, loader: Loader
) -> None:
    await put(client, database, 1, n=0)
    stop = asyncio.Event()

    async def noise() -> None:
        while not stop.is_set():
            await client[database].noise.insert_one({})

    writer = asyncio.create_task(noise())
    try:
        for number in range(1, 100):
            version = await put(client, database, 1, n=number)
            snapshot = await loader.load(THINGS, [1], version)
            assert snapshot.version >= version
            assert snapshot.bodies["i:1"] == b'{"_id":1,"n":%d}' % number
            assert await value_at(client, database, version) == number
            assert await value_at(client, database, version - 1) == number - 1
    finally:
        stop.set()
        await writer


async def value_at(client: Client, database: str, version: Version) -> int:
    concern = {"level": "snapshot", "atClusterTime": to_timestamp(version)}
    reply = await client[database].command({"find": "things", "filter": {"_id": 1}, "readConcern": concern})
    value: int = reply["cursor"]["firstBatch"][0]["n"]
    return value


async def test_all_documents_of_a_read_are_of_one_version(client: Client, database: str, loader: Loader) -> None:
    async def transfer() -> None:
        for _ in range(50):
            async with client.start_session() as session, await session.start_transaction():
                await client[database].things.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
                await client[database].things.update_one({"_id": 2}, {"$inc": {"n": -1}}, session=session)

    await put(client, database, 1, n=0)
    await put(client, database, 2, n=0)
    writer = asyncio.create_task(transfer())
    while not writer.done():
        bodies = (await loader.load(THINGS, [1, 2], 0)).bodies
        assert bodies["i:1"].removeprefix(b'{"_id":1,"n":') == bodies["i:2"].removeprefix(b'{"_id":2,"n":').lstrip(
            b"-"
        )
    await writer


async def test_a_key_that_is_absent_is_not_in_the_answer(client: Client, database: str, loader: Loader) -> None:
    version = await put(client, database, 1)
    snapshot = await loader.load(THINGS, [1, 2, 3], version)
    assert set(snapshot.bodies) == {"i:1"}


async def test_only_declared_fields_are_read(client: Client, database: str, loader: Loader) -> None:
    version = await put(client, database, 1, name="one", secret="x")
    assert (await loader.load(NAMED, [1], version)).bodies == {"i:1": b'{"_id":1,"name":"one"}'}


async def test_equal_ids_of_other_number_types_are_found(client: Client, database: str, loader: Loader) -> None:
    await client[database].things.insert_one({"_id": 1.0, "n": "double"})
    assert (await loader.load(THINGS, [1], 0)).bodies == {canonical(1): b'{"_id":1.0,"n":"double"}'}


async def test_operators_in_keys_are_values(client: Client, database: str, loader: Loader) -> None:
    texts = Resource(name="texts", collection="things", key_type="string")
    await client[database].things.insert_one({"_id": '{"$gt":""}'})
    assert (await loader.load(texts, ['{"$gt":""}'], 0)).bodies == {'s:{"$gt":""}': b'{"_id":"{\\"$gt\\":\\"\\"}"}'}
    assert (await loader.load(texts, ["$gt", "$where"], 0)).bodies == {}


async def test_a_version_in_the_future_is_refused_at_once(client: Client, database: str, loader: Loader) -> None:
    version = await put(client, database, 1)
    with pytest.raises(VersionInFuture):
        await loader.load(THINGS, [1], version + (3600 << 32))
    with pytest.raises(VersionInFuture):
        await loader.load(THINGS, [1], (1 << 64) - 1)


async def test_documents_of_more_than_one_reply_are_of_one_version(
    client: Client, database: str, loader: Loader
) -> None:
    big = "x" * 6_000_000
    for key in range(5):
        await put(client, database, key, pad=big)
    changes = asyncio.create_task(change_all(client, database, range(5)))
    snapshot = await loader.load(THINGS, range(5), 0)
    await changes
    assert len(snapshot.bodies) == 5
    assert sum(map(len, snapshot.bodies.values())) > 30_000_000
    assert len({b'"changed":true' in body for body in snapshot.bodies.values()}) == 1
    assert snapshot.version <= await loader.now()


async def change_all(client: Client, database: str, keys: range) -> None:
    async with client.start_session() as session, await session.start_transaction():
        await client[database].things.update_many(
            {"_id": {"$in": list(keys)}}, {"$set": {"changed": True}}, session=session
        )


async def test_no_cursor_is_left_open(client: Client, database: str, loader: Loader) -> None:
    for key in range(4):
        await put(client, database, key, pad="x" * 6_000_000)
    await loader.load(THINGS, range(4), 0)
    pipeline: list[dict[str, Any]] = [
        {"$currentOp": {"idleCursors": True}},
        {"$match": {"ns": f"{database}.things", "type": "idleCursor"}},
    ]
    admin = client.get_database("admin", read_concern=ReadConcern("local"))
    assert await (await admin.aggregate(pipeline)).to_list() == []


async def test_a_collection_that_does_not_exist_is_empty_at_the_version_asked_for(
    client: Client, database: str, loader: Loader
) -> None:
    present = from_timestamp((await client.admin.command("hello"))["operationTime"])
    snapshot = await loader.load(THINGS, [1], present)
    assert snapshot.bodies == {}
    assert snapshot.version >= present


async def test_a_collection_that_was_created_just_now_is_read(client: Client, database: str, loader: Loader) -> None:
    """The newest majority snapshot may be older than the collection; the server refuses to read that."""
    for number in range(30):
        resource = Resource(name="new", collection=f"new{number}", key_type="int")
        creation = asyncio.create_task(client[database][f"new{number}"].insert_one({"_id": 1}))
        while not creation.done():
            await loader.load(resource, [1], 0)
        assert "i:1" in (await loader.load(resource, [1], 0)).bodies


async def test_now_is_at_or_after_every_acknowledged_write(client: Client, database: str, loader: Loader) -> None:
    for number in range(20):
        version = await put(client, database, number)
        assert await loader.now() >= version


async def test_a_server_that_does_not_answer_in_time_is_an_outage(client: Client, database: str) -> None:
    await put(client, database, 1)
    slow = Loader(client, database, timeout_ms=200)
    block = {
        "failCommands": ["find"],
        "blockConnection": True,
        "blockTimeMS": 3000,
        "namespace": f"{database}.things",
    }
    await fail(client, block)
    try:
        with pytest.raises(Outage) as outage:
            await slow.load(THINGS, [1], 0)
        assert outage.value.server == "mongodb"
    finally:
        await client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.mark.parametrize("code", [189, 246])
async def test_a_read_that_an_election_interrupts_is_tried_once_more(
    client: Client, database: str, loader: Loader, code: int
) -> None:
    version = await put(client, database, 1)
    await fail(client, {"failCommands": ["find"], "errorCode": code, "namespace": f"{database}.things"}, times=1)
    assert "i:1" in (await loader.load(THINGS, [1], version)).bodies


@pytest.mark.parametrize("command", ["find", "commitTransaction"])
async def test_the_present_time_is_asked_once_more_where_an_election_interrupts(
    client: Client, database: str, loader: Loader, command: str
) -> None:
    version = await put(client, database, 1)
    refusal = {"failCommands": [command], "errorCode": 189, "errorLabels": ["TransientTransactionError"]}
    await fail(client, refusal, times=1)
    assert await loader.now() >= version


@pytest.mark.parametrize("how", ["timed out", "cancelled"])
async def test_the_present_time_leaves_no_transaction_open_when_it_is_cut_off(
    client: Client, database: str, how: str
) -> None:
    """An open one would keep the database from being dropped."""
    await put(client, database, 1)

    async def operations(**match: Any) -> list[Any]:
        stages = [{"$currentOp": {"allUsers": True, "idleSessions": True}}, {"$match": match}]
        return await (
            await client.get_database("admin", read_concern=ReadConcern("local")).aggregate(stages)
        ).to_list()

    async def is_reading() -> bool:
        return await operations(**{"command.find": CONTROL, "command.$db": database}) != []

    async def none_left() -> bool:
        return await operations(transaction={"$exists": True}, type="idleSession") == []

    block = {"blockConnection": True, "blockTimeMS": 500, "namespace": f"{database}.{CONTROL}"}
    await fail(client, {"failCommands": ["find"], **block})
    loader = Loader(client, database, timeout_ms=100 if how == "timed out" else 10_000)
    asking = asyncio.create_task(loader.now())
    if how == "cancelled":
        await eventually(is_reading, "it is being read", 5)
        asking.cancel()
    with pytest.raises((Outage, asyncio.CancelledError)):
        await asking

    await eventually(none_left, "no transaction is open", 5)


async def test_who_is_killed_while_he_asks_for_the_present_time_keeps_nobody_from_dropping_a_collection(
    client: Client, database: str, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(client, database, 1)
    left: list[AsyncClientSession] = []

    async def killed(session: AsyncClientSession) -> None:
        left.append(session)
        raise asyncio.CancelledError

    async def nobody_tidies(*_: Any, **__: Any) -> None:
        """Whoever is killed aborts nothing."""

    with monkeypatch.context() as patch:
        patch.setattr(AsyncClientSession, "commit_transaction", killed)
        patch.setattr("neverstale.mongodb.loader._leave_nothing_open", nobody_tidies)
        patch.setattr(AsyncClientSession, "_end_session", nobody_tidies)
        with pytest.raises(asyncio.CancelledError):
            await loader.now()
    assert left[0].in_transaction
    await client[database].command({"drop": "things", "maxTimeMS": 5_000})
    assert (await loader.load(THINGS, [1], await loader.now())).bodies == {}
    await left[0].end_session()


async def test_a_refusal_that_stays_is_no_outage(client: Client, database: str, loader: Loader) -> None:
    await put(client, database, 1)
    await fail(client, {"failCommands": ["find"], "errorCode": 13, "namespace": f"{database}.things"}, times=1)
    with pytest.raises(Refused, match="13 Unauthorized; grant"):
        await loader.load(THINGS, [1], 0)


async def fail(client: Client, data: dict[str, Any], times: int = 1) -> None:
    await client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data})
