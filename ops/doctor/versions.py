"""Whether the servers are of a version that is known to be bad."""

from collections.abc import Iterable
from typing import Any

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from neverstale.ops import servers
from neverstale.ops.check.findings import Finding, Subject, about
from neverstale.ops.doctor.known_bad import why_bad


async def look_at_mongodb(client: AsyncMongoClient[dict[str, Any]]) -> list[Finding]:
    return list(judge("mongodb", (await servers.mongo_facts(client)).version))


async def look_at_redis(client: Redis) -> list[Finding]:
    return list(judge("redis", (await servers.redis_facts(client)).version))


def judge(subject: Subject, version: str) -> Iterable[Finding]:
    """What is known against a version of MongoDB or Redis; Kafka tells none."""
    say = about("versions", subject)
    bad = why_bad(subject, version)
    for one in bad:
        fixed = ".".join(map(str, one.fixed))
        remedy = f"run {fixed} or later, or a package that has it"
        yield say(one.level, "known-bad", f"the server is {version}: {one.why}", remedy)
    if not bad:
        yield say.well(f"nothing is known against {version}")
