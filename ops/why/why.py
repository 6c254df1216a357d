"""`neverstale why RESOURCE KEY`: asks all that the story of one document needs, and draws the conclusion."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, NoReturn
from urllib.parse import quote

from neverstale.catalog import Catalog, Resource
from neverstale.errors import NeverstaleError, Outage
from neverstale.kafka.events import record_key
from neverstale.kafka.partitioner import partition_of
from neverstale.keys import KeyValue, canonical
from neverstale.mongodb import bson_json
from neverstale.mongodb.loader import Loader
from neverstale.ops import servers
from neverstale.ops.doctor.group import group_facts
from neverstale.ops.redis.stores import stores
from neverstale.ops.repair.named import keys_named, resource_named
from neverstale.ops.status import gather, standing
from neverstale.ops.terminal.output import console, plain, print_json, table
from neverstale.ops.why.held import held_by_all
from neverstale.ops.why.last_change import Searched, last_change
from neverstale.ops.why.spoken import at, lines
from neverstale.ops.why.story import ABSENT, InMongoDB, InRedis, Partition, State, Story
from neverstale.ops.why.verdict import Verdict, verdict
from neverstale.redis.corrections import Corrections
from neverstale.redis.entries import EntryState, etag_of
from neverstale.settings import Settings
from neverstale.versions import Version, from_hex, to_hex
from neverstale.watcher_groups import settings_of

TIMES: Final = 3
"""So often a contradiction must be seen: the parts are asked one after the other, and changes come in between."""
PAUSE_SECONDS: Final = 0.5
FOLLOW_SECONDS: Final = 0.2
_STATES: Final[dict[EntryState, State]] = {
    EntryState.LEASE: "lease",
    EntryState.DATA: "data",
    EntryState.ABSENT: "absent",
    EntryState.STALE: "stale",
}


@dataclass(frozen=True, slots=True)
class Question:
    settings: Settings
    catalog: Catalog
    resource: Resource
    text: str
    key: KeyValue

    @property
    def canonical(self) -> str:
        return canonical(self.key)

    @property
    def record_key(self) -> bytes:
        return record_key(self.catalog.database, self.resource.collection, self.canonical)


async def why(settings: Settings, catalog: Catalog, name: str, text: str) -> tuple[Story, Verdict]:
    resource = resource_named(catalog, name, settings.catalog)
    (key,) = keys_named(resource, [text])
    asked = Question(settings, catalog, resource, text, key)
    for _ in range(TIMES):
        story = await _story(asked)
        told = verdict(story)
        if told.ok:
            break
        await asyncio.sleep(PAUSE_SECONDS)
    return story, told


async def follow(settings: Settings, catalog: Catalog, name: str, text: str, told: Callable[[str], None]) -> NoReturn:
    """Tell each change of the story as it is seen, until cancelled."""
    resource = resource_named(catalog, name, settings.catalog)
    (key,) = keys_named(resource, [text])
    asked = Question(settings, catalog, resource, text, key)
    last: tuple[str, ...] = ()
    searched: Searched | None = None
    while True:
        story = await _story(asked, searched)
        searched = story.searched
        seen = (verdict(story).sentence, *moments(story))
        if seen != last:
            told(f"{at(round(time.time() * 1000))}  {'; '.join(line for line in seen if line not in last)}")
            last = seen
        await asyncio.sleep(FOLLOW_SECONDS)


def moments(story: Story) -> Iterator[str]:
    """What a story is told by while it goes on: nothing that merely grows older."""
    change, redis = story.change, story.redis
    if change is not None:
        applied = "applied" if story.change_is_applied else "not applied yet"
        yield f"{change.operation} at {change.version}, offset {change.offset}: {applied}"
    yield f"Redis: {redis.state}{f' as of {redis.version}' if redis.version else ''}"
    for one in story.held:
        yield f"{one.url}: {one.status} {one.source} as of {one.version}"


def print_why(story: Story, told: Verdict, *, as_json: bool) -> None:
    """As JSON: the fields of `Story`, `ok`, and `verdict`, a sentence; `name` is the verdict's."""
    if as_json:
        print_json({"ok": told.ok, "name": told.name, "verdict": told.sentence, **asdict(story)})
        return
    shown = table(plain(f"{story.resource} {story.key}"), "")
    for about, what in lines(story, told):
        shown.add_row(about, plain(what))
    console().print(shown, soft_wrap=True)


async def _story(asked: Question, before: Searched | None = None) -> Story:
    """Redis first and MongoDB afterwards: what Redis holds by then, MongoDB has had.

    `before`: what was found in Kafka a moment ago."""
    status = await gather(asked.settings, asked.catalog)
    group = asked.resource.watcher_group
    mine = [one for one in status.partitions if one.group == group]
    asked = replace(asked, settings=settings_of(asked.settings, group))
    partitions = len(mine)
    number = partition_of(asked.record_key, partitions) if partitions else None
    redis = await _in_redis(asked, number)
    mongodb = await _in_mongodb(asked, redis)
    age_ms = next((one.age_ms for one in mine if one.partition == number), None)
    partition, searched = await _in_kafka(asked, number, before)
    own_lines = asked.settings.auditor.own_lines
    held = await held_by_all(status.roles, f"/v1/{asked.resource.name}/{quote(asked.text, safe='')}", own_lines)
    if searched is not None and searched.found is not None and redis.problem is None:
        redis = replace(redis, reached=await _reached(asked, number))
    return Story(
        asked.resource.name,
        asked.text,
        asked.canonical,
        mongodb,
        replace(redis, age_ms=age_ms),
        partition,
        searched,
        held,
        stands=number in [one.partition for one in standing(mine, asked.settings)],
    )


async def _in_redis(asked: Question, partition: int | None) -> InRedis:
    try:
        async with stores(asked.settings, asked.catalog) as opened:
            found = await opened.of_document(asked.resource, asked.canonical)
            if found.cell is None:
                return InRedis("no mark has told yet how many partitions there are")
            number = partition if found.partition is None else found.partition
            return await _entry(asked, found.cell, number)
    except Outage as outage:
        return InRedis(outage.reason)


async def _entry(asked: Question, cache: Corrections, partition: int | None) -> InRedis:
    held = await cache.watermarks(asked.settings.kafka.group)
    mark = held.by_partition.get(partition) if partition is not None else None
    name = cache.names.entry(asked.resource.name, asked.canonical)
    floor, (entry,) = await cache.read(asked.resource.collection, [name], asked.resource.shows)
    applied, left_ms = await cache.send(("GET", cache.names.applied), ("PTTL", name))
    found = InRedis(
        None,
        floor=None if floor is None else to_hex(floor),
        applied=_hex(cache.damage.register(applied)) if isinstance(applied, bytes) else None,
        watermark=to_hex(mark.version) if mark is not None and mark.identity == held.identity else None,
        cell=cache.names.tag,
    )
    if entry is None:
        return found
    return replace(
        found,
        state=_STATES[entry.state],
        version=to_hex(entry.version),
        digest=entry.etag.decode() if entry.body is not None else ABSENT if entry.body_is_absence else None,
        read_since_fill=entry.touched,
        left_ms=left_ms,
    )


async def _in_mongodb(asked: Question, redis: InRedis) -> InMongoDB:
    settings = asked.settings.mongodb
    try:
        async with servers.mongodb(settings) as client:
            loader = Loader(client, asked.catalog.database, settings.read_timeout_ms)
            snapshot = await loader.load(asked.resource, [asked.key], 0)
            present = asked.canonical in snapshot.bodies
            digest = snapshot.etag(asked.canonical).decode() if present else ABSENT
            at = redis.watermark if redis.watermark is not None and redis.digest != digest else None
            return InMongoDB(
                None,
                present,
                to_hex(snapshot.version),
                digest,
                snapshot.kind.told or snapshot.kind.type == "missing",
                None if at is None else await _digest_at(asked, loader, from_hex(at)),
            )
    except NeverstaleError as error:
        return InMongoDB(getattr(error, "reason", type(error).__name__))


async def _digest_at(asked: Question, loader: Loader, version: Version) -> str | None:
    """Of the state at exactly this version; `None`: MongoDB keeps it no more (after five minutes)."""
    fields = asked.resource.fields
    command: dict[str, Any] = {"find": asked.resource.collection, "filter": {"_id": asked.key}, "limit": 1}
    if fields is not None:
        command["projection"] = dict.fromkeys(fields, 1)
    try:
        found = await loader.query(command, 0, version)
    except NeverstaleError:
        return None
    return etag_of(bson_json.encode(found.rows[0])).decode() if found.rows else ABSENT


async def _in_kafka(
    asked: Question, number: int | None, before: Searched | None
) -> tuple[Partition | None, Searched | None]:
    kafka = asked.settings.kafka
    if number is None:
        return None, None
    try:
        async with servers.kafka_admin(kafka) as admin:
            group = await group_facts(admin, kafka)
            offsets = (await servers.kafka_offsets(admin, kafka, number + 1))[number]
        owner = group.owner(number)
        partition = Partition(
            number,
            None if owner is None else f"{owner.id} ({owner.host.lstrip('/')})",
            offsets.committed,
            offsets.by,
            offsets.lag,
        )
        return partition, await last_change(kafka, asked.record_key, number, before=before)
    except Outage:
        return None, None


async def _reached(asked: Question, partition: int | None) -> int | None:
    try:
        async with stores(asked.settings, asked.catalog) as opened:
            found = await opened.of_document(asked.resource, asked.canonical)
            if found.cell is None or partition is None:
                return None
            reached = await found.cell.reached(asked.settings.kafka.group, [partition])
            return next(iter(reached.values()), None)
    except Outage:
        return None


def _hex(version: Version | None) -> str | None:
    return None if version is None else to_hex(version)
