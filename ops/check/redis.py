"""Whether this Redis serves our scripts, and what it does when its memory is full."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import OutOfMemoryError

from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.paste import export, redis_cli
from neverstale.ops.servers import RedisFacts, redis, redis_facts
from neverstale.settings import RedisSettings

LEAST_VERSION = (6, 2)
FLAGS_VERSION = (7, 0)
"""Scripts may declare since then that they must run when memory is full."""

_BETTER_POLICY = "CONFIG SET maxmemory-policy volatile-lfu"
_version, _memory = about("versions", "redis"), about("memory", "redis")
_reachable = about("reachable", "redis")


async def check_redis(settings: RedisSettings) -> list[Finding]:
    try:
        async with redis(settings) as client:
            findings = list(judge(await redis_facts(client), settings))
            if settings.is_cluster:
                return findings  # the probe's key may be another node's
            # Fails where the user may not run scripts or not touch our keys.
            probe = "return redis.call('EXISTS', KEYS[1])"
            with suppress(OutOfMemoryError):  # it would be run, if there were room
                known: Any = await client.script_load(probe)
                await client.evalsha(known, 1, Names(settings.prefix).applied)
            return findings
    except Outage as outage:
        if "may not" in outage.reason:
            mine = f"~{settings.prefix}:* resetchannels &{settings.prefix}:* +@all -@admin -@dangerous +info"
            remedy = redis_cli(settings, f"ACL SETUSER {_user(settings)} resetkeys {mine}")
            message = f"cannot be used: {outage.reason}"
            return [about("privileges", "redis")("problem", "rights-too-narrow", message, remedy)]
        remedy = f"start it, or correct: {export('redis.url', 'redis://USER:PASSWORD@HOST:6379/0')}"
        return [_reachable("problem", "no-answer", f"cannot be used: {outage.reason}", remedy)]


def _user(settings: RedisSettings) -> str:
    return urlsplit(settings.url.get_secret_value()).username or "default"


def judge(facts: RedisFacts, settings: RedisSettings) -> Iterable[Finding]:
    version = tuple(int(part) for part in facts.version.split(".")[:2])
    if version < LEAST_VERSION:
        yield _version("problem", "too-old", f"the server is {facts.version}", "run Redis 6.2 or later")
    elif facts.is_cluster and not settings.is_cluster:
        remedy = f"name some of its nodes: {export('redis.url', 'redis+cluster://NODE:6379,NODE:6379')}"
        yield _reachable("problem", "redis-is-cluster", "the server is a node of a cluster", remedy)
    elif settings.is_cluster and not facts.is_cluster:
        remedy = f"name it alone: {export('redis.url', 'redis://HOST:6379/0')}"
        yield _reachable("problem", "redis-is-no-cluster", "the server is no node of a cluster", remedy)
    elif settings.is_cluster and version < FLAGS_VERSION:
        message, remedy = f"the nodes are {facts.version}", "run Redis 7 or later: sharded channels are needed"
        yield _version("problem", "too-old", message, remedy)
    elif facts.is_cluster:
        yield _reachable.well(f"Redis Cluster {facts.version}")
    elif facts.role != "master":
        remedy = f"name the primary: {export('redis.url', 'redis://PRIMARY:6379/0')}"
        yield _reachable("problem", "redis-is-replica", "the server is a replica and refuses writes", remedy)
    else:
        limit = f"{facts.max_bytes / 2**20:.0f} MiB, {facts.policy}" if facts.max_bytes else "no memory limit"
        yield _reachable.well(f"Redis {facts.version}, {limit}")
    if facts.max_bytes:
        yield from _when_full(facts, version, redis_cli(settings, _BETTER_POLICY))


def _when_full(facts: RedisFacts, version: tuple[int, ...], better: str) -> Iterable[Finding]:
    if facts.policy == "noeviction":
        message = "when memory is full, nothing new is cached: the policy is noeviction"
        yield _memory("warning", "noeviction", message, better)
    if facts.policy == "volatile-ttl":
        message = (
            "when memory is full, leases and absences go first, whatever is read most: the policy is volatile-ttl"
        )
        yield _memory("warning", "volatile-ttl", message, better)
    if version < FLAGS_VERSION:
        message = (
            "when memory is full, changed entries are deleted, not kept as stale: Redis below 7 has no script flags"
        )
        yield _memory("warning", "no-script-flags", message, "run Redis 7 or later")
