"""Questions that a user with few privileges may not ask: what cannot be looked at is said, and nothing else fails."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from pymongo.errors import OperationFailure
from redis.exceptions import NoPermissionError, ResponseError

from neverstale.ops.check.findings import Finding, Say
from neverstale.ops.check.paste import mongosh, redis_cli
from neverstale.ops.servers import UNAUTHORIZED
from neverstale.settings import MongoDB, RedisSettings

NOT_HERE: Final = frozenset((59, 76))
"""No such command, no replication: a mongos, or a service that looks like MongoDB."""


async def allowed(
    say: Say, settings: MongoDB, role: str, *questions: Callable[[], Awaitable[Any]]
) -> list[Any] | Finding:
    """The answers of MongoDB; a finding if the user, who lacks the `role`, may not ask."""
    try:
        return [await question() for question in questions]
    except OperationFailure as error:
        if error.code in NOT_HERE:
            return say.unseen("this server has no such command: look at each shard's members instead")
        if error.code != UNAUTHORIZED:
            raise
    script = f"db.getSiblingDB('admin').grantRolesToUser('USER', ['{role}'])"
    return say.unseen(f"the user may not look: it lacks the role {role}", mongosh(settings, script))


async def allowed_by_redis(
    say: Say, settings: RedisSettings, question: Callable[[], Awaitable[Any]], needs: str
) -> Any | Finding:
    """The same of Redis; `needs` is the command that the user may not send, or that the service does not have."""
    try:
        return await question()
    except NoPermissionError:
        remedy = redis_cli(settings, f"ACL SETUSER USER '+{needs}'")
        return say.unseen("the user may not look", remedy)
    except ResponseError as error:
        return say.unseen(f"this server does not tell: {type(error).__name__}")
