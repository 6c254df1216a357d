"""The last record of one document in its partition, looked for from the end backwards."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from neverstale.errors import DeadLetter, Outage
from neverstale.kafka.events import Change, Touch, decode
from neverstale.ops.servers import kafka_consumer
from neverstale.settings import Kafka
from neverstale.versions import to_hex

FIRST_RECORDS: Final = 2_000
"""Most questions are about what happened just now. Each further look reads four times as much."""
FURTHER: Final = 4
SECONDS: Final = 10.0
FETCH_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class LastChange:
    operation: str
    """`insert`, `update`, `replace`, `delete`; `touch`: a walk came by; `unreadable`: a dead letter."""
    fields: list[str] | None
    """That changed; `None`: all."""
    version: str | None
    """16 hex digits."""
    offset: int
    published_ms: int
    """When the watcher wrote the record, by its own clock."""


@dataclass(frozen=True, slots=True)
class Searched:
    """How far was looked."""

    found: LastChange | None
    first_offset: int
    """Records before it were not looked at …"""
    since_ms: int | None
    """… nor what was published before this; `None`: nothing is in the partition."""
    whole: bool
    """All that the topic still holds was looked at."""
    end: int = 0
    """The partition's, when the search began."""


async def last_change(
    settings: Kafka,
    key: bytes,
    partition: int,
    *,
    before: Searched | None = None,
    seconds: float = SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
) -> Searched:
    """Look until it is found, the partition's beginning is reached, or `seconds` are over. Joins no group.

    `before`: an earlier search; only what came since is looked at."""
    place = TopicPartition(settings.topic, partition)
    options = {"auto_offset_reset": "none", "max_partition_fetch_bytes": FETCH_BYTES}
    until = monotonic() + seconds
    try:
        async with kafka_consumer(settings, enable_auto_commit=False, **options) as consumer:
            consumer.assign([place])
            first = (await consumer.beginning_offsets([place]))[place]
            end = (await consumer.end_offsets([place]))[place]
            since = first if before is None else max(first, min(before.end, end))
            found = await _backwards(consumer, place, key, (since, end), lambda: monotonic() < until)
            return replace(found if before is None or found.found is not None else before, end=end)
    except KafkaError as error:
        raise Outage("kafka", type(error).__name__) from None


async def _backwards(
    consumer: AIOKafkaConsumer, place: TopicPartition, key: bytes, ends: tuple[int, int], goes_on: Callable[[], bool]
) -> Searched:
    (first, end), count, since_ms = ends, FIRST_RECORDS, None
    while end > first:
        start = max(first, end - count)
        found, oldest_ms = await _within(consumer, place, key, start, end, goes_on)
        if oldest_ms is None:
            break  # not all of it could be read in time
        since_ms, end, count = oldest_ms, start, count * FURTHER
        if found is not None or not goes_on():
            return Searched(found, start, since_ms, start == first)
    return Searched(None, end, since_ms, end == first)


async def _within(
    consumer: AIOKafkaConsumer, place: TopicPartition, key: bytes, start: int, end: int, goes_on: Callable[[], bool]
) -> tuple[LastChange | None, int | None]:
    """The last record of the key from `start` up to `end`, and when the first of all was published; `None`: it was
    not read to the end."""
    consumer.seek(place, start)
    found: Any = None
    oldest_ms: int | None = None
    while await consumer.position(place) < end:
        if not goes_on():
            return None, None
        records = (await consumer.getmany(place, timeout_ms=1000)).get(place, [])
        for record in records:
            oldest_ms = record.timestamp if oldest_ms is None else oldest_ms
            if record.key == key and record.offset < end:
                found = record
    return None if found is None else _told(found), oldest_ms or 0


def _told(record: Any) -> LastChange:
    try:
        event = decode(record.value)
    except DeadLetter:
        return LastChange("unreadable", None, None, record.offset, record.timestamp)
    match event:
        case Change():
            fields = None if event.fields is None else list(event.fields)
            return LastChange(event.operation, fields, to_hex(event.version), record.offset, record.timestamp)
        case Touch():
            return LastChange("touch", [], to_hex(event.version), record.offset, record.timestamp)
    return LastChange(type(event).__name__.lower(), None, None, record.offset, record.timestamp)
