"""One look at everything: what `status` gathers, and what each process says of itself; and, less often, what takes
longer to ask: the consumer group, the oplog, generations, dead letters."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from neverstale.catalog import Catalog
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.derived.generations import Generation, UnknownFormat
from neverstale.derived.store import DerivedStore
from neverstale.errors import NeverstaleError
from neverstale.keys import Names
from neverstale.ops import servers
from neverstale.ops.check.findings import Finding, about
from neverstale.ops.console.samples import Samples
from neverstale.ops.dead_letters.dead_letters import opened
from neverstale.ops.dead_letters.settled import SettledLetters
from neverstale.ops.doctor.allowed import allowed
from neverstale.ops.doctor.group import GroupFacts, GroupProgress, group_facts
from neverstale.ops.doctor.oplog import OplogFacts, oplog_facts
from neverstale.ops.http_client import Connection
from neverstale.ops.status import RoleStatus, Status, gather
from neverstale.ops.why.held import service_address_of
from neverstale.redis.cache import Cache
from neverstale.settings import Settings
from neverstale.streams.checkpoint import Checkpoint
from neverstale.versions import Version
from neverstale.watcher_groups import settings_of

ANSWER_SECONDS: Final = 1.0
"""A process that says nothing for longer hangs, or has far too much to do."""

Presence = Literal["answers", "silent", "gone"]
"""`silent`: it takes connections, and answers nothing; `gone`: nobody listens there."""
T = TypeVar("T")

_say = about("oplog", "mongodb")


@dataclass(frozen=True, slots=True)
class ProcessLook:
    role: RoleStatus
    presence: Presence
    samples: Samples
    """What it said last; empty if it never did."""
    wrong: Mapping[str, str] = field(default_factory=dict)
    """Part -> what is wrong with it, as `/readyz` says."""


@dataclass(frozen=True, slots=True)
class QuickLook:
    at: float
    """Monotonic seconds."""
    wall_ms: int
    status: Status
    processes: Sequence[ProcessLook]
    """Those that have a card, and those that had one a short while ago."""
    heard: Mapping[str, float] = field(default_factory=dict)
    """Server -> monotonic seconds at which it answered last. What it said then is shown until it answers again."""

    def answering(self, role: str) -> list[ProcessLook]:
        return [one for one in self.processes if one.role.role == role and one.presence == "answers"]

    @property
    def away(self) -> Mapping[str, str]:
        """Server -> why it cannot be used."""
        return {server.name: server.problem for server in self.status.servers if server.problem is not None}


@dataclass(frozen=True, slots=True)
class LongLook:
    """Each part is `None` where it could not be asked."""

    at: float
    group: GroupFacts | None
    progress: GroupProgress | None
    oplog: OplogFacts | None
    position: Version | None
    generations: Mapping[str, Sequence[Generation]] | None
    letters: int | None
    """Dead letters that nobody has settled."""
    watcher_group: str = DEFAULT_GROUP
    """Whose topic and consumers these are; with several groups, the first one's."""


async def look(settings: Settings, catalog: Catalog, known: Sequence[RoleStatus]) -> QuickLook:
    """`known`: roles that were seen a short while ago, whether they still have a card or not."""
    status = await gather(settings, catalog)
    roles = {role.instance: role for role in (*known, *status.roles)}
    processes = await asyncio.gather(*(_ask(role) for role in roles.values()))
    return QuickLook(time.monotonic(), round(time.time() * 1000), status, processes)


async def _ask(role: RoleStatus) -> ProcessLook:
    address = service_address_of(role)
    if address is None:
        return ProcessLook(role, "gone", Samples({}))
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            connection = await Connection.open(address)
    except (OSError, TimeoutError):
        return ProcessLook(role, "gone", Samples({}))
    try:
        metrics = await connection.get("/metrics", ANSWER_SECONDS)
        ready = await connection.get("/readyz", ANSWER_SECONDS)
    except (OSError, TimeoutError):
        return ProcessLook(role, "silent", Samples({}))
    finally:
        connection.close()
    return ProcessLook(role, "answers", Samples.read(metrics.body.decode(errors="replace")), _wrong(ready.body))


def _wrong(ready: bytes) -> Mapping[str, str]:
    try:
        parts = json.loads(ready)["parts"]
        return {str(part): str(said) for part, said in parts.items() if said != "ok"}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


async def long_look(settings: Settings, catalog: Catalog, status: Status) -> LongLook:
    first = next(iter(catalog.groups))
    settings, status = settings_of(settings, first), status.of_group(first)
    kafka, mongodb, generations, letters = await asyncio.gather(
        _unless_away(lambda: _of_kafka(settings, status)),
        _unless_away(lambda: _of_mongodb(settings, catalog)),
        _unless_away(lambda: _generations(settings, catalog)),
        _unless_away(lambda: _letters(settings, catalog)),
    )
    group, progress = kafka or (None, None)
    oplog, position = mongodb or (None, None)
    return LongLook(time.monotonic(), group, progress, oplog, position, generations, letters, first)


async def _unless_away(ask: Callable[[], Awaitable[T]]) -> T | None:
    try:
        return await ask()
    except (NeverstaleError, UnknownFormat):
        return None  # that a server is away, the other look says


async def _of_kafka(settings: Settings, status: Status) -> tuple[GroupFacts, GroupProgress]:
    async with servers.kafka_admin(settings.kafka) as admin:
        group = await group_facts(admin, settings.kafka)
        offsets = await servers.kafka_offsets(admin, settings.kafka, len(status.partitions))
    return group, GroupProgress(offsets, {one.partition: one.watermark for one in status.partitions})


async def _of_mongodb(settings: Settings, catalog: Catalog) -> tuple[OplogFacts | None, Version | None]:
    async with servers.mongodb(settings.mongodb) as client:
        position = await Checkpoint(client[catalog.database], settings.watcher.group, 0).load()
        told = await allowed(_say, settings.mongodb, "clusterMonitor", lambda: oplog_facts(client))
        oplog = None if isinstance(told, Finding) else told[0]
        return oplog, None if position is None else position.version


async def _generations(settings: Settings, catalog: Catalog) -> Mapping[str, Sequence[Generation]]:
    async with servers.redis(settings.redis) as client:
        cache = Cache(client, Names(settings.redis.prefix))
        derived = {one.name: one.derived_name for one in catalog.resources.values() if one.derived}
        return {name: (await DerivedStore(cache, derived[name]).generations()).all for name in derived}


async def _letters(settings: Settings, catalog: Catalog) -> int:
    settled = await SettledLetters(settings, catalog.database).load()
    async with opened(settings.kafka) as shelf:
        first = max(shelf.first, settled.before.offset)
        single = sum(1 for place in settled.single if place.offset >= first)
        return max(shelf.end - first - single, 0)
