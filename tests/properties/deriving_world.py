"""Real MongoDB and real Redis for derived data: what is written, the records of it, and what pages showed when.

Records are what the shipped watcher makes of the change stream, in partitions that are lists in memory: so they may
be published late, again and as far apart between two partitions as Kafka allows.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from pymongo import AsyncMongoClient, MongoClient
from pymongo.change_stream import ChangeStream
from redis.asyncio import Redis

from neverstale.bson.values import CODEC
from neverstale.catalog import Catalog, Resource
from neverstale.derived.store import DerivedStore
from neverstale.keys import Names
from neverstale.mongodb.loader import Loader
from neverstale.redis.cache import Cache
from neverstale.servers import mongo_client, redis_client
from neverstale.settings import MongoDB, RedisSettings
from neverstale.streams.pipeline import pipeline
from neverstale.streams.recorder import Recorder
from neverstale.streams.translate import Watched, version_of
from neverstale.versions import Version

T = TypeVar("T")
KEYS: Final = (1, 2, 3)
PARTITIONS: Final = 2
"""Two of the documents live on one of them."""
NAME: Final = "numbers"
DECLARED: Final[dict[str, Any]] = {
    "key_type": "int",
    "fields": {"g": "any", "n": "int"},
    "lists": {
        "by_group": {"by": ["g"], "sort": ["n"]},
        "open": {"by": ["g"], "where": {"open": True}},
        "everything": {},
    },
    "counters": {
        "by_group": {"by": ["g"], "sums": {"v": {"field": "v", "scale": 2}}},
        "total": {"sums": {"v": {"field": "v", "scale": 2}}},
    },
    "rankings": {"highest": {"by": ["g"], "score": "v"}, "lowest": {"score": "-v"}},
}
GROUPS: Final = ("A", "B", "C", None, 5)
SHOWN: Final = ("g", "n")
PATIENCE_MS: Final = 30_000

Document: TypeAlias = Mapping[str, Any]
Group: TypeAlias = tuple[str, Any]
"""A list, and the value of `g`; of the list of everything `None`."""
LISTS: Final[tuple[Group, ...]] = (
    *(("by_group", value) for value in GROUPS),
    *(("open", value) for value in GROUPS),
    ("everything", None),
)


def query(group: Group) -> dict[str, Any]:
    """What MongoDB is asked for a group of a list."""
    name, value = group
    filters: dict[str, dict[str, Any]] = {"by_group": {"g": value}, "open": {"g": value, "open": True}}
    return filters.get(name, {})


def shown(document: Document | None, group: Group) -> str | None:
    """What a group's page has of a document; `None`: nothing. Each run ends with a look at MongoDB's answer."""
    if document is None:
        return None
    held, (name, value) = document.get("g"), group
    is_in = value in held if isinstance(held, list) else held == value
    if (name == "by_group" and not is_in) or (name == "open" and not (is_in and document.get("open") is True)):
        return None
    return repr([document.get(name) for name in SHOWN])


class Change(NamedTuple):
    key: int
    version: Version
    before: Document | None
    after: Document | None


@dataclass(frozen=True, slots=True)
class Record:
    """As it comes from Kafka."""

    offset: int
    key: bytes | None
    value: bytes
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class World:
    """One collection, one Redis prefix and the partitions of one topic, all empty at first."""

    runner: asyncio.Runner
    writer: MongoClient[dict[str, Any]]
    reader: AsyncMongoClient[dict[str, Any]]
    stream: ChangeStream[dict[str, Any]]
    redis: Redis
    catalog: Catalog
    cache: Cache
    start: Version
    changes: list[Change] = field(default_factory=list)
    unpublished: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    partitions: list[list[Record]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])

    def __post_init__(self) -> None:
        self.recorder = Recorder(Watched.of(self.catalog), PARTITIONS)
        self.store = DerivedStore(self.cache, NAME)
        self.states: dict[int, list[tuple[Version, Document | None]]] = {key: [] for key in KEYS}
        """Key -> what it became, at which version; oldest first."""

    @property
    def resource(self) -> Resource:
        return self.catalog.resources[NAME]

    @property
    def documents(self) -> Any:
        return self.writer[self.catalog.database].get_collection(NAME, codec_options=CODEC)

    def do(self, step: Awaitable[T]) -> T:
        async def wait() -> T:
            return await step

        return self.runner.run(wait())

    # Writing

    def replace(self, key: int, document: Document) -> None:
        """Or insert it."""
        self.documents.replace_one({"_id": key}, document, upsert=True)
        self._hear(1)

    def update(self, key: int, update: Mapping[str, Any]) -> None:
        self._hear(self.documents.update_one({"_id": key}, update).modified_count)

    def delete(self, *keys: int) -> None:
        self._hear(self.documents.delete_many({"_id": {"$in": keys}}).deleted_count)

    def together(self, documents: Mapping[int, Document]) -> None:
        """In one transaction: all changes have one version."""
        with self.writer.start_session() as session, session.start_transaction():
            for key, document in documents.items():
                self.documents.replace_one({"_id": key}, document, upsert=True, session=session)
        self._hear(len(documents))

    def _hear(self, count: int) -> None:
        for _ in range(count):
            event: Any = next(self.stream)
            key, version = event["key"], version_of(event)
            after = self.documents.find_one({"_id": key})
            self.changes.append(Change(key, version, self.at(key, version), after))
            self.states[key].append((version, after))
            taken = self.recorder.record([event], 0, 1, lambda *record: self.unpublished.append(record))
            assert taken == 1, "an ordinary change"

    def at(self, key: int, version: Version) -> Document | None:
        return next((found for changed, found in reversed(self.states[key]) if changed <= version), None)

    def versions(self, at_least: Version) -> list[Version]:
        """Versions at which a member may stand that lags behind, but not further than `at_least`."""
        return sorted({change.version for change in self.changes if change.version >= at_least} | {at_least})

    # Publishing

    def publish(self, count: int) -> None:
        for partition, key, value in self.unpublished[:count]:
            self.append(partition, key, value)
        del self.unpublished[:count]

    def append(self, partition: int, key: bytes | None, value: bytes) -> None:
        log = self.partitions[partition]
        log.append(Record(len(log), key, value))

    # Redis

    def empty_redis(self) -> None:
        async def empty() -> None:
            names = [
                key async for key in self.cache._redis.scan_iter(match=f"{self.cache.names.prefix}:*", count=1000)
            ]
            if names:
                await self.cache._redis.delete(*names)

        self.do(empty())


@dataclass(frozen=True, slots=True)
class Servers:
    """Clients for all the worlds of a test."""

    runner: asyncio.Runner
    writer: MongoClient[dict[str, Any]]
    reader: AsyncMongoClient[dict[str, Any]]
    redis: Redis
    stream: ChangeStream[dict[str, Any]]
    catalog: Catalog

    @contextmanager
    def world(self) -> Iterator[World]:
        documents = self.writer[self.catalog.database][NAME]
        for _ in range(documents.delete_many({}).deleted_count):
            next(self.stream)
        cache = Cache(self.redis, Names(f"test{secrets.token_hex(6)}"))
        start = self.runner.run(Loader(self.reader, self.catalog.database, PATIENCE_MS).now())
        clients = (self.runner, self.writer, self.reader, self.stream, self.redis)
        world = World(*clients, self.catalog, cache, start)
        try:
            yield world
        finally:
            world.empty_redis()


@contextmanager
def servers(mongo_uri: str, redis_url: str, database: str) -> Iterator[Servers]:
    catalog = Catalog.model_validate({"database": database, "resources": {NAME: DECLARED}})
    mongodb = MongoDB.model_validate({"uri": mongo_uri})
    redis_settings = RedisSettings.model_validate({"url": redis_url})
    watched = Watched.of(catalog)
    with (
        asyncio.Runner() as runner,
        MongoClient[dict[str, Any]](mongo_uri, w="majority") as writer,
        writer[database].watch(pipeline(watched.collections, watched.paths)) as stream,
    ):
        writer[database].create_collection(NAME)

        async def connect() -> tuple[AsyncMongoClient[dict[str, Any]], Redis]:
            return mongo_client(mongodb), redis_client(redis_settings, timeout_ms=PATIENCE_MS)

        async def close() -> None:
            await reader.close()
            await redis.aclose()

        reader, redis = runner.run(connect())
        try:
            yield Servers(runner, writer, reader, redis, stream, catalog)
        finally:
            runner.run(close())
