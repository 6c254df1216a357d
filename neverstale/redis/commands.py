"""Commands: how anything is sent to Redis, and what a reply that is no answer means.

Whatever is no answer is an `Outage`, whose reason is the code that Redis gave. Nothing here retries an outage; the
caller decides. Two faults are mended on the way: a script that a restart or failover has forgotten is loaded, and
what lies under a key of ours with another type is deleted (`neverstale.redis.foreign_keys`).
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.links.redis_refusals import is_of_rights, reason_of
from neverstale.redis.foreign_keys import WRONG_TYPE, removed
from neverstale.redis.scripts import Name, Script, scripts
from neverstale.role import telemetry
from neverstale.role.damage import Damage

Command: TypeAlias = tuple[Any, ...]
RoundTrip: TypeAlias = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""Sends commands together and returns their replies, in order, errors among them. Raises `RedisError` and `OSError`
if there are none."""

WHICH_REDIS: Final[tuple[Command, ...]] = ((b"INFO", b"server"), (b"INFO", b"replication"))
"""The question that `identity_of` answers. Bytes, so that the client leaves the replies as they are: it would spend
longer on them than all else takes."""


class Commands:
    """Sends commands and scripts to one Redis. Raises `Outage("redis")` for everything that is not an answer.

    Without a `round_trip` every exchange is a pipeline on a connection from the client's pool.
    """

    publish: str = "PUBLISH"
    """The command that reaches those who hear this Redis, or this cell (`neverstale.redis.nodes`)."""

    def __init__(
        self, redis: Redis | None, names: Names, *, round_trip: RoundTrip | None = None, damage: Damage | None = None
    ) -> None:
        """Without a client there must be a `round_trip`."""
        self.names = names
        self.damage = damage or Damage()
        self._redis: Any = redis
        self.round_trip: RoundTrip = round_trip or partial(pipelined, redis)
        """How commands travel, without what `send` mends."""
        self._scripts: dict[Name, Script] | None = None

    async def send(self, *commands: Command) -> list[Any]:
        """One round trip, in order. Scripts that a restart or failover has forgotten are loaded, foreign keys are
        deleted, and all is sent again: every step of ours may run twice."""
        try:
            return await self._exchange(commands)
        except NoScriptError:
            await self._load_scripts()
        except Outage as outage:
            if outage.reason != WRONG_TYPE:
                raise
            # Who met the same key at the same moment may have deleted it already.
            await removed(commands, self.names, self.damage, self._exchange)
        try:
            return await self._exchange(commands)
        except NoScriptError:
            raise Outage("redis", "NOSCRIPT") from None

    async def call(self, name: Name, keys: Sequence[bytes], arguments: Sequence[Any]) -> Command:
        """The command that runs a script, to be sent."""
        if self._scripts is None:
            await self._load_scripts()
        assert self._scripts is not None
        return ("EVALSHA", self._scripts[name].sha, len(keys), *keys, *arguments)

    async def identity(self) -> str:
        """Which Redis this is."""
        server, replication = await self.send(*WHICH_REDIS)
        return identity_of(server, replication)

    async def delete(self, keys: Sequence[bytes]) -> None:
        """What an error path may do: a missing entry is only a miss."""
        await self.send(("DEL", *keys))

    async def ping(self) -> None:
        await self.send(("PING",))

    async def _load_scripts(self) -> None:
        (server,) = await self._exchange((WHICH_REDIS[0],))
        known = scripts(flags=int(_info(server, "redis_version").split(".")[0]) >= 7)
        await self._exchange([("SCRIPT", "LOAD", script.source) for script in known.values()])
        self._scripts = known

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        try:
            replies = await self.round_trip(commands)
        except (RedisError, OSError) as error:
            raise self.outage(error) from error
        for reply in replies:
            if isinstance(reply, NoScriptError):
                raise reply
            if isinstance(reply, Exception):
                raise self.outage(reply) from reply
        return replies

    def outage(self, error: Exception) -> Outage:
        """What an error that is no answer means; it is counted."""
        telemetry.OUTAGES.labels("redis").inc()
        outage = Outage("redis", reason_of(error))
        if is_of_rights(error):
            self.damage.refused(outage.reason)
        return outage


async def pipelined(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Sends commands in one pipeline on a connection from a client's pool; a `RoundTrip`."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = await pipeline.execute(raise_on_error=False)
    return replies


def nonce() -> bytes:
    """A word that nobody else has ever said: a lease's token, a claim's name."""
    return secrets.token_hex(8).encode("ascii")


def identity_of(server: bytes, replication: bytes) -> str:
    """Changes when Redis restarts (`run_id`) and when another server takes over (`master_replid`)."""
    return f"{_info(server, 'run_id')[:16]}-{_info(replication, 'master_replid')[:16]}"


def _info(reply: bytes, name: str) -> str:
    match = re.search(rf"^{name}:(\S+)", reply.decode(), re.MULTILINE)
    if match is None:
        raise Outage("redis", f"INFO without {name}")
    return match[1]
