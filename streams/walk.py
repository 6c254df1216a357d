"""Walking: a `touch` for every document of a collection, through the same topic as the changes.

Whoever holds the watcher's lease walks, with a producer of its own. A walk reads at or after a time that it asks for
when it begins, which is after the generation's birth was written; so whatever the generation was not told of as an
event is in what its consumers read for the touch. A walk goes on where it was when its watcher was stopped or killed;
touches that are published twice change nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NoReturn, TypeAlias

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from neverstale import cancellation, telemetry
from neverstale.errors import Outage, Retry
from neverstale.events import Rebuilt, Touch, encode, record_key
from neverstale.keys import canonical
from neverstale.loader import Loader
from neverstale.settings import Kafka
from neverstale.topic import ensure_topic
from neverstale.versions import Version, to_timestamp
from neverstale.walks import Walk, Walks
from streams.partition import partition_of
from streams.publisher import Publisher

log = telemetry.logger(__name__)

LOOK_SECONDS: Final = 0.5
"""Between two looks for requests."""
DOCUMENTS_A_BATCH: Final = 2_000
BATCH_SECONDS: Final = 30.0

Client: TypeAlias = AsyncMongoClient[dict[str, Any]]


class Walker:
    """Answers requests for walks, one after the other, while `holds` says that the watcher's lease is ours."""

    def __init__(
        self, client: Client, database: str, loader: Loader, kafka: Kafka, holds: Callable[[], bool]
    ) -> None:
        self._client = client
        self._database = database
        self._walks = Walks(client, database)
        self._loader = loader
        self._kafka = kafka
        self._holds = holds

    async def run(self) -> NoReturn:
        """Walk when asked, until cancelled."""
        while True:
            cancellation.heed()
            try:
                for walk in await self._walks.unfinished() if self._holds() else ():
                    await self._walk(walk)
            except (Retry, TimeoutError) as error:
                log.warning("walk_interrupted", reason=str(error) or type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def _walk(self, walk: Walk) -> None:
        begun = await self._loader.now()
        about = await self._loader.count(walk.collection)
        walk = replace(walk, state="walking", about=about)
        topic = await ensure_topic(self._kafka)
        log.info("walk_begins", resource=walk.resource, generation=walk.generation, about=about, passed=walk.passed)
        async with Publisher.open(self._kafka, topic.partitions) as publisher:
            publishing = asyncio.create_task(publisher.run(), name="publish-touches")
            try:
                if await self._touch_all(walk, begun, publisher):
                    log.info("walk_ends", resource=walk.resource, generation=walk.generation)
            finally:
                publishing.cancel()
                await asyncio.gather(publishing, return_exceptions=True)

    async def _touch_all(self, walk: Walk, begun: Version, publisher: Publisher) -> bool:
        """False: the walk is not wanted any more."""
        async for keys in self._keys(walk.collection, walk.last, begun):
            for key in keys:
                self._touch(walk.collection, canonical(key), begun, publisher)
            await _landed(publisher)
            telemetry.TOUCHES.labels(walk.resource).inc(len(keys))
            walk = replace(walk, last=keys[-1], passed=walk.passed + len(keys))
            if not self._holds() or not await self._walks.note(walk):
                return False
        publisher.put_everywhere(encode(Rebuilt(walk.resource, walk.generation, publisher.partitions)))
        await _landed(publisher)
        return await self._walks.note(replace(walk, state="walked"))

    def _touch(self, collection: str, key: str, version: Version, publisher: Publisher) -> None:
        record = record_key(self._database, collection, key)
        value = encode(Touch(self._database, collection, key, version))
        publisher.put(partition_of(record, publisher.partitions), record, value)

    async def _keys(self, collection: str, after: Any, begun: Version) -> AsyncIterator[Sequence[Any]]:
        """All `_id`s from `after` on, some at a time, as of `begun` or later."""
        reading = self._client[self._database].get_collection(collection, read_concern=ReadConcern("majority"))
        try:
            async with self._client.start_session(causal_consistency=True) as session:
                session.advance_operation_time(to_timestamp(begun))
                cursor = reading.find({}, {"_id": 1}, session=session, batch_size=DOCUMENTS_A_BATCH)
                # Bounds of the index, for a comparison would only find values of the same type.
                cursor = cursor.hint([("_id", 1)])
                if after is not None:
                    cursor = cursor.min([("_id", after)])
                keys: list[Any] = []
                async with cursor:
                    async for document in cursor:
                        keys.append(document["_id"])
                        if len(keys) >= DOCUMENTS_A_BATCH:
                            yield keys
                            keys = []
                if keys:
                    yield keys
        except PyMongoError as error:
            raise Outage("mongodb", f"{type(error).__name__} during a walk") from error


async def _landed(publisher: Publisher) -> None:
    """Wait until Kafka has everything that was put."""
    async with asyncio.timeout(BATCH_SECONDS):
        await publisher.flush().acknowledged
