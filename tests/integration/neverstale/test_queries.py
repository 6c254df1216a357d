"""What MongoDB answers to the queries for derived data is what the contributions of the documents add up to."""

import datetime
import random
from collections.abc import AsyncIterator, Sequence
from itertools import product
from typing import Any

import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from pymongo import AsyncMongoClient

from neverstale.bson.texts import text_of
from neverstale.bson.values import CODEC
from neverstale.catalog.declarations import CounterDeclaration, Declarations, ListDeclaration, RankingDeclaration
from neverstale.derived import queries
from neverstale.derived.counters import queries as counter_queries
from neverstale.derived.counters.differences import counted
from neverstale.derived.figures import sorted_out
from neverstale.derived.groups import fact_at, texts_of
from neverstale.derived.kinds.counters import CounterShape
from neverstale.derived.lists import queries as list_queries
from neverstale.derived.lists.queries import Stretch
from neverstale.derived.rankings import queries as ranking_queries
from neverstale.derived.shape import Shape
from neverstale.errors import TooSlow
from neverstale.mongodb.loader import Loader

DAY = datetime.datetime(2013, 2, 8, tzinfo=datetime.UTC)
VALUES: list[Any] = [
    None,
    1,
    1.0,
    2.5,
    Decimal128("2.5"),
    Int64(2**40),
    "a",
    "b",
    True,
    False,
    DAY,
    [],
    ["a", "a", 1],
]
VALUES += [["b", None], {"x": 1}, [{"x": "a"}, {"x": ["b", "c"]}, {}, 7], {"x": [1, 2]}, float("nan"), -5, [[1], "a"]]
SCORES = [None, 0, -5, 17, 17.0, 2.5, Decimal128("17"), DAY, float("inf"), float("nan"), [3], "late", True, 2**40]


def documents(seed: int, count: int = 150) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    some = []
    for number in range(count):
        document: dict[str, Any] = {"_id": f"k{number}"}
        for name in ("a", "b"):
            if chance.random() < 0.9:
                document[name] = chance.choice(VALUES)
        if chance.random() < 0.9:
            document["n"] = chance.choice(SCORES)
        document["deep"] = chance.choice([{"n": 4}, [{"n": 5}], [{"n": 1}, {"n": 2}], {}, None])
        some.append(document)
    return some


@pytest.fixture
async def collection(mongo_uri: str, database: str) -> AsyncIterator[Any]:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client:
        yield client[database].get_collection("things", codec_options=CODEC)


async def run(collection: Any, command: dict[str, Any]) -> list[dict[str, Any]]:
    reply = await collection.database.command(command, codec_options=CODEC)
    assert reply["cursor"]["id"] == 0
    found: list[dict[str, Any]] = reply["cursor"]["firstBatch"]
    return found


@pytest.mark.parametrize("by", [("a",), ("a", "b"), ("a.x",), ("a.x", "b"), ()])
async def test_the_rows_of_a_counter_are_the_groups_of_its_contributions(
    collection: Any, by: tuple[str, ...]
) -> None:
    held = documents(1)
    await collection.insert_many(held)
    declared = CounterDeclaration.model_validate(
        {"by": by, "sums": {"n": {"field": "n", "scale": 1}, "deep": {"field": "deep.n"}}}
    )
    shape = Shape(Declarations(counters={"c": declared}))
    gained = shape.facts(held)
    (counter,) = shape.of(CounterShape)
    expected = dict(counted(counter.by, counter.sums, sorted_out([("s:k", None, facts) for facts in gained])))

    rows = await (await collection.aggregate(counter_queries.counter_groups(declared, {}))).to_list()

    read = [counter_queries.read_counter_row(row, len(by), 2) for row in rows]
    assert {row.group: row.documents for row in read} == {
        field[2:]: count for field, count in expected.items() if isinstance(field, str) and field.startswith("n|")
    }
    for row in read:
        if not expected.get(f"u0|{row.group}"):
            high, low = expected.get(f"h0|{row.group}", 0), expected.get(f"l0|{row.group}", 0)
            assert row.sums[0] * 10 == high * 2**32 + low
            assert row.numbers[0] == expected.get(f"m0|{row.group}", 0)
        assert row.sums[1] == expected.get(f"l1|{row.group}", 0)


async def test_rows_can_be_restricted_to_values_and_added_up(collection: Any) -> None:
    held = documents(2)
    await collection.insert_many(held)
    declared = CounterDeclaration(by=("a", "b"))
    expected: dict[str, int] = {}
    for document in held:
        if "s:a" in (texts_of(fact_at(document, "a")) or ()):
            for text in texts_of(fact_at(document, "b")) or ():
                expected[text] = expected.get(text, 0) + 1

    rows = await (await collection.aggregate(counter_queries.counter_groups(declared, {"a": "a"}))).to_list()
    total = await (await collection.aggregate(counter_queries.counter_groups(declared, {"a": "a"}, by=()))).to_list()

    assert {text_of(row["_id"]["k0"]): row["n"] for row in rows if "k0" in row["_id"]} | {
        "n": expected.get("n", 0)
    } == expected | {"n": expected.get("n", 0)}
    assert total[0]["n"] == sum(expected.values())


@pytest.mark.parametrize("sort", [("n",), ("-n",), ("a", "-n"), ("-a", "n"), ("_id",), ("-_id",)])
async def test_pages_of_a_list_are_all_its_documents_in_order(collection: Any, sort: tuple[str, ...]) -> None:
    held = [one for one in documents(3) if not isinstance(one.get("a"), list) and not isinstance(one.get("n"), list)]
    await collection.insert_many(held)
    declared = ListDeclaration(sort=sort, page_size=7)
    whole = [
        one["_id"] for one in await collection.find({}).sort(list(declared.order)).collation(queries.BYTES).to_list()
    ]

    found: list[Any] = []
    position: Sequence[Any] | None = None
    for _ in held:
        page = await run(collection, list_queries.list_page("things", declared, (), Stretch(position)))
        found += [one["_id"] for one in page[:7]]
        if len(page) <= 7:
            break
        position = page[6][list_queries.SORT_KEY]

    assert found == whole


@pytest.mark.parametrize("sort", [("a",), ("-n", "a"), ("_id",)])
async def test_a_position_parts_all_documents_whichever_way_they_are_read(
    collection: Any, sort: tuple[str, ...]
) -> None:
    """What is before it, backwards, and what is at or behind it, are all; and so the other two."""
    held = [one for one in documents(5) if not isinstance(one.get("a"), list) and not isinstance(one.get("n"), list)]
    await collection.insert_many(held)
    declared = ListDeclaration(sort=sort, page_size=200)
    whole = await run(collection, list_queries.list_page("things", declared, ()))
    keys = [one["_id"] for one in whole]
    for place in range(0, len(whole), 5):
        at = whole[place][list_queries.SORT_KEY]
        for inclusive in (False, True):
            before = Stretch(at, back=True, inclusive=inclusive)
            behind = Stretch(at, inclusive=not inclusive)
            first = await run(collection, list_queries.list_page("things", declared, (), before))
            last = await run(collection, list_queries.list_page("things", declared, (), behind))
            assert [one["_id"] for one in [*reversed(first), *last]] == keys
            assert len(first) == place + inclusive


async def test_a_page_behind_a_position_is_read_in_the_order_of_the_index(collection: Any) -> None:
    held = [{name: value for name, value in one.items() if not isinstance(value, list)} for one in documents(4)]
    await collection.insert_many(held)
    declared = ListDeclaration(by=("a",), where={"b": "b"}, sort=("n", "-_id"), page_size=5)
    await collection.create_index(list(list_queries.list_index(declared).items()))
    positions: list[Any] = [None, (17, "k3"), (None, "k3"), (DAY, "k3")]
    spans: list[Any] = [{}, {"gte": 3, "lt": 40}]
    ways = [(back, span) for back in (False, True) for span in spans]
    for position, (back, span) in product(positions, ways):
        stretch = Stretch(position, back=back, inclusive=back, span=span)
        command = list_queries.list_page("things", declared, ("a",), stretch)
        plan = await collection.database.command({"explain": command, "verbosity": "queryPlanner"})
        stages = repr(plan["queryPlanner"]["winningPlan"])
        assert "'IXSCAN'" in stages
        assert "'SORT'" not in stages and "'COLLSCAN'" not in stages


@pytest.mark.parametrize("score", ["n", "-n", "deep.n"])
async def test_a_ranking_asked_of_mongodb_is_that_of_its_contributions(collection: Any, score: str) -> None:
    held = documents(5)
    await collection.insert_many(held)
    declared = RankingDeclaration(score=score)
    ranked = []
    for document in held:
        number = ranking_queries.score_of(declared, document)
        if number is not None:
            ranked.append((-number if declared.descends else number, document["_id"], number))
    ranked.sort()

    found = []
    for kind in ranking_queries.KINDS:
        top = await run(collection, ranking_queries.ranking_top("things", declared, (), kind, 500))
        found += [(ranking_queries.score_of(declared, one), one["_id"]) for one in top]

    assert sorted(found) == sorted((number, key) for _, key, number in ranked)
    for rank in (0, 1, len(ranked) // 2, len(ranked) - 1):
        _, key, number = ranked[rank]
        before, behind = 0, 0
        for kind in ranking_queries.KINDS:
            at = number, key
            stages = ranking_queries.ranking_count_before(declared, (), kind, at)
            before += sum([row["n"] async for row in await collection.aggregate(stages)])
            behind += len(
                await run(collection, ranking_queries.ranking_behind("things", declared, (), kind, at, 500))
            )
            near = await run(collection, ranking_queries.ranking_before("things", declared, (), kind, at, 500))
            sign = -1 if declared.descends else 1
            order = [(sign * (ranking_queries.score_of(declared, one) or 0), one["_id"]) for one in near]
            assert order == sorted(order, reverse=True)
        assert (before, behind) == (rank, len(ranked) - 1 - rank)


async def test_a_query_that_needs_longer_than_it_is_given_is_too_slow(
    mongo_uri: str, database: str, collection: Any
) -> None:
    await collection.insert_many([{"_id": number} for number in range(20)])
    await collection.find_one({"$where": "true"})  # what runs JavaScript starts with the first query that needs it
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client:
        loader = Loader(client, database, 2000)
        command = {"find": "things", "filter": {"$where": "sleep(200) || true"}, "batchSize": 100}
        with pytest.raises(TooSlow):
            await loader.query(command, 0)
