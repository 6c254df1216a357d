"""Whether MongoDB has the indexes that lists, look-ups, counters and rankings are read with.

Each query is explained as the API sends it (`neverstale.derived.kinds`), on the collection that is there.

A list whose pages scan the collection or sort in memory is a problem: it does so for every page that is not cached.
So is a look-up; and one whose index is not unique is a warning, since a value that several documents have is answered
with 409. Counters and rankings are read from MongoDB only while nothing is counted yet; for them it is a warning.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import pymongo
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.collation import Collation
from pymongo.errors import OperationFailure, PyMongoError

from neverstale.bson.values import decode
from neverstale.catalog import Catalog, Resource
from neverstale.derived.groups import at_path
from neverstale.derived.kinds.kind import IndexedQuery
from neverstale.derived.kinds.table import KINDS
from neverstale.derived.queries import BYTES
from neverstale.ops.check.findings import Finding, Wrong, about
from neverstale.ops.servers import UNAUTHORIZED
from neverstale.servers import mongo_client
from neverstale.settings import MongoDB

_say: Final = about("indexes", "mongodb")
EXPLAIN_SECONDS: Final = 10.0
PARALLEL_ARRAYS: Final = 171
"""CannotIndexParallelArrays."""
DUPLICATE_KEY: Final = 11000
Document: TypeAlias = dict[str, Any]
Index: TypeAlias = Mapping[str, int]

_NO_PLAN: Final = frozenset(("rejectedPlans", "slotBasedPlan", "parsedQuery", "filter", "command", "serverInfo"))


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for one thing that is declared."""

    name: str
    """`lists.departures`."""
    wanted: IndexedQuery

    @property
    def level(self) -> Wrong:
        """Of a finding that says that the index is missing."""
        return "problem" if self.wanted.is_needed else "warning"

    @property
    def index(self) -> Index:
        return self.wanted.index

    @property
    def options(self) -> Mapping[str, Any]:
        """Of the index: documents without the field are none that share a value."""
        return {"unique": True, "sparse": True} if self.wanted.unique else {}


async def check_indexes(settings: MongoDB, catalog: Catalog, *, create: bool = False) -> list[Finding]:
    """Findings about declarations of collections that exist. Creating an index takes as long as it takes."""
    async with mongo_client(settings) as client:
        database = client[catalog.database]
        try:
            derived = [one for one in catalog.resources.values() if one.derived]
            return [finding for one in derived async for finding in _resource(database, one, create)]
        except PyMongoError as error:
            message = f"{type(error).__name__} while queries were explained"
            return [_say("problem", "not-explained", message, "try again")]


async def _resource(database: AsyncDatabase[Document], resource: Resource, create: bool) -> AsyncIterator[Finding]:
    with pymongo.timeout(EXPLAIN_SECONDS):
        facts = await _collection(database, resource.collection)
    if facts is None:
        return
    with pymongo.timeout(EXPLAIN_SECONDS):
        sample = await database[resource.collection].with_options(DEFAULT_RAW_BSON_OPTIONS).find_one()
    for query in queries_of(resource, {} if sample is None else decode(bytes(sample.raw))):
        yield await _explained(database, resource, query, facts, create)


async def _collection(database: AsyncDatabase[Document], name: str) -> Document | None:
    """Its options; `None`: there is none, or it is no collection of its own. Others say that already."""
    found = await database.list_collections(filter={"name": name, "type": "collection"}, authorizedCollections=True)
    return next((dict(one.get("options", {})) for one in await found.to_list()), None)


def queries_of(resource: Resource, sample: Mapping[str, Any]) -> list[Query]:
    """One for everything declared that reads less than all documents, for the group of a document."""
    projection = dict.fromkeys(resource.fields, 1) if resource.fields is not None else None
    found = []
    for one in resource.derived.derivations():
        values = _values(one.declared.by, sample)
        wanted = KINDS[one.kind].query(resource.collection, one.declared, values, projection)
        if wanted is not None:
            found.append(Query(one.full_name, wanted))
    return found


def _values(paths: Sequence[str], sample: Mapping[str, Any]) -> list[Any]:
    """Values as documents have them. `null` is none of them: it also finds what is missing, which no index tells."""
    return [next(_comparable(at_path(sample, path)), "") for path in paths]


def _comparable(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        for element in value if isinstance(value, list) else (value,):
            if element is not None:
                yield element


async def _explained(
    database: AsyncDatabase[Document], resource: Resource, query: Query, options: Document, create: bool
) -> Finding:
    declared = f"resources.{resource.name}.{query.name}"
    wrong, level = await _wrong(database, query), query.level
    spelled = _spelled(resource, query, _other(query, options))
    if wrong is None:
        if not query.wanted.unique or await _is_unique(database, resource.collection, query.index):
            return _say.well(f"{declared} is read in an index")
        if await _has(database, resource.collection, query.index):
            spelled = f"drop the index {_shown(query.index)}, then {spelled}"
        return _say("warning", "index-not-unique", f"{declared} is read in an index that is not unique", spelled)
    if await _has(database, resource.collection, query.index):
        remedy = f"the index {_shown(query.index)} is there, but partial, sparse, hidden or collated: drop it"
        if query.wanted.unique:
            # It may keep values apart in a way of its own, as one that takes A and a for the same.
            beside = {"name": f"{query.name}", **_other(query, options), "collation": BYTES}
            remedy = f"{remedy}, or make another one beside it: {_spelled(resource, query, beside)}"
        return _say(level, "index-unfit", f"{declared} {wrong}", remedy)
    if not create:
        remedy = f"{spelled}, or: neverstale check --create-indexes"
        return _say(level, "no-index", f"{declared} {wrong}", remedy)
    return await _create(database, resource, query, declared, spelled)


async def _create(
    database: AsyncDatabase[Document], resource: Resource, query: Query, declared: str, spelled: str
) -> Finding:
    try:
        keys = list(query.index.items())
        collation = Collation(locale=BYTES["locale"])
        await database[resource.collection].create_index(keys, collation=collation, **query.options)
    except OperationFailure as error:
        reason = _REASONS.get(
            error.code or 0, f"error {error.code}: {(error.details or {}).get('codeName', 'unnamed')}"
        )
        message = f"the index of {declared} cannot be created: {reason}"
        return _say(query.level, "index-not-made", message, spelled)
    wrong = await _wrong(database, query)
    if wrong is not None:
        message = f"{declared} {wrong}, although its index was created"
        return _say(query.level, "index-does-not-help", message, spelled)
    return _say.well(f"{declared} is read in an index, created just now: {spelled}")


_REASONS: Final = {
    UNAUTHORIZED: "the user may not create indexes",
    PARALLEL_ARRAYS: "documents hold arrays in two of its fields",
    DUPLICATE_KEY: "documents share a value, which may be null",
}


async def _wrong(database: AsyncDatabase[Document], query: Query) -> str | None:
    """What is wrong with how the server would answer."""
    with pymongo.timeout(EXPLAIN_SECONDS):
        reply = await database.command({"explain": query.wanted.command, "verbosity": "queryPlanner"})
    return judge(reply, query.wanted.equal)


async def _has(database: AsyncDatabase[Document], collection: str, index: Index) -> bool:
    known = await database[collection].index_information()
    return any(list(one["key"]) == list(index.items()) for one in known.values())


async def _is_unique(database: AsyncDatabase[Document], collection: str, index: Index) -> bool:
    """Whether an index keeps any two documents from sharing a value. One that is partial does so only for some."""
    known = await database[collection].index_information()
    return any(
        one.get("unique") and "partialFilterExpression" not in one and [path for path, _ in one["key"]] == list(index)
        for one in known.values()
    )


def judge(reply: Mapping[str, Any], equal: Sequence[str]) -> str | None:
    """What is wrong with a plan, from an `explain`; `equal` are the paths that an index should find by."""
    stages = list(_stages(reply))
    names = {stage["stage"] for stage in stages}
    wrong = [sentence for name, sentence in _SENTENCES.items() if name in names]
    if wrong:
        return " and ".join(wrong)
    filtered = {path for stage in stages for path in _paths(stage.get("filter", {}))}
    beside = sorted(filtered & set(equal))
    return f"looks through documents of other groups for {', '.join(beside)}" if beside else None


_SENTENCES: Final = {"COLLSCAN": "scans the whole collection", "SORT": "sorts in memory"}


def _stages(reply: Any) -> Iterator[Mapping[str, Any]]:
    """Every stage of the plan that won, whatever it is wrapped in: shards, an aggregation, another engine's plan."""
    if isinstance(reply, Mapping):
        if isinstance(reply.get("stage"), str):
            yield reply
        for name, inner in reply.items():
            if name not in _NO_PLAN:
                yield from _stages(inner)
    elif isinstance(reply, list):
        for inner in reply:
            yield from _stages(inner)


def _paths(found: Any) -> Iterator[str]:
    """Paths that a filter compares."""
    if isinstance(found, Mapping):
        for name, inner in found.items():
            if not name.startswith("$"):
                yield name
            yield from _paths(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from _paths(inner)


def _shown(index: Index) -> str:
    return json.dumps(dict(index), ensure_ascii=False)


def _spelled(resource: Resource, query: Query, options: Mapping[str, Any]) -> str:
    """The line that makes the index."""
    more = f", {json.dumps(dict(options))}" if options else ""
    return f"db.getCollection({json.dumps(resource.collection)}).createIndex({_shown(query.index)}{more})"


def _other(query: Query, options: Document) -> Mapping[str, Any]:
    """A collection with a collation of its own gives it to its indexes, unless they say otherwise."""
    return {**query.options, **({"collation": BYTES} if "collation" in options else {})}
