"""The inner loop: batch by batch from the cursor to the publisher."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from time import monotonic
from typing import Final

from neverstale.kafka.events import Floor, encode
from neverstale.role import telemetry, traces
from neverstale.settings import WatcherSettings
from neverstale.streams.acks import Acks, SentBatch
from neverstale.streams.checkpoint import Position
from neverstale.streams.cursor import EventBatch, StreamCursor
from neverstale.streams.heartbeat import Heart
from neverstale.streams.mark_pacer import MarkPacer
from neverstale.streams.pipeline import RawEvent
from neverstale.streams.publisher import Publisher
from neverstale.streams.recorder import Recorder
from neverstale.streams.translate import EventMeaning, Watched, meaning_of, version_of, wall_ms_of

SLICE: Final = 500
"""Events put between two turns of the event loop, so that acknowledgements, requests and health are served."""


@dataclass(slots=True)
class Stream:
    """Publishes what the cursor reads, in order, until the server closes the cursor."""

    settings: WatcherSettings
    watched: Watched
    cursor: StreamCursor
    publisher: Publisher
    recorder: Recorder
    acks: Acks
    marks: MarkPacer
    heart: Heart

    async def run(self) -> None:
        """Returns behind an `invalidate` event. Errors are those of the cursor."""
        # Floors may have been put before; and a position in hand is worth storing before the first event.
        await self._send(EventBatch([], self.cursor.token))
        while True:
            batch = await self.cursor.batch()
            ahead = len(batch.events) >= SLICE and not batch.last
            if ahead:
                # Much is coming in: the server prepares the next batch while we work on this one. A request is
                # sent a few turns of the event loop later, hence before the first slice and not after it.
                self.cursor.request()
                await _turns(2)
            await self._send(batch)
            if batch.last:
                return
            if not ahead:
                await self._pause(batch)

    async def _pause(self, batch: EventBatch) -> None:
        """Let a small batch leave for Kafka before the next request is made up."""
        if batch.events:
            await (asyncio.sleep(self.settings.gather_ms / 1000) if self.settings.gather_ms else _turns(3))

    async def _send(self, batch: EventBatch) -> None:
        tracer = traces.tracer() if batch.events else None
        span = tracer.start_span("publish", attributes={"neverstale.changes": len(batch.events)}) if tracer else None
        records = await self._put(batch, traces.traceparent(span) if span else None) if batch.events else Counter()
        publisher = self.publisher
        receipt = publisher.flush()
        if span is not None:
            receipt.acknowledged.add_done_callback(lambda _: span.end())
        position = Position(batch.token, publisher.partitions, publisher.topic_id, self.watched.collections)
        wall_ms = wall_ms_of(batch.events[-1]) if records["change"] else None
        await self.acks.add(SentBatch(receipt, position, wall_ms, records))

    async def _put(self, batch: EventBatch, trace: str | None) -> Counter[str]:
        """Put the records of all events and the mark that is due; how many of which kind."""
        events, put, record = batch.events, self.publisher.put, self.recorder.record
        records: Counter[str] = Counter(change=len(events))
        heartbeat = False
        index = 0
        while index < len(events):
            stop = min(index + SLICE, len(events))
            while (index := record(events, index, stop, put)) < stop:
                heartbeat |= self._put_unusual(events[index], records)
                index += 1
            if index < len(events):
                await asyncio.sleep(0)
        self._mark(batch, records, heartbeat=heartbeat, trace=trace)
        _count(events)
        return records

    def _put_unusual(self, event: RawEvent, records: Counter[str]) -> bool:
        """Put what an event that is no ordinary change means; whether it is a heartbeat."""
        records["change"] -= 1
        match meaning_of(event):
            case EventMeaning.HEARTBEAT:
                return True
            case EventMeaning.IGNORED:
                return False
            case EventMeaning.FLOOR | EventMeaning.CHANGE:
                floors = self.watched.floors(event)
                if meaning_of(event) is EventMeaning.CHANGE and floors:
                    telemetry.RECORDS_TOO_LARGE.labels(event["coll"]).inc()
                records["floor"] += self.put_floors(floors)
        return False

    def put_floors(self, floors: list[Floor]) -> int:
        """Put each floor into every partition; how many records that makes."""
        for floor in floors:
            self.publisher.put_everywhere(encode(floor))
        return len(floors) * self.publisher.partitions

    def _mark(self, batch: EventBatch, records: Counter[str], *, heartbeat: bool, trace: str | None) -> None:
        last = batch.events[-1]
        self.marks.saw(last["wall"])
        if mark := self.marks.due(batch.version, monotonic(), heartbeat=heartbeat, trace=trace):
            self.publisher.put_everywhere(encode(mark))
            records["mark"] += self.publisher.partitions
        if meaning_of(last) is not EventMeaning.HEARTBEAT:
            self.heart.cover(version_of(last))


def _count(events: list[RawEvent]) -> None:
    telemetry.BATCH_READ.observe(len(events))
    for operation, count in Counter(map(itemgetter("op"), events)).items():
        telemetry.CHANGES_READ.labels(operation).inc(count)


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
