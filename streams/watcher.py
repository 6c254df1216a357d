"""The watcher's life: open, read, recover.

Whatever goes wrong, there is one way back: close everything, and open everything again from the stored
position. What had been published behind it is published once more, which changes nothing.
"""

import asyncio
import contextlib
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from aiokafka.errors import MessageSizeTooLargeError

from neverstale.errors import KafkaRefuses, Outage, PositionLost, Retry, ServerRefuses, Stop
from neverstale.kafka.events import Floor
from neverstale.kafka.producer import LARGEST_BATCH_BYTES
from neverstale.kafka.topic import LEAST_BATCH_BYTES, Topic, ensure_topic
from neverstale.role import cancellation, telemetry
from neverstale.role.retry import Patience, Unwanted, Wanted, until_done
from neverstale.role.service import Health
from neverstale.role.tasks import start
from neverstale.settings import Settings
from neverstale.streams.acks import Acks
from neverstale.streams.checkpoint import Checkpoint, Position
from neverstale.streams.cursor import After, At, Database, StreamCursor, present_time
from neverstale.streams.error_codes import ours
from neverstale.streams.guard import Guard
from neverstale.streams.heartbeat import Heart
from neverstale.streams.lease import POLL_SECONDS, Lease
from neverstale.streams.mark_pacer import MarkPacer
from neverstale.streams.pipeline import pipeline
from neverstale.streams.publisher import Publisher
from neverstale.streams.recorder import Recorder
from neverstale.streams.stream import Stream
from neverstale.streams.translate import Watched
from neverstale.versions import Version, of_resume_token, to_hex

log = telemetry.logger(__name__)

LEAST_PAUSE_SECONDS: Final = 0.1
MOST_PAUSE_SECONDS: Final = 5.0
MOST_LOSSES: Final = 3
"""So many positions may be lost one after the other without any progress in between."""

FIRST_PATIENCE_SECONDS: Final = 30.0
DRAIN_SHARE: Final = 0.8
"""So much of the drain deadline is for waiting; the rest is for closing."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where to open the stream, and why consumers must not trust what they have, if so."""

    position: Position | None
    """`None`: at the present time."""
    floor_reason: str | None
    joined: frozenset[str] = frozenset()
    """Collections that were not watched up to this position: what changed in them before it, this topic does not
    tell. They came from another group of watchers, or are new in the catalog."""


def plan(stored: Position | None, topic: Topic, lost: str | None, collections: Collection[str] = ()) -> Start:
    """Where to start with these collections, from what is stored, what the topic looks like and why the last stream
    was lost."""
    if lost is not None:
        return Start(None, lost)
    if stored is None:
        return Start(None, "no position is stored")
    known = stored.topic is not None and topic.id is not None
    if topic.created or (known and stored.topic != topic.id):
        return Start(stored, "the topic was created again")
    if stored.partitions != topic.partitions:
        return Start(stored, f"the topic has {topic.partitions} partitions instead of {stored.partitions}")
    watched = collections if stored.collections is None else stored.collections
    return Start(stored, None, frozenset(collections).difference(watched))


@dataclass
class Watcher:
    """Everything that outlives one stream."""

    settings: Settings
    watched: Watched
    database: Database
    health: Health
    lease: Lease = field(init=False)
    _pause_seconds: float = field(default=LEAST_PAUSE_SECONDS, init=False)
    _patience_seconds: float = field(default=FIRST_PATIENCE_SECONDS, init=False)
    """How long a `getMore` may be overdue. It doubles without progress: the server may be searching the oplog."""
    _lost: str | None = field(default=None, init=False)
    """Why the stored position cannot be used."""
    _losses: int = field(default=0, init=False)
    _patience: Patience = field(default_factory=Patience, init=False)
    """How long to wait where a server refuses for good."""
    _checkpoint: Checkpoint | None = field(default=None, init=False)
    """Of the stream that is being read; `None`: there is none."""
    _fitting_bytes: int = field(default=LARGEST_BATCH_BYTES, init=False)
    """What the topic may take, where the broker does not tell us."""

    def __post_init__(self) -> None:
        watcher = self.settings.watcher
        self.lease = Lease(self.database, watcher.group, watcher.lease_ms, watcher.watches)

    @property
    def position(self) -> Version | None:
        """Of the last position that is stored by this watcher; `None`: it does not lead."""
        stored = self._checkpoint.stored if self._checkpoint is not None else None
        return None if stored is None else stored.version

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop` is set. `Stop` if only a human can help."""
        self.health.wrong("mongodb", "connecting")
        self.health.wrong("kafka", "connecting")
        with contextlib.suppress(Unwanted):
            await until_done(partial(self._watch_until, stop), Wanted(stop), self._judge)
        await self.lease.release()

    async def _watch_until(self, stop: asyncio.Event) -> None:
        """Every error leaves as one of ours, if it is none of those that nobody knows."""
        while not stop.is_set():
            try:
                await self._watch(stop)
            except Exception as error:
                found = ours(error)
                raise found from found.__cause__

    def _judge(self, error: Retry) -> float:
        """Note what went wrong, and say how long to wait before going on; raise if going on does not help."""
        server = error.server if isinstance(error, Outage | ServerRefuses) else "none"
        if isinstance(error, Outage):
            self.health.wrong(error.server, error.reason)
        if isinstance(error, ServerRefuses):
            self.health.wrong(error.server, str(error))
        if isinstance(error, KafkaRefuses):
            telemetry.KAFKA_REFUSALS.inc()
            if isinstance(error.__cause__, MessageSizeTooLargeError):
                self._fitting_bytes = max(self._fitting_bytes // 2, LEAST_BATCH_BYTES)
        if isinstance(error, PositionLost):
            self._lose(error)
        telemetry.WATCHER_RECOVERIES.labels(server).inc()
        pause = self._patience.pause() if isinstance(error, ServerRefuses) else self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, MOST_PAUSE_SECONDS)
        log.warning("watcher_recovers", reason=str(error), pause_seconds=round(pause, 2))
        return pause

    def _lose(self, error: PositionLost) -> None:
        self._lost = str(error)
        self._losses += 1
        telemetry.POSITION_LOST.inc()
        if self._losses > MOST_LOSSES:
            raise Stop(f"the position was lost {self._losses} times without any progress: {error}")

    async def _watch(self, stop: asyncio.Event) -> None:
        """One stream, from opening it to `stop`, an `invalidate` event or an error."""
        settings = self.settings
        topic = await ensure_topic(settings.kafka)
        if topic.max_message_bytes is None:
            topic = replace(topic, max_message_bytes=self._fitting_bytes)
        self._look_at(topic)
        await self._stand_by(stop)
        if stop.is_set():
            return
        checkpoint = Checkpoint(self.database, settings.watcher.group, self.lease.term)
        async with AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(Publisher.open(settings.kafka, topic))
            start = plan(await checkpoint.load(), topic, self._lost, self.watched.collections)
            checkpoint.term = await self.lease.outrank(checkpoint.found_term)
            cursor, floors = await self._open(stack, start)
            stack.callback(self._note_progress, checkpoint, publisher, of_resume_token(cursor.token["_data"]))
            interval_seconds = settings.watcher.mark_interval_ms / 1000
            marks = MarkPacer(topic.partitions, checkpoint.term, interval_seconds, topic.id, self.watched.collections)
            stream = Stream(
                settings.watcher,
                self.watched,
                cursor,
                publisher,
                Recorder(self.watched, topic.partitions, publisher.largest_record),
                Acks(settings.watcher.max_in_flight_batches, checkpoint.reached),
                marks,
                Heart(self.database, settings.watcher, marks),
            )
            stream.put_floors(floors)
            await self._read(stream, checkpoint, stop)

    async def _stand_by(self, stop: asyncio.Event) -> None:
        """Wait for the lease, or for `stop`. A standby that could take over at any time is ready."""
        self.health.ok("kafka")
        standing_by = False
        while not stop.is_set() and not await self.lease.acquire():
            self.health.ok("mongodb")
            if not standing_by:
                log.info("standing_by", reason="another watcher of the group holds the lease")
                standing_by = True
            await _until(stop, POLL_SECONDS)
        self.health.ok("mongodb")

    async def _open(self, stack: AsyncExitStack, start: Start) -> tuple[StreamCursor, list[Floor]]:
        """The stream, and the floors to publish before anything that it delivers."""
        if (position := start.position) is not None:
            try:
                cursor = await self._cursor(stack, After(position.token))
                return cursor, await self._opened("resumed", start, position.version)
            except PositionLost as error:
                self._lose(error)
                start = Start(None, str(error))
        now = await present_time(self.database)
        return await self._cursor(stack, At(now)), await self._opened("now", start, now)

    async def _cursor(self, stack: AsyncExitStack, where: After | At) -> StreamCursor:
        stages = pipeline(self.watched.collections, self.watched.paths)
        return await stack.enter_async_context(StreamCursor.open(self.database, stages, where, self.settings.watcher))

    async def _opened(self, how: str, start: Start, version: Version) -> list[Floor]:
        """Say how the stream was opened; the floors that this asks for.

        A floor at the time of the opening or later voids whatever the consumers may not have been told: what
        is read from then on contains every change before it, and the stream delivers every change from then on.
        """
        telemetry.STREAM_OPENED.labels(how).inc()
        log.info("stream_opened", how=how, at=to_hex(version), floor=start.floor_reason, joined=sorted(start.joined))
        if start.floor_reason is None and not start.joined:
            return []
        at = version if start.position is None else await present_time(self.database)
        if start.floor_reason is None:
            return self.watched.some_floors(start.joined, at, "watched from now on")
        return self.watched.every_floor(at, start.floor_reason)

    async def _read(self, stream: Stream, checkpoint: Checkpoint, stop: asyncio.Event) -> None:
        """Run the stream and all that accompanies it; then wait for what is on its way, and store where it ends."""
        guard = Guard(
            self.health,
            stream.cursor,
            stream.publisher,
            self._patience_seconds,
            self.settings.kafka.request_timeout_ms / 1000,
        )
        interval_seconds = self.settings.watcher.checkpoint_interval_ms / 1000
        cancellation.heed()  # opening everything took many steps of clients
        self._checkpoint = checkpoint
        async with asyncio.TaskGroup() as group:
            reading = start(group, stream.run(), "read")
            stopping = start(group, stop.wait(), "await-stop")
            company: list[asyncio.Task[Any]] = [
                stopping,
                start(group, stream.publisher.run(), "publish"),
                start(group, stream.acks.run(), "acks"),
                start(group, stream.heart.run(), "heart"),
                start(group, checkpoint.run(interval_seconds), "checkpoint"),
                start(group, guard.run(), "guard"),
                start(group, self.lease.keep(), "lease"),
            ]
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            reading.cancel()
            await asyncio.wait({reading})
            await self._drain(stream, checkpoint)
            for task in company:
                task.cancel()

    async def _drain(self, stream: Stream, checkpoint: Checkpoint) -> None:
        """Wait until Kafka has everything, then store the position; not for ever."""
        try:
            async with asyncio.timeout(self.settings.service.drain_seconds * DRAIN_SHARE):
                await stream.acks.landed()
                await checkpoint.save()
        except TimeoutError:
            log.warning("drain_given_up", reason="Kafka or MongoDB is silent; the rest will be published again")

    def _note_progress(self, checkpoint: Checkpoint, publisher: Publisher, opened_at: Version) -> None:
        self._checkpoint = None
        if checkpoint.stored is not None:
            self._lost = None
            if publisher.acknowledged:  # a position can be stored although Kafka takes nothing
                self._pause_seconds = LEAST_PAUSE_SECONDS
            self._patience_seconds = FIRST_PATIENCE_SECONDS
            if checkpoint.stored.version > opened_at:
                self._losses = 0
        else:
            self._patience_seconds *= 2

    def _look_at(self, topic: Topic) -> None:
        if topic.complaint is None:
            self.health.ok("topic")
        elif self.health.parts.get("topic") != topic.complaint:
            self.health.wrong("topic", topic.complaint)
            log.warning("topic_differs", reason=topic.complaint)


async def _until(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
