"""Where to go on: the position behind which Kafka has acknowledged everything.

One document per watcher group, in the control collection:

    {_id: "checkpoint:<group>", token, version, partitions, topic, collections, term, saved_at}

It is written with majority only after the acknowledgements, by a side task, so that it never delays the
stream; of a watcher with a later term it is never overwritten.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, NoReturn

import pymongo
from pymongo.errors import DuplicateKeyError, PyMongoError

from neverstale.errors import NeverstaleError
from neverstale.mongodb.control import CONTROL, checkpoint_id, control, unless_dropping
from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.streams.cursor import Database
from neverstale.streams.error_codes import of_step
from neverstale.streams.lease import LeaseLost
from neverstale.streams.pipeline import Token
from neverstale.versions import Version, of_resume_token, to_timestamp

SECONDS: Final = 10.0
"""Deadline of one read or write of the checkpoint."""


@dataclass(frozen=True, slots=True)
class Position:
    """A token behind which the stream can be opened again, and the topic that had everything before it."""

    token: Token
    partitions: int
    """How many the topic had when everything before the token was published to it."""
    topic: str | None = None
    """Its id then, as far as it is known."""
    collections: tuple[str, ...] | None = None
    """Those whose changes before the token were published, as far as it is known."""

    @property
    def version(self) -> Version:
        return of_resume_token(self.token["_data"])


class Checkpoint:
    """The stored position of a watcher group, and the one that is to be stored next."""

    def __init__(self, database: Database, group: str, term: int) -> None:
        self._collection = control(database)
        self._id = checkpoint_id(group)
        self.term = term
        self.found_term = 0
        """The term of the position that `load` found."""
        self.stored: Position | None = None
        """The last that was stored by us."""
        self._reached: Position | None = None
        self._news = asyncio.Event()
        self._storing = asyncio.Lock()

    async def load(self) -> Position | None:
        """The stored position; `None` if there is none, or none that can be read."""
        try:
            with pymongo.timeout(SECONDS):
                found = await self._collection.find_one({"_id": self._id})
        except PyMongoError as error:
            raise _failed(error, "reading") from error
        found = found or {}
        self.found_term = int(found.get("term", 0))
        match found:
            case {"token": {"_data": str()} as token, "partitions": int(partitions)}:
                return Position(token, partitions, found.get("topic"), _names(found.get("collections")))
        return None

    def reached(self, position: Position) -> None:
        """Kafka has acknowledged everything before this position; it will be stored."""
        self._reached = position
        self._news.set()

    async def run(self, interval_seconds: float) -> NoReturn:
        """Store what is reached, at most once in an interval, until cancelled."""

        async def store() -> float:
            await self._news.wait()
            await self.save()
            return interval_seconds

        await forever(store)

    async def save(self) -> None:
        """Store the reached position, if it is not stored yet."""
        async with self._storing:
            self._news.clear()
            position, self._reached = self._reached, None
            if position is not None:
                await self._store(position)
                self.stored = position
                telemetry.CHECKPOINTS.inc()

    async def _store(self, position: Position) -> None:
        change = {
            "$set": {
                "token": position.token,
                "version": to_timestamp(position.version),
                "partitions": position.partitions,
                "topic": position.topic,
                "collections": position.collections,
                "term": self.term,
            },
            "$currentDate": {"saved_at": True},
        }
        mine = {"_id": self._id, "$or": [{"term": {"$lte": self.term}}, {"term": {"$exists": False}}]}
        try:
            with pymongo.timeout(SECONDS):
                await unless_dropping(lambda: self._collection.update_one(mine, change, upsert=True))
        except DuplicateKeyError:
            # Not ours to overwrite, so the upsert tried to insert beside it.
            raise LeaseLost(f"a watcher with a later term than {self.term} has taken over") from None
        except PyMongoError as error:
            raise _failed(error, "storing") from error


def _names(stored: object) -> tuple[str, ...] | None:
    return tuple(map(str, stored)) if isinstance(stored, list) else None


def _failed(error: PyMongoError, doing: str) -> NeverstaleError:
    return of_step(error, f"{doing} the position", CONTROL)
