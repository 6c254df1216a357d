"""Whether clocks agree. Bounds are told by the primary's clock: where another member takes over, its clock counts.

A host whose clock is wrong makes no bound false. It makes logs hard to read, and a broker delete records too soon
(their times are the watcher's).
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from pymongo.read_preferences import Nearest

from neverstale.errors import Outage
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.ops import servers
from neverstale.ops.check.findings import Finding, Wrong, about
from neverstale.ops.check.names import FindingName
from neverstale.ops.redis.nodes import cluster_view
from neverstale.servers import mongo_client
from neverstale.settings import RedisSettings, Settings
from neverstale.settings.redis_url import Address

MEMBER_MS: Final = 500.0
"""So wrong may a bound be after an election."""
HOST_MS: Final = 2000.0
SAMPLES: Final = 3
SET_CLOCK: Final = "timedatectl set-ntp true"

_say = about("clocks", "mongodb")

Apart = Mapping[str, tuple[float, float]]
"""Whose clock -> ms that it is ahead of the primary's, and the error of that."""


async def look_at_clocks(
    client: AsyncMongoClient[dict[str, Any]], settings: Settings, wall: Callable[[], float] = time.time
) -> list[Finding]:
    """`wall`: this machine's clock."""
    primary = PrimaryClock()
    for _ in range(SAMPLES):
        await primary.sample(client)
    hosts = {"this machine": _apart(primary, wall() * 1000, 0.0)}
    for name, node in await _redises(settings.redis):
        with suppress(Outage):
            hosts[f"the machine of {name}"] = _apart(primary, *await _of_redis(settings.redis, node))
    members = {}
    for host, port in sorted(await client.secondaries):
        with suppress(PyMongoError):
            members[f"member {host}:{port}"] = _apart(primary, *await _of_member(settings, host, port))
    return list(judge(hosts, members))


async def _redises(settings: RedisSettings) -> list[tuple[str, Address | None]]:
    """One Redis, or each node of a cluster."""
    try:
        view = await cluster_view(settings)
    except Outage:
        return []
    return [("Redis", None)] if view is None else [(f"node {one.name}", one.address) for one in view.nodes]


async def _of_redis(settings: RedisSettings, node: Address | None) -> tuple[float, float]:
    """Its clock in ms, and the error of that."""
    async with servers.redis(settings, node=node) as client:
        await client.ping()  # to connect takes longer than to ask
        started = time.monotonic()
        seconds, microseconds = await client.time()
        error = (time.monotonic() - started) * 500
    return seconds * 1000 + microseconds / 1000 + error, error


async def _of_member(settings: Settings, host: str, port: int | None) -> tuple[float, float]:
    def only(servers: list[Any], address: tuple[str, int | None]) -> list[Any]:
        return [server for server in servers if server.address == address]

    clock = PrimaryClock()
    async with mongo_client(settings.mongodb, server_selector=partial(only, address=(host, port))) as member:
        for _ in range(SAMPLES):
            started = time.monotonic()
            reply = await member.admin.command("hello", read_preference=Nearest())
            clock.observe(started, reply["localTime"].timestamp() * 1000, time.monotonic())
    now = clock.now_ms()
    assert now is not None
    return now


def judge(hosts: Apart, members: Apart) -> Iterable[Finding]:
    found = [
        *_wrong(members, MEMBER_MS, "problem", "member-clock", "after an election to it bounds are wrong by as much"),
        *_wrong(
            hosts, HOST_MS, "warning", "host-clock", "no bound is wrong for that, but times in logs and records are"
        ),
    ]
    farthest = max((abs(ahead) for ahead, _ in (*hosts.values(), *members.values())), default=0.0)
    yield from found or [_say.well(f"all clocks agree with the primary's within {farthest:.0f} ms")]


def _wrong(clocks: Apart, most_ms: float, level: Wrong, name: FindingName, why: str) -> Iterable[Finding]:
    for whose, (ahead, error) in clocks.items():
        if abs(ahead) - error > most_ms:
            where = "ahead of" if ahead > 0 else "behind"
            message = f"the clock of {whose} is {abs(ahead) / 1000:.1f} s {where} the primary's: {why}"
            yield _say(level, name, message, f"{SET_CLOCK}  # there")


def _apart(primary: PrimaryClock, ms: float, error: float) -> tuple[float, float]:
    now = primary.now_ms()
    assert now is not None
    return ms - now[0], now[1] + error
