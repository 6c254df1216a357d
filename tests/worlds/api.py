"""What the tests of the API share: the app on real MongoDB and Redis, and what consumers would tell its cache."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx
from fastapi import FastAPI
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from redis.asyncio import Redis

from neverstale import settings as sections
from neverstale.api.app import create_app
from neverstale.api.freshness.groups import GroupedFreshness
from neverstale.api.reads.answer import AUDIT
from neverstale.api.reads.reader import Reader
from neverstale.api.reads.source import DocumentSource
from neverstale.api.state import State
from neverstale.catalog import Catalog
from neverstale.keys import KeyValue, Names, canonical
from neverstale.mongodb.loader import Loader
from neverstale.redis.corrections import Corrections
from neverstale.redis.entries import Entry
from neverstale.role import telemetry
from neverstale.servers import mongo_client, redis_client
from neverstale.settings import Settings
from neverstale.versions import Version, from_timestamp, to_hex
from tests.support.opened import opened_by, ordinary
from tests.support.waiting import eventually

RESOURCES: dict[str, Any] = {
    "things": {"key_type": "string", "on_change": "auto"},
    "numbers": {"key_type": "int", "on_change": "invalidate", "fields": {"name": "string", "size": "int"}},
    "objects": {"key_type": "objectid"},
    "tokens": {"key_type": "uuid"},
}
PARTITIONS = 4
PATIENT_MS = 5000
"""On a busy machine Redis may take long to answer; only tests of outages are in a hurry."""


def catalog_of(database: str) -> Catalog:
    return Catalog.model_validate({"database": database, "resources": RESOURCES})


def settings_of(mongo_uri: str, redis_url: str, prefix: str, **api: Any) -> Settings:
    return Settings(
        mongodb=sections.MongoDB(uri=SecretStr(mongo_uri)),
        redis=sections.RedisSettings(
            url=SecretStr(redis_url), prefix=prefix, read_timeout_ms=PATIENT_MS, connect_timeout_ms=PATIENT_MS
        ),
        api=sections.Api(**{"public_pages": "all", **api}),
    )


@dataclass
class World:
    """The app runs, and the test plays writers and consumers."""

    app: FastAPI
    state: State
    http: httpx.AsyncClient
    settings: Settings
    catalog: Catalog
    mongo: AsyncMongoClient[dict[str, Any]]
    redis: Redis
    cache: Corrections
    loader: Loader

    @classmethod
    @asynccontextmanager
    async def of(cls, settings: Settings, catalog: Catalog, *, established: bool = True) -> AsyncIterator[Self]:
        app = create_app(settings, catalog)
        patient = _patient(settings)
        redis = redis_client(patient.redis, timeout_ms=PATIENT_MS)
        cache = Corrections(redis, Names(settings.redis.prefix))
        try:
            async with (
                mongo_client(patient.mongodb) as mongo,
                opened_by(app) as state,
                contextlib.AsyncExitStack() as stack,
            ):
                transport = httpx.ASGITransport(ordinary(app, state), raise_app_exceptions=False)
                http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://api"))
                loader = Loader(mongo, catalog.database, PATIENT_MS)
                for collection in catalog.collections:
                    with contextlib.suppress(OperationFailure):  # it exists
                        await mongo[catalog.database].command({"create": collection})
                world = cls(app, state, http, settings, catalog, mongo, redis, cache, loader)
                if established:
                    await cache.establish(catalog.collections, loader.now)
                yield world
        finally:
            await redis.aclose()

    @property
    def reader(self) -> Reader:
        return self.state.reader

    @property
    def freshness(self) -> GroupedFreshness:
        return self.state.freshness

    @property
    def documents(self) -> Mapping[str, DocumentSource]:
        """By resource."""
        return self.state.sources.documents

    @property
    def things(self) -> DocumentSource:
        return self.documents["things"]

    # --- writers

    async def write(self, resource: str, *documents: dict[str, Any]) -> Version:
        """Put documents into the resource's collection; answers the version of the last write."""
        collection = self.mongo[self.catalog.database][self.catalog.resources[resource].collection]
        async with self.mongo.start_session() as session:
            for document in documents:
                await collection.replace_one({"_id": document["_id"]}, document, upsert=True, session=session)
            assert session.operation_time is not None
            return from_timestamp(session.operation_time)

    async def remove(self, resource: str, key: KeyValue) -> Version:
        collection = self.mongo[self.catalog.database][self.catalog.resources[resource].collection]
        async with self.mongo.start_session() as session:
            await collection.delete_one({"_id": key}, session=session)
            assert session.operation_time is not None
            return from_timestamp(session.operation_time)

    # --- consumers

    def entry_key(self, resource: str, key: KeyValue) -> bytes:
        return self.cache.names.entry(resource, canonical(key))

    async def apply(self, resource: str, keys: Sequence[KeyValue], version: Version, refresh: str = "n") -> None:
        """What a consumer does about changes of these keys."""
        entries = [self.entry_key(resource, key) for key in keys]
        told = [item for _ in entries for item in (to_hex(version), refresh)]
        floors = {self.catalog.resources[resource].collection: 0}
        await self.cache.invalidate(version, entries, told, floors, 2000)

    async def raise_floor(self, resource: str, version: Version) -> None:
        await self.cache.invalidate(version, [], [], {self.catalog.resources[resource].collection: version}, 2000)

    async def mark(self, version: Version | None = None, wall_ms: int | None = None) -> Version:
        """All partitions have applied everything up to `version` (default: now); waits until the API knows."""
        version = await self.loader.now() if version is None else version
        identity = await self.cache.identity()
        wall = await self.primary_ms() if wall_ms is None else wall_ms
        marks = dict.fromkeys(range(PARTITIONS), (version, wall))
        await self.cache.set_watermarks(self.settings.kafka.group, identity, PARTITIONS, marks)

        async def known() -> bool:
            mark = self.freshness.watermark
            return mark is not None and mark >= version and self.freshness.bound(mark) is not None

        await eventually(known, "the API knows the watermark and the primary's clock")
        return version

    async def primary_ms(self) -> int:
        reply = await self.mongo.admin.command("hello")
        return int(reply["localTime"].timestamp() * 1000)

    # --- what is seen

    async def entry(self, resource: str, key: KeyValue) -> Entry | None:
        declared = self.catalog.resources[resource]
        _, (entry,) = await self.cache.read(declared.collection, [self.entry_key(resource, key)], declared.shows)
        return entry

    async def until_filled(self, resource: str, key: KeyValue) -> Entry:
        """Fills follow their answers. Of a collection that was made just now the first read is not kept, since what
        kind it is was not known before: then it is asked for again, as an auditor asks, which counts as no read."""
        held: list[Entry] = []

        async def filled() -> bool:
            entry = await self.entry(resource, key)
            if entry is None:
                await self.reader.get(self.documents[resource], key, AUDIT)
            held.extend([entry] if entry and entry.fresh else [])
            return bool(held)

        await eventually(filled, f"{key!r} is filled")
        return held[0]


def _patient(settings: Settings) -> Settings:
    """The same servers for the test itself, which is in no hurry."""
    redis = settings.redis.model_copy(update={"connect_timeout_ms": PATIENT_MS})
    mongodb = settings.mongodb.model_copy(update={"server_selection_timeout_ms": PATIENT_MS})
    return settings.model_copy(update={"redis": redis, "mongodb": mongodb})


def loads(resource: str) -> float:
    """Snapshot reads of MongoDB so far."""
    return _value("neverstale_loads_total", resource=resource)


def reads(resource: str, how: str) -> float:
    return _value("neverstale_reads_total", resource=resource, how=how)


def _value(name: str, **labels: str) -> float:
    return telemetry.REGISTRY.get_sample_value(name, labels) or 0.0
