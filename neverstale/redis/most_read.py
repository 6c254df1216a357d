"""How often documents are read, as Redis keeps it for all processes together: the most read of each resource.

A read counts half after a half-life, a quarter after two. Of each resource at most `MOST` documents are kept: those
with the fewest reads make room, and begin again when they are read again. So counts are exact for what is read often,
and a document that is read less than the last of the most read may be missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from neverstale.keys import MAX_KEY_BYTES, value_of
from neverstale.redis.commands import Commands
from neverstale.redis.replies import scored

MOST: Final = 10_000
"""Documents kept of a resource: about 1 MB."""
DOCUMENTS_A_CALL: Final = 200
"""More would hold up this Redis, and the process, for milliseconds."""


@dataclass(frozen=True, slots=True)
class ReadCount:
    key: str
    """Canonical, see `neverstale.keys`."""
    reads: float
    """Decayed to now."""
    rank: int
    """The most read has 1."""


class Popularity:
    """The reads of every resource. Raises `Outage("redis")`."""

    def __init__(self, redis: Commands, half_life_seconds: float, most: int = MOST) -> None:
        self._redis = redis
        self._half_life_ms = round(half_life_seconds * 1000)
        self._most = most

    async def add(self, resource: str, reads: Mapping[str, int]) -> None:
        """Canonical key -> reads that were not added before, of at most `DOCUMENTS_A_CALL` documents. An outage may
        have added them."""
        pairs: list[Any] = [item for key, count in reads.items() for item in (key.encode(), count)]
        await self._redis.send(await self._call(resource, pairs))

    async def most(self, resource: str, limit: int) -> list[ReadCount]:
        """The most read, at most so many."""
        weight, found = await self._redis.send(
            await self._call(resource, ()), ("ZREVRANGE", self._names(resource)[0], 0, limit - 1, "WITHSCORES")
        )
        counted = [(member, score) for member, score in scored(found) if self._is_ours(member, score)]
        return [
            ReadCount(member.decode(), score / _weight(weight), rank)
            for rank, (member, score) in enumerate(counted, 1)
        ]

    def _is_ours(self, member: bytes, score: float) -> bool:
        try:
            if len(member) <= MAX_KEY_BYTES and isfinite(score):
                value_of(member.decode())
                return True
        except ValueError:
            pass
        self._redis.damage.met("reads", member)
        return False

    async def of(self, resource: str, key: str) -> ReadCount | None:
        """One document; `None`: it is not among those that are kept."""
        reads, member = self._names(resource)[0], key.encode()
        weight, score, rank = await self._redis.send(
            await self._call(resource, ()), ("ZSCORE", reads, member), ("ZREVRANK", reads, member)
        )
        if score is None or not self._is_ours(member, float(score)):
            return None
        return ReadCount(key, float(score) / _weight(weight), rank + 1)

    async def _call(self, resource: str, pairs: Sequence[Any]) -> tuple[Any, ...]:
        return await self._redis.call("read", self._names(resource), (self._half_life_ms, self._most, *pairs))

    def _names(self, resource: str) -> tuple[bytes, bytes]:
        base = f"{self._redis.names.prefix}:{{{resource}}}:reads"
        return base.encode(), f"{base}:since".encode()


def _weight(text: bytes) -> float:
    return float(text) or 1.0
