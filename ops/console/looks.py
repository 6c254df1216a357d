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
from neverstale.errors import NeverstaleError
from neverstale.ops import servers
from neverstale.ops.check.findings import Finding, about
from neverstale.ops.console.samples import PATH, Samples
from neverstale.ops.dead_letters.dead_letters import opened as opened_shelf
from neverstale.ops.dead_letters.settled import SettledLetters
from neverstale.ops.doctor.allowed import allowed
from neverstale.ops.doctor.group import GroupFacts, GroupProgress, group_facts
from neverstale.ops.doctor.oplog import OplogFacts, oplog_facts
from neverstale.ops.http_client import Connection
from neverstale.ops.redis.roles import RoleStatus
from neverstale.ops.redis.stores import stores
from neverstale.ops.status import Status, gather
from neverstale.ops.why.held import service_address_of
from neverstale.settings import Settings
from neverstale.streams.checkpoint import Checkpoint
from neverstale.versions import Version
from neverstale.watcher_groups import WatcherGroup, watcher_groups

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

    def of_watchers(self, gauge: str) -> dict[str, tuple[float, str]]:
        """Watcher group -> the highest value that a watcher tells, and which one."""
        found: dict[str, tuple[float, str]] = {}
        for one in self.answering("watcher"):
            for labels, value in one.samples.of(gauge):
                group = labels.get("group", DEFAULT_GROUP)
                found[group] = max(found.get(group, (0.0, "")), (value, one.role.instance))
        return found

    @property
    def away(self) -> Mapping[str, str]:
        """Server -> why it cannot be used."""
        return {server.name: server.problem for server in self.status.servers if server.problem is not None}


@dataclass(frozen=True, slots=True)
class GroupLook:
    """One watcher group. Each part is `None` where it could not be asked."""

    facts: GroupFacts | None
    """Of its consumers."""
    progress: GroupProgress | None
    position: Version | None
    """Of its watcher; `None` also where it has stored none yet."""
    letters: int | None
    """Dead letters that nobody has settled."""


@dataclass(frozen=True, slots=True)
class LongLook:
    """Each part is `None` where it could not be asked."""

    at: float
    groups: Mapping[str, GroupLook]
    oplog: OplogFacts | None
    generations: Mapping[str, Sequence[Generation]] | None

    @property
    def letters(self) -> int | None:
        """Of all groups that could be asked."""
        known = [one.letters for one in self.groups.values() if one.letters is not None]
        return sum(known) if known else None


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
        metrics = await connection.get(PATH, ANSWER_SECONDS)
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
    groups = watcher_groups(settings, catalog)
    oplog, generations, looks = await asyncio.gather(
        _unless_away(lambda: _oplog(settings)),
        _unless_away(lambda: _generations(settings, catalog)),
        asyncio.gather(*(_group(one, catalog.database, status.of_group(one.name)) for one in groups)),
    )
    named = {one.name: seen for one, seen in zip(groups, looks, strict=True)}
    return LongLook(time.monotonic(), named, oplog, generations)


async def _unless_away(ask: Callable[[], Awaitable[T]]) -> T | None:
    try:
        return await ask()
    except (NeverstaleError, UnknownFormat):
        return None  # that a server is away, the other look says


async def _group(of: WatcherGroup, database: str, status: Status) -> GroupLook:
    kafka, position, letters = await asyncio.gather(
        _unless_away(lambda: _of_kafka(of.settings, status)),
        _unless_away(lambda: _position(of.settings, database)),
        _unless_away(lambda: _letters(of.settings, database)),
    )
    facts, progress = kafka or (None, None)
    return GroupLook(facts, progress, position, letters)


async def _of_kafka(settings: Settings, status: Status) -> tuple[GroupFacts, GroupProgress]:
    async with servers.kafka_admin(settings.kafka) as admin:
        group = await group_facts(admin, settings.kafka)
        offsets = await servers.kafka_offsets(admin, settings.kafka, len(status.partitions))
    return group, GroupProgress(offsets, {one.partition: one.watermark for one in status.partitions})


async def _position(settings: Settings, database: str) -> Version | None:
    async with servers.mongodb(settings.mongodb) as client:
        position = await Checkpoint(client[database], settings.watcher.group, 0).load()
    return None if position is None else position.version


async def _oplog(settings: Settings) -> OplogFacts | None:
    async with servers.mongodb(settings.mongodb) as client:
        told = await allowed(_say, settings.mongodb, "clusterMonitor", lambda: oplog_facts(client))
    return None if isinstance(told, Finding) else told[0]


async def _generations(settings: Settings, catalog: Catalog) -> Mapping[str, Sequence[Generation]]:
    derived = [one for one in catalog.resources.values() if one.derived]
    async with stores(settings, catalog) as opened:
        return {one.name: (await opened.derived(one).generations()).all for one in derived}


async def _letters(settings: Settings, database: str) -> int:
    settled = await SettledLetters(settings, database).load()
    async with opened_shelf(settings.kafka) as shelf:
        first = max(shelf.first, settled.before.offset)
        single = sum(1 for place in settled.single if place.offset >= first)
        return max(shelf.end - first - single, 0)
