"""Whether the servers take as many connections as all processes may open (docs/operations.md counts them)."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.paste import mongosh, redis_cli
from neverstale.ops.doctor.allowed import allowed
from neverstale.ops.redis.roles import RoleStatus
from neverstale.settings import MongoDB, Settings

API_EXTRA: Final = 4
"""Beside the pool: one each for hits, for leases and fills, for the watermarks, and for the channel."""
CONSUMER: Final = 3
WATCHER: Final = 2
MONITORS: Final = 2
"""That watch a member of the replica set."""
CLOSE: Final = 0.8

_redis, _mongodb = about("connections", "redis"), about("connections", "mongodb")


def to_redis(roles: Sequence[RoleStatus], settings: Settings, cells: int = 0) -> int:
    """The most that the roles which run may open to one server. `cells`: of which an API hears each by itself."""
    each = {"api": settings.redis.max_connections + API_EXTRA + cells, "consumer": CONSUMER, "watcher": WATCHER}
    return sum(each.get(role.role, 0) for role in roles)


def to_mongodb(roles: Sequence[RoleStatus], settings: Settings) -> int:
    """… to each member of the replica set."""
    return len(roles) * (settings.mongodb.max_pool_size + MONITORS)


async def look_at_redis_connections(
    client: Redis, settings: Settings, roles: Sequence[RoleStatus], cells: int = 0
) -> list[Finding]:
    info = await client.info("clients")
    if "maxclients" not in info:
        return [_redis.unseen("this Redis does not tell how many connections it takes")]
    return list(
        judge_redis(
            to_redis(roles, settings, cells), int(info["connected_clients"]), int(info["maxclients"]), settings
        )
    )


def judge_redis(ours: int, open_now: int, most: int, settings: Settings) -> Iterable[Finding]:
    better = redis_cli(settings.redis, f"CONFIG SET maxclients {max(10_000, 2 * ours)}")
    if ours > most or open_now > most * CLOSE:
        message = (
            f"{open_now} connections are open and ours may be {ours}, but maxclients is {most}: more are refused"
        )
        yield _redis("problem", "connections-short", message, better)
    elif ours > most * CLOSE:
        message = f"ours may be {ours} connections, close to maxclients, {most}"
        yield _redis("warning", "connections-close", message, better)
    else:
        yield _redis.well(f"{open_now} are open, ours may be {ours}, of {most}")


async def look_at_mongodb_connections(
    client: AsyncMongoClient[dict[str, Any]], settings: Settings, roles: Sequence[RoleStatus]
) -> list[Finding]:
    question = {"serverStatus": 1, "repl": 0, "metrics": 0, "wiredTiger": 0, "locks": 0}
    answers = await allowed(_mongodb, settings.mongodb, "clusterMonitor", lambda: client.admin.command(question))
    if isinstance(answers, Finding):
        return [answers]
    told = answers[0]["connections"]
    most = int(told["current"]) + int(told["available"])
    return list(judge_mongodb(to_mongodb(roles, settings), int(told["current"]), most, settings.mongodb))


def judge_mongodb(ours: int, open_now: int, most: int, settings: MongoDB) -> Iterable[Finding]:
    if ours > most or open_now > most * CLOSE:
        message = f"{open_now} connections are open and ours may be {ours}, but the primary takes {most}"
        script = "db.serverCmdLineOpts().parsed.net.maxIncomingConnections // raise it, and the limit of open files"
        yield _mongodb("problem", "connections-short", message, mongosh(settings, script))
    else:
        yield _mongodb.well(f"{open_now} are open, ours may be {ours}, of {most}")
