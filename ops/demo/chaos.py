"""What goes wrong on purpose: every role and server is killed once; or, to try the oracle, the cache is spoiled."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from neverstale.ops.demo.flights.board import Document
from neverstale.ops.demo.sweep import freshen
from neverstale.ops.stack.group import ProcessGroup
from neverstale.ops.stack.process import RunningProcess
from neverstale.ops.stack.stack import LocalStack

DOWN_SECONDS: Final = 0.5
FRESH_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 1.0
HELD_SECONDS: Final = 1.0
SPOILED_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long it took until answers were fresh again after something was killed."""

    victim: str
    seconds: float
    """From the kill until the stated bound was back below a few seconds."""


async def kill_each(stack: LocalStack, tell: Callable[[str], None]) -> list[Recovery]:
    """Kill every role and server once (SIGKILL), start it again, and wait until answers are fresh again.

    Raises `NotConverged` if they do not become fresh again.
    """
    victims: list[tuple[str, ProcessGroup | RunningProcess]] = [(role.name, role) for role in stack.roles]
    victims += [("Redis", stack.redis), ("MongoDB", stack.mongod)]
    if stack.kafka.kind == "kafka":
        victims.append(("Kafka", stack.kafka))
    else:
        tell("Kafka stays: the embedded broker keeps nothing and would come back at another port")
    recoveries = []
    for name, victim in victims:
        tell(f"killing {name}")
        killed = time.monotonic()
        victim.kill()
        await asyncio.sleep(DOWN_SECONDS)
        await victim.restart(0)
        back = time.monotonic() - killed
        await freshen(stack.api_url, FRESH_SECONDS)
        recoveries.append(Recovery(name, time.monotonic() - killed))
        tell(f"{name} is back after {back:.1f} s, answers are fresh again after {recoveries[-1].seconds:.1f} s")
        await asyncio.sleep(PAUSE_SECONDS)
    return recoveries


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
        """Put back the first value of every flight that has changed since; returns how many."""
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
