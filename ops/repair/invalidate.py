"""`neverstale invalidate`: make cached entries stale, through the topic, so that everybody sees it in order.

A key becomes a change of all its fields at the present time: its entry and the pages that show it are stale, and what
is counted of it is looked at again. A resource, or everything, becomes a floor of its collection: every entry and
page that was read before the present time is stale. Counters and rankings stay: they are no cache of a read, and are
built again by `neverstale rebuild`.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from neverstale.catalog import Catalog, Resource
from neverstale.errors import Misconfigured
from neverstale.kafka.events import Change, Event, Floor, encode, record_key
from neverstale.kafka.partitioner import partition_of
from neverstale.keys import canonical
from neverstale.mongodb.loader import Loader
from neverstale.ops.repair.applied import Ends, Record, are_applied, partitions_of_topic, publish
from neverstale.ops.repair.named import keys_named, resource_named
from neverstale.ops.terminal.output import print_json
from neverstale.servers import mongo_client
from neverstale.settings import Kafka, Settings
from neverstale.versions import Version, to_hex
from neverstale.watcher_groups import kafka_of


@dataclass(frozen=True, slots=True)
class InvalidateWanted:
    """What the operator asked for."""

    resource: str | None
    keys: Sequence[str] = ()
    everything: bool = False
    wait_seconds: float | None = 30.0
    """How long to wait until it is applied; `None`: not at all."""


@dataclass(frozen=True, slots=True)
class Invalidation:
    resources: list[str]
    """All that are served from the collections concerned."""
    keys: list[str]
    """Empty: all."""
    version: str
    """Whatever was read before is stale."""
    applied: bool | None
    """`None`: not waited for."""
    seconds: float

    @property
    def ok(self) -> bool:
        return self.applied is not False


async def invalidate(settings: Settings, catalog: Catalog, wanted: InvalidateWanted) -> Invalidation:
    resource = _resource(settings, catalog, wanted)
    keys = [canonical(key) for key in keys_named(resource, wanted.keys)] if resource is not None else []
    groups = catalog.groups if resource is None else {resource.watcher_group: (resource.collection,)}
    collections = tuple(collection for some in groups.values() for collection in some)
    counts = {group: await partitions_of_topic(kafka_of(settings.kafka, group)) for group in groups}
    started = time.monotonic()
    version = await _now(settings, catalog)
    ends = {}
    for group, some in groups.items():
        if keys:
            records = [_key(catalog.database, some[0], key, version, counts[group]) for key in keys]
        else:
            floors = [Floor(catalog.database, one, version, "invalidate", lost=False) for one in some]
            records = [(partition, None, encode(floor)) for floor in floors for partition in range(counts[group])]
        ends[group] = await publish(kafka_of(settings.kafka, group), records)
    wait = wanted.wait_seconds
    applied = None if wait is None else await _all_applied(settings.kafka, ends, wait)
    concerned = [one.name for collection in collections for one in catalog.of_collection(collection)]
    return Invalidation(concerned, list(wanted.keys), to_hex(version), applied, time.monotonic() - started)


async def _all_applied(kafka: Kafka, ends: Mapping[str, Ends], seconds: float) -> bool:
    waits = [are_applied(kafka_of(kafka, group), some, seconds) for group, some in ends.items()]
    return all(await asyncio.gather(*waits))


def print_invalidation(done: Invalidation, *, as_json: bool) -> None:
    """As JSON: `{ok, resources, keys, version, applied, seconds}`."""
    if as_json:
        print_json({"ok": done.ok, **asdict(done), "seconds": round(done.seconds, 3)})
        return
    count = len(done.keys)
    what = f"{count} key{'s' * (count > 1)}" if done.keys else "everything"
    verb = "are" if count > 1 else "is"
    print(f"{what} of {', '.join(done.resources)} read before {done.version} {verb} stale: {_how_far(done)}")


def _how_far(done: Invalidation) -> str:
    if done.applied is None:
        return "published"
    if done.applied:
        return f"applied after {done.seconds:.2f} s"
    return (
        f"published, but not applied within {done.seconds:.0f} s; it will be when a consumer comes to it, "
        "see `neverstale status`"
    )


def _resource(settings: Settings, catalog: Catalog, wanted: InvalidateWanted) -> Resource | None:
    if wanted.everything and wanted.resource is not None:
        raise Misconfigured("--all", f"{wanted.resource} is named, too", "name a resource, or say --all")
    if wanted.everything:
        return None
    if wanted.resource is None:
        raise Misconfigured("RESOURCE", "nothing is named", "name a resource, or say --all")
    return resource_named(catalog, wanted.resource, settings.catalog)


async def _now(settings: Settings, catalog: Catalog) -> Version:
    async with mongo_client(settings.mongodb) as client:
        return await Loader(client, catalog.database, settings.mongodb.read_timeout_ms).now()


def _key(database: str, collection: str, key: str, version: Version, partitions: int) -> Record:
    # A touch would leave pages alone that show the document. Nothing is said of groups, so whole lists are stale.
    event: Event = Change("replace", database, collection, key, version, int(time.time() * 1000), None)
    record = record_key(database, collection, key)
    return partition_of(record, partitions), record, encode(event)
