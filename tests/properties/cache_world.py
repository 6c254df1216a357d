"""Real MongoDB and real Redis, driven by hand: what is written, and what is true at each version."""

import asyncio
import secrets
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pymongo import AsyncMongoClient, MongoClient
from pymongo.change_stream import ChangeStream
from redis.asyncio import Redis

from neverstale.bson.values import CODEC
from neverstale.catalog import Resource
from neverstale.keys import Names, canonical
from neverstale.mongodb import bson_json
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.redis.corrections import Corrections
from neverstale.servers import mongo_client, redis_client
from neverstale.settings import MongoDB, RedisSettings
from neverstale.versions import Version, from_timestamp, to_timestamp

T = TypeVar("T")
KEYS = (1, 2)
RESOURCE = Resource(name="numbers", collection="numbers", key_type="int")
PATIENCE_MS = 30_000
"""A machine under load answers late; nothing here is about time."""


@dataclass(frozen=True, slots=True)
class Change:
    """As the change stream tells it."""

    key: int
    version: Version


@dataclass
class World:
    """One collection and one Redis prefix, both empty at first."""

    runner: asyncio.Runner
    writer: MongoClient[dict[str, Any]]
    reader: AsyncMongoClient[dict[str, Any]]
    redis: Redis
    stream: ChangeStream[dict[str, Any]]
    database: str
    cache: Corrections
    loader: Loader
    start: Version
    changes: list[Change] = field(default_factory=list)
    truth: dict[int, list[tuple[Version, bytes | None]]] = field(default_factory=lambda: {key: [] for key in KEYS})
    """Key -> what it became, at which version; oldest first."""
    count: int = 0

    def do(self, step: Awaitable[T]) -> T:
        async def wait() -> T:
            return await step

        return self.runner.run(wait())

    def entry(self, key: int) -> bytes:
        return self.cache.names.entry(RESOURCE.name, canonical(key))

    # MongoDB

    def put(self, key: int) -> None:
        self.count += 1
        document = {"_id": key, "n": self.count}
        self.writer[self.database][RESOURCE.collection].replace_one({"_id": key}, document, upsert=True)
        self._hear(1)

    def delete(self, key: int) -> None:
        gone = self.writer[self.database][RESOURCE.collection].delete_one({"_id": key}).deleted_count
        self._hear(gone)

    def put_both(self) -> None:
        """In one transaction: both changes have one version."""
        self.count += 1
        with self.writer.start_session() as session, session.start_transaction():
            for key in KEYS:
                document = {"_id": key, "n": self.count}
                collection = self.writer[self.database][RESOURCE.collection]
                collection.replace_one({"_id": key}, document, upsert=True, session=session)
        self._hear(len(KEYS))

    def _hear(self, count: int) -> None:
        for _ in range(count):
            event = next(self.stream)
            key, version = event["documentKey"]["_id"], from_timestamp(event["clusterTime"])
            document = event.get("fullDocument")
            self.truth[key].append((version, None if document is None else bson_json.encode(document)))
            self.changes.append(Change(key, version))

    def at(self, key: int, version: Version) -> bytes | None:
        """What a reader of that version sees."""
        return next((body for changed, body in reversed(self.truth[key]) if changed <= version), None)

    def versions(self, at_least: Version) -> list[Version]:
        """Versions at which a member may stand that lags behind, but not further than `at_least`."""
        return sorted({change.version for change in self.changes if change.version >= at_least} | {at_least})

    async def load_behind(self, key: int, version: Version) -> Snapshot:
        """What the loader would get from a member that stands exactly at `version`."""
        command = {
            "find": RESOURCE.collection,
            "filter": {"_id": key},
            "readConcern": {"level": "snapshot", "atClusterTime": to_timestamp(version)},
        }
        reply = await self.reader[self.database].command(command, codec_options=CODEC)
        cursor = reply["cursor"]
        bodies = {canonical(found["_id"]): bson_json.encode(found) for found in cursor["firstBatch"]}
        return Snapshot(from_timestamp(cursor["atClusterTime"]), bodies)

    # Redis

    async def names(self) -> list[bytes]:
        return [key async for key in self.redis.scan_iter(match=f"{self.cache.names.prefix}:*", count=1000)]


@dataclass(frozen=True, slots=True)
class Servers:
    """Clients for all the worlds of a test."""

    runner: asyncio.Runner
    writer: MongoClient[dict[str, Any]]
    reader: AsyncMongoClient[dict[str, Any]]
    redis: Redis
    database: str

    @contextmanager
    def world(self) -> Iterator[World]:
        collection = self.writer[self.database][RESOURCE.collection]
        collection.delete_many({})
        cache = Corrections(self.redis, Names(f"test{secrets.token_hex(6)}"))
        loader = Loader(self.reader, self.database, PATIENCE_MS)
        with collection.watch() as stream:
            start = self.runner.run(loader.now())
            clients = (self.runner, self.writer, self.reader, self.redis)
            world = World(*clients, stream, self.database, cache, loader, start)
            yield world
        if names := world.do(world.names()):
            world.do(cache.delete(names))


@contextmanager
def servers(mongo_uri: str, redis_url: str, database: str) -> Iterator[Servers]:
    mongodb = MongoDB.model_validate({"uri": mongo_uri})
    redis_settings = RedisSettings.model_validate({"url": redis_url})
    with asyncio.Runner() as runner, MongoClient[dict[str, Any]](mongo_uri, w="majority") as writer:
        writer[database].create_collection(RESOURCE.collection)

        async def connect() -> tuple[AsyncMongoClient[dict[str, Any]], Redis]:
            return mongo_client(mongodb), redis_client(redis_settings, timeout_ms=PATIENCE_MS)

        async def close() -> None:
            await reader.close()
            await redis.aclose()

        reader, redis = runner.run(connect())
        yield Servers(runner, writer, reader, redis, database)
        runner.run(close())
