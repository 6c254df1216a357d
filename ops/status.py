"""`neverstale status`: servers, roles, watermarks, registers and lag, as they are at the moment.

It says what is wrong with them, too: a server that does not answer, a role that is needed and does not run, and a
watermark that stands. `neverstale doctor` looks for the reasons.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from redis.asyncio import Redis
from rich.table import Table

from neverstale.catalog import Catalog
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.ops.auditor.report import audit_table
from neverstale.ops.servers import kafka_admin, kafka_facts, kafka_offsets, mongo_facts, mongodb, redis, redis_facts
from neverstale.ops.terminal.output import console, plain, print_json, table
from neverstale.redis.audit import stored
from neverstale.redis.cache import Cache
from neverstale.redis.watermarks import Watermarks
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
class RoleStatus:
    """A running role's card."""

    role: str
    instance: str
    pid: int
    host: str
    url: str
    started_ms: int
    version: str
    service_url: str = ""
    """Where it answers operators; empty: at `url`."""
    groups: tuple[str, ...] = ()
    """The watcher groups that it works for; empty: all, or not told."""


_ROLE: Final = TypeAdapter(RoleStatus)


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


@dataclass(frozen=True, slots=True)
class Register:
    name: str
    """`applied`, or `floor` and a collection."""
    version: str | None
    """16 hex digits; `None`: unknown, so nothing is cached under it."""


@dataclass(frozen=True, slots=True)
class Status:
    servers: list[ServerStatus]
    roles: list[RoleStatus]
    partitions: list[PartitionStatus]
    registers: list[Register]
    problems: list[str]
    """Sentences: what is wrong."""
    audit: dict[str, Any] | None = None
    """What an auditor has told of its last hour, see `neverstale.redis.audit`; `None`: nothing."""

    @property
    def ok(self) -> bool:
        return not self.problems

    def of_group(self, group: str) -> "Status":
        """The same, with the partitions of one watcher group alone."""
        return replace(self, partitions=[one for one in self.partitions if one.group == group])


@dataclass(frozen=True, slots=True)
class _InRedis:
    server: ServerStatus
    roles: list[RoleStatus]
    registers: list[Register]
    watermarks: Mapping[str, Watermarks]
    """By watcher group."""
    audit: dict[str, Any] | None = None


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
    now_ms = time.time() * 1000 if mongo.now_ms is None else mongo.now_ms
    partitions = [
        one
        for group in catalog.groups
        for one in _partitions(group, held.watermarks.get(group), kafka.lag.get(group, {}), round(now_ms))
    ]
    servers = [mongo.server, kafka.server, held.server]
    wrong = list(problems(servers, held.roles, partitions, settings, catalog.groups))
    wrong += wrong_answers(held.audit)
    return Status(servers, held.roles, partitions, held.registers, wrong, held.audit)


def problems(
    servers: Sequence[ServerStatus],
    roles: Sequence[RoleStatus],
    partitions: Sequence[PartitionStatus],
    settings: Settings,
    groups: Iterable[str] = (DEFAULT_GROUP,),
) -> Iterator[str]:
    """What is wrong. Of roles and watermarks only Redis tells, so nothing is said of them while it is away."""
    away = {server.name: server.problem for server in servers if server.problem is not None}
    yield from (f"{name} cannot be used: {problem}" for name, problem in away.items())
    if "redis" in away:
        return
    yield from (f"no {role} runs" for role in missing_roles(roles))
    for group in groups:
        mine = [one for one in partitions if one.group == group]
        yield from (f"no {role} runs for group {group}" for role in nobody_for(group, roles))
        if nothing := unknown(mine):
            yield f"no mark was applied to this Redis on {named_partitions(nothing)}{of_group(group)}"
        if old := standing(mine, settings):
            age = _duration(max(part.age_ms or 0 for part in old))
            numbers = [part.partition for part in old]
            yield f"the watermark of {named_partitions(numbers)}{of_group(group)} stands, {age} old"


def of_group(group: str) -> str:
    """As a sentence names it; the default group has no name."""
    return "" if group == DEFAULT_GROUP else f" of group {group}"


def nobody_for(group: str, roles: Sequence[RoleStatus]) -> list[str]:
    """The roles that run, but none of them for this watcher group."""
    running = [one for one in roles if one.role in GROUPED]
    works = {one.role for one in running if not one.groups or group in one.groups}
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
    return [part.partition for part in partitions if part.watermark is None]


def standing(partitions: Sequence[PartitionStatus], settings: Settings) -> list[PartitionStatus]:
    """Those whose watermark is older than any takeover lasts."""
    oldest = max(STANDS_SECONDS * 1000, HEARTBEATS * settings.watcher.heartbeat_ms)
    return [part for part in partitions if part.age_ms is not None and part.age_ms > oldest]


def named_partitions(partitions: Sequence[int]) -> str:
    """As a sentence names them."""
    return f"partition{'s' * (len(partitions) > 1)} {', '.join(map(str, partitions))}"


def print_status(status: Status, *, as_json: bool) -> None:
    """As JSON: `{ok, servers, roles, partitions, registers, audit, problems}`."""
    if as_json:
        print_json({"ok": status.ok, **asdict(status)})
        return
    out = console()
    out.print(_servers(status.servers))
    silent = "unknown while redis is down" if any(s.name == "redis" and s.problem for s in status.servers) else "none"
    for title, rows in (
        ("role", _roles_table(status.roles) if status.roles else None),
        ("partition", _partitions_table(status.partitions) if status.partitions else None),
        ("register", _registers_table(status.registers) if status.registers else None),
        ("audit of the last hour", audit_table(status.audit["resources"]) if status.audit else None),
    ):
        out.print()
        out.print(rows or f"[bold]{title}[/]\n{silent}")
    for problem in status.problems:
        out.print(f"[bold red]problem[/]  {plain(problem)}")


def _servers(servers: list[ServerStatus]) -> Table:
    shown = table("server", "state", "")
    for server in servers:
        facts = ", ".join(f"{name} {value}" for name, value in server.facts.items())
        state = "[bold red]down[/]" if server.problem else "[green]up[/]"
        shown.add_row(server.name, state, plain(server.problem or facts))
    return shown


def _roles_table(roles: list[RoleStatus]) -> Table:
    shown = table("role", "instance", "url", "up for", "version")
    for role in roles:
        up_for = _duration(int(time.time() * 1000) - role.started_ms)
        shown.add_row(role.role, plain(role.instance), plain(role.url), up_for, role.version)
    return shown


def _partitions_table(partitions: list[PartitionStatus]) -> Table:
    shown = table("partition", "watermark", "age", "lag")
    several = len({part.group for part in partitions}) > 1
    for part in partitions:
        age = "" if part.age_ms is None else _duration(part.age_ms)
        lag = "unknown" if part.lag is None else str(part.lag)
        name = f"{part.group}/{part.partition}" if several else str(part.partition)
        shown.add_row(name, part.watermark or "unknown", age, lag)
    return shown


def _registers_table(registers: list[Register]) -> Table:
    shown = table("register", "version")
    for register in registers:
        shown.add_row(plain(register.name), register.version or "unknown")
    return shown


def _duration(milliseconds: int) -> str:
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


async def _ask_redis(whole: Settings, catalog: Catalog) -> _InRedis:
    settings = whole.redis
    names = Names(settings.prefix)
    try:
        async with redis(settings) as client:
            cache = Cache(client, names)
            facts = await redis_facts(client)
            watermarks = {
                group: await cache.watermarks(kafka_of(whole.kafka, group).group) for group in catalog.groups
            }
            roles = await roles_in(client, names)
            registers = await _registers(client, cache, catalog)
            audited = await stored(cache)
    except Outage as outage:
        return _InRedis(ServerStatus("redis", outage.reason, {}), [], [], {})
    shown = {
        "version": facts.version,
        "memory": f"{facts.used_bytes / 2**20:.1f} MiB",
        "identity": next(iter(watermarks.values())).identity,
    }
    return _InRedis(ServerStatus("redis", None, shown), roles, registers, watermarks, audited)


async def roles_in(client: Redis, names: Names) -> list[RoleStatus]:
    """The cards that running roles keep in Redis."""
    keys = [key async for key in client.scan_iter(match=names.role("*", "*"), count=1000)]
    cards = await client.mget(keys) if keys else []
    # A card may have run out between the two commands.
    roles = [role for card in cards if card and (role := _role(card)) is not None]
    return sorted(roles, key=lambda role: (role.role, role.instance))


def _role(card: bytes | str) -> RoleStatus | None:
    """`None`: no role has written this."""
    try:
        return _ROLE.validate_json(card, strict=True)
    except ValidationError:
        return None


async def _registers(client: Redis, cache: Cache, catalog: Catalog) -> list[Register]:
    floors = [Register(f"floor {name}", _hex((await cache.read(name, []))[0])) for name in catalog.collections]
    (held,) = await client.mget(cache.names.applied)
    applied = cache.damage.register(held) if isinstance(held, bytes) else None
    return [Register("applied", _hex(applied)), *floors]


def _hex(version: int | None) -> str | None:
    return None if version is None else to_hex(version)


def _partitions(
    group: str, held: Watermarks | None, lag: Mapping[int, int | None], now_ms: int
) -> list[PartitionStatus]:
    """One for each partition that Kafka or a mark names. Marks applied on another Redis say nothing of this one."""
    marks = held.by_partition if held else {}
    valid = {number: mark for number, mark in marks.items() if held and mark.identity == held.identity}
    count = max((held.partitions or 0) if held else 0, *(number + 1 for number in (-1, *lag)))
    return [
        PartitionStatus(
            number,
            to_hex(valid[number].version) if number in valid else None,
            now_ms - valid[number].wall_ms if number in valid else None,
            lag.get(number),
            group,
        )
        for number in range(count)
    ]
