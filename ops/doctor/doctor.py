"""`neverstale doctor`: what `check` looks at, and what shows only while the pipeline runs.

Each server is asked by itself: what one of them does not answer keeps nobody from hearing of the others.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import chain
from typing import Any, Final, TypeAlias, get_args

from aiokafka.admin import AIOKafkaAdminClient
from pymongo import AsyncMongoClient

from neverstale.catalog import Catalog
from neverstale.ops import servers
from neverstale.ops.check.check import check
from neverstale.ops.check.findings import Check, Finding, about
from neverstale.ops.doctor import exposure, group, versions
from neverstale.ops.doctor.asked import asked
from neverstale.ops.doctor.clocks import look_at_clocks
from neverstale.ops.doctor.connections import look_at_mongodb_connections
from neverstale.ops.doctor.oplog import look_at_oplog
from neverstale.ops.doctor.privileges import look_at_privileges
from neverstale.ops.doctor.redis_nodes import look_at_redis
from neverstale.ops.doctor.replica_set import look_at_replica_set
from neverstale.ops.redis.roles import RoleStatus
from neverstale.ops.status import Status, gather
from neverstale.settings import Settings
from neverstale.watcher_groups import settings_of

Mongo: TypeAlias = AsyncMongoClient[dict[str, Any]]

ORDER: Final[tuple[Check, ...]] = get_args(Check)


async def doctor(
    settings: Settings,
    catalog: Catalog,
    *,
    wall: Callable[[], float] = time.time,
    observed_seconds: float = group.OBSERVED_SECONDS,
) -> list[Finding]:
    """All findings, of one check together. `wall` is this machine's clock; partitions are observed for so long."""
    status = await gather(settings, catalog)
    roles = status.roles
    must_hold, *looked = await asyncio.gather(
        check(settings, catalog),
        *_of_mongodb(settings, catalog, roles, wall),
        look_at_redis(settings, roles, len(status.cells)),
        *(_of_group(settings, catalog, name, observed_seconds) for name in catalog.groups),
    )
    away = {one.subject for one in must_hold if one.check == "reachable" and one.level == "problem"}
    seen = (one for one in chain.from_iterable(looked) if not (one.level == "unknown" and one.subject in away))
    found = dict.fromkeys((*must_hold, *seen))
    return sorted(found, key=lambda finding: ORDER.index(finding.check))


Findings: TypeAlias = Coroutine[Any, Any, list[Finding]]


def _of_mongodb(
    settings: Settings, catalog: Catalog, roles: Sequence[RoleStatus], wall: Callable[[], float]
) -> list[Findings]:
    looks: dict[Check, Callable[[Mongo], Awaitable[list[Finding]]]] = {
        "versions": versions.look_at_mongodb,
        "replica-set": lambda mongo: look_at_replica_set(mongo, settings.mongodb),
        "oplog": lambda mongo: look_at_oplog(mongo, settings, catalog),
        "privileges": lambda mongo: look_at_privileges(mongo, settings.mongodb, catalog),
        "connections": lambda mongo: look_at_mongodb_connections(mongo, settings, roles),
        "exposure": exposure.of_mongodb,
        "clocks": lambda mongo: look_at_clocks(mongo, settings, wall),
    }
    return [asked([about(name, "mongodb")], servers.mongodb(settings.mongodb), look) for name, look in looks.items()]


async def _of_group(whole: Settings, catalog: Catalog, name: str, observed_seconds: float) -> list[Finding]:
    """The consumer group of a watcher group's topic, and each partition at two moments."""
    settings = settings_of(whole, name)

    async def progress(admin: AIOKafkaAdminClient, partitions: int) -> tuple[group.GroupProgress, Status]:
        status = (await gather(whole, catalog)).of_group(name)
        offsets = await servers.kafka_offsets(admin, settings.kafka, partitions)
        return group.GroupProgress(offsets, {one.partition: one.watermark for one in status.partitions}), status

    async def look(admin: AIOKafkaAdminClient) -> list[Finding]:
        facts = await servers.kafka_facts(admin, settings.kafka.topic)
        partitions = len(facts.replicas or ())
        before, _ = await progress(admin, partitions)
        if facts.replicas is not None:
            await asyncio.sleep(observed_seconds)
        after, status = await progress(admin, partitions)
        members = await group.group_facts(admin, settings.kafka)
        return list(group.judge(status, members, before, after, settings, name))

    return await asked([about("group", "kafka")], servers.kafka_admin(settings.kafka), look)
