"""What change events name of the fields that make groups."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson.decimal128 import Decimal128

from neverstale.bson.values import CODEC
from neverstale.derived.groups import fact_at
from tests.worlds.watching import PARTITIONS, Client, Place, Published, watching

PATHS = ("origin", "address.city", "tags", "legs.gate")


@pytest.fixture
async def published(place: Place) -> AsyncIterator[Published]:
    async with Published.reading(place) as published, watching(place, "flights", grouping={"flights": PATHS}):
        await published.until(lambda: len(published.floors) == PARTITIONS)
        yield published


async def test_an_insert_or_a_replacement_names_every_path_that_leads_through_no_array(
    place: Place, client: Client, published: Published
) -> None:
    flights = client[place.database]["flights"]
    documents: list[dict[str, Any]] = [
        {"_id": 1, "origin": "JFK", "address": {"city": "New York"}, "tags": ["a", "b"]},
        {"_id": 1, "origin": None, "address": "somewhere", "tags": []},
        {"_id": 1, "origin": Decimal128("1.0"), "legs": {"gate": 7}},
    ]
    await flights.insert_one(documents[0])
    for document in documents[1:]:
        await flights.replace_one({"_id": 1}, document)
    await published.until(lambda: len(published.seen("i:1")) == len(documents))
    told = [change.named for change in published.seen("i:1")]
    assert told == [{path: fact_at(document, path) for path in PATHS} for document in documents]


UPDATES: list[tuple[Any, set[str]]] = [
    ({"$set": {"origin": "LGA"}}, {"origin"}),
    ({"$set": {"address.city": "Newark"}}, {"address.city"}),
    ({"$set": {"address": {"city": "Paris", "zip": 1}}}, {"address.city"}),
    ({"$set": {"address.zip": 2}}, set()),
    ({"$unset": {"origin": 1}}, {"origin"}),
    ({"$unset": {"address": 1}}, {"address.city"}),
    ({"$push": {"tags": "c"}}, set()),
    ({"$set": {"tags": ["z"]}}, {"tags"}),
    ([{"$set": {"tags": ["p", "q", "r"]}}], {"tags"}),
    ([{"$set": {"tags": ["p"]}}], set()),
    ({"$set": {"legs": [{"gate": 1}, {"gate": 2}]}}, set()),
    ({"$set": {"legs": {"gate": 3}}}, {"legs.gate"}),
    ({"$set": {"n": 1}}, set()),
    ({"$set": {"origin": "x" * 100_000}}, set()),
    ({"$set": {"tags": list(range(40))}}, set()),
]


async def test_an_update_names_what_it_sets_or_removes_as_a_whole(
    place: Place, client: Client, published: Published
) -> None:
    flights = client[place.database].get_collection("flights", codec_options=CODEC)
    await flights.insert_one({"_id": 1, "origin": "JFK", "address": {"city": "New York"}, "tags": ["a", "b"]})
    documents: list[dict[str, Any]] = []
    for update, _ in UPDATES:
        await flights.update_one({"_id": 1}, update)
        document = await flights.find_one({"_id": 1})
        assert document is not None
        documents.append(document)
    await published.until(lambda: len(published.seen("i:1")) == 1 + len(UPDATES))
    for change, (update, paths), document in zip(published.seen("i:1")[1:], UPDATES, documents, strict=True):
        named = change.named or {}
        assert named == {path: fact_at(document, path) for path in named}, update
        # The server may write an update by a pipeline as a replacement, which names more.
        assert set(named) == paths or (change.operation == "replace" and paths <= set(named)), update


async def test_a_delete_names_nothing(place: Place, client: Client, published: Published) -> None:
    flights = client[place.database]["flights"]
    await flights.insert_one({"_id": 1, "origin": "JFK"})
    await flights.delete_one({"_id": 1})
    await published.until(lambda: len(published.seen("i:1")) == 2)
    assert published.seen("i:1")[1].named is None
