"""What writers do to MongoDB, and what of it arrives in Kafka."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import motor.motor_asyncio
import pymongo
import pytest
from aiokafka.partitioner import DefaultPartitioner
from bson.objectid import ObjectId
from pymongo import AsyncMongoClient, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne

from neverstale.kafka.events import Change, Mark, record_key
from neverstale.versions import from_timestamp
from tests.worlds.watching import PARTITIONS, Client, Place, Published, watching

MEGABYTE = 1024 * 1024


@pytest.fixture
async def published(place: Place) -> AsyncIterator[Published]:
    """Reads what a watcher of `flights` and `carriers` publishes; it has opened its stream."""
    async with Published.reading(place) as published, watching(place, "carriers", "flights"):
        await published.until(lambda: len(published.floors) == 2 * PARTITIONS)
        yield published


def told(published: Published, key: str) -> list[tuple[str, Any]]:
    return [(change.operation, change.fields) for change in published.seen(key)]


BULK: list[Any] = [
    InsertOne({"_id": "b", "n": 1}),
    UpdateOne({"_id": "b"}, {"$set": {"n": 2}}),
    UpdateMany({"n": 2}, {"$inc": {"m": 1}}),
    ReplaceOne({"_id": "b"}, {"x": 1}),
    DeleteOne({"_id": "b"}),
]

EVERYTHING = {
    "s:a": [
        ("insert", None),
        ("update", ["n"]),
        ("update", ["m"]),
        ("replace", None),
        ("update", ["n"]),
        ("delete", None),
    ],
    "s:b": [("insert", None), ("update", ["n"]), ("update", ["m"]), ("replace", None), ("delete", None)],
    "s:u": [("insert", None), ("update", ["n"])],
}
"""Document -> operation and changed paths, for each of the writers below."""


async def write_with_pymongo_async(place: Place) -> None:
    async with AsyncMongoClient[dict[str, Any]](place.mongo_uri) as client:
        await _write(client[place.database]["flights"])


async def write_with_motor(place: Place) -> None:
    client: Any = motor.motor_asyncio.AsyncIOMotorClient(place.mongo_uri)
    await _write(client[place.database]["flights"])
    client.close()


async def _write(flights: Any) -> None:
    await flights.insert_one({"_id": "a", "n": 0})
    await flights.update_one({"_id": "a"}, {"$set": {"n": 1}})
    await flights.find_one_and_update({"_id": "a"}, {"$set": {"m.n": 1}})
    await flights.replace_one({"_id": "a"}, {"n": 3})
    await flights.update_many({"n": 3}, {"$inc": {"n": 1}})
    await flights.find_one_and_delete({"_id": "a"})
    await flights.bulk_write(BULK)
    await flights.update_one({"_id": "u"}, {"$set": {"n": 1}}, upsert=True)
    await flights.update_one({"_id": "u"}, {"$set": {"n": 2}}, upsert=True)


async def write_with_pymongo_sync(place: Place) -> None:
    with pymongo.MongoClient[dict[str, Any]](place.mongo_uri) as client:
        flights = client[place.database]["flights"]
        flights.insert_one({"_id": "a", "n": 0})
        flights.update_one({"_id": "a"}, {"$set": {"n": 1}})
        flights.find_one_and_update({"_id": "a"}, {"$set": {"m.n": 1}})
        flights.replace_one({"_id": "a"}, {"n": 3})
        flights.update_many({"n": 3}, {"$inc": {"n": 1}})
        flights.find_one_and_delete({"_id": "a"})
        flights.bulk_write(BULK)
        flights.update_one({"_id": "u"}, {"$set": {"n": 1}}, upsert=True)
        flights.update_one({"_id": "u"}, {"$set": {"n": 2}}, upsert=True)


@pytest.mark.parametrize("write", [write_with_motor, write_with_pymongo_async, write_with_pymongo_sync])
async def test_every_way_to_write_is_published(
    place: Place, published: Published, write: Callable[[Place], Awaitable[None]]
) -> None:
    await write(place)
    await published.until(lambda: len(published.changes) == sum(len(changes) for changes in EVERYTHING.values()))
    assert {key: told(published, key) for key in EVERYTHING} == EVERYTHING


async def test_removed_renamed_and_truncated_paths_are_named(
    place: Place, client: Client, published: Published
) -> None:
    flights = client[place.database]["flights"]
    await flights.insert_one({"_id": 1, "old": 1, "gone": {"in": 1}, "list": [1, 2, 3, 4]})
    await flights.update_one({"_id": 1}, {"$rename": {"old": "new"}})
    await flights.update_one({"_id": 1}, {"$unset": {"gone.in": 1}})
    await flights.update_one({"_id": 1}, [{"$set": {"list": [1, 2], "n": 1}}])
    await published.until(lambda: len(published.seen("i:1")) == 4)
    assert [set(change.fields or ()) for change in published.seen("i:1")] == [
        set(),
        {"new", "old"},
        {"gone.in"},
        {"list.0", "n"},
    ]


async def test_a_change_has_the_version_that_the_write_was_given(
    place: Place, client: Client, published: Published
) -> None:
    reply = await client[place.database].command({"insert": "flights", "documents": [{"_id": "a"}]})
    await published.until(lambda: published.changes)
    assert published.changes[0].version == from_timestamp(reply["opTime"]["ts"])
    assert published.changes[0].database == place.database
    assert published.changes[0].collection == "flights"


async def test_a_transaction_is_published_whole_with_one_version(
    place: Place, client: Client, published: Published
) -> None:
    flights = client[place.database]["flights"]
    async with client.start_session() as session, await session.start_transaction():
        await flights.insert_many([{"_id": number} for number in range(1000)], session=session)
        await flights.update_one({"_id": 7}, {"$set": {"n": 1}}, session=session)
    await published.until(lambda: len(published.changes) == 1001)
    assert len({change.version for change in published.changes}) == 1
    assert told(published, "i:7") == [("insert", None), ("update", ["n"])]


async def test_an_aborted_transaction_is_not_published(place: Place, client: Client, published: Published) -> None:
    flights = client[place.database]["flights"]
    async with client.start_session() as session:
        await session.start_transaction()
        await flights.insert_one({"_id": "aborted"}, session=session)
        await session.abort_transaction()
    await flights.insert_one({"_id": "after"})
    await published.until(lambda: published.seen("s:after"))
    assert not published.seen("s:aborted")


async def test_documents_as_large_as_they_can_be_are_small_events(
    place: Place, client: Client, published: Published
) -> None:
    flights = client[place.database]["flights"]
    await flights.insert_one({"_id": "largest", "body": "x" * (16 * MEGABYTE - 64)})
    await flights.insert_one({"_id": "large", "body": "x" * 10 * MEGABYTE})
    await flights.update_one({"_id": "large"}, {"$set": {"body": "y" * 10 * MEGABYTE}})
    await flights.replace_one({"_id": "large"}, {"body": "z" * 10 * MEGABYTE})
    await flights.delete_one({"_id": "large"})
    await published.until(lambda: len(published.changes) == 5)
    assert told(published, "s:large") == [
        ("insert", None),
        ("update", ["body"]),
        ("replace", None),
        ("delete", None),
    ]


async def test_thousands_of_changed_paths_mean_all(place: Place, client: Client, published: Published) -> None:
    flights = client[place.database]["flights"]
    await flights.insert_one({"_id": "wide"})
    await flights.update_one({"_id": "wide"}, {"$set": {f"field{number}": 1 for number in range(5000)}})
    await published.until(lambda: len(published.changes) == 2)
    assert told(published, "s:wide") == [("insert", None), ("update", None)]


async def test_one_document_lives_on_the_partition_of_its_key(
    place: Place, client: Client, published: Published
) -> None:
    ids: list[Any] = ["text", "ключ/:{}", 42, 2**40, 4.5, ObjectId(), {"a": 1}, True, b"\0\xff", "x" * 1000]
    await client[place.database]["carriers"].insert_many([{"_id": key} for key in ids])
    await published.until(lambda: len(published.changes) == len(ids))
    every = list(range(PARTITIONS))
    for record in published.records:
        if isinstance(record.event, Change):
            key = record_key(place.database, "carriers", record.event.key)
            assert record.key == key
            assert record.partition == DefaultPartitioner()(key, every, every)


async def test_a_key_too_long_for_a_record_voids_the_collection(
    place: Place, client: Client, published: Published
) -> None:
    await client[place.database]["flights"].insert_one({"_id": "x" * 2 * MEGABYTE})
    await published.until(lambda: len(published.floors) == 3 * PARTITIONS)
    assert (published.floors[-1].collection, published.floors[-1].reason) == ("flights", "a record is too large")
    assert not published.changes


async def test_other_collections_and_heartbeats_are_not_published(
    place: Place, client: Client, published: Published
) -> None:
    await client[place.database]["other"].insert_one({"_id": 1})
    await client[place.database]["flights"].insert_one({"_id": 1})
    await published.until(lambda: published.changes)
    # A mark behind the change in every partition: nothing of what was written before can still come.
    version = published.changes[0].version
    await published.until(
        lambda: (
            len({r.partition for r in published.records if isinstance(r.event, Mark) and r.event.version >= version})
            == PARTITIONS
        )
    )
    assert [change.collection for change in published.changes] == ["flights"]


@pytest.mark.parametrize(
    ("rename", "concerned"),
    [(("flights", "other"), {"flights"}), (("other", "flights"), {"flights"}), (("flights", "carriers"), None)],
)
async def test_a_rename_voids_source_and_target(
    place: Place, client: Client, published: Published, rename: tuple[str, str], concerned: set[str] | None
) -> None:
    source, target = rename
    await client[place.database][source].insert_one({"_id": 1})
    await client[place.database][target].insert_one({"_id": 2})
    await client[place.database][source].rename(target, dropTarget=True)
    concerned = concerned or {source, target}
    await published.until(
        lambda: {floor.collection for floor in published.floors if floor.reason == "rename"} == concerned
    )
    await client[place.database]["carriers"].insert_one({"_id": "after"})
    await published.until(lambda: published.seen("s:after"))
    assert sum(floor.reason == "rename" for floor in published.floors) == len(concerned) * PARTITIONS


async def test_a_dropped_collection_is_void_and_watching_goes_on(
    place: Place, client: Client, published: Published
) -> None:
    flights = client[place.database]["flights"]
    await flights.insert_one({"_id": "before"})
    await flights.drop()
    await flights.insert_one({"_id": "after"})
    await published.until(lambda: published.seen("s:after") and len(published.floors) == 3 * PARTITIONS)
    dropped = [floor for floor in published.floors if floor.reason == "drop"]
    assert {floor.collection for floor in dropped} == {"flights"}
    assert published.seen("s:before")[0].version < dropped[0].version < published.seen("s:after")[0].version


async def test_a_dropped_database_is_void_and_watching_goes_on(
    place: Place, client: Client, published: Published
) -> None:
    await client[place.database]["flights"].insert_one({"_id": "before"})
    await published.until(lambda: published.seen("s:before"))
    known = len(published.floors)
    await client.drop_database(place.database)
    # Our own writes may be refused while the database goes; then the floors say that no position is stored.
    await published.until(lambda: len(published.floors) >= known + 2 * PARTITIONS)
    await client[place.database]["flights"].insert_one({"_id": "after"})
    await published.until(lambda: published.seen("s:after"))
    before, after = published.seen("s:before")[0], published.seen("s:after")[0]
    raised = published.floors[known:]
    assert {floor.collection for floor in raised} == {"carriers", "flights"}
    assert all(before.version < floor.version <= after.version for floor in raised)
