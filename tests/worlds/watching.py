"""A watcher in this process, and a reader of everything that it publishes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pymongo import AsyncMongoClient

from neverstale.kafka.events import Change, Event, Floor, Mark, decode
from neverstale.role.service import Health
from neverstale.servers import mongo_client
from neverstale.settings import Kafka, MongoDB, Settings, WatcherSettings
from neverstale.streams.translate import Watched
from neverstale.streams.watcher import Watcher
from neverstale.versions import Version, from_timestamp
from tests.support.waiting import eventually

PARTITIONS: Final = 4
"""As many as the embedded broker gives every topic."""
DEADLINE_SECONDS: Final = 30.0
COLLECTION: Final = "flights"

Client = AsyncMongoClient[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a watcher reads and writes."""

    mongo_uri: str
    kafka_servers: str
    database: str
    topic: str

    def settings(self, **watcher: Any) -> Settings:
        return Settings(
            mongodb=MongoDB.model_validate({"uri": self.mongo_uri}),
            kafka=Kafka(
                bootstrap_servers=self.kafka_servers,
                topic=self.topic,
                partitions=PARTITIONS,
                request_timeout_ms=3000,
            ),
            watcher=WatcherSettings(
                **{"checkpoint_interval_ms": 20, "heartbeat_ms": 200, "lease_ms": 1000, **watcher}
            ),
        )


@dataclass(frozen=True, slots=True)
class Record:
    partition: int
    offset: int
    key: bytes | None
    event: Event


@dataclass
class Published:
    """What a topic holds, as far as it was read."""

    consumer: AIOKafkaConsumer
    topic: str
    records: list[Record] = field(default_factory=list)
    _assigned: set[int] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def reading(cls, place: Place) -> AsyncIterator["Published"]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=place.kafka_servers,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            metadata_max_age_ms=200,
        )
        await consumer.start()
        try:
            yield cls(consumer, place.topic)
        finally:
            await consumer.stop()

    async def until(self, condition: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
        """Read on until the condition holds."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, f"not in time; read: {self.records[-10:]}"
            await self._fetch()

    async def _fetch(self) -> None:
        known = self.consumer.partitions_for_topic(self.topic) or set()
        if known - self._assigned:
            partitions = [TopicPartition(self.topic, number) for number in sorted(known)]
            self.consumer.assign(partitions)
            for partition in partitions:
                self.consumer.seek(partition, self._read_of(partition.partition))
            self._assigned = known
        if not self._assigned:
            await self.consumer.topics()
            return
        for partition, fetched in (await self.consumer.getmany(timeout_ms=100)).items():
            self.records += [
                Record(partition.partition, record.offset, record.key, decode(record.value)) for record in fetched
            ]

    def _read_of(self, partition: int) -> int:
        return max((record.offset + 1 for record in self.records if record.partition == partition), default=0)

    @property
    def changes(self) -> list[Change]:
        return [record.event for record in self.records if isinstance(record.event, Change)]

    @property
    def versions(self) -> set[Version]:
        """Of all changes."""
        return {change.version for change in self.changes}

    @property
    def marks(self) -> list[Mark]:
        return [record.event for record in self.records if isinstance(record.event, Mark)]

    @property
    def floors(self) -> list[Floor]:
        return [record.event for record in self.records if isinstance(record.event, Floor)]

    def seen(self, key: str) -> list[Change]:
        """The changes of one document, in the order of its partition."""
        return [change for change in self.changes if change.key == key]

    def of_partition(self, partition: int) -> list[Event]:
        return [record.event for record in self.records if record.partition == partition]


async def real_broker(place: Place) -> AIOKafkaAdminClient:
    """A started administrator's client; skips the test on the embedded broker, which can neither change nor
    delete topics and forgets them when it stops."""
    admin = AIOKafkaAdminClient(bootstrap_servers=place.kafka_servers)
    await admin.start()
    if str((await admin.describe_cluster())["cluster_id"]).startswith("mockCluster"):
        await admin.close()
        pytest.skip("the embedded broker cannot do this")
    return admin


@dataclass
class Running:
    """A watcher that runs in this process."""

    task: asyncio.Task[None]
    stop: asyncio.Event
    health: Health

    async def stopped(self) -> None:
        """Stop it as SIGTERM does, and wait."""
        self.stop.set()
        await self.task

    async def killed(self) -> None:
        """End it where it stands, without any of the care that a stop takes."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def watching(
    place: Place,
    *collections: str,
    settings: Settings | None = None,
    grouping: Mapping[str, tuple[str, ...]] | None = None,
) -> AsyncIterator[Running]:
    """A watcher of these collections, killed at the end if it still runs. `grouping`: see `Watched`."""
    settings = settings or place.settings()
    async with mongo_client(settings.mongodb) as client:
        stop, health = asyncio.Event(), Health()
        watched = Watched(place.database, collections, grouping or {})
        watcher = Watcher(settings, watched, client.get_database(place.database), health)
        running = Running(asyncio.create_task(watcher.run(stop)), stop, health)
        try:
            yield running
            assert not running.task.done() or stop.is_set() or running.task.cancelled() or running.task.result()
        finally:
            await running.killed()


async def write(client: Client, place: Place, key: str) -> Version:
    """Change one document; the version of the change, which a majority has acknowledged."""
    update = {"q": {"_id": key}, "u": {"$inc": {"n": 1}}, "upsert": True}
    command = {"update": COLLECTION, "updates": [update], "writeConcern": {"w": "majority"}}
    reply = await client[place.database].command(command)
    return from_timestamp(reply["opTime"]["ts"])


async def stored(client: Client, place: Place) -> dict[str, Any] | None:
    return await client[place.database]["neverstale.control"].find_one({"_id": "checkpoint:default"})


async def until_stored(client: Client, place: Place, version: Version) -> None:
    async def reached() -> bool:
        found = await stored(client, place)
        # What a test has put there itself has none.
        return found is not None and "version" in found and from_timestamp(found["version"]) >= version

    await eventually(reached, "a position at or behind the version is stored", 30)
