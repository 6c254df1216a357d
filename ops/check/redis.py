"""Whether this Redis serves our scripts, and what it does when its memory is full."""

from collections.abc import Iterable

from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.settings import RedisSettings
from neverstale.settings_sources import variable
from ops.check.findings import Finding
from ops.servers import RedisFacts, redis, redis_facts

LEAST_VERSION = (6, 2)
FLAGS_VERSION = (7, 0)
"""Scripts may declare since then that they must run when memory is full."""

_BETTER_POLICY = "CONFIG SET maxmemory-policy volatile-lfu"


async def check_redis(settings: RedisSettings) -> list[Finding]:
    try:
        async with redis(settings) as client:
            findings = list(judge(await redis_facts(client)))
            # Fails where the user may not run scripts or not touch our keys.
            probe = "return redis.call('EXISTS', KEYS[1])"
            await client.eval(probe, 1, Names(settings.prefix).applied)
            return findings
    except Outage as outage:
        if "may not" in outage.reason:
            remedy = (
                f"allow it scripts and the keys {settings.prefix}:*, e.g. ACL SETUSER … ~{settings.prefix}:* +@all"
            )
        else:
            remedy = f"start it, or correct {variable('redis.url')}"
        return [Finding("redis", "problem", f"cannot be used: {outage.reason}", remedy)]


def judge(facts: RedisFacts) -> Iterable[Finding]:
    version = tuple(int(part) for part in facts.version.split(".")[:2])
    if version < LEAST_VERSION:
        yield Finding("redis", "problem", f"the server is {facts.version}", "run Redis 6.2 or later")
    elif facts.is_cluster:
        yield Finding("redis", "problem", "the server is a cluster", "use a single primary, with replicas or without")
    elif facts.role != "master":
        remedy = f"name the primary in {variable('redis.url')}"
        yield Finding("redis", "problem", "the server is a replica and refuses writes", remedy)
    else:
        limit = f"{facts.max_bytes / 2**20:.0f} MiB, {facts.policy}" if facts.max_bytes else "no memory limit"
        yield Finding("redis", "ok", f"Redis {facts.version}, {limit}")
    if facts.max_bytes:
        yield from _when_full(facts, version)


def _when_full(facts: RedisFacts, version: tuple[int, ...]) -> Iterable[Finding]:
    if facts.policy == "noeviction":
        yield Finding(
            "redis",
            "warning",
            "when memory is full, nothing new is cached: the policy is noeviction",
            _BETTER_POLICY,
        )
    if facts.policy == "volatile-ttl":
        yield Finding(
            "redis",
            "warning",
            "when memory is full, leases and absences go first, whatever is read most: the policy is volatile-ttl",
            _BETTER_POLICY,
        )
    if version < FLAGS_VERSION:
        yield Finding(
            "redis",
            "warning",
            "when memory is full, changed entries are deleted, not kept as stale: Redis below 7 has no script flags",
            "run Redis 7 or later",
        )
