"""`neverstale status`: servers, roles, watermarks, registers and lag, as they are at the moment.

It says what is wrong with them, too: a server that does not answer, a role that is needed and does not run, and a
watermark that stands. `neverstale doctor` looks for the reasons.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from neverstale.catalog import Catalog, Resource
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.errors import Outage
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.ops.redis.held import HeldCell, HeldInRedis, Register, held_in_redis
from neverstale.ops.redis.nodes import NodeStatus
from neverstale.ops.redis.roles import RoleStatus
from neverstale.ops.servers import kafka_admin, kafka_facts, kafka_offsets, mongo_facts, mongodb
from neverstale.redis.watermarks import Watermark
from neverstale.settings import Kafka, MongoDB, Settings
from neverstale.versions import to_hex
from neverstale.watcher_groups import kafka_of

NEEDED: Final = ("watcher", "consumer", "api")
"""Roles without which nobody is served, or nothing is told."""
GROUPED: Final = ("watcher", "consumer")
"""Those that may work for some watcher groups only."""
STANDS_SECONDS: Final = 10.0
"""The watcher marks every second, and whoever takes over from a role that died does so within about this."""
HEARTBEATS: Final = 5
"""So many in a row are missed where heartbeats are rare."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    name: str
    problem: str | None
    """Why it cannot be used; `None`: it answers."""
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """What the consumer group has applied of one partition."""

    partition: int
    watermark: str | None
    """16 hex digits; `None`: no mark was applied yet, or on another Redis."""
    age_ms: int | None
    """Since the wall time of the watermark, by the primary's clock; by this machine's while MongoDB is away."""
    lag: int | None
    """Records published and not yet committed; `None`: unknown."""
    group: str = DEFAULT_GROUP
    """The watcher group whose topic it is of."""
    problem: str | None = None
    """Why the cell of its documents cannot be read; `None`: it can, or all is one cell."""


@dataclass(frozen=True, slots=True)
class CellStatus:
    """How far a cell is, where there are many (`neverstale.redis.cells`)."""

    cell: str
    """Its hash tag."""
    node: str
    """That holds it; empty: there is only one Redis, or none does."""
    group: str
    resource: str | None
    """Whose derived data it holds; `None`: a partition's documents."""
    watermark: str | None
    """The lowest of the partitions that write it; `None`: one of them has none."""
    age_ms: int | None
    """Of the oldest that there is."""
    without: tuple[int, ...]
    """Partitions that write it, and of which no mark was applied to it."""
    problem: str | None
    """Why it cannot be read; `None`: it can."""


@dataclass(frozen=True, slots=True)
class Status:
    servers: list[ServerStatus]
    roles: list[RoleStatus]
    partitions: list[PartitionStatus]
    """Where documents have cells by partition, each is as far as its own."""
    registers: list[Register]
    problems: list[str]
    """Sentences: what is wrong."""
    audit: dict[str, Any] | None = None
    """What an auditor has told of its last hour, see `neverstale.redis.audit`; `None`: nothing."""
    cells: Sequence[CellStatus] = ()
    """Empty: all is one cell."""
    nodes: Sequence[NodeStatus] = ()
    """Of a Redis Cluster."""
    all_roles: bool = True
    """`False`: a node that may know of more does not answer."""

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def missing_roles(self) -> list[str]:
        """Those that are needed and do not run, as far as that can be told."""
        return missing_roles(self.roles) if self.all_roles else []

    def of_group(self, group: str) -> "Status":
        """The same, with the partitions and cells of one watcher group alone."""
        partitions = [one for one in self.partitions if one.group == group]
        return replace(self, partitions=partitions, cells=[one for one in self.cells if one.group == group])

    def behind(self, resource: Resource) -> tuple[str | None, int | None]:
        """Watermark and age in ms of what is derived of a resource: of the partition that is furthest behind."""
        for cell in self.cells:
            if cell.resource == resource.name:
                return cell.watermark, cell.age_ms
        mine = [one for one in self.partitions if one.group == resource.watcher_group]
        known = [one.watermark for one in mine if one.watermark is not None]
        ages = [one.age_ms for one in mine if one.age_ms is not None]
        return min(known) if known and len(known) == len(mine) else None, max(ages, default=None)


@dataclass(frozen=True, slots=True)
class _InMongoDB:
    server: ServerStatus
    now_ms: float | None
    """The primary's clock; `None`: not told."""


@dataclass(frozen=True, slots=True)
class _InKafka:
    server: ServerStatus
    lag: Mapping[str, Mapping[int, int | None]]
    """By watcher group and partition."""


async def gather(settings: Settings, catalog: Catalog) -> Status:
    mongo, kafka, held = await asyncio.gather(
        _ask_mongodb(settings.mongodb),
        _ask_kafka({group: kafka_of(settings.kafka, group) for group in catalog.groups}),
        _ask_redis(settings, catalog),
    )
    now_ms = round(time.time() * 1000 if mongo.now_ms is None else mongo.now_ms)
    in_redis, redis = held
    partitions = [
        one for group in catalog.groups for one in _partitions(group, in_redis, kafka.lag.get(group, {}), now_ms)
    ]
    cells = [_cell(one, in_redis.partitions.get(one.group, 0), now_ms) for one in in_redis.cells if one.tag]
    found = Status(
        [mongo.server, kafka.server, redis],
        list(in_redis.roles),
        partitions,
        in_redis.registers,
        [],
        in_redis.audit,
        cells,
        in_redis.nodes,
        in_redis.all_roles,
    )
    return replace(found, problems=[*problems(found, settings, catalog.groups), *wrong_answers(found.audit)])


def problems(status: Status, settings: Settings, groups: Iterable[str] = (DEFAULT_GROUP,)) -> Iterator[str]:
    """What is wrong. Of roles and watermarks only Redis tells, so nothing is said of them while it is away."""
    away = {server.name: server.problem for server in status.servers if server.problem is not None}
    yield from (f"{name} cannot be used: {problem}" for name, problem in away.items())
    if "redis" in away:
        return
    yield from (f"node {one.node} of Redis cannot be used: {one.problem}" for one in status.nodes if one.problem)
    yield from (f"no {role} runs" for role in status.missing_roles)
    for group in groups:
        mine = status.of_group(group)
        if status.all_roles:
            yield from (f"no {role} runs for group {group}" for role in nobody_for(group, status.roles))
        if nothing := unknown(mine.partitions):
            yield f"no mark was applied to this Redis on {named_partitions(nothing)}{of_group(group)}"
        if old := standing(mine.partitions, settings):
            age = spoken_age(max(part.age_ms or 0 for part in old))
            numbers = [part.partition for part in old]
            yield f"the watermark of {named_partitions(numbers)}{of_group(group)} stands, {age} old"
        yield from unread(mine)
        yield from (sentence for _, sentence in derived_behind(mine, settings))


def unread(status: Status) -> Iterator[str]:
    """Cells that cannot be read, by the reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in status.cells:
        if cell.problem is not None:
            reasons.setdefault((cell.node, cell.problem), []).append(cell.cell)
    for (node, reason), names in reasons.items():
        where = f" on node {node}" if node else ""
        yield f"cell{'s' * (len(names) > 1)} {', '.join(names)}{where} cannot be read: {reason}"


def derived_behind(status: Status, settings: Settings) -> Iterator[tuple[CellStatus, str]]:
    """Cells of what is derived that have no mark of some partition, or an old one, and what to say of each."""
    for cell in status.cells:
        if cell.resource is None or cell.problem is not None:
            continue
        if cell.without:
            yield (
                cell,
                f"no mark was applied to what is derived of {cell.resource} on {named_partitions(cell.without)}",
            )
        elif cell.age_ms is not None and cell.age_ms > oldest_ms(settings):
            yield cell, f"the watermark of what is derived of {cell.resource} stands, {spoken_age(cell.age_ms)} old"


def of_group(group: str) -> str:
    """As a sentence names it; the default group has no name."""
    return "" if group == DEFAULT_GROUP else f" of group {group}"


def group_option(group: str) -> str:
    """How a command is told that it is about a watcher group; the default one need not be named."""
    return "" if group == DEFAULT_GROUP else f" --group {group}"


def run(role: str, group: str) -> str:
    """The command that starts a role for a watcher group."""
    return f"neverstale run {role}{group_option(group)}"


def start_again(role: RoleStatus) -> str:
    """The command that starts a role like this one."""
    told = role.groups if role.groups != (DEFAULT_GROUP,) else ()
    return f"neverstale run {role.role}{''.join(f' --group {name}' for name in told)}"


def works_for(role: RoleStatus, group: str) -> bool:
    """Whether it works for this watcher group, as far as it has told."""
    return not role.groups or group in role.groups


def nobody_for(group: str, roles: Sequence[RoleStatus]) -> list[str]:
    """The roles that run, but none of them for this watcher group."""
    running = [one for one in roles if one.role in GROUPED]
    works = {one.role for one in running if works_for(one, group)}
    return [role for role in GROUPED if role in {one.role for one in running} - works]


def wrong_answers(audit: Mapping[str, Any] | None) -> Iterator[str]:
    """What an auditor has found wrong in its last hour."""
    for name, kinds in (audit or {}).get("resources", {}).items():
        for kind, counts in kinds.items():
            if count := counts["wrong"]:
                stays = f", {counts['permanent']} for good" if counts["permanent"] else ""
                yield f"{count} answers about {kind} of {name} were wrong in the last hour{stays}"


def missing_roles(roles: Sequence[RoleStatus]) -> list[str]:
    running = {role.role for role in roles}
    return [role for role in NEEDED if role not in running]


def unknown(partitions: Sequence[PartitionStatus]) -> list[int]:
    """Those of which nobody can say how far they are applied to this Redis."""
    return [part.partition for part in partitions if part.watermark is None and part.problem is None]


def standing(partitions: Sequence[PartitionStatus], settings: Settings) -> list[PartitionStatus]:
    """Those whose watermark is older than any takeover lasts."""
    oldest = oldest_ms(settings)
    return [part for part in partitions if part.age_ms is not None and part.age_ms > oldest]


def oldest_ms(settings: Settings) -> float:
    """How old a watermark may be: no takeover lasts longer."""
    return max(STANDS_SECONDS * 1000, HEARTBEATS * settings.watcher.heartbeat_ms)


def named_partitions(partitions: Sequence[int]) -> str:
    """As a sentence names them."""
    return f"partition{'s' * (len(partitions) > 1)} {', '.join(map(str, partitions))}"


def spoken_age(milliseconds: int) -> str:
    seconds = max(0, milliseconds) / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


async def _ask_mongodb(settings: MongoDB) -> _InMongoDB:
    clock = PrimaryClock()
    try:
        async with mongodb(settings) as client:
            facts = await mongo_facts(client)
            await clock.sample(client)
    except Outage as outage:
        return _InMongoDB(ServerStatus("mongodb", outage.reason, {}), None)
    now = clock.now_ms()
    now_ms = now[0] if now is not None else None
    if facts.set_name is None and not facts.is_mongos:
        return _InMongoDB(ServerStatus("mongodb", "it is no replica set", {"version": facts.version}), now_ms)
    shown = {"version": facts.version, "primary": facts.primary or "mongos"}
    return _InMongoDB(ServerStatus("mongodb", None, shown), now_ms)


async def _ask_kafka(groups: Mapping[str, Kafka]) -> _InKafka:
    """By watcher group, where its topic is and who consumes it."""
    lag: dict[str, Mapping[int, int | None]] = {}
    topics: list[str] = []
    try:
        async with kafka_admin(next(iter(groups.values()))) as admin:
            for group, settings in groups.items():
                facts = await kafka_facts(admin, settings.topic)
                if facts.replicas is not None:
                    offsets = await kafka_offsets(admin, settings, len(facts.replicas))
                    lag[group] = {number: one.lag for number, one in offsets.items()}
                    topics.append(settings.topic)
    except Outage as outage:
        return _InKafka(ServerStatus("kafka", outage.reason, {}), {})
    if not topics:
        return _InKafka(ServerStatus("kafka", None, {"brokers": facts.brokers, "topic": "none yet"}), {})
    counts = {"brokers": facts.brokers, "topic": " ".join(topics), "partitions": sum(map(len, lag.values()))}
    return _InKafka(ServerStatus("kafka", None, counts), lag)


_NOTHING: Final = HeldInRedis({}, (), True, (), {})


async def _ask_redis(settings: Settings, catalog: Catalog) -> tuple[HeldInRedis, ServerStatus]:
    try:
        found = await held_in_redis(settings, catalog)
    except Outage as outage:
        return _NOTHING, ServerStatus("redis", outage.reason, {})
    return found, ServerStatus("redis", None, dict(found.facts))


def _partitions(
    group: str, held: HeldInRedis, lag: Mapping[int, int | None], now_ms: int
) -> Iterator[PartitionStatus]:
    """One for each partition that Kafka or a mark names."""
    cells = [one for one in held.cells if one.group == group and one.resource is None]
    marks = {number: mark for cell in cells for number, mark in _own(cell).items()}
    away = {cell.partition: cell.problem for cell in cells if cell.problem is not None}
    for number in range(max(held.partitions.get(group, 0), *(number + 1 for number in (-1, *lag)))):
        mark = marks.get(number)
        yield PartitionStatus(
            number,
            None if mark is None else to_hex(mark.version),
            None if mark is None else now_ms - mark.wall_ms,
            lag.get(number),
            group,
            away.get(number, away.get(None)),
        )


def _own(cell: HeldCell) -> Mapping[int, Watermark]:
    """Of the partition whose documents it holds; of all, where all is one cell."""
    return {number: mark for number, mark in cell.marks.items() if cell.partition in (None, number)}


def _cell(cell: HeldCell, partitions: int, now_ms: int) -> CellStatus:
    writers = range(partitions) if cell.partition is None else (cell.partition,)
    marks = [cell.marks[number] for number in writers if number in cell.marks]
    whole = marks and len(marks) == len(writers)
    return CellStatus(
        cell.tag,
        cell.node,
        cell.group,
        cell.resource,
        to_hex(min(mark.version for mark in marks)) if whole else None,
        max((now_ms - mark.wall_ms for mark in marks), default=None),
        tuple(number for number in writers if number not in cell.marks),
        cell.problem,
    )
