"""Values of every type, as MongoDB groups, finds and sorts them, and as our texts and pages do.

`NEVERSTALE_VALUES` sets how many collections of generated values are tried (default 3).
"""

import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import bson
import pytest
import pytest_asyncio
from bson.errors import BSONError
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS as RAW
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient

from neverstale.api.web.typed_values import NULL, question, read, spell
from neverstale.bson.texts import text_of, value_of
from neverstale.bson.values import CODEC, decode, elements
from neverstale.catalog.declarations import CounterDeclaration, ListDeclaration
from neverstale.derived import queries
from neverstale.derived.counters import queries as counter_queries
from neverstale.derived.groups import BEYOND, at_path, fact_at, texts_of
from neverstale.derived.lists import queries as list_queries
from neverstale.derived.lists.queries import Stretch
from neverstale.mongodb.replies import REPLY, Reply
from tests.properties import raw_bson
from tests.properties.raw_bson import (
    ARRAY,
    DBPOINTER,
    LATIN1,
    OBJECT,
    ODD,
    SCOPED,
    UNDEFINED,
    Value,
    array,
    document,
    embedded,
    integer,
    long,
    string,
    values,
)

COLLECTIONS = int(os.environ.get("NEVERSTALE_VALUES", "3"))
PAGE = 7

pytestmark = pytest.mark.asyncio(loop_scope="module")


def generated(of: st.SearchStrategy[Any], count: int, collections: int = COLLECTIONS) -> Iterator[list[Any]]:
    """Lists of so many values: always the same ones, unless more than usual are asked for."""
    found: list[list[Any]] = []
    # Nothing is shrunk: whoever sees a failure sees the documents that it is about.
    quick = settings(
        max_examples=collections,
        deadline=None,
        database=None,
        derandomize=collections <= 3,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @quick
    @given(st.lists(of, min_size=count, max_size=count + 20))
    def keep(some: list[Any]) -> None:
        found.append(some)

    keep()
    return iter(found)


class Stored:
    """Documents as bytes in a collection."""

    def __init__(self, collection: Any) -> None:
        self.collection = collection

    async def hold(self, fields: Sequence[dict[str, Value]]) -> list[dict[str, Any]]:
        """Only these, with numbers as keys; as we decode them."""
        await self.collection.drop()
        raws = [
            document(long(number).named("_id"), *(value.named(name) for name, value in one.items()))
            for number, one in enumerate(fields)
        ]
        await self.collection.insert_many([RawBSONDocument(raw) for raw in raws])
        return [decode(raw) for raw in raws]

    async def run(self, command: dict[str, Any]) -> list[dict[str, Any]]:
        return Reply.of(await self.collection.database.command(command, codec_options=REPLY)).documents()

    async def rows(self, stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return await self.run(queries.aggregate(self.collection.name, stages, 10_000))


@pytest_asyncio.fixture(loop_scope="module")
async def stored(mongo_uri: str, database: str) -> AsyncIterator[Stored]:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client:
        yield Stored(client[database]["things"])


async def test_texts_are_the_groups_that_mongodb_makes(stored: Stored) -> None:
    for some in itertools.chain([list(ODD.values())], generated(values(), 100)):
        # Null and undefined are one group of ours, as they are to a query.
        held = await stored.hold([{"v": value} for value in some if value.kind not in (raw_bson.NULL, UNDEFINED)])
        rows = await stored.rows([{"$group": {"_id": "$v", "keys": {"$push": "$_id"}}}])
        ours: dict[str, list[int]] = {}
        for one in held:
            ours.setdefault(text_of(one["v"]), []).append(one["_id"])
        assert sorted(sorted(row["keys"]) for row in rows) == sorted(ours.values())


async def test_the_drivers_decoder_alone_makes_other_groups(stored: Stored) -> None:
    """The control of the test above."""
    alike, failed = set(), 0
    for value in ODD.values():
        try:
            strict = bson.decode(document(value.named("v")), CODEC)["v"]
            alike.add(text_of(strict) == text_of(decode(document(value.named("v")))["v"]))
        except (BSONError, ValueError, TypeError):
            failed += 1
    assert failed > 10
    assert alike == {True, False}


def survives(value: Value) -> bool:
    """Whether MongoDB's classic engine carries a value through `$unwind`: of fields with one name it makes the first
    one twice, and it cuts the collection of a DBPointer at a zero."""
    if value.kind == DBPOINTER:
        return b"\0" not in value.payload[4:-13]
    scope = 8 + int.from_bytes(value.payload[4:8], "little")
    inner = value.payload[scope:] if value.kind == SCOPED else value.payload
    if value.kind not in (OBJECT, ARRAY, SCOPED):
        return True
    inside = list(elements(inner))
    names = [name for _, name, _ in inside]
    is_whole = value.kind == ARRAY or len(set(names)) == len(names)
    return is_whole and all(survives(Value(kind, payload)) for kind, _, payload in inside)


FIELDS = values() | st.lists(values(), max_size=3).map(lambda some: array(*some))
HOLDERS = FIELDS.map(lambda value: embedded(value.named("b")))
GROUPED: dict[str, st.SearchStrategy[Value]] = {
    "v": FIELDS,
    "v.b": HOLDERS | values() | st.lists(HOLDERS | values(), max_size=3).map(lambda some: array(*some)),
}


@pytest.mark.parametrize("path", GROUPED)
async def test_counters_of_mongodb_are_those_of_contributions_and_each_group_can_be_asked_for(
    stored: Stored, path: str
) -> None:
    declared = CounterDeclaration(by=(path,))
    for some in itertools.chain([list(ODD.values())], generated(GROUPED[path], 60)):
        held = await stored.hold([{"v": value} for value in some if survives(value)])
        facts = {one["_id"]: fact_at(one, path) for one in held}
        beyond = {key for key, fact in facts.items() if fact == BEYOND}
        ours = Counter(itertools.chain.from_iterable(texts_of(fact) or () for fact in facts.values()))
        theirs: Counter[str] = Counter()
        for row in await stored.rows(counter_queries.counter_groups(declared, {})):
            found = counter_queries.read_counter_row(row, 1, 0)
            theirs[found.group] += found.documents
        more: Counter[str] = Counter()
        for one in held:
            # Who has more groups than we keep is not counted in Redis, but by MongoDB.
            more.update(_texts(one, path) if one["_id"] in beyond else ())
        assert theirs == ours + more
        for text in ours:
            kind, spelled = spell(value_of(text))
            asked = None if kind == NULL else read(kind, spelled)
            assert question({path: asked}, {path: "string"}) is not None
            (row,) = await stored.rows(counter_queries.counter_groups(declared, {path: asked}, by=()))
            assert row["n"] == theirs[text], text


def _texts(document: dict[str, Any], path: str) -> set[str]:
    found = [one if isinstance(one, list) else [one] for one in at_path(document, path)]
    return {text_of(one) for some in found for one in some}


async def pages(stored: Stored, declared: ListDeclaration) -> list[int]:
    found: list[int] = []
    position: Any = None
    while True:
        rows = await stored.run(list_queries.list_page("things", declared, ("g",), Stretch(position)))
        found += [row["_id"] for row in rows[:PAGE]]
        if len(rows) <= PAGE or len(found) > 1_000:
            return found
        position = rows[PAGE - 1][list_queries.SORT_KEY]


async def in_order(stored: Stored, declared: ListDeclaration) -> list[int]:
    command = {"find": "things", "filter": {"kind": "g"}, "sort": dict(declared.order), "projection": {"_id": 1}}
    return [row["_id"] for row in await stored.run({**command, "collation": queries.BYTES, "batchSize": 1_000})]


def sorts(value: Value | None) -> bool:
    """Whether MongoDB sorts a value as it compares it: not DBPointers whose collections have names of one length."""
    if value is None or value.kind not in (OBJECT, ARRAY, SCOPED, DBPOINTER):
        return True
    if value.kind == DBPOINTER:
        return value.payload[4:-13] in (b"a.b", LATIN1)
    inner = (
        value.payload[8 + int.from_bytes(value.payload[4:8], "little") :] if value.kind == SCOPED else value.payload
    )
    return all(sorts(Value(kind, payload)) for kind, _, payload in elements(inner))


SORTED = (values() | st.sampled_from(list(ODD.values())) | st.none()).filter(sorts)
WITHOUT_ARRAYS = SORTED.filter(lambda value: value is None or value.kind != ARRAY)
"""MongoDB cannot sort by two arrays of one document."""


@pytest.mark.parametrize("indexed", [False, True], ids=["sorted", "indexed"])
async def test_pages_show_every_document_once_in_mongodbs_order(stored: Stored, indexed: bool) -> None:
    arrays = st.lists(values(), max_size=3).map(lambda some: array(*some)).filter(sorts)
    pairs = st.tuples(SORTED | arrays, WITHOUT_ARRAYS)
    # Where an index has it, MongoDB itself does not always sort undefined as it does without one.
    left_out = (UNDEFINED,) if indexed else ()
    for some in itertools.chain([[(value, None) for value in ODD.values()]], generated(pairs, 40)):
        found = [
            {name: value for name, value in zip("vw", two, strict=True) if value and value.kind not in left_out}
            for two in some
        ]
        await stored.hold([{"kind": string("g"), **one} for one in found] + [{"kind": string("other")}])
        for sort in (("v", "_id"), ("-v", "-_id"), ("w", "-v"), ("-w", "v", "-_id")):
            declared = ListDeclaration(by=("kind",), sort=sort, page_size=PAGE)
            if indexed:
                if "w" in sort[0] and "v" in sort:
                    continue  # nor can it have an index of both
                await stored.collection.create_index(list(list_queries.list_index(declared).items()))
            shown, ordered = await pages(stored, declared), await in_order(stored, declared)
            differ = [(found[one], found[two]) for one, two in zip(shown, ordered, strict=False) if one != two]
            assert shown == ordered, (differ[:1], [found[key] for key in set(shown) ^ set(ordered)])


async def test_pages_sorted_by_a_path_show_every_document_once(stored: Stored) -> None:
    inner = values().map(lambda value: embedded(value.named("b")))
    holders = inner | values().filter(lambda value: value.kind != ARRAY) | st.none()
    # An array with objects and others beside them may be left out: see docs/derived.md.
    arrays = st.lists(inner | st.just(embedded()), max_size=3).map(lambda elements: array(*elements))
    for some in generated((holders | arrays).filter(sorts), 40):
        held = [{"kind": string("g")} | ({"a": value} if value is not None else {}) for value in some]
        await stored.hold(held)
        for sort in (("a.b", "_id"), ("-a.b", "_id")):
            declared = ListDeclaration(by=("kind",), sort=sort, page_size=PAGE)
            assert await pages(stored, declared) == await in_order(stored, declared), sort


async def test_a_page_behind_any_position_reads_little_more_than_it_shows(stored: Stored) -> None:
    kinds = [None, *(value for name, value in ODD.items() if value.kind != ARRAY)]
    some = [kinds[number % len(kinds)] if number % 3 else integer(number) for number in range(600)]
    await stored.hold([{"kind": string("g")} | ({"v": value} if value is not None else {}) for value in some])
    for sort in (("v", "_id"), ("-v", "_id")):
        declared = ListDeclaration(by=("kind",), sort=sort, page_size=PAGE)
        await stored.collection.create_index(list(list_queries.list_index(declared).items()))
        position: Any = None
        while True:
            command = list_queries.list_page("things", declared, ("g",), Stretch(position))
            if position is not None:
                explain = {"explain": command, "verbosity": "executionStats"}
                raw: Any = await stored.collection.database.command(explain, codec_options=RAW)
                stats = decode(bytes(raw.raw))
                plan = repr(stats["queryPlanner"]["winningPlan"])
                assert "'SORT'" not in plan and "COLLSCAN" not in plan
                assert stats["executionStats"]["totalDocsExamined"] <= 120
            rows = await stored.run(command)
            if len(rows) <= PAGE:
                break
            position = rows[PAGE - 1][list_queries.SORT_KEY]
