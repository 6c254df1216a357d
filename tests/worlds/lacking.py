"""Every single right of every role, read out of `neverstale.ops.privileges`, and how to take it away from the user
and give it back: a right that is added there is one more of these."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from pymongo import AsyncMongoClient

from neverstale.ops.privileges import kafka as kafka_privileges
from neverstale.ops.privileges import mongodb as mongodb_privileges
from neverstale.ops.privileges import redis as redis_privileges
from neverstale.ops.privileges.kafka import Acl
from neverstale.ops.privileges.roles import ROLES, Role
from tests.worlds.secured import PASSWORD, bindings, confluent
from tests.worlds.secured_pipeline import Place

Server = Literal["mongodb", "kafka", "redis"]


@dataclass(frozen=True, slots=True)
class Right:
    """One that a role has on one server. `on` and `what` are as the privileges spell them."""

    role: Role
    server: Server
    on: str
    """The collection (empty: the database), `topic NAME` or `group NAME`; of Redis `command`, `key` or `channel`."""
    what: str

    def __str__(self) -> str:
        return f"{self.role}: {self.what} on {self.on or 'the database'} of {self.server}"


def rights(place: Place) -> Iterator[Right]:
    """All of them."""
    collections, prefix = list(place.catalog.collections), place.base.redis.prefix
    for role in ROLES:
        for collection, actions in mongodb_privileges.of_role(role, collections).items():
            yield from (Right(role, "mongodb", collection, action) for action in actions)
        for acl in kafka_privileges.of_role(role, place.base.kafka):
            yield from (Right(role, "kafka", f"{acl.kind} {acl.name}", one) for one in acl.operations)
        yield from (Right(role, "redis", "command", f"+{one}") for one in redis_privileges.commands_of(role))
        yield from (Right(role, "redis", "key", one) for one in redis_privileges.keys_of(role, prefix))
        yield from (Right(role, "redis", "channel", one) for one in redis_privileges.channels_of(role, prefix))


@asynccontextmanager
async def without(place: Place, right: Right) -> AsyncIterator[None]:
    """The role's user lacks it within the block."""
    take, give = _WAYS[right.server]
    await take(place, right)
    try:
        yield
    finally:
        await give(place, right)


async def _change_mongodb(place: Place, right: Right, command: str) -> None:
    database = place.catalog.database
    privilege = {"resource": {"db": database, "collection": right.on}, "actions": [right.what]}
    async with AsyncMongoClient[dict[str, Any]](place.servers.mongo_admin) as client:
        role = mongodb_privileges.name_of(right.role)
        await client[database].command({command: role, "privileges": [privilege]})


async def _take_mongodb(place: Place, right: Right) -> None:
    await _change_mongodb(place, right, "revokePrivilegesFromRole")


async def _give_mongodb(place: Place, right: Right) -> None:
    await _change_mongodb(place, right, "grantPrivilegesToRole")


def _binding(right: Right) -> Any:
    kind, _, name = right.on.partition(" ")
    operations: Any = (right.what,)
    return bindings(right.role, Acl("topic" if kind == "topic" else "group", name, operations))[0]


async def _take_kafka(place: Place, right: Right) -> None:
    one = _binding(right)
    fields = (one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation)
    for done in place.servers.kafka_admin.delete_acls(
        [confluent.AclBindingFilter(*fields, one.permission_type)]
    ).values():
        assert await asyncio.to_thread(done.result, 30)


async def _give_kafka(place: Place, right: Right) -> None:
    for done in place.servers.kafka_admin.create_acls([_binding(right)]).values():
        await asyncio.to_thread(done.result, 30)


async def _set_redis(place: Place, right: Right, but: str = "") -> None:
    words = redis_privileges.user(right.role, place.base.redis.prefix, PASSWORD)
    async with place.servers.redis_admin as redis:
        await redis.execute_command("ACL", "SETUSER", *(word for word in words if word != but))


async def _take_redis(place: Place, right: Right) -> None:
    await _set_redis(place, right, right.what)


async def _give_redis(place: Place, right: Right) -> None:
    await _set_redis(place, right)


_WAYS: Final[dict[Server, tuple[Any, Any]]] = {
    "mongodb": (_take_mongodb, _give_mongodb),
    "kafka": (_take_kafka, _give_kafka),
    "redis": (_take_redis, _give_redis),
}
