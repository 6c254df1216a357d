"""Requests for walks: who wants a collection's documents to be touched, and how far that is.

A walk publishes a `touch` for every document of a collection, and `rebuilt` when it has passed all of them. One
document a resource, in a collection of ours beside the watched ones, so that requests survive restarts:

    {_id: "walk:<resource>", resource, collection, generation, state, last, passed, about, asked_at}

`state` is `wanted`, `walking` or `walked`; `last` the `_id` up to which the touches are in Kafka. A request for
another generation replaces an older one.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import pymongo
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from neverstale.errors import Outage

CONTROL: Final = "neverstale.control"
SECONDS: Final = 5.0
"""Deadline of one read or write of a request."""

State: TypeAlias = Literal["wanted", "walking", "walked"]
Fields: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Walk:
    resource: str
    collection: str
    generation: str
    state: State = "wanted"
    last: Any = None
    """The touches up to this `_id` are in Kafka; `None`: none is."""
    passed: int = 0
    about: int = 0
    """How many documents there are, estimated when the walk began."""


class Walks:
    """The requests of one database. Raises `Outage` when MongoDB does not answer in time."""

    def __init__(self, client: AsyncMongoClient[Fields], database: str) -> None:
        self._collection: AsyncCollection[Fields] = client[database].get_collection(
            CONTROL,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority"),
        )

    async def ask(self, resource: str, collection: str, generation: str) -> bool:
        """Ask for a walk, unless this one was asked for already; answers whether it is new."""
        wanted = {
            "$set": {"resource": resource, "collection": collection, "generation": generation, "state": "wanted"},
            "$unset": {"last": 1, "passed": 1, "about": 1},
            "$currentDate": {"asked_at": True},
        }
        try:
            with pymongo.timeout(SECONDS):
                another = {"_id": _id(resource), "generation": {"$ne": generation}}
                result = await self._collection.update_one(another, wanted, upsert=True)
        except DuplicateKeyError:
            return False  # It is there for this generation, so the upsert tried to insert beside it.
        except PyMongoError as error:
            raise _outage(error) from error
        return result.modified_count > 0 or result.upserted_id is not None

    async def unfinished(self) -> list[Walk]:
        return [walk for walk in await self.all() if walk.state != "walked"]

    async def all(self) -> list[Walk]:
        try:
            with pymongo.timeout(SECONDS):
                found = await self._collection.find({"_id": {"$regex": "^walk:"}}).sort("asked_at").to_list()
        except PyMongoError as error:
            raise _outage(error) from error
        return [walk for fields in found if (walk := _walk(fields)) is not None]

    async def note(self, walk: Walk) -> bool:
        """Store how far a walk is. False: another generation was asked for meanwhile."""
        change: Fields = {"state": walk.state, "last": walk.last, "passed": walk.passed, "about": walk.about}
        try:
            with pymongo.timeout(SECONDS):
                mine = {"_id": _id(walk.resource), "generation": walk.generation}
                result = await self._collection.update_one(mine, {"$set": change})
        except PyMongoError as error:
            raise _outage(error) from error
        return result.matched_count == 1


def _id(resource: str) -> str:
    return f"walk:{resource}"


def _walk(fields: Fields) -> Walk | None:
    match fields:
        case {
            "resource": str(resource),
            "collection": str(collection),
            "generation": str(generation),
            "state": "wanted" | "walking" | "walked" as state,
        }:
            last, passed, about = fields.get("last"), fields.get("passed", 0), fields.get("about", 0)
            return Walk(resource, collection, generation, state, last, passed, about)
    return None


def _outage(error: PyMongoError) -> Outage:
    return Outage("mongodb", f"{type(error).__name__} while reading or writing a request for a walk")
