"""`neverstale check` explains what lists, counters and rankings ask for, and says which index is missing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from neverstale.catalog import Catalog
from neverstale.ops.check.findings import Finding
from neverstale.ops.check.indexes import check_indexes
from neverstale.settings import MongoDB
from tests.worlds.doctored import noted, provokes

Collection = AsyncCollection[dict[str, Any]]

LIST = {"lists": {"departures": {"by": ["origin", "day"], "where": {"cancelled": False}, "sort": ["-at"]}}}
LIST_INDEX = '{"origin": 1, "day": 1, "cancelled": 1, "at": -1, "_id": 1}'
COUNTER = {"counters": {"by_status": {"by": ["status"]}}}
LOOKUP = {"lookups": ["tail"]}
UNIQUE = '{"tail": 1}, {"unique": true, "sparse": true}'
RANKING = {"rankings": {"late": {"by": ["day"], "score": "delay"}}}


@pytest.fixture
async def flights(mongo_uri: str, database: str) -> AsyncIterator[Collection]:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client:
        collection = client[database].flights
        await collection.insert_many(
            [
                {"_id": number, "origin": "JFK", "day": number % 7, "cancelled": False, "at": number, "status": "s"}
                for number in range(50)
            ]
        )
        yield collection


async def check(uri: str, flights: Collection, declared: dict[str, Any], create: bool = False) -> list[Finding]:
    resource = {"key_type": "int", "collection": flights.name, **declared}
    catalog = Catalog.model_validate({"database": flights.database.name, "resources": {"flights": resource}})
    return noted(await check_indexes(MongoDB.model_validate({"uri": uri}), catalog, create=create))


@pytest.mark.parametrize(
    ("declared", "level", "sentence", "index"),
    [
        (LIST, "problem", "lists.departures scans the whole collection and sorts in memory", LIST_INDEX),
        (COUNTER, "warning", "counters.by_status scans the whole collection", '{"status": 1}'),
        (LOOKUP, "problem", "lookups.tail scans the whole collection", UNIQUE),
        (RANKING, "warning", "rankings.late scans the", '{"day": 1, "delay": -1, "_id": 1}'),
    ],
)
@provokes("no-index")
async def test_a_missing_index_is_named_and_made(
    mongo_uri: str, flights: Collection, declared: dict[str, Any], level: str, sentence: str, index: str
) -> None:
    [missing] = await check(mongo_uri, flights, declared)
    assert missing.level == level and missing.message.startswith(f"resources.flights.{sentence}")
    assert missing.remedy.startswith(f'db.getCollection("flights").createIndex({index}), or: ')
    [made] = await check(mongo_uri, flights, declared, create=True)
    assert (made.level, index in made.message) == ("ok", True)
    [found] = await check(mongo_uri, flights, declared)
    assert (found.level, found.remedy) == ("ok", "")
    assert len(await flights.index_information()) == 2


@pytest.mark.parametrize(
    ("keys", "options", "level"),
    [
        (["tail"], {"unique": True}, "ok"),
        (["tail"], {}, "warning"),
        (["tail", "origin"], {"unique": True}, "warning"),
        (["tail"], {"unique": True, "collation": {"locale": "en", "strength": 2}}, "problem"),
    ],
)
async def test_a_look_up_wants_an_index_that_is_unique(
    mongo_uri: str, flights: Collection, keys: list[str], options: dict[str, Any], level: str
) -> None:
    await flights.update_many({}, [{"$set": {"tail": {"$toString": "$_id"}}}])
    await flights.create_index(keys, **options)
    [finding] = await check(mongo_uri, flights, LOOKUP)
    assert finding.level == level, finding
    if level == "warning":
        assert finding.message == "resources.flights.lookups.tail is read in an index that is not unique"
        assert finding.remedy.endswith(f'db.getCollection("flights").createIndex({UNIQUE})')


@provokes("index-not-unique")
async def test_an_index_that_is_not_unique_answers_a_look_up_and_is_said(mongo_uri: str, flights: Collection) -> None:
    await flights.create_index("tail")
    [finding] = await check(mongo_uri, flights, LOOKUP)
    assert finding.level == "warning" and finding.remedy.startswith("drop the index")


@provokes("index-does-not-help")
async def test_an_index_that_the_server_was_told_not_to_use_does_not_help(
    mongo_uri: str, flights: Collection
) -> None:
    shape: dict[str, Any] = {"query": {"tail": ""}, "indexes": [{"_id": 1}], "collation": {"locale": "simple"}}
    await flights.database.command("planCacheSetFilter", flights.name, **shape)
    [finding] = await check(mongo_uri, flights, LOOKUP, create=True)
    assert finding.message.endswith("scans the whole collection, although its index was created")


@provokes("index-not-made")
async def test_a_unique_index_of_values_that_are_not_cannot_be_made(mongo_uri: str, flights: Collection) -> None:
    await flights.update_many({}, {"$set": {"tail": "N1"}})
    [finding] = await check(mongo_uri, flights, LOOKUP, create=True)
    assert "cannot be created: documents share a value" in finding.message


async def test_an_index_in_another_order_leaves_the_sort(mongo_uri: str, flights: Collection) -> None:
    await flights.create_index(["origin", "day", "cancelled"])
    [finding] = await check(mongo_uri, flights, LIST)
    assert (finding.level, finding.message) == ("problem", "resources.flights.lists.departures sorts in memory")


async def test_an_index_in_the_right_order_that_lacks_a_filter_is_not_enough(
    mongo_uri: str, flights: Collection
) -> None:
    await flights.create_index([("origin", 1), ("at", -1), ("_id", 1)])
    [finding] = await check(mongo_uri, flights, LIST)
    assert finding.message.endswith("looks through documents of other groups for cancelled, day")


async def test_an_index_that_holds_more_will_do(mongo_uri: str, flights: Collection) -> None:
    await flights.create_index([("status", 1), ("origin", 1)])
    assert [finding.level for finding in await check(mongo_uri, flights, COUNTER)] == ["ok"]


async def test_what_reads_all_documents_or_goes_by_their_keys_needs_none(mongo_uri: str, flights: Collection) -> None:
    found = await check(mongo_uri, flights, {"lists": {"all": {}}, "counters": {"all": {}}})
    assert [finding.level for finding in found] == ["ok"]


@provokes("index-unfit")
async def test_an_index_that_is_there_and_of_no_use_is_named(mongo_uri: str, flights: Collection) -> None:
    await flights.create_index(["status"], partialFilterExpression={"day": 3})
    for create in (False, True):
        [finding] = await check(mongo_uri, flights, COUNTER, create)
        assert finding.level == "warning" and finding.remedy.startswith(
            'the index {"status": 1} is there, but partial'
        )


async def test_an_index_of_two_arrays_cannot_be_made(mongo_uri: str, flights: Collection) -> None:
    await flights.insert_one({"_id": -1, "origin": ["JFK", "LGA"], "day": [1, 2]})
    [finding] = await check(mongo_uri, flights, LIST, create=True)
    assert "cannot be created: documents hold arrays in two of its fields" in finding.message


async def test_an_index_ignores_the_collation_of_its_collection(mongo_uri: str, flights: Collection) -> None:
    database = flights.database
    await database.drop_collection("flights")
    await database.create_collection("flights", collation={"locale": "de"})
    await flights.insert_many([{"_id": number, "status": "s"} for number in range(50)])
    [missing] = await check(mongo_uri, flights, COUNTER)
    assert 'createIndex({"status": 1}, {"collation": {"locale": "simple"}})' in missing.remedy
    [made] = await check(mongo_uri, flights, COUNTER, create=True)
    assert made.level == "ok"


async def test_a_collection_that_is_not_there_is_left_to_others(mongo_uri: str, flights: Collection) -> None:
    await flights.drop()
    assert await check(mongo_uri, flights, LIST) == []
