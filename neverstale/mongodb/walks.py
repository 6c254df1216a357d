"""Requests for walks: who wants a collection's documents to be touched, and how far that is.

A walk publishes a `touch` for every document of a collection. For a **rebuild** of what is derived from documents it
ends with `rebuilt`; a **resync** also makes every entry and page stale that was read before the walk began. The
control collection holds one document of each for a resource and consumer group, so that requests survive restarts.
(Groups fill a Redis each, and must not replace one another's requests.)

    {_id: "walk:<topic>:<group>:<purpose>:<resource>", topic, group, purpose, resource, collection, id,
     state, begun, last, passed, about, rate, at}

    wanted ──► walking ──► walked
       └──────────┴──────► stopped

`last` is the `_id` up to which the touches are in Kafka. A rebuild's request is replaced by one for another
generation; a resync's stays until it has ended.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import pymongo
from pymongo import AsyncMongoClient, ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from neverstale.mongodb.control import Fields, control, walk_id
from neverstale.mongodb.refusals import ours
from neverstale.settings import Kafka
from neverstale.versions import Version, from_timestamp, to_timestamp

SECONDS: Final = 5.0
"""Deadline of one read or write of a request."""

Purpose: TypeAlias = Literal["rebuild", "resync"]
PURPOSES: Final[tuple[Purpose, ...]] = ("rebuild", "resync")
State: TypeAlias = Literal["wanted", "walking", "walked", "stopped"]
UNFINISHED: Final[tuple[State, ...]] = ("wanted", "walking")


@dataclass(frozen=True, slots=True)
class Walk:
    purpose: Purpose
    resource: str
    collection: str
    id: str
    """Of a rebuild: its generation."""
    state: State = "wanted"
    begun: Version | None = None
    """What the touches carry: every document is read at this version or later. `None`: nobody walks yet."""
    last_key: str | None = None
    """The touches up to this canonical key are in Kafka; `None`: no document was passed."""
    passed: int = 0
    about: int = 0
    """How many documents there are, estimated when the walk began."""
    rate: float | None = None
    """Documents a second, at most; `None`: as fast as it goes."""
    group: str = ""
    """The consumer group that it was asked for; empty: our own."""

    @property
    def is_under_way(self) -> bool:
        return self.state in UNFINISHED


class Walks:
    """The requests for walks of one database through one topic, asked for by a consumer group or on its behalf.
    Raises `Outage` when MongoDB does not answer in time, and `Refused` when our user may not."""

    def __init__(self, client: AsyncMongoClient[Fields], database: str, kafka: Kafka) -> None:
        self._topic = kafka.topic
        self._group = kafka.group
        self._collection = control(client[database])

    async def ask(self, walk: Walk) -> bool:
        """Ask for a walk, whatever was asked for before, unless it is this one; returns whether it is new."""
        return await self._put(walk, {"id": {"$ne": walk.id}})

    async def ask_if_none(self, walk: Walk) -> bool:
        """Ask for a walk, unless one for this purpose is under way; returns whether it was asked for."""
        return await self._put(walk, {"state": {"$nin": list(UNFINISHED)}})

    async def _put(self, walk: Walk, instead_of: Fields) -> bool:
        by = {"topic": self._topic, "group": walk.group or self._group}
        what = {"purpose": walk.purpose, "resource": walk.resource, "collection": walk.collection, "id": walk.id}
        wanted = {
            "$set": {**by, **what, "state": "wanted", "rate": walk.rate},
            "$unset": {"begun": 1, "last_key": 1, "passed": 1, "about": 1},
            "$currentDate": {"at": True},
        }
        try:
            with _deadline():
                result = await self._collection.update_one({"_id": self._id(walk), **instead_of}, wanted, upsert=True)
        except DuplicateKeyError:
            return False  # There is one that is to stay, so the upsert tried to insert beside it.
        return result.modified_count > 0 or result.upserted_id is not None

    async def of(self, purpose: Purpose, resource: str) -> Walk | None:
        """The last request of our group for this purpose."""
        with _deadline():
            fields = await self._collection.find_one({"_id": self._id(Walk(purpose, resource, "", ""))})
        return _walk(fields or {})

    async def unfinished(self, *purposes: Purpose) -> list[Walk]:
        """The walks of all groups for these purposes, in the order in which they were asked for."""
        asked = {"topic": self._topic, "purpose": {"$in": purposes}, "state": {"$in": list(UNFINISHED)}}
        with _deadline():
            found = await self._collection.find(asked).sort("at").to_list()
        return [walk for fields in found if (walk := _walk(fields)) is not None]

    async def note(self, walk: Walk) -> Walk | None:
        """Store how far a walk is; returns it with the rate that is wanted by now. `None`: no longer wanted."""
        assert walk.begun is not None
        change: Fields = {"state": walk.state, "last_key": walk.last_key, "passed": walk.passed, "about": walk.about}
        return await self._change(walk, change | {"begun": to_timestamp(walk.begun)})

    async def limit(self, walk: Walk, rate: float | None) -> Walk | None:
        """Another rate for a walk that is under way."""
        return await self._change(walk, {"rate": rate})

    async def stop(self, walk: Walk) -> Walk | None:
        """Let it end where it is. `None`: it had ended, or another one was asked for."""
        return await self._change(walk, {"state": "stopped"})

    async def _change(self, walk: Walk, change: Fields) -> Walk | None:
        mine = {"_id": self._id(walk), "id": walk.id, "state": {"$in": list(UNFINISHED)}}
        with _deadline():
            fields = await self._collection.find_one_and_update(
                mine, {"$set": change}, return_document=ReturnDocument.AFTER
            )
        return _walk(fields or {})

    def _id(self, walk: Walk) -> str:
        return walk_id(self._topic, walk.group or self._group, walk.purpose, walk.resource)


def _walk(fields: Mapping[str, Any]) -> Walk | None:
    match fields:
        case {
            "purpose": "rebuild" | "resync" as purpose,
            "group": str(group),
            "resource": str(resource),
            "collection": str(collection),
            "id": str(name),
            "state": "wanted" | "walking" | "walked" | "stopped" as state,
        }:
            begun = fields.get("begun")
            return Walk(
                purpose,
                resource,
                collection,
                name,
                state,
                from_timestamp(begun) if begun is not None else None,
                fields.get("last_key"),
                fields.get("passed", 0),
                fields.get("about", 0),
                fields.get("rate"),
                group,
            )
    return None


@contextmanager
def _deadline() -> Iterator[None]:
    try:
        with pymongo.timeout(SECONDS):
            yield
    except DuplicateKeyError:
        raise
    except PyMongoError as error:
        raise ours(error, "walks") from error
