"""What goes wrong on purpose: every role and server is killed once; or, to try the oracle, the cache is spoiled."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from ops.demo.board import Document
from ops.stack.group import ProcessGroup
from ops.stack.process import RunningProcess
from ops.stack.stack import LocalStack

DOWN_SECONDS: Final = 0.5
HELD_SECONDS: Final = 1.0
SPOILED_AT_ONCE: Final = 20


async def kill_each(stack: LocalStack, seconds: float, tell: Callable[[str], None]) -> None:
    """Kill every role and server once (SIGKILL), one after the other over `seconds`, and start it again."""
    victims: list[tuple[str, ProcessGroup | RunningProcess]] = [(role.name, role) for role in stack.roles]
    victims += [("Redis", stack.redis), ("MongoDB", stack.mongod)]
    if stack.kafka.kind == "kafka":
        victims.append(("Kafka", stack.kafka))
    else:
        tell("Kafka stays: the embedded broker keeps nothing and would come back at another port")
    loop = asyncio.get_running_loop()
    for number, (name, victim) in enumerate(victims):
        next_at = loop.time() + seconds / (len(victims) + 1)
        tell(f"killing {name} ({number + 1} of {len(victims)})")
        victim.kill()
        await asyncio.sleep(DOWN_SECONDS)
        await victim.restart(0)
        await asyncio.sleep(next_at - loop.time())


@dataclass
class Saboteur:
    """Does what a cache without rules does: values read long ago are written back with a plain SET.

    The oracle must find that; a demo that stays green with it has proved nothing.
    """

    redis_url: str
    entries: list[bytes]
    """Redis keys of the flights, in the board's order."""
    held: dict[bytes, bytes] = field(default_factory=dict)
    """The first value that was seen of each."""

    async def spoil(self, now: Callable[[], int]) -> None:
        """Until cancelled: take entries near now, put them back a second later."""
        async with Redis.from_url(self.redis_url) as redis:
            while True:
                first = max(0, now() - SPOILED_AT_ONCE // 2)
                taken = await self._take(redis, self.entries[first : first + SPOILED_AT_ONCE])
                await asyncio.sleep(HELD_SECONDS)
                await _put(redis, taken)

    async def spoil_finally(self, stored: Mapping[str, Document]) -> int:
        """Put back the first value of every flight that has changed since; answers how many."""
        old = {key: raw for key, raw in self.held.items() if _differs(raw, stored)}
        async with Redis.from_url(self.redis_url) as redis:
            await _put(redis, old)
        return len(old)

    async def _take(self, redis: Redis, keys: list[bytes]) -> dict[bytes, bytes]:
        raws: list[Any] = await redis.mget(keys)
        taken: dict[bytes, bytes] = {
            key: raw for key, raw in zip(keys, raws, strict=True) if raw is not None and raw[:1] == b"D"
        }
        self.held = taken | self.held
        return taken


async def _put(redis: Redis, taken: Mapping[bytes, bytes]) -> None:
    for key, raw in taken.items():
        await redis.set(key, raw, ex=3600)


def _differs(raw: bytes, stored: Mapping[str, Document]) -> bool:
    body = orjson.loads(raw[raw.index(b"{") :])
    document = stored.get(body["_id"])
    return document is None or document["rev"] != body["rev"]
