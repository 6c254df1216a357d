"""Walking: a `touch` for every document of a collection, through the same topic as the changes.

Whoever holds the watcher's lease walks, with a producer of its own. A walk reads at or after a time that it asks for
when it first begins, which is after it was asked for. So whatever a generation of derived data was not told of as an
event is in what its consumers read for the touch; and what a resync touches is at least as new as its beginning. The
entries that it cannot touch, because their documents are gone, are voided by a floor at its end.

A walk goes on where it was when its watcher was stopped or killed; touches that are published twice change nothing.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from pymongo import AsyncMongoClient

from neverstale.bson.values import under
from neverstale.errors import KafkaRefuses, NeverstaleError, Outage, Refused, ServerRefuses, Stop
from neverstale.kafka.events import Event, Floor, Rebuilt, Touch, encode, record_key
from neverstale.kafka.partitioner import partition_of
from neverstale.kafka.topic import ensure_topic
from neverstale.keys import any_value_of, canonical
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.walks import PURPOSES, Purpose, Walk, Walks
from neverstale.role import cancellation, telemetry
from neverstale.role.retry import Patience, forever
from neverstale.role.tasks import start
from neverstale.settings import Kafka
from neverstale.streams.error_codes import ours
from neverstale.streams.publisher import Publisher
from neverstale.streams.translate import LONGEST_KEY
from neverstale.versions import Version

log = telemetry.logger(__name__)

LOOK_SECONDS: Final = 1.0
"""Between two looks for requests."""
DOCUMENTS_A_STEP: Final = 2_000
STEP_SECONDS: Final = 0.25
"""What a step takes at most if a rate is wanted: then its touches come evenly, and a stop is heeded soon."""
BATCH_SECONDS: Final = 30.0

Client: TypeAlias = AsyncMongoClient[dict[str, Any]]


@dataclass(slots=True)
class _Refused:
    """A walk that a server refuses: it is tried ever more seldom, until somebody has changed something."""

    patience: Patience
    until: float = 0.0
    """No earlier is it tried again."""


class Walker:
    """Answers requests for walks while `holds` says that the watcher's lease is ours: one rebuild and one resync at a
    time, for a resync may be slow on purpose."""

    def __init__(
        self,
        client: Client,
        database: str,
        collections: Collection[str],
        loader: Loader,
        kafka: Kafka,
        holds: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._database = database
        self._walks = Walks(client, database, kafka)
        self._collections = collections
        self._loader = loader
        self._kafka = kafka
        self._holds = holds
        self._clock = clock
        self._refused: dict[tuple[Purpose, str], _Refused] = {}

    async def run(self) -> None:
        """Walk when asked, until cancelled."""
        async with asyncio.TaskGroup() as group:
            busy: dict[Purpose, asyncio.Task[None]] = {}

            async def look() -> float:
                # Who is busy now may be done with what we are about to find before we have found it.
                idle = [purpose for purpose in PURPOSES if purpose not in busy or busy[purpose].done()]
                for purpose, walks in (await self._wanted(idle)).items():
                    busy[purpose] = start(group, self._attempt_all(walks), f"walk-{purpose}")
                return LOOK_SECONDS

            await forever(look)

    async def _wanted(self, purposes: Sequence[Purpose]) -> dict[Purpose, list[Walk]]:
        """What is to be walked of our collections; others are another watcher's."""
        wanted: dict[Purpose, list[Walk]] = {}
        if purposes and self._holds():
            try:
                for walk in await self._walks.unfinished(*purposes):
                    if walk.collection in self._collections:
                        wanted.setdefault(walk.purpose, []).append(walk)
            except NeverstaleError as error:
                log.warning("walk_interrupted", reason=str(error))
        return wanted

    async def _attempt_all(self, walks: Sequence[Walk]) -> None:
        for walk in walks:
            await self._attempt(walk)

    async def _attempt(self, walk: Walk) -> None:
        """A walk that fails is no reason to stop watching, or to leave out the others. What a server refuses is tried
        less and less often."""
        refused = self._refused.get((walk.purpose, walk.resource))
        if refused is not None and self._clock() < refused.until:
            return
        try:
            await self._walk(walk)
            self._refused.pop((walk.purpose, walk.resource), None)
        except Exception as error:
            self._failed(walk, ours(error))

    def _failed(self, walk: Walk, error: NeverstaleError) -> None:
        if isinstance(error, Stop):
            raise error
        if not isinstance(error, (Refused, ServerRefuses)):
            log.warning("walk_interrupted", resource=walk.resource, reason=str(error))
            return
        if isinstance(error, KafkaRefuses):
            telemetry.KAFKA_REFUSALS.inc()
        name = walk.purpose, walk.resource
        refused = self._refused.setdefault(name, _Refused(Patience(self._clock)))
        pause = refused.patience.pause()
        refused.until = self._clock() + pause
        log.warning("walk_refused", resource=walk.resource, reason=str(error), pause_seconds=round(pause, 2))

    async def _walk(self, walk: Walk) -> None:
        begun = walk.begun or await self._loader.now()
        about = await self._loader.count(walk.collection)
        topic = await ensure_topic(self._kafka)
        noted = await self._walks.note(replace(walk, state="walking", begun=begun, about=about))
        if noted is None:
            return
        facts = {"purpose": walk.purpose, "resource": walk.resource, "walk": walk.id}
        log.info("walk_begins", **facts, about=about, passed=walk.passed, rate=walk.rate)
        async with Publisher.open(self._kafka, topic) as publisher, asyncio.TaskGroup() as group:
            publishing = start(group, publisher.run(), "publish-touches")
            done = await self._touch_all(noted, begun, publisher)
            log.info("walk_ends" if done else "walk_left", **facts)
            publishing.cancel()

    async def _touch_all(self, walk: Walk, begun: Version, publisher: Publisher) -> bool:
        """False: the walk is not wanted any more, or not from us."""
        pace = Pace(time.monotonic)
        while self._holds():
            keys = await self._keys(walk, begun, step_of(walk.rate))
            if not keys:
                publisher.put_everywhere(encode(self._end(walk, begun, publisher.partitions)))
                await _landed(publisher)
                return await self._walks.note(replace(walk, state="walked")) is not None
            for key in keys:
                self._touch(walk, key, begun, publisher)
            await _landed(publisher)
            telemetry.TOUCHES.labels(walk.resource).inc(len(keys))
            noted = await self._walks.note(replace(walk, last_key=keys[-1], passed=walk.passed + len(keys)))
            if noted is None:
                return False
            walk = noted
            await asyncio.sleep(pace.pause(len(keys), walk.rate))
            cancellation.heed()
        return False

    def _touch(self, walk: Walk, key: str, begun: Version, publisher: Publisher) -> None:
        record = record_key(self._database, walk.collection, key)
        value = encode(Touch(self._database, walk.collection, key, begun, entries=walk.purpose == "resync"))
        if len(key) > LONGEST_KEY or len(record) + len(value) > publisher.largest_record:
            log.warning("touch_left_out", reason="a key is too long to publish", collection=walk.collection)
            return
        publisher.put(partition_of(record, publisher.partitions), record, value)

    def _end(self, walk: Walk, begun: Version, partitions: int) -> Event:
        if walk.purpose == "rebuild":
            return Rebuilt(walk.resource, walk.id, partitions)
        return Floor(self._database, walk.collection, begun, "resync", lost=False)

    async def _keys(self, walk: Walk, begun: Version, count: int) -> Sequence[str]:
        """The next documents' canonical keys, as of `begun` or later.

        A query for each step: a cursor would run out while a slow walk waits, and could not be resumed.
        """
        # Bounds of the index, for a comparison would only find values of the same type.
        command = {"find": walk.collection, "projection": {"_id": 1}, "hint": {"_id": 1}}
        if walk.last_key is None:
            return await self._ids(command, begun, count)
        # The lower bound is inclusive; what it names may be gone by now.
        keys = await self._ids(command | {"min": under("_id", any_value_of(walk.last_key))}, begun, count + 1)
        return keys[1:] if keys and keys[0] == walk.last_key else keys[:count]

    async def _ids(self, command: dict[str, Any], begun: Version, count: int) -> list[str]:
        found = await self._loader.query({**command, "limit": count, "batchSize": count + 1}, begun)
        if not found.kind.bounded:
            # What is derived from it would never be brought up to date.
            reason = found.kind.why(command["find"]) or ""
            raise Refused(None, found.kind.type, "collection", reason, heals=False)
        return [canonical(one["_id"]) for one in found.rows]


def step_of(rate: float | None) -> int:
    """How many documents to touch before the next look at the request."""
    return DOCUMENTS_A_STEP if rate is None else max(1, min(DOCUMENTS_A_STEP, int(rate * STEP_SECONDS)))


class Pace:
    """Spreads documents over time. What a step took itself is taken off its pause; time lost is not made up for, or
    a walk would run after an outage as if there were no limit."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due = clock()

    def pause(self, documents: int, rate: float | None) -> float:
        """Seconds to wait after so many documents."""
        now = self._clock()
        if rate is None:
            self._due = now
            return 0.0
        self._due = max(self._due + documents / rate, now)
        return self._due - now


async def _landed(publisher: Publisher) -> None:
    """Wait until Kafka has everything that was put. `Outage` if that takes long."""
    try:
        async with asyncio.timeout(BATCH_SECONDS):
            await publisher.flush().acknowledged
    except TimeoutError:
        raise Outage("kafka", f"no batch of a walk was acknowledged for {BATCH_SECONDS:.0f} s") from None
