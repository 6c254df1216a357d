"""What the collections of a database look like: how many documents, of which keys, with which fields and indexes.

MongoDB counts the types itself, on a random sample of each collection, so no document is decoded here and none is too
odd. Nothing is written.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import pymongo
from bson import Binary
from bson.binary import UUID_SUBTYPE
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from neverstale.catalog import OWN_PREFIX
from neverstale.mongodb.kinds import kind_of

SAMPLE: Final = 500
"""Documents of each collection."""
SECONDS: Final = 20.0
"""For each collection."""
_BINARIES: Final = 20

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CollectionSurvey:
    """One collection. Types are named as MongoDB's `$type` names them, but for `uuid`: a binary of subtype 4."""

    name: str
    why_not: str | None
    """Why nothing of it can be kept in the cache; `None`: it can."""
    documents: int
    """As MongoDB's metadata have it."""
    sampled: int = 0
    key_types: Mapping[str, int] = field(default_factory=dict)
    """Type of `_id` -> how many of the sample."""
    fields: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Top-level field -> type -> how many of the sample, in the order of how many have it."""
    indexes: tuple[str, ...] = ()
    """In words, e.g. `origin, day descending (unique)`."""
    refused: str | None = None
    """What MongoDB said, if the user may not look at it."""


async def survey(database: AsyncDatabase[Document]) -> list[CollectionSurvey]:
    """All collections of the database but MongoDB's own and ours, by name.

    Raises:
        PyMongoError: MongoDB does not answer, or the user may not list collections.
    """
    with pymongo.timeout(SECONDS):
        listed = [one async for one in await database.list_collections()]
    ours = [one for one in listed if not one["name"].startswith(("system.", OWN_PREFIX))]
    return [await _collection(database, one) for one in sorted(ours, key=lambda one: str(one["name"]))]


async def _collection(database: AsyncDatabase[Document], listed: Mapping[str, Any]) -> CollectionSurvey:
    name, why_not = str(listed["name"]), kind_of(listed).why(str(listed["name"]))
    if why_not is not None:
        return CollectionSurvey(name, why_not, 0)
    try:
        with pymongo.timeout(SECONDS):
            documents = await database[name].estimated_document_count()
            types = await _types(database, name)
            indexes = await database[name].index_information()
    except OperationFailure as error:
        details = error.details or {}
        return CollectionSurvey(name, None, 0, refused=f"{error.code} {details.get('codeName', '')}".strip())
    keys = types.pop("_id", {})
    most_first = sorted(types.items(), key=lambda one: (-sum(one[1].values()), one[0]))
    return CollectionSurvey(
        name=name,
        why_not=None,
        documents=documents,
        sampled=sum(keys.values()),
        key_types=keys,
        fields=dict(most_first),
        indexes=tuple(_in_words(index) for name, index in sorted(indexes.items()) if name != "_id_"),
    )


async def _types(database: AsyncDatabase[Document], name: str) -> dict[str, dict[str, int]]:
    """Top-level field -> type -> how many documents of a sample have it."""
    pipeline: list[Document] = [
        {"$sample": {"size": SAMPLE}},
        {"$project": {"f": {"$objectToArray": "$$ROOT"}}},
        {"$unwind": "$f"},
        {"$group": {"_id": {"k": "$f.k", "t": {"$type": "$f.v"}}, "n": {"$sum": 1}}},
    ]
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    async for one in await database[name].aggregate(pipeline, allowDiskUse=False):
        found[one["_id"]["k"]][one["_id"]["t"]] = one["n"]
    for path, types in found.items():
        if "binData" in types and await _are_uuids(database, name, path):
            types["uuid"] = types.pop("binData")
    return dict(found)


async def _are_uuids(database: AsyncDatabase[Document], name: str, path: str) -> bool:
    """Whether all binaries among some documents are UUIDs."""
    if "." in path or path.startswith("$"):
        return False
    query = {path: {"$type": "binData"}}
    some = [one async for one in database[name].find(query, {path: 1}).limit(_BINARIES)]
    return bool(some) and all(_is_uuid(one.get(path)) for one in some)


def _is_uuid(value: Any) -> bool:
    return isinstance(value, UUID) or (isinstance(value, Binary) and value.subtype == UUID_SUBTYPE)


def _in_words(index: Mapping[str, Any]) -> str:
    directions = {1: "", -1: " descending"}
    fields = ", ".join(f"{path}{directions.get(way, f' {way}')}" for path, way in index["key"])
    told = [
        word
        for word, here in (
            ("unique", index.get("unique")),
            ("sparse", index.get("sparse")),
            ("partial", index.get("partialFilterExpression")),
            ("expires", index.get("expireAfterSeconds") is not None),
            ("collation", index.get("collation")),
        )
        if here
    ]
    return fields + (f" ({', '.join(told)})" if told else "")
