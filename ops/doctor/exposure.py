"""Whom the servers let in. What the settings alone tell of that, `neverstale.ops.check.exposure` says."""

from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from neverstale.links.exposure import is_local
from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.paste import redis_cli
from neverstale.ops.servers import redis_configs
from neverstale.settings import Settings

_mongodb, _redis = about("exposure", "mongodb"), about("exposure", "redis")


async def of_mongodb(client: AsyncMongoClient[dict[str, Any]]) -> list[Finding]:
    """What the server says of itself."""
    users = (await client.admin.command("connectionStatus"))["authInfo"]["authenticatedUsers"]
    try:
        net = (await client.admin.command("getCmdLineOpts"))["parsed"].get("net", {})
    except OperationFailure:
        return []  # who may not ask is asked who he is
    bound = str(net.get("bindIp", "127.0.0.1")).split(",")
    everywhere = bool(net.get("bindIpAll")) or any(not is_local(address.strip()) for address in bound)
    if everywhere and not users:
        remedy = "start mongod with --auth --keyFile FILE, and create users (docs/security.md)"
        message = "MongoDB listens beyond this machine and asks nobody who he is"
        return [_mongodb("problem", "mongodb-open", message, remedy)]
    return [_mongodb.well("reached only from its own machine" if not everywhere else "asks who comes")]


async def of_redis(client: Redis, settings: Settings) -> list[Finding]:
    """What the server says of itself."""
    try:
        configs = await redis_configs(client, "bind", "protected-mode")
        user: dict[str, Any] | None = await client.acl_getuser("default")
    except ResponseError:
        return []  # a user that may not ask is none that all may be
    addresses = [address.lstrip("-") or "*" for address in str(configs.get("bind") or "*").split()]
    everywhere = any(not is_local(address) for address in addresses) and configs.get("protected-mode") == "no"
    open_to_all = user is not None and all(flag in user["flags"] for flag in ("on", "nopass"))
    if everywhere and open_to_all:
        message = "Redis listens beyond its machine and asks nobody for a password: all that we believe can be forged"
        return [_redis("problem", "redis-open", message, redis_cli(settings.redis, "CONFIG SET protected-mode yes"))]
    return [_redis.well("asks who comes" if not open_to_all else "reached only from its own machine")]
