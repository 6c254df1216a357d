"""Evidence: all that is known of a wrong answer, at the moment at which it was found wrong.

Of bodies there are digests only: what is stored and logged shows nobody's data.
"""

import time
from contextlib import suppress
from typing import Any

from neverstale.catalog import Catalog
from neverstale.errors import NeverstaleError, Outage
from neverstale.kafka.events import record_key
from neverstale.kafka.partitioner import partition_of
from neverstale.keys import canonical
from neverstale.ops import servers
from neverstale.ops.auditor.judging.judged import Judged
from neverstale.ops.auditor.judging.told import comparable
from neverstale.ops.redis.stores import Stores
from neverstale.redis.entries import etag_of
from neverstale.settings import Settings
from neverstale.versions import Version, to_hex
from neverstale.watcher_groups import settings_of


async def evidence_of(found: Judged, settings: Settings, catalog: Catalog, opened: Stores) -> dict[str, Any]:
    """What was asked and answered, what MongoDB holds, and what Redis and Kafka say now."""
    evidence = _as_found(found)
    settings = settings_of(settings, catalog.resources[found.told.question.about[0]].watcher_group)
    with suppress(NeverstaleError):
        evidence |= await _in_redis(found, settings, catalog, opened)
    with suppress(Outage):
        evidence["kafka"] = await _in_kafka(settings, evidence)
    return evidence


def _as_found(found: Judged) -> dict[str, Any]:
    told = found.told
    resource, kind = told.question.about
    return {
        "found_ms": round(time.time() * 1000),
        "resource": resource,
        "kind": kind,
        "path": told.question.path,
        "what": "untrue" if found.verdict == "untrue" else "bound",
        "url": told.url,
        "status": told.status,
        "detail": told.source,
        "version": _hex(told.version),
        "bound_seconds": told.bound,
        "age_seconds": round(found.age, 4),
        "asked_seconds_ago": round(time.monotonic() - told.asked, 4),
        "missed_version": _hex(found.missed),
        "digest": _digest(told.shown),
        "mongodb_digest": _digest(comparable(told.question, found.state)),
    }


async def _in_redis(found: Judged, settings: Settings, catalog: Catalog, opened: Stores) -> dict[str, Any]:
    question, group = found.told.question, settings.kafka.group
    resource, is_document = catalog.resources[question.about[0]], question.about[1] == "documents"
    place = await opened.of_document(resource, canonical(question.key)) if is_document else None
    cache = opened.of_derived(resource) if place is None else place.cell
    if cache is None:
        return {}  # nobody knows where it would lie
    held = await cache.watermarks(group)
    told: dict[str, Any] = {
        "redis": held.identity,
        "watermarks": {
            str(number): {
                "version": to_hex(mark.version),
                "wall_ms": mark.wall_ms,
                "here": mark.identity == held.identity,
            }
            for number, mark in held.by_partition.items()
        },
        "reached": {
            str(number): offset for number, offset in (await cache.reached(group, list(held.by_partition))).items()
        },
    }
    if cache.names.tag:
        told["cell"] = cache.names.tag
    if is_document:
        key = canonical(question.key)
        if held.partitions:
            told["partition"] = partition_of(record_key(catalog.database, resource.collection, key), held.partitions)
        name = cache.names.entry(resource.name, key)
        floor, (entry,) = await cache.read(resource.collection, [name], resource.shows)
        (applied,) = await cache.send(("GET", cache.names.applied))
        told["floor"] = _hex(floor)
        told["applied"] = applied.decode("ascii", "replace") if isinstance(applied, bytes) else None
        told["entry"] = (
            None if entry is None else {"state": entry.state.name.lower(), "version": to_hex(entry.version)}
        )
    return told


async def _in_kafka(settings: Settings, evidence: dict[str, Any]) -> dict[str, Any]:
    partitions = max(map(int, evidence.get("watermarks", ())), default=-1) + 1
    async with servers.kafka_admin(settings.kafka) as admin:
        offsets = await servers.kafka_offsets(admin, settings.kafka, partitions)
    return {str(number): {"committed": one.committed, "end": one.end} for number, one in offsets.items()}


def _hex(version: Version | None) -> str | None:
    return None if version is None else to_hex(version)


def _digest(body: bytes | None) -> str:
    return "absent" if body is None else etag_of(body).decode()
