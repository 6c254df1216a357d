"""The API's own reader in this process, with a gap between what it reads from MongoDB and what it offers to Redis."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from unittest.mock import patch

from bson.timestamp import Timestamp
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from neverstale import settings
from neverstale.api.app import serving
from neverstale.api.health import health
from neverstale.api.reads.answer import Answer
from neverstale.api.reads.reader import Reader
from neverstale.api.reads.source import DocumentSource
from neverstale.catalog import Catalog, Resource
from neverstale.keys import KeyValue, Names
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.ops.truth.oracle import Tally
from neverstale.redis.corrections import Corrections
from neverstale.role.tasks import Tasks
from neverstale.servers import mongo_client, redis_client
from neverstale.versions import Version, from_timestamp, to_hex

LEASE_MS: Final = 60_000
MS: Final = 10_000
THINGS: Final = Resource(name="things", key_type="int")  # type: ignore[call-arg]
"""Documents {_id: int, rev: int}."""

Gap = Callable[[Sequence[KeyValue]], Awaitable[None]]


async def no_gap(_: Sequence[KeyValue]) -> None:
    """Nothing happens between a read and its fill."""


class GappedLoader(Loader):
    """Lets something happen when it has read."""

    gap: Gap = staticmethod(no_gap)

    async def load(self, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        snapshot = await super().load(resource, keys, at_least)
        await self.gap(keys)
        return snapshot


@dataclass
class Reading:
    """The API's reader of `things`, and what a consumer would tell its cache."""

    redis: Redis
    cache: Corrections
    """As a consumer has it."""
    clock: Loader
    """Of the whole replica set."""
    loader: GappedLoader
    """The reader's."""
    reader: Reader
    source: DocumentSource
    """What it reads: `things`."""
    tasks: Tasks
    """Where the reader's fills run."""

    async def read(self, keys: Sequence[int]) -> list[Answer]:
        """Read all, and wait until what was read is offered to the cache."""
        answers = await self.reader.get_many(self.source, keys)
        await self.tasks.finish(MS / 1000)
        return answers

    async def apply(self, keys: Sequence[int], version: Version) -> None:
        """What a consumer does about changes."""
        entries = [self.cache.names.entry(THINGS.name, f"i:{key}") for key in keys]
        told = [item for _ in entries for item in (to_hex(version), "n")]
        done = await self.cache.invalidate(version, entries, told, {THINGS.collection: 0}, LEASE_MS)
        if done.unknown:
            await self.establish()

    async def establish(self) -> None:
        await self.cache.establish([THINGS.collection], self.clock.now)

    async def served(self, keys: Sequence[int]) -> list[int | None]:
        """For each key the revision that Redis would answer with now; `None`: it would not answer."""
        found: list[int | None] = []
        for start in range(0, len(keys), 1000):
            entries = [self.cache.names.entry(THINGS.name, f"i:{key}") for key in keys[start : start + 1000]]
            floor, held = await self.cache.read(THINGS.collection, entries, self.source.shows)
            for entry in held:
                good = floor is not None and entry is not None and entry.fresh and entry.version >= floor
                found.append(json.loads(entry.body or b'{"rev": 0}')["rev"] if good and entry else None)
        return found

    def key(self, key: int) -> bytes:
        return self.cache.names.entry(THINGS.name, f"i:{key}")


@contextlib.asynccontextmanager
async def reading(
    mongo_uri: str, redis_url: str, database: str, *, member: str | None = None, read_ms: int = MS
) -> AsyncIterator[Reading]:
    """The API's reader, of one `member` if so asked. The name of the database is the prefix in Redis too."""
    whole = settings.MongoDB(uri=SecretStr(mongo_uri))
    mine = settings.RedisSettings(url=SecretStr(redis_url), prefix=database, read_timeout_ms=MS)
    theirs = settings.MongoDB(
        uri=SecretStr(member or mongo_uri), server_selection_timeout_ms=read_ms, read_timeout_ms=read_ms
    )
    api = settings.Api(lease_ms=LEASE_MS, breaker_failures=10**9)
    catalog = Catalog(database=database, resources={THINGS.name: THINGS})
    loaders: list[GappedLoader] = []
    tasks: list[Tasks] = []

    def loader(*arguments: Any) -> GappedLoader:
        loaders.append(GappedLoader(*arguments))
        return loaders[-1]

    def new_tasks() -> Tasks:
        tasks.append(Tasks())
        return tasks[-1]

    async with contextlib.AsyncExitStack() as stack:
        mongo = await stack.enter_async_context(mongo_client(whole))
        redis = redis_client(mine, timeout_ms=MS)
        stack.push_async_callback(redis.aclose)
        cache, clock = Corrections(redis, Names(database)), Loader(mongo, database, MS)
        await cache.establish([THINGS.collection], clock.now)
        everything = settings.Settings(mongodb=theirs, redis=mine, api=api)
        with patch("neverstale.api.app.Loader", loader), patch("neverstale.api.app.Tasks", new_tasks):
            state = await stack.enter_async_context(serving(everything, catalog, health()))
        yield Reading(redis, cache, clock, loaders[0], state.reader, state.sources.documents[THINGS.name], tasks[0])


@dataclass
class Things:
    """The collection, written with majority; remembers the last acknowledged revision of every key."""

    collection: Any
    client: AsyncMongoClient[dict[str, Any]]
    revisions: dict[int, int] = field(default_factory=dict)

    async def insert(self, keys: Sequence[int]) -> Version:
        self.revisions.update(dict.fromkeys(keys, 1))
        return await self._write("insert_many", [{"_id": key, "rev": 1} for key in keys])

    async def change(self, keys: Sequence[int]) -> Version:
        """One more revision of each; answers a version at or behind all of them."""
        version = await self._write("update_many", {"_id": {"$in": list(keys)}}, {"$inc": {"rev": 1}})
        for key in keys:
            self.revisions[key] += 1
        return version

    def judge(self, keys: Sequence[int], served: Sequence[int | None], tally: Tally) -> None:
        """An answer older than the last acknowledged revision is stale; no answer is not."""
        for key, revision in zip(keys, served, strict=True):
            is_stale = revision is not None and revision < self.revisions[key]
            tally.note(is_stale, "key", key, "serves", revision, "of", self.revisions[key])

    async def _write(self, method: str, *arguments: Any) -> Version:
        async with self.client.start_session() as session:
            await getattr(self.collection, method)(*arguments, session=session)
            time_: Timestamp | None = session.operation_time
        assert time_ is not None
        return from_timestamp(time_)


@contextlib.asynccontextmanager
async def things(mongo_uri: str, database: str) -> AsyncIterator[Things]:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri, w="majority") as client:
        yield Things(client[database][THINGS.collection], client)
