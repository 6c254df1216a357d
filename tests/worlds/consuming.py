"""What the tests of consumers share: records into Kafka, entries into Redis, a consumer in between."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from neverstale.catalog import Catalog, Resource
from neverstale.consumers.main import live
from neverstale.errors import Outage
from neverstale.kafka import events
from neverstale.kafka.events import Change, Event, Mark
from neverstale.kafka.topic import ensure_topic
from neverstale.keys import Names, canonical, value_of
from neverstale.mongodb.loader import Loader
from neverstale.redis.cache import Cache, Fill
from neverstale.redis.entries import Entry
from neverstale.redis.watermarks import Watermark
from neverstale.role.service import Health, Life
from neverstale.servers import mongo_client, redis_client
from neverstale.settings import Settings
from neverstale.versions import Version
from tests.support.waiting import eventually

PARTITIONS: Final = 4
PATIENCE_MS: Final = 20_000
"""Of clients that are not what is tested; a busy machine may take its time."""
MARK_SECONDS: Final = 0.3
DRAIN_SECONDS: Final = 15.0


def catalog_of(database: str) -> Catalog:
    """One resource of each way to treat a change."""
    ways = {"quiet": "invalidate", "eager": "refresh", "clever": "auto"}
    resources = {name: {"key_type": "string", "on_change": on_change} for name, on_change in ways.items()}
    resources["numbers"] = {"key_type": "int", "on_change": "invalidate"}
    return Catalog.model_validate({"database": database, "resources": resources})


def settings_of(mongo_uri: str, kafka_servers: str, redis_url: str, topic: str, redis_prefix: str) -> Settings:
    """Quick to notice and to commit; each test has a topic, a group and a prefix of its own."""
    return Settings.model_validate(
        {
            "mongodb": {"uri": mongo_uri, "read_timeout_ms": PATIENCE_MS, "server_selection_timeout_ms": PATIENCE_MS},
            "kafka": {
                "bootstrap_servers": kafka_servers,
                "topic": topic,
                "group": topic,
                "fetch_max_wait_ms": 100,
                "session_timeout_ms": 6000,
                "partitions": PARTITIONS,
            },
            "redis": {"url": redis_url, "prefix": redis_prefix},
            "consumer": {"commit_interval_ms": 50},
            "api": {"public_pages": "all"},
        }
    )


def partition_of(key: str) -> int:
    """One document lives on one partition."""
    return sum(key.encode()) % PARTITIONS


def running_life() -> Life:
    return Life("consumer", "test", asyncio.Event(), Health(), "")


@dataclass(frozen=True)
class Consuming:
    """Real servers, as seen by a test."""

    settings: Settings
    catalog: Catalog
    redis: Redis
    mongo: AsyncMongoClient[dict[str, Any]]
    producer: AIOKafkaProducer
    cache: Cache
    loader: Loader

    @classmethod
    @asynccontextmanager
    async def with_topic(cls, settings: Settings, catalog: Catalog) -> AsyncIterator[Self]:
        """Clients, and the topic with its partitions."""
        servers = settings.kafka.bootstrap_servers
        await ensure_topic(settings.kafka)
        redis = redis_client(settings.redis, timeout_ms=PATIENCE_MS)
        producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True, linger_ms=0)
        await producer.start()
        try:
            async with mongo_client(settings.mongodb) as mongo:
                cache = Cache(redis, Names(settings.redis.prefix))
                loader = Loader(mongo, catalog.database, settings.mongodb.read_timeout_ms)
                yield cls(settings, catalog, redis, mongo, producer, cache, loader)
        finally:
            await producer.stop()
            await redis.aclose()

    @classmethod
    @asynccontextmanager
    async def seeing(cls, other: Self, settings: Settings) -> AsyncIterator[Self]:
        """The same with another Redis."""
        redis = redis_client(settings.redis, timeout_ms=PATIENCE_MS)
        try:
            cache = Cache(redis, Names(settings.redis.prefix))
            yield replace(other, settings=settings, redis=redis, cache=cache)
        finally:
            await redis.aclose()

    @property
    def partitions(self) -> list[TopicPartition]:
        return [TopicPartition(self.settings.kafka.topic, number) for number in range(PARTITIONS)]

    # --- MongoDB

    async def write(self, resource: str, key: str, number: int = 0) -> Change:
        """Write a document and answer the change that the watcher would publish for it."""
        collection = self.mongo[self.catalog.database][resource]
        await collection.replace_one({"_id": value_of(key)}, {"number": number}, upsert=True)
        return await self.change(resource, key)

    async def change(self, resource: str, key: str) -> Change:
        """A change of now."""
        return Change("replace", self.catalog.database, resource, key, await self.loader.now(), 1000, None)

    async def mark(self, term: int = 1) -> Mark:
        return Mark(await self.loader.now(), 1000, PARTITIONS, term)

    # --- Kafka

    async def publish(self, *given: Event | bytes | None) -> None:
        """Changes go to their document's partition, everything else to all."""
        sent = []
        for event in given:
            if isinstance(event, Change):
                sent.append(await self._send(partition_of(event.key), event))
            else:
                sent += [await self._send(number, event) for number in range(PARTITIONS)]
        await asyncio.gather(*sent)

    async def _send(self, partition: int, event: Event | bytes | None) -> asyncio.Future[Any]:
        value = event if isinstance(event, bytes | None) else events.encode(event)
        key = events.record_key(event.database, event.collection, event.key) if isinstance(event, Change) else None
        future: asyncio.Future[Any] = await self.producer.send(
            self.settings.kafka.topic, value, key=key, partition=partition
        )
        return future

    async def committed(self) -> dict[int, int]:
        """Partition -> committed offset, of those that have one."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka.bootstrap_servers)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(self.settings.kafka.group, partitions=self.partitions)
        finally:
            await admin.close()
        return {partition.partition: held.offset for partition, held in found.items() if held.offset >= 0}

    async def ends(self) -> dict[int, int]:
        """Partition -> the offset that the next record will have."""
        async with AIOKafkaConsumer(bootstrap_servers=self.settings.kafka.bootstrap_servers) as consumer:
            found = await consumer.end_offsets(self.partitions)
        return {partition.partition: offset for partition, offset in found.items()}

    async def all_committed(self) -> bool:
        """Whether nothing that was published is left to do."""
        return await self.committed() == await self.ends()

    async def rewind(self, offset: int = 0) -> None:
        """Let the group, whose members have left, begin again. Only a member can do that on every broker."""
        kafka = self.settings.kafka
        async with AIOKafkaConsumer(
            kafka.topic, bootstrap_servers=kafka.bootstrap_servers, group_id=kafka.group, enable_auto_commit=False
        ) as member:
            await member.commit(dict.fromkeys(self.partitions, offset))

    # --- Redis

    def key(self, resource: str, key: str) -> bytes:
        return self.cache.names.entry(resource, key)

    async def entry(self, resource: str, key: str) -> Entry | None:
        _, (entry,) = await self.cache.read(
            resource, [self.key(resource, key)], self.catalog.resources[resource].shows
        )
        return entry

    async def states(self, resource: str, keys: Sequence[str]) -> list[str | None]:
        _, found = await self.cache.read(
            resource, [self.key(resource, key) for key in keys], self.catalog.resources[resource].shows
        )
        return [entry.state.name if entry else None for entry in found]

    async def fill(self, resource: str, *keys: str) -> Version:
        """Read and fill, as a reader does; answers the version that was read."""
        declared: Resource = self.catalog.resources[resource]
        entries = [self.key(resource, key) for key in keys]
        leases = await self.cache.lease(declared.collection, entries, 0, 5000, declared.shows)
        snapshot = await self.loader.load(declared, [value_of(key) for key in keys], leases.applied or 0)
        fills = [
            Fill(entry, leases.token, snapshot.version, snapshot.bodies.get(key), 600_000, declared.shows)
            for entry, key in zip(entries, keys, strict=True)
        ]
        assert await self.cache.fill(fills) == ["filled"] * len(keys)
        return snapshot.version

    async def watermarks(self) -> Mapping[int, Watermark]:
        """Those that count on the Redis that is here now."""
        marks = await self.cache.watermarks(self.settings.kafka.group)
        return {partition: mark for partition, mark in marks.by_partition.items() if mark.identity == marks.identity}

    async def floor(self, collection: str) -> Version | None:
        floor, _ = await self.cache.read(collection, [])
        return floor

    async def until_applied(self, seconds: float = 30.0) -> None:
        """Publish marks until one was applied on every partition: then everything before it was, too."""
        wanted, again = 0, 0.0

        async def applied() -> bool:
            nonlocal wanted, again
            if time.monotonic() > again:  # a mark leaves no watermark while the Redis is not adopted yet
                mark = await self.mark()
                await self.publish(mark)
                wanted, again = wanted or mark.version, time.monotonic() + MARK_SECONDS
            with suppress(Outage):
                held = (await self.watermarks()).values()
                return len(held) == PARTITIONS and all(each.version >= wanted for each in held)
            return False

        await eventually(applied, "everything published is applied", seconds)

    async def until_known(self, collection: str, above: Version = 0) -> None:
        """Return when the collection's floor is known and higher."""

        async def known() -> bool:
            return (await self.floor(collection) or 0) > above

        await eventually(known, f"the floor of {collection} is above {above}")

    async def until_some_applied(self, resource: str, keys: Sequence[str], count: int) -> None:
        """Return as soon as `count` of the entries are stale, or more."""

        async def some() -> bool:
            return (await self.states(resource, keys)).count("STALE") >= count

        await eventually(some, f"{count} entries are stale")

    # --- the consumer

    @asynccontextmanager
    async def consumer(self, settings: Settings | None = None) -> AsyncIterator[Life]:
        """A consumer that has joined; drained at the end."""
        life = running_life()
        task = asyncio.create_task(live(settings or self.settings, self.catalog, life))
        try:
            await _until_joined(life, task)
            yield life
        finally:
            life.stop.set()
            async with asyncio.timeout(DRAIN_SECONDS):
                await task


async def _until_joined(life: Life, task: asyncio.Task[None]) -> None:
    async def joined() -> bool:
        if task.done():
            task.result()
        return life.health.parts.get("kafka", "") is None

    await eventually(joined, "the consumer has joined its group", 30.0)


def text(number: int) -> str:
    return canonical(f"key-{number}")
